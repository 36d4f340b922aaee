{{ config(incremental_strategy="delete+insert", unique_key="day") }}

select day, tx_id, customer_id, amount_cents, current_timestamp as built_at
from {{ source("landing", "landed") }}
{% if is_incremental() %}
where day >= (select max(day) from {{ this }}) - {{ var("lookback_days") }}
{% endif %}
