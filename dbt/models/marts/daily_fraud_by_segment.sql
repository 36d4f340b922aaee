with labelled as (
    select
        transactions.partition_day,
        {{ customer_segment('customers.MEAN_AMOUNT') }} as segment,
        transactions.IS_FRAUD as is_fraud,
        {{ cents('transactions.TX_AMOUNT') }} as cents
    from {{ source('platform', 'labelled_transactions') }} as transactions
    left join {{ source('platform', 'validated_customers') }} as customers
        on transactions.CUSTOMER_ID = customers.CUSTOMER_ID
)

select
    partition_day,
    segment,
    {{ fraud_measures() }}
from labelled
group by partition_day, segment
order by partition_day, segment
