{# Rows whose value is none of the listed strings. #}
{% test one_of(model, column_name, strings) %}
select *
from {{ model }}
where {{ column_name }} not in ({% for string in strings %}'{{ string }}'{% if not loop.last %}, {% endif %}{% endfor %})
{% endtest %}
