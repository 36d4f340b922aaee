{{ config(incremental_strategy="microbatch", event_time="day", batch_size="day", begin=var("first_day")) }}

-- dbt filters the source by the time of the batch.
select day, tx_id, customer_id, amount_cents, current_timestamp as built_at
from {{ source("landing", "landed") }}
