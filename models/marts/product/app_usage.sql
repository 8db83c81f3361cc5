{%- set trend_days = 28 %}

with

apps as (

    select * from {{ ref('int_apps') }}

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

app_days as (

    select * from {{ ref('int_app_days') }}

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

    select * from {{ ref('int_contracts') }}

),

usage_bands as (

    select * from {{ ref('usage_bands') }}

),

completeness as (

    select
        app_days.org_id,
        app_days.app_id,
        cast(sum(app_days.complete_count) as double precision) / sum(app_days.source_count) as data_complete_ratio
    from app_days
    inner join apps
        on app_days.org_id = apps.org_id and app_days.app_id = apps.app_id
    where app_days.usage_date between apps.as_of_date - 29 and apps.as_of_date
    group by 1, 2

),

-- two windows compare if the same sources saw both from the first day on
source_sets as (

    select
        app_sources.org_id,
        app_sources.app_id,
        sum(
            case when app_sources.starts_on <= apps.as_of_date - {{ 2 * trend_days - 1 }} then 1 else 0 end
        ) as lasting_count,
        count(*) as source_count
    from app_sources
    inner join apps
        on app_sources.org_id = apps.org_id and app_sources.app_id = apps.app_id
    where app_sources.starts_on <= apps.as_of_date
    group by 1, 2

),

active_days as (

    select
        person_days.org_id,
        person_days.app_id,
        cast(count(*) as double precision) / count(distinct person_days.person_id) as avg_active_days_30
    from person_days
    inner join apps
        on person_days.org_id = apps.org_id and person_days.app_id = apps.app_id
    where
        person_days.person_class = 'human'
        and person_days.usage_date between apps.as_of_date - 29 and apps.as_of_date
    group by 1, 2

),

as_of_dates as (

    select distinct
        org_id,
        as_of_date
    from apps

),

headcounts as (

    select
        as_of_dates.org_id,
        as_of_dates.as_of_date,
        count(*) as headcount
    from as_of_dates
    inner join people
        on as_of_dates.org_id = people.org_id
    where
        people.person_class = 'human'
        and coalesce(people.started_on <= as_of_dates.as_of_date, true)
        and coalesce(people.left_on > as_of_dates.as_of_date, true)
        and not (
            coalesce(people.on_leave_from <= as_of_dates.as_of_date, false)
            and coalesce(people.on_leave_to >= as_of_dates.as_of_date, true)
        )
    group by 1, 2

),

costs as (

    select
        contracts.org_id,
        contracts.app_id,
        cast(sum(contracts.purchased * contracts.annual_price) as double precision) / 12 as monthly_cost,
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
    group by 1, 2

),

joined as (

    select
        apps.org_id,
        apps.app_id,
        dim_apps.app_name,
        dim_apps.category,
        {%- for figure in ['dau', 'wau', 'mau_28', 'mau_30', 'mau_90', 'stickiness'] %}
        case when apps.is_current then daily.{{ figure }} end as {{ figure }},
        {%- endfor %}
        earlier.mau_28 as earlier_mau_28,
        active_days.avg_active_days_30,
        coalesce(headcounts.headcount, 0) as headcount,
        costs.monthly_cost,
        costs.currency,
        case when costs.org_id is null then 'no_contract' else costs.cost_status end as cost_status,
        case
            when source_sets.lasting_count = source_sets.source_count then null
            when source_sets.lasting_count > 0 then 'source_changed'
            else 'short_history'
        end as trend_break,
        apps.is_current as usage_known,
        coalesce(daily.is_partial, true) as is_partial,
        completeness.data_complete_ratio,
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
    left join completeness
        on apps.org_id = completeness.org_id and apps.app_id = completeness.app_id
    left join source_sets
        on apps.org_id = source_sets.org_id and apps.app_id = source_sets.app_id
    left join active_days
        on apps.org_id = active_days.org_id and apps.app_id = active_days.app_id
    left join headcounts
        on apps.org_id = headcounts.org_id and apps.as_of_date = headcounts.as_of_date
    left join costs
        on apps.org_id = costs.org_id and apps.app_id = costs.app_id

),

compared as (

    select
        joined.*,
        case when mau_30 is not null then avg_active_days_30 end as known_active_days_30,
        case
            when trend_break is null then cast(mau_28 - earlier_mau_28 as double precision) / nullif(earlier_mau_28, 0)
        end as trend
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
        known_active_days_30 as avg_active_days_30,
        usage_band,
        -- capped, for people on leave and leavers, who are in no headcount, may use it too
        {{ rate('mau_30', 'headcount') }} as adoption_rate,
        trend,
        -- three people at least: in a small app one makes ten per cent
        case
            when trend is null then null
            when trend >= 0.1 and mau_28 - earlier_mau_28 >= 3 then 'growing'
            when trend <= -0.1 and mau_28 - earlier_mau_28 <= -3 then 'shrinking'
            else 'flat'
        end as trend_label,
        trend_break,
        case
            when cost_status is null then cast(monthly_cost as double precision) / nullif(mau_30, 0)
        end as cost_per_active_user,
        currency,
        case
            when cost_status is not null then cost_status
            when mau_30 is null then 'usage_unknown'
            when mau_30 = 0 then 'no_users'
        end as cost_status,
        coalesce(headcount < 5 or mau_28 < 5, false) as is_small,
        usage_known,
        is_partial,
        data_complete_ratio,
        sources,
        as_of_date
    from banded

)

select * from final
