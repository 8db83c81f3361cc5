{#
    The columns are the key of the model: none is null, and no two rows share them. `of_days` is a column that says when,
    of a model that holds the whole history and changes by days: only what may have changed since all was tested is
    looked at, and whatever has the same key.
#}
{% test is_key(model, columns, of_days=none) %}

{%- set untested = within_untested_days(of_days) if of_days else '1 = 1' %}

with

keyed as (

    select
        {{ columns | join(',\n        ') }},
        count(*) as row_count
    from {{ model }}
    {%- if untested != '1 = 1' and of_days in columns %}
    where {{ untested }} or {{ of_days }} is null
    {%- elif untested != '1 = 1' %}
    where
        {{ columns[0] }} in (select touched.{{ columns[0] }} from {{ model }} as touched where {{ untested }})
        or {{ columns[0] }} is null
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
