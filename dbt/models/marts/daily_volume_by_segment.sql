with transactions as (
    select
        transactions.partition_day,
        {{ customer_segment('customers.MEAN_AMOUNT') }} as segment,
        transactions.CUSTOMER_ID as customer_id,
        {{ cents('transactions.TX_AMOUNT') }} as cents
    from {{ source('platform', 'validated_transactions') }} as transactions
    left join {{ source('platform', 'validated_customers') }} as customers
        on transactions.CUSTOMER_ID = customers.CUSTOMER_ID
)

select
    partition_day,
    segment,
    cast(count(*) as bigint) as transactions,
    cast(count(distinct customer_id) as bigint) as cards,
    cast(sum(cents) as bigint) as amount_cents
from transactions
group by partition_day, segment
order by partition_day, segment
