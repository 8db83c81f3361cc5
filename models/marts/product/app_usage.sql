{%- set trend_days = 28 %}
{#- The slope is of so many weeks: fewer are a trend of chance, more are not of now. #}
{%- set slope_weeks = 12 %}
{%- set others = ['service', 'shared', 'external', 'unknown'] %}

with

apps as (

    select * from {{ ref('int_apps') }}

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

dim_apps as (

    select * from {{ ref('dim_apps') }}

),

daily as (

    select * from {{ ref('app_usage_daily') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}
    where {{ within_last_days(30) }}

),

people as (

    select * from {{ ref('dim_people') }}

),

contracts as (

    select * from {{ ref('int_contract_versions') }}

),

target_groups as (

    select * from {{ ref('stg_product__app_target_groups') }}

),

usage_bands as (

    select * from {{ ref('usage_bands') }}

),

-- two windows compare if the same sources saw both from the first day on
source_sets as (

    select
        app_sources.org_id,
        app_sources.app_id,
        sum(
            case when app_sources.starts_on <= apps.as_of_date - {{ 2 * trend_days - 1 }} then 1 else 0 end
        ) as lasting_count,
        sum(
            case when app_sources.starts_on <= apps.as_of_date - {{ 7 * slope_weeks - 1 }} then 1 else 0 end
        ) as slope_count,
        count(*) as source_count
    from app_sources
    inner join apps
        on app_sources.org_id = apps.org_id and app_sources.app_id = apps.app_id
    where app_sources.starts_on <= apps.as_of_date
    group by 1, 2

),

volumes as (

    select
        person_days.org_id,
        person_days.app_id,
        person_days.person_id,
        min(person_days.person_class) as person_class,
        count(*) as active_days_30,
        cast(sum(person_days.event_count) as double precision) as volume_30,
        {{ common_day_basis('person_days.day_basis') }} as day_basis
    from person_days
    inner join apps
        on person_days.org_id = apps.org_id and person_days.app_id = apps.app_id
    where person_days.usage_date between apps.as_of_date - 29 and apps.as_of_date
    group by 1, 2, 3

),

active as (

    select
        org_id,
        app_id,
        {%- for class in others %}
        sum(case when person_class = '{{ class }}' then 1 else 0 end) as {{ class }}_accounts_30,
        {%- endfor %}
        avg(cast(case when person_class = 'human' then active_days_30 end as double precision)) as avg_active_days_30,
        avg(cast(case when person_class = 'human' then volume_30 end as double precision)) as avg_volume_30,
        {{ common_day_basis("case when person_class = 'human' then day_basis end") }} as day_basis
    from volumes
    group by 1, 2

),

-- what is much depends on the kind of app: the heavy users of the customer's own apps of the kind
categories as (

    select
        volumes.org_id,
        dim_apps.category,
        percentile_cont(0.9) within group (order by volumes.volume_30) as heavy_volume_30
    from volumes
    inner join dim_apps
        on volumes.app_id = dim_apps.app_id
    where volumes.person_class = 'human' and dim_apps.category is not null
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

as_of_dates as (

    select distinct
        org_id,
        as_of_date
    from apps

),

at_work as (

    select
        as_of_dates.org_id,
        as_of_dates.as_of_date,
        {{ normalized_name('people.department') }} as department_key,
        count(*) as headcount
    from as_of_dates
    inner join people
        on as_of_dates.org_id = people.org_id
    where
        people.person_class = 'human'
        and coalesce(people.started_on <= as_of_dates.as_of_date, true)
        and not {{ has_left('people', 'as_of_dates.as_of_date') }}
        and not {{ has_left('people', 'as_of_dates.as_of_date', 'garden_leave_from') }}
        and not (
            coalesce(people.on_leave_from <= as_of_dates.as_of_date, false)
            and coalesce(people.on_leave_to >= as_of_dates.as_of_date, true)
        )
    group by 1, 2, 3

),

headcounts as (

    select
        org_id,
        as_of_date,
        cast(sum(headcount) as bigint) as headcount
    from at_work
    group by 1, 2

),

-- whom an app is for, and who of them used it
targeted as (

    select
        apps.org_id,
        apps.app_id,
        coalesce(sum(at_work.headcount), 0) as headcount
    from apps
    inner join target_groups
        on apps.org_id = target_groups.org_id and apps.app_id = target_groups.app_id
    left join at_work
        on
            apps.org_id = at_work.org_id
            and apps.as_of_date = at_work.as_of_date
            and target_groups.department_key = at_work.department_key
    group by 1, 2

),

targeted_users as (

    select
        volumes.org_id,
        volumes.app_id,
        count(*) as user_count
    from volumes
    inner join people
        on volumes.org_id = people.org_id and volumes.person_id = people.person_id
    inner join target_groups
        on
            volumes.org_id = target_groups.org_id
            and volumes.app_id = target_groups.app_id
            and target_groups.department_key = {{ normalized_name('people.department') }}
    where volumes.person_class = 'human'
    group by 1, 2

),

costs as (

    select
        contracts.org_id,
        contracts.app_id,
        cast(sum(contracts.purchased * contracts.annual_price) as double precision) / 12 as monthly_cost,
        sum(contracts.purchased) as purchased,
        case when min(contracts.currency) = max(contracts.currency) then min(contracts.currency) end as currency,
        case
            when count(*) > count(contracts.purchased * contracts.annual_price) then 'unpriced'
            when min(contracts.currency) <> max(contracts.currency) then 'mixed_currencies'
        end as cost_status
    from contracts
    inner join apps
        on contracts.org_id = apps.org_id and contracts.app_id = apps.app_id
    where
        contracts.starts_on <= apps.as_of_date
        and coalesce(contracts.ends_on >= apps.as_of_date, true)
        and coalesce(contracts.known_from <= apps.as_of_date, true)
        and coalesce(contracts.known_to >= apps.as_of_date, true)
    group by 1, 2

),

joined as (

    select
        apps.org_id,
        apps.app_id,
        dim_apps.app_name,
        dim_apps.category,
        {%- for figure in ['dau', 'wau', 'mau_28', 'mau_30', 'mau_90', 'stickiness', 'stickiness_weekdays'] %}
        case when apps.is_current then daily.{{ figure }} end as {{ figure }},
        {%- endfor %}
        earlier.mau_28 as earlier_mau_28,
        active.avg_active_days_30,
        active.avg_volume_30,
        active.day_basis,
        {%- for class in others %}
        coalesce(active.{{ class }}_accounts_30, 0) as {{ class }}_accounts_30,
        {%- endfor %}
        categories.heavy_volume_30,
        dim_apps.category is not null as has_category,
        case when source_sets.slope_count = source_sets.source_count then slopes.wau_slope end as wau_slope,
        coalesce(targeted.headcount, headcounts.headcount, 0) as headcount,
        case
            when daily.mau_30 is null or not apps.is_current then null
            when targeted.app_id is null then daily.mau_30
            else coalesce(targeted_users.user_count, 0)
        end as target_users_30,
        costs.monthly_cost,
        costs.purchased,
        costs.currency,
        case when costs.org_id is null then 'no_contract' else costs.cost_status end as cost_status,
        case
            when source_sets.lasting_count = source_sets.source_count then null
            when source_sets.lasting_count > 0 then 'source_changed'
            else 'short_history'
        end as trend_break,
        apps.is_current as usage_known,
        apps.is_final,
        coalesce(daily.is_partial, true) as is_partial,
        apps.data_complete_ratio,
        apps.sources,
        coalesce({{ days_between('apps.first_seen_on', 'apps.as_of_date') }} < 13, true) as is_new,
        apps.as_of_date
    from apps
    inner join dim_apps
        on apps.app_id = dim_apps.app_id
    left join daily
        on apps.org_id = daily.org_id and apps.app_id = daily.app_id and apps.as_of_date = daily.usage_date
    left join daily as earlier
        on
            apps.org_id = earlier.org_id
            and apps.app_id = earlier.app_id
            and apps.as_of_date - {{ trend_days }} = earlier.usage_date
    left join source_sets
        on apps.org_id = source_sets.org_id and apps.app_id = source_sets.app_id
    left join active
        on apps.org_id = active.org_id and apps.app_id = active.app_id
    left join categories
        on apps.org_id = categories.org_id and dim_apps.category = categories.category
    left join slopes
        on apps.org_id = slopes.org_id and apps.app_id = slopes.app_id
    left join headcounts
        on apps.org_id = headcounts.org_id and apps.as_of_date = headcounts.as_of_date
    left join targeted
        on apps.org_id = targeted.org_id and apps.app_id = targeted.app_id
    left join targeted_users
        on apps.org_id = targeted_users.org_id and apps.app_id = targeted_users.app_id
    left join costs
        on apps.org_id = costs.org_id and apps.app_id = costs.app_id

),

compared as (

    select
        joined.*,
        case when mau_30 is not null then avg_active_days_30 end as known_active_days_30,
        case
            when trend_break is null then cast(mau_28 - earlier_mau_28 as double precision) / nullif(earlier_mau_28, 0)
        end as trend,
        -- capped, for people on leave and leavers, who are in no headcount, may use it too
        {{ rate('target_users_30', 'headcount') }} as adoption_rate,
        -- 20 of 30 days are every working day
        case
            when mau_30 = 0 then 0
            when mau_30 > 0 then {{ rate('avg_active_days_30', '20') }}
        end as frequency_score,
        case
            when not has_category then null
            when mau_30 = 0 then 0
            when mau_30 > 0 then {{ rate('ln(1 + avg_volume_30)', 'ln(1 + heavy_volume_30)') }}
        end as volume_score
    from joined

),

banded as (

    select
        compared.*,
        case
            when compared.mau_30 is null then 'unknown'
            when compared.mau_30 > 0 then coalesce(own_bands.usage_band, usage_bands.usage_band)
            when compared.is_new then 'new'
            else 'not_used'
        end as usage_band
    from compared
    -- above 15 days is core, so 15.4 are
    left join usage_bands
        on
            usage_bands.org_id = '*'
            and ceil(compared.known_active_days_30)
            between usage_bands.least_active_days and usage_bands.most_active_days
    left join usage_bands as own_bands
        on
            compared.org_id = own_bands.org_id
            and ceil(compared.known_active_days_30)
            between own_bands.least_active_days and own_bands.most_active_days

),

final as (

    select
        org_id,
        app_id,
        app_name,
        category,
        dau,
        wau,
        mau_28,
        mau_30,
        mau_90,
        stickiness,
        stickiness_weekdays,
        known_active_days_30 as avg_active_days_30,
        usage_band,
        {%- for class in others %}
        case when mau_30 is not null then cast({{ class }}_accounts_30 as bigint) end as {{ class }}_accounts_30,
        {%- endfor %}
        adoption_rate,
        cast(headcount as bigint) as target_headcount,
        cast(target_users_30 as bigint) as target_users_30,
        frequency_score,
        {{ rounded('volume_score') }} as volume_score,
        {{ rounded('100 * (0.5 * frequency_score + 0.3 * adoption_rate + 0.2 * volume_score)') }} as usage_score,
        trend,
        -- three people at least: in a small app one makes ten per cent
        case
            when trend is null then null
            when trend >= 0.1 and mau_28 - earlier_mau_28 >= 3 then 'growing'
            when trend <= -0.1 and mau_28 - earlier_mau_28 <= -3 then 'shrinking'
            else 'flat'
        end as trend_label,
        trend_break,
        case when usage_known then {{ rounded('wau_slope') }} end as wau_slope,
        case
            when cost_status is null then cast(monthly_cost as double precision) / nullif(purchased, 0)
        end as cost_per_seat,
        case
            when cost_status is null then cast(monthly_cost as double precision) / nullif(mau_30, 0)
        end as cost_per_active_user,
        case when cost_status is null then monthly_cost end as monthly_cost,
        currency,
        case
            when cost_status is not null then cost_status
            when mau_30 is null then 'usage_unknown'
            when mau_30 = 0 then 'no_users'
        end as cost_status,
        coalesce(headcount < 5 or mau_28 < 5, false) as is_small,
        usage_known,
        case
            when not usage_known then 'source_silent'
            when mau_30 is null then 'incomplete_window'
        end as unknown_reason,
        is_partial,
        is_final,
        data_complete_ratio,
        case when mau_30 is not null then day_basis end as day_basis,
        sources,
        {{ definition_version() }} as definition_version,
        as_of_date
    from banded

)

select * from final
