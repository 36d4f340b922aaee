{# An amount in currency units as whole cents, so that every sum over it is exact. #}
{% macro cents(amount) -%}
cast(round({{ amount }} * 100) as bigint)
{%- endmacro %}
