with

license_days as (

    select * from {{ ref('fct_license_days') }}

),

seats as (

    select * from {{ ref('license_seats') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

underused as (

    select
        org_id,
        app_id,
        {{ normalized_name('license_name') }} as license_key,
        cast(sum(case when is_underused then 1 else 0 end) as bigint) as underused
    from seats
    group by 1, 2, 3

),

dated as (

    select
        license_days.*,
        {{ normalized_name('license_name') }} as license_key,
        -- the days of a month are all of one year
        {{ days_between(
            "cast(" ~ dbt.date_trunc('year', 'license_date') ~ " as date)",
            "cast(" ~ dbt.date_trunc('year', dbt.dateadd('year', 1, 'license_date')) ~ " as date)"
        ) }} as days_in_year
    from license_days

),

-- a day with a contract whose price or seats nobody knows leaves the month's waste unknown
months as (

    select
        org_id,
        app_id,
        license_key,
        case
            when
                sum(case when contract_count > 0 then 1 else 0 end) > 0
                and sum(case when contract_count > 0 and wasted_annual_price is null then 1 else 0 end) = 0
                then cast(sum(wasted_annual_price) as double precision) / max(days_in_year)
        end as wasted_spend_month
    from dated
    group by 1, 2, 3

),

last_days as (

    select *
    from dated
    where license_date = as_of_date

),

counted as (

    select
        last_days.*,
        case when last_days.assigned is not null then coalesce(underused.underused, 0) end as underused,
        months.wasted_spend_month,
        cast(last_days.assigned - last_days.unknown as double precision) / nullif(last_days.assigned, 0)
            as data_complete_ratio,
        apps.sources,
        -- of a few unknown seats a rate may be told; it is too low by them
        coalesce(
            last_days.unknown <= last_days.assigned * (1 - {{ var('min_complete_ratio') }}), false
        ) as is_known
    from last_days
    inner join months
        on
            last_days.org_id = months.org_id
            and last_days.app_id = months.app_id
            and last_days.license_key = months.license_key
    left join apps
        on last_days.org_id = apps.org_id and last_days.app_id = apps.app_id
    left join underused
        on
            last_days.org_id = underused.org_id
            and last_days.app_id = underused.app_id
            and last_days.license_key = underused.license_key

),

final as (

    select
        org_id,
        app_id,
        license_name,
        purchased,
        assigned,
        unassigned,
        over_assigned,
        active - underused as active,
        underused,
        idle,
        never_used,
        undeprovisioned,
        suspended,
        exempt,
        unknown,
        grace,
        {{ rate('assigned', 'purchased') }} as allocation_rate,
        case when is_known then {{ rate('active', 'purchased') }} end as utilization_rate,
        case when is_known then {{ rate('active', '(assigned - exempt - unknown)') }} end as assigned_utilization_rate,
        reclaimable as reclaimable_seats,
        wasted_spend_month,
        cast(wasted_annual_price as double precision) as potential_annual_savings,
        cast(annual_price as double precision) / 12 as cost_per_seat,
        -- fixed terms are cut when they end; when an open one may be is not told
        ends_on + 1 as realisable_on,
        currency,
        is_known as usage_known,
        data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version,
        as_of_date
    from counted

)

select * from final
