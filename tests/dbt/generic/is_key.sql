{# The columns are the key of the model: none is null, and no two rows share them. #}
{% test is_key(model, columns) %}

with

keyed as (

    select
        {{ columns | join(',\n        ') }},
        count(*) as row_count
    from {{ model }}
    group by {{ columns | join(', ') }}

)

select *
from keyed
where
    row_count > 1
    {%- for column in columns %}
    or {{ column }} is null
    {%- endfor %}

{% endtest %}
