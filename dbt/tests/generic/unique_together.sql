{# Rows whose values in `columns` another row has too. #}
{% test unique_together(model, columns) %}
select *
from {{ model }}
qualify count(*) over (partition by {{ columns | join(', ') }}) > 1
{% endtest %}
