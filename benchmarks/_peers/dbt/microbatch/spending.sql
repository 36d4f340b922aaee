{{ config(incremental_strategy="microbatch", event_time="day", batch_size="day", begin=var("first_day")) }}

-- dbt filters a ref by the time of the batch, unless it is rendered.
select
    days.day,
    tx.customer_id,
    sum(tx.amount_cents)::bigint as cents_30d,
    count(*) as n_30d,
    current_timestamp as built_at
from (select distinct day from {{ ref("transactions") }}) as days
join {{ ref("transactions").render() }} as tx on tx.day between days.day - 29 and days.day
group by days.day, tx.customer_id
