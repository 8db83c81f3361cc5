with

apps as (

    select * from {{ ref('int_apps') }}

),

completeness as (

    select * from {{ ref('int_app_days') }}

),

steps as (

    select * from {{ ref('int_app_steps') }}
    where person_class = 'human'

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

calendar as (

    select * from {{ ref('int_calendar') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

holidays as (

    select * from {{ ref('stg_product__org_holidays') }}

),

app_days as (

    select
        apps.org_id,
        apps.app_id,
        apps.restate_days,
        calendar.calendar_date as usage_date
    from apps
    inner join calendar
        on calendar.calendar_date between apps.first_seen_on and apps.expected_as_of_date

),

-- who had begun to tell by a day: another set from each day on which one more did
beginnings as (

    select distinct
        org_id,
        app_id,
        starts_on
    from app_sources
    where starts_on is not null

),

begun as (

    select distinct
        beginnings.org_id,
        beginnings.app_id,
        beginnings.starts_on,
        app_sources.connector
    from beginnings
    inner join app_sources
        on
            beginnings.org_id = app_sources.org_id
            and beginnings.app_id = app_sources.app_id
            and beginnings.starts_on >= app_sources.starts_on

),

listed as (

    select
        org_id,
        app_id,
        starts_on,
        {{ dbt.listagg('connector', "','", 'order by connector') }} as sources
    from begun
    group by 1, 2, 3

),

source_sets as (

    select
        listed.*,
        lead(starts_on) over (partition by org_id, app_id order by starts_on) as next_starts_on
    from listed

),

joined as (

    select
        app_days.org_id,
        app_days.app_id,
        app_days.usage_date,
        app_days.restate_days,
        {{ local_date(now(), 'orgs.time_zone') }} as today,
        coalesce(completeness.source_count, 0) as source_count,
        coalesce(completeness.complete_count, 0) as complete_count,
        cast(completeness.complete_count as double precision) / completeness.source_count as complete_ratio_1,
        source_sets.sources,
        -- 2000-01-03 is a Monday
        case
            when
                holidays.org_id is null
                and orgs.working_days like '%' || cast(
                    1 + mod({{ days_between("cast('2000-01-03' as date)", 'app_days.usage_date') }}, 7) as varchar(1)
                ) || '%'
                then 1
            else 0
        end as is_working,
        {%- for days in [7, 28, 30, 90] %}
        coalesce(steps.step_{{ days }}, 0) as step_{{ days }},
        {%- endfor %}
        coalesce(steps.user_count, 0) as user_count,
        coalesce(steps.event_count, 0) as event_count
    from app_days
    inner join orgs
        on app_days.org_id = orgs.org_id
    left join completeness
        on
            app_days.org_id = completeness.org_id
            and app_days.app_id = completeness.app_id
            and app_days.usage_date = completeness.usage_date
    left join steps
        on app_days.org_id = steps.org_id and app_days.app_id = steps.app_id and app_days.usage_date = steps.usage_date
    left join holidays
        on app_days.org_id = holidays.org_id and app_days.usage_date = holidays.holiday_on
    left join source_sets
        on
            app_days.org_id = source_sets.org_id
            and app_days.app_id = source_sets.app_id
            and app_days.usage_date >= source_sets.starts_on
            and (app_days.usage_date < source_sets.next_starts_on or source_sets.next_starts_on is null)

),

windowed as (

    select
        joined.*,
        {%- for days in [7, 28, 30, 90] %}
        cast(sum(complete_count) over ({{ trailing(days) }}) as double precision)
        / nullif(sum(source_count) over ({{ trailing(days) }}), 0) as complete_ratio_{{ days }},
        {%- endfor %}
        -- who came into a trailing window so far, less who left it
        {%- for days in [7, 28, 30, 90] %}
        {{ so_far('step_' ~ days) }} as users_{{ days }},
        {%- endfor %}
        cast(sum(user_count) over ({{ trailing(28) }}) as double precision) / 28 as average_users_28,
        cast(sum(is_working * user_count) over ({{ trailing(28) }}) as double precision)
        / nullif(sum(is_working) over ({{ trailing(28) }}), 0) as average_weekday_users_28,
        {{ so_far('case when complete_ratio_1 >= ' ~ var('min_complete_ratio') ~ ' then 1 else 0 end') }}
            as complete_day_count
    from joined

),

judged as (

    select
        {%- for days in [1, 7, 28, 30, 90] %}
        coalesce(complete_ratio_{{ days }} >= {{ var('min_complete_ratio') }}, false) as is_known_{{ days }},
        {%- endfor %}
        windowed.*
    from windowed

),

final as (

    select
        org_id,
        app_id,
        usage_date,
        case when is_known_1 then cast(user_count as bigint) end as dau,
        case when is_known_7 then cast(users_7 as bigint) end as wau,
        case when is_known_28 then cast(users_28 as bigint) end as mau_28,
        case when is_known_30 then cast(users_30 as bigint) end as mau_30,
        case when is_known_90 then cast(users_90 as bigint) end as mau_90,
        case
            when is_known_28 and complete_day_count >= 28
                then cast(average_users_28 as double precision) / nullif(users_28, 0)
        end as stickiness,
        case
            when is_known_28 and complete_day_count >= 28
                then cast(average_weekday_users_28 as double precision) / nullif(users_28, 0)
        end as stickiness_weekdays,
        case when is_known_1 then cast(event_count as bigint) end as event_count,
        is_known_1 and {{ days_between('usage_date', 'today') }} > restate_days as is_final,
        complete_day_count < 28 as is_partial,
        is_known_1 as usage_known,
        complete_ratio_1 as data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version
    from judged

)

select * from final
order by usage_date
