{# Rows whose value lies outside of [least, most]; either bound may be another column, or left out. #}
{% test within(model, column_name, least=none, most=none) %}
select *
from {{ model }}
where
    false
    {% if least is not none %}or {{ column_name }} < {{ least }}{% endif %}
    {% if most is not none %}or {{ column_name }} > {{ most }}{% endif %}
{% endtest %}
