with labelled as (
    select
        partition_day,
        TERMINAL_ID as terminal_id,
        IS_FRAUD as is_fraud,
        {{ cents('TX_AMOUNT') }} as cents
    from {{ source('platform', 'labelled_transactions') }}
)

select
    partition_day,
    terminal_id,
    {{ fraud_measures() }}
from labelled
group by partition_day, terminal_id
order by partition_day, terminal_id
