{{ config(incremental_strategy="delete+insert", unique_key="day") }}

select
    days.day,
    tx.customer_id,
    sum(tx.amount_cents)::bigint as cents_30d,
    count(*) as n_30d,
    current_timestamp as built_at
from (select distinct day from {{ ref("transactions") }}) as days
join {{ ref("transactions") }} as tx on tx.day between days.day - 29 and days.day
{% if is_incremental() %}
where days.day >= (select max(day) from {{ this }}) - {{ var("lookback_days") }}
{% endif %}
group by days.day, tx.customer_id
