{{ config(materialized='view') }}

{%- set averages = {'stickiness': 'average_users_28', 'stickiness_weekdays': 'average_weekday_users_28'} %}

with

app_days as (

    select * from {{ ref('int_app_class_days') }}
    where person_class = 'human'

),

final as (

    select
        org_id,
        app_id,
        usage_date,
        case when is_known_1 then user_count end as dau,
        case when is_known_7 then users_7 end as wau,
        {%- for days in [28, 30, 90] %}
        case when is_known_{{ days }} then users_{{ days }} end as mau_{{ days }},
        {%- endfor %}
        {%- for figure, average in averages.items() %}
        case
            when is_known_28 and complete_day_count >= 28
                then cast({{ average }} as double precision) / nullif(users_28, 0)
        end as {{ figure }},
        {%- endfor %}
        case when is_known_1 then event_count end as event_count,
        is_final,
        complete_day_count < 28 as is_partial,
        is_known_1 as usage_known,
        cast(complete_count as double precision) / nullif(source_count, 0) as data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version
    from app_days

)

select * from final
