{%- set windows = {'dau': 1, 'wau': 7, 'mau_28': 28, 'mau_30': 30, 'mau_90': 90} %}

with

apps as (

    select * from {{ ref('int_apps') }}

),

app_usage as (

    select * from {{ ref('app_usage') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}
    where {{ within_last_days(90) }}

),

-- every window ends with as_of_date, so the last use says which of them somebody is in
last_uses as (

    select
        person_days.org_id,
        person_days.app_id,
        person_days.person_id,
        min(person_days.person_class) as person_class,
        apps.as_of_date,
        max(person_days.usage_date) as last_used_date
    from person_days
    inner join apps
        on person_days.org_id = apps.org_id and person_days.app_id = apps.app_id
    where person_days.usage_date between apps.as_of_date - 89 and apps.as_of_date
    group by 1, 2, 3, 5

),

counted as (

    select
        org_id,
        app_id,
        person_class,
        {%- for figure, days in windows.items() %}
        cast(sum(case when last_used_date > as_of_date - {{ days }} then 1 else 0 end) as bigint) as {{ figure }},
        {%- endfor %}
        min(as_of_date) as as_of_date
    from last_uses
    group by 1, 2, 3

),

final as (

    select
        counted.org_id,
        counted.app_id,
        counted.person_class,
        {%- for figure in windows %}
        case when app_usage.{{ figure }} is not null then counted.{{ figure }} end as {{ figure }},
        {%- endfor %}
        app_usage.usage_known,
        app_usage.is_partial,
        app_usage.is_final,
        app_usage.data_complete_ratio,
        app_usage.sources,
        {{ definition_version() }} as definition_version,
        counted.as_of_date
    from counted
    inner join app_usage
        on counted.org_id = app_usage.org_id and counted.app_id = app_usage.app_id

)

select * from final
