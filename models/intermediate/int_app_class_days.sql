{{
    config(
        materialized='incremental',
        incremental_strategy='replace_days',
        unique_key=['org_id', 'usage_date'],
        meta={'inputs': 'int_app_inputs'}
    )
}}

{%- set goes_on = is_incremental() %}
{%- set windows = [7, 28, 30, 90] %}
{%- set users = 'org_id, app_id, person_class' %}
{%- set seen = 'apps.first_seen_on' %}
{%- set first_day = 'greatest(' ~ seen ~ ', recounted.recount_from)' if goes_on else seen %}
{%- set averages = {'stickiness': 'average_users_28', 'stickiness_weekdays': 'average_weekday_users_28'} %}
{%- set figures = ['dau', 'wau', 'mau_28', 'mau_30', 'mau_90', 'stickiness', 'stickiness_weekdays', 'event_count'] %}
{%- set qualities = ['is_final', 'is_partial', 'usage_known', 'data_complete_ratio', 'sources'] %}
{%- set counts = ['user_count', 'users_7', 'users_28', 'users_30', 'users_90', 'week_arrivals', 'month_arrivals'] %}
{%- set grounds = ['is_working', 'source_count', 'complete_count', 'complete_day_count'] %}
{%- set version = definition_of_usage() %}
{%- set uncounted = uncounted_days() %}

with

