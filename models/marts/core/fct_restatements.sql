{{ config(materialized='view') }}

{%- set figures = ['event_count', 'dau', 'wau', 'mau_28', 'mau_30', 'mau_90'] %}

with

days_told as (

    select * from {{ ref('int_days_told') }}

),

retold as (

    select
        {%- for figure in figures %}
        lag({{ figure }}) over (partition by org_id, app_id, usage_date order by telling) as old_{{ figure }},
        {%- endfor %}
        days_told.*
    from days_told

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
    where telling > 1 and not ({{ is_same(figure, 'old_' ~ figure) }})
    {%- if not loop.last %}
    union all
    {%- endif %}
    {% endfor %}
)

select * from final
