{#
    The columns are the key of the model: none is null, and no two rows share them. `changes_by`, of a model that holds
    the whole history: `batch_id`, or the day, by which what has come since all was tested is found. Only that is looked
    at; where a day is no part of the key, a test of its own has to look for others of it.
#}
{% test is_key(model, columns, changes_by=none) %}

{%- set untested = within_untested(changes_by) if changes_by else '1 = 1' %}

with

keyed as (

    select
        {{ columns | join(',\n        ') }},
        count(*) as row_count
    from {{ model }}
    {%- if untested != '1 = 1' %}
    where {{ untested }} or {{ changes_by }} is null
    {%- endif %}
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