apps as (

    select * from {{ ref('int_app_inputs') }}
    where first_seen_on <= expected_as_of_date

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

steps as (

    select * from {{ ref('int_app_steps') }}

),

calendar as (

    select * from {{ ref('int_calendar') }}

),

holidays as (

    select * from {{ ref('stg_product__org_holidays') }}

),

{% if goes_on -%}
known_apps as (

    select
        org_id,
        app_id,
        max(usage_date) as last_date,
        max(counted_as) as counted_as
    from {{ this }}
    where person_class = 'human' and usage_date > (select max(newest.usage_date) - 60 from {{ this }} as newest)
    group by 1, 2

),

-- of the newest days what sources told, and whether it is final, changes without a load
recounted as (

    select
        org_id,
        min(recount_from) as recount_from
    from (
        select
            coalesce(apps.org_id, known_apps.org_id) as org_id,
            case
                when known_apps.app_id is null then apps.first_seen_on
                when known_apps.counted_as = apps.counted_as
                    then
                        least(known_apps.last_date, apps.expected_as_of_date)
                        - cast(greatest(apps.restate_days, 7) + 2 as integer)
                else cast('1999-12-31' as date)
            end as recount_from
        from apps
        full outer join known_apps
            on apps.org_id = known_apps.org_id and apps.app_id = known_apps.app_id
        union all
        select
            org_id,
            min(usage_date) as recount_from
        from ({{ uncounted | indent(8) }}) as uncounted_days
        group by 1
    ) as causes
    group by 1

),

-- what trailing windows look back on
known_days as (

    select
        known.*,
        recounted.recount_from
    from {{ this }} as known
    inner join recounted
        on
            known.org_id = recounted.org_id
            and known.usage_date between recounted.recount_from - 90 and recounted.recount_from - 1

),

{% endif -%}
steps_to_count as (

    select steps.*
    from steps
    {% if goes_on -%}
    inner join recounted
        on steps.org_id = recounted.org_id and steps.usage_date >= recounted.recount_from
    {%- endif %}

),

apps_to_count as (

    select
        apps.*,
        {{ first_day }} as count_from
    from apps
    {% if goes_on -%}
    inner join recounted
        on apps.org_id = recounted.org_id
    {%- endif %}

),

app_days as (

    select
        apps_to_count.*,
        calendar.calendar_date as usage_date
    from apps_to_count
    inner join calendar
        on calendar.calendar_date between apps_to_count.count_from and apps_to_count.expected_as_of_date

),

completeness as (

    select
        app_sources.org_id,
        app_sources.app_id,
        source_days.usage_date,
        count(*) as source_count,
        sum(case when source_days.is_complete then 1 else 0 end) as complete_count
    from app_sources
    inner join source_days
        on app_sources.connection_id = source_days.connection_id
    {%- if goes_on %}
    inner join recounted
        on source_days.org_id = recounted.org_id and source_days.usage_date >= recounted.recount_from
    {%- endif %}
    group by 1, 2, 3

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

told_days as (

    select
        app_days.org_id,
        app_days.app_id,
        app_days.usage_date,
        app_days.counted_as,
        app_days.restate_days,
        app_days.today,
        true as is_to_count,
        source_sets.sources,
        -- 2000-01-03 is a Monday
        case
            when
                holidays.org_id is null
                and app_days.working_days like '%' || cast(
                    1 + mod({{ days_between("cast('2000-01-03' as date)", 'app_days.usage_date') }}, 7) as varchar(1)
                ) || '%'
                then 1
            else 0
        end as is_working,
        -- where sources have ended and none goes on, nobody told, as if one of them had failed
        coalesce(completeness.source_count, case when source_sets.sources is null then 0 else 1 end) as source_count,
        coalesce(completeness.complete_count, 0) as complete_count,
        case
            when
                cast(completeness.complete_count as double precision) / completeness.source_count
                >= {{ var('min_complete_ratio') }}
                then 1
            else 0
        end as complete_days
    from app_days
    left join completeness
        on
            app_days.org_id = completeness.org_id
            and app_days.app_id = completeness.app_id
            and app_days.usage_date = completeness.usage_date
    left join holidays
        on app_days.org_id = holidays.org_id and app_days.usage_date = holidays.holiday_on
    left join source_sets
        on
            app_days.org_id = source_sets.org_id
            and app_days.app_id = source_sets.app_id
            and app_days.usage_date >= source_sets.starts_on
            and (app_days.usage_date < source_sets.next_starts_on or source_sets.next_starts_on is null)
    {%- if goes_on %}
    union all
    -- on the last day before those to count, what has been so far
    select
        org_id,
        app_id,
        usage_date,
        null as counted_as,
        null as restate_days,
        null as today,
        false as is_to_count,
        null as sources,
        is_working,
        source_count,
        complete_count,
        case when usage_date = recount_from - 1 then complete_day_count else 0 end as complete_days
    from known_days
    where person_class = 'human'
    {%- endif %}

),

told_windows as (

    select
        told_days.*,
        cast(complete_count as double precision) / nullif(source_count, 0) as complete_ratio_1,
        {%- for days in windows %}
        cast(sum(complete_count) over ({{ trailing(days) }}) as double precision)
        / nullif(sum(source_count) over ({{ trailing(days) }}), 0) as complete_ratio_{{ days }},
        {%- endfor %}
        {{ so_far('complete_days') }} as complete_day_count
    from told_days

),

classes as (

    select
        org_id,
        app_id,
        'human' as person_class,
        count_from as begins_on
    from apps_to_count
    union all
    select
        org_id,
        app_id,
        person_class,
        min(usage_date) as begins_on
    from steps
    where person_class <> 'human'
    group by 1, 2, 3

),

used_days as (

    select
        told_windows.*,
        classes.person_class,
        {%- for days in windows %}
        coalesce(steps.step_{{ days }}, 0) as step_{{ days }},
        {%- endfor %}
        coalesce(steps.user_count, 0) as user_count,
        coalesce(steps.event_count, 0) as event_count,
        coalesce(steps.week_arrivals, 0) as week_arrivals,
        coalesce(steps.month_arrivals, 0) as month_arrivals
    from told_windows
    inner join classes
        on
            told_windows.org_id = classes.org_id
            and told_windows.app_id = classes.app_id
            and told_windows.usage_date >= classes.begins_on
    left join steps_to_count as steps
        on
            classes.org_id = steps.org_id
            and classes.app_id = steps.app_id
            and classes.person_class = steps.person_class
            and told_windows.usage_date = steps.usage_date
    where told_windows.is_to_count
    {%- if goes_on %}
    union all
    select
        org_id,
        app_id,
        usage_date,
        null as counted_as,
        null as restate_days,
        null as today,
        false as is_to_count,
        null as sources,
        is_working,
        null as source_count,
        null as complete_count,
        null as complete_days,
        {%- for days in [1] + windows %}
        null as complete_ratio_{{ days }},
        {%- endfor %}
        null as complete_day_count,
        person_class,
        {%- for days in windows %}
        case when usage_date = recount_from - 1 then users_{{ days }} else 0 end as step_{{ days }},
        {%- endfor %}
        user_count,
        null as event_count,
        null as week_arrivals,
        null as month_arrivals
    from known_days
    where usage_date >= recount_from - 28
    {%- endif %}

),

used_windows as (

    select
        used_days.*,
        -- who came into a trailing window so far, less who left it
        {%- for days in windows %}
        {{ so_far('step_' ~ days, of=users) }} as users_{{ days }},
        {%- endfor %}
        cast(sum(user_count) over ({{ trailing(28, of=users) }}) as double precision) / 28 as average_users_28,
        cast(sum(is_working * user_count) over ({{ trailing(28, of=users) }}) as double precision)
        / nullif(sum(is_working) over ({{ trailing(28, of=users) }}), 0) as average_weekday_users_28
    from used_days

),

judged as (

    select
        {%- for days in [1] + windows %}
        coalesce(complete_ratio_{{ days }} >= {{ var('min_complete_ratio') }}, false) as is_known_{{ days }},
        {%- endfor %}
        used_windows.*
    from used_windows
    where is_to_count

),

counted as (

    select
        org_id,
        app_id,
        person_class,
        usage_date,
        case when is_known_1 then cast(user_count as bigint) end as dau,
        case when is_known_7 then cast(users_7 as bigint) end as wau,
        {%- for days in [28, 30, 90] %}
        case when is_known_{{ days }} then cast(users_{{ days }} as bigint) end as mau_{{ days }},
        {%- endfor %}
        {%- for figure, average in averages.items() %}
        case
            when is_known_28 and complete_day_count >= 28
                then cast({{ average }} as double precision) / nullif(users_28, 0)
        end as {{ figure }},
        {%- endfor %}
        case when is_known_1 then cast(event_count as bigint) end as event_count,
        is_known_1 and {{ days_between('usage_date', 'today') }} > restate_days as is_final,
        complete_day_count < 28 as is_partial,
        is_known_1 as usage_known,
        complete_ratio_1 as data_complete_ratio,
        sources,
        -- what days after it are counted from
        cast(user_count as bigint) as user_count,
        {%- for days in windows %}
        cast(users_{{ days }} as bigint) as users_{{ days }},
        {%- endfor %}
        cast(week_arrivals as bigint) as week_arrivals,
        cast(month_arrivals as bigint) as month_arrivals,
        is_working,
        cast(source_count as bigint) as source_count,
        cast(complete_count as bigint) as complete_count,
        cast(complete_day_count as bigint) as complete_day_count,
        counted_as
    from judged
    {%- if goes_on %}
    union all
    -- not kept: by it replace_days knows that the day was counted, if nothing is left on it
    select
        known.org_id,
        null as app_id,
        null as person_class,
        known.usage_date,
        {%- for column in figures + qualities + counts + grounds %}
        null as {{ column }},
        {%- endfor %}
        null as counted_as
    from {{ this }} as known
    inner join recounted
        on known.org_id = recounted.org_id and known.usage_date >= recounted.recount_from
    group by known.org_id, known.usage_date
    {%- endif %}

),

final as (

    select
        counted.*,
        {{ counted_with(version) | indent(8) }}
    from counted

)

select * from final
order by usage_date
