{#
    The columns are the key of the model: none is null, and no two rows share them. `changes_by`, of a model that holds
    the whole history: the day, of a key with one, or `batch_id`. Only what has changed since all was tested is looked at;
    where a row of before may have the key of a new one, a test of its own has to look for it.
#}
{% test is_key(model, columns, changes_by=none) %}

{%- set untested = '1 = 1' %}
{%- if changes_by == 'batch_id' %}
    {%- set untested = within_untested_batches() %}
{%- elif changes_by %}
    {%- set untested = within_untested_days(changes_by) %}
{%- endif %}

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
