{# Shut DuckDB in: from here on it opens the files that the run was given, and no other file or address, and keeps to
   the memory that the run was given. #}
{% macro read_only_given_files() -%}
{%- if execute -%}
    {%- for row in run_query('select name, value from platform.limits order by name').rows -%}
        {%- do run_query('set ' ~ row[0] ~ " = '" ~ row[1] | replace("'", "''") ~ "'") -%}
    {%- endfor -%}
    {%- set paths = run_query('select path from platform.given_files order by path').columns[0].values() -%}
    {%- set quoted = [] -%}
    {%- for path in paths -%}
        {%- do quoted.append("'" ~ path | replace("'", "''") ~ "'") -%}
    {%- endfor -%}
    {%- do run_query('set allowed_paths = [' ~ quoted | join(', ') ~ ']') -%}
    {%- do run_query('set enable_external_access = false') -%}
{%- endif -%}
{%- endmacro %}
