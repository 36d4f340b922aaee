{# The segment of a customer by fixed bounds on the mean amount; 'unknown' where there is no profile. #}
{% macro customer_segment(mean_amount) -%}
{%- set bounds = var('segment_bounds') -%}
case
    when {{ mean_amount }} is null or isnan({{ mean_amount }}) then 'unknown'
    when {{ mean_amount }} < {{ bounds[0] }} then 'low'
    when {{ mean_amount }} < {{ bounds[1] }} then 'middle'
    when {{ mean_amount }} < {{ bounds[2] }} then 'high'
    else 'top'
end
{%- endmacro %}
