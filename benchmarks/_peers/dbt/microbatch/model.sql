{{ config(incremental_strategy="microbatch", event_time="day", batch_size="day", begin=var("first_day")) }}

select
    days.day,
    past.customer_id,
    sum(past.cents_30d)::bigint as cents_120d,
    count(*) as days_120d,
    current_timestamp as built_at
from (select distinct day from {{ ref("spending") }}) as days
join {{ ref("spending").render() }} as past on past.day between days.day - 119 and days.day
group by days.day, past.customer_id
