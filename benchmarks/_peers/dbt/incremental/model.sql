{{ config(incremental_strategy="delete+insert", unique_key="day") }}

select
    days.day,
    past.customer_id,
    sum(past.cents_30d)::bigint as cents_120d,
    count(*) as days_120d,
    current_timestamp as built_at
from (select distinct day from {{ ref("spending") }}) as days
join {{ ref("spending") }} as past on past.day between days.day - 119 and days.day
{% if is_incremental() %}
where days.day >= (select max(day) from {{ this }}) - {{ var("lookback_days") }}
{% endif %}
group by days.day, past.customer_id
