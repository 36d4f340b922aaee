{# The measures of labelled rows `is_fraud`, `cents`: counts and cents are exact, the rate divides them last. #}
{% macro fraud_measures() -%}
cast(count(*) as bigint) as labelled,
    cast(count(*) filter (where is_fraud) as bigint) as frauds,
    cast(count(*) filter (where is_fraud) as double) / cast(count(*) as double) as fraud_rate,
    cast(sum(cents) as bigint) as amount_cents,
    cast(coalesce(sum(cents) filter (where is_fraud), 0) as bigint) as fraud_amount_cents
{%- endmacro %}
