{%- set others = ['service', 'shared', 'external', 'unknown'] %}

with

apps as (

    select * from {{ ref('int_apps') }}

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

trends as (

    select * from {{ ref('int_app_trends') }}

),

audiences as (

    select * from {{ ref('int_app_audiences') }}

),

costs as (

    select * from {{ ref('int_app_costs') }}

),

usage_bands as (

    select * from {{ ref('usage_bands') }}

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

joined as (

    select
        apps.org_id,
        apps.app_id,
        dim_apps.app_name,
        dim_apps.category,
        {%- for figure in ['dau', 'wau', 'mau_28', 'mau_30', 'mau_90', 'stickiness', 'stickiness_weekdays'] %}
        case when apps.is_current then daily.{{ figure }} end as {{ figure }},
        {%- endfor %}
        active.avg_active_days_30,
        active.avg_volume_30,
        active.day_basis,
        {%- for class in others %}
        coalesce(active.{{ class }}_accounts_30, 0) as {{ class }}_accounts_30,
        {%- endfor %}
        categories.heavy_volume_30,
        dim_apps.category is not null as has_category,
        trends.trend,
        trends.trend_label,
        trends.trend_break,
        trends.wau_slope,
        audiences.headcount,
        case
            when daily.mau_30 is not null and apps.is_current then coalesce(audiences.user_count_30, daily.mau_30)
        end as target_users_30,
        costs.monthly_cost,
        costs.purchased,
        costs.currency,
        case when costs.org_id is null then 'no_contract' else costs.cost_status end as cost_status,
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
    left join trends
        on apps.org_id = trends.org_id and apps.app_id = trends.app_id
    left join audiences
        on apps.org_id = audiences.org_id and apps.app_id = audiences.app_id
    left join daily
        on apps.org_id = daily.org_id and apps.app_id = daily.app_id and apps.as_of_date = daily.usage_date
    left join active
        on apps.org_id = active.org_id and apps.app_id = active.app_id
    left join categories
        on apps.org_id = categories.org_id and dim_apps.category = categories.category
    left join costs
        on apps.org_id = costs.org_id and apps.app_id = costs.app_id

),

compared as (

    select
        joined.*,
        case when mau_30 is not null then avg_active_days_30 end as known_active_days_30,
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
            when compared.headcount is null then 'unknown'
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
        headcount as target_headcount,
        target_users_30,
        frequency_score,
        {{ rounded('volume_score') }} as volume_score,
        {{ rounded('100 * (0.5 * frequency_score + 0.3 * adoption_rate + 0.2 * volume_score)') }} as usage_score,
        trend,
        trend_label,
        trend_break,
        wau_slope,
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
