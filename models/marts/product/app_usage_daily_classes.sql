{%- set windows = {'wau': 7, 'mau_28': 28, 'mau_30': 30, 'mau_90': 90} %}

with

daily as (

    select * from {{ ref('app_usage_daily') }}

),

steps as (

    select * from {{ ref('int_app_steps') }}
    where person_class <> 'human'

),

beginnings as (

    select
        org_id,
        app_id,
        person_class,
        min(usage_date) as first_used_on
    from steps
    group by 1, 2, 3

),

joined as (

    select
        daily.*,
        beginnings.person_class,
        {%- for days in windows.values() %}
        coalesce(steps.step_{{ days }}, 0) as step_{{ days }},
        {%- endfor %}
        coalesce(steps.user_count, 0) as account_count
    from daily
    inner join beginnings
        on
            daily.org_id = beginnings.org_id
            and daily.app_id = beginnings.app_id
            and daily.usage_date >= beginnings.first_used_on
    left join steps
        on
            daily.org_id = steps.org_id
            and daily.app_id = steps.app_id
            and daily.usage_date = steps.usage_date
            and beginnings.person_class = steps.person_class

),

counted as (

    select
        {%- for days in windows.values() %}
        {{ so_far('step_' ~ days, of='org_id, app_id, person_class') }} as accounts_{{ days }},
        {%- endfor %}
        joined.*
    from joined

),

final as (

    select
        org_id,
        app_id,
        person_class,
        usage_date,
        case when dau is not null then cast(account_count as bigint) end as dau,
        {%- for figure, days in windows.items() %}
        case when {{ figure }} is not null then cast(accounts_{{ days }} as bigint) end as {{ figure }},
        {%- endfor %}
        is_final,
        is_partial,
        usage_known,
        data_complete_ratio,
        sources,
        definition_version
    from counted

)

select * from final
