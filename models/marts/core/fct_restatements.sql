{{ config(materialized='view') }}

{%- set figures = ['event_count', 'dau', 'wau', 'mau_28', 'mau_30', 'mau_90'] %}

with

days_told as (

    select * from {{ ref('int_days_told') }}

),

-- next to none of all days: the ledger is joined with itself, and not sorted
retold as (

    select
        {%- for figure in figures %}
        earlier.{{ figure }} as old_{{ figure }},
        {%- endfor %}
        days_told.*
    from days_told
    inner join days_told as earlier
        on
            days_told.org_id = earlier.org_id
            and days_told.app_id = earlier.app_id
            and days_told.usage_date = earlier.usage_date
            and days_told.telling - 1 = earlier.telling
    where days_told.telling > 1

),

final as (
    {% for figure in figures %}
    select
        org_id,
        app_id,
        usage_date,
        '{{ figure }}' as figure,
        cast(telling - 1 as bigint) as restatement,
        told_at as restated_at,
        old_{{ figure }} as old_value,
        {{ figure }} as new_value,
        load_ids
    from retold
    where not ({{ is_same(figure, 'old_' ~ figure) }})
    {%- if not loop.last %}
    union all
    {%- endif %}
    {% endfor %}
)

select * from final
