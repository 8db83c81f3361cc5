{%- set trend_days = 28 %}
{#- The slope is of so many weeks: fewer are a trend of chance, more are not of now. #}
{%- set slope_weeks = 12 %}

with

apps as (

    select * from {{ ref('int_apps') }}

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

daily as (

    select
        org_id,
        app_id,
        usage_date,
        wau,
        mau_28
    from {{ ref('int_app_class_days') }}
    where person_class = 'human' and {{ within_last_days(7 * slope_weeks) }}

),

-- two windows compare if the same sources saw both from the first day on, and none of them has ended since
source_sets as (

    select
        app_sources.org_id,
        app_sources.app_id,
        {%- for count, days in {'lasting': 2 * trend_days, 'slope': 7 * slope_weeks}.items() %}
        sum(
            case
                when app_sources.ended_on <= apps.as_of_date - {{ days - 1 }} then 1
                when app_sources.starts_on <= apps.as_of_date - {{ days - 1 }} and app_sources.ended_on is null then 1
                else 0
            end
        ) as {{ count }}_count,
        {%- endfor %}
        count(*) as source_count
    from app_sources
    inner join apps
        on app_sources.org_id = apps.org_id and app_sources.app_id = apps.app_id
    where app_sources.starts_on <= apps.as_of_date
    group by 1, 2

),

weeks as (

    select
        apps.org_id,
        apps.app_id,
        {{ days_between('daily.usage_date', 'apps.as_of_date') }} / 7.0 as weeks_ago,
        daily.wau
    from apps
    inner join daily
        on apps.org_id = daily.org_id and apps.app_id = daily.app_id
    where
        daily.usage_date between apps.as_of_date - {{ 7 * slope_weeks - 7 }} and apps.as_of_date
        and mod({{ days_between('daily.usage_date', 'apps.as_of_date') }}, 7) = 0
        and daily.wau is not null

),

-- Theil and Sen: the median of the slopes between any two weeks, which one odd week does not move
slopes as (

    select
        earlier.org_id,
        earlier.app_id,
        percentile_cont(0.5) within group (
            order by cast(later.wau - earlier.wau as double precision) / (earlier.weeks_ago - later.weeks_ago)
        ) as wau_slope
    from weeks as earlier
    inner join weeks as later
        on
            earlier.org_id = later.org_id
            and earlier.app_id = later.app_id
            and earlier.weeks_ago > later.weeks_ago
    group by 1, 2
    having count(*) = {{ slope_weeks * (slope_weeks - 1) // 2 }}

),

compared as (

    select
        apps.org_id,
        apps.app_id,
        case when apps.is_current then later.mau_28 end as mau_28,
        earlier.mau_28 as earlier_mau_28,
        case
            when source_sets.lasting_count = source_sets.source_count then null
            when source_sets.lasting_count > 0 then 'source_changed'
            else 'short_history'
        end as trend_break,
        case
            when apps.is_current and source_sets.slope_count = source_sets.source_count then slopes.wau_slope
        end as wau_slope
    from apps
    left join daily as later
        on apps.org_id = later.org_id and apps.app_id = later.app_id and apps.as_of_date = later.usage_date
    left join daily as earlier
        on
            apps.org_id = earlier.org_id
            and apps.app_id = earlier.app_id
            and apps.as_of_date - {{ trend_days }} = earlier.usage_date
    left join source_sets
        on apps.org_id = source_sets.org_id and apps.app_id = source_sets.app_id
    left join slopes
        on apps.org_id = slopes.org_id and apps.app_id = slopes.app_id

),

ratios as (

    select
        compared.*,
        case
            when trend_break is null then cast(mau_28 - earlier_mau_28 as double precision) / nullif(earlier_mau_28, 0)
        end as trend
    from compared

),

final as (

    select
        org_id,
        app_id,
        trend,
        -- three people at least: in a small app one makes ten per cent
        case
            when trend is null then null
            when trend >= 0.1 and mau_28 - earlier_mau_28 >= 3 then 'growing'
            when trend <= -0.1 and mau_28 - earlier_mau_28 <= -3 then 'shrinking'
            else 'flat'
        end as trend_label,
        trend_break,
        {{ rounded('wau_slope') }} as wau_slope
    from ratios

)

select * from final
