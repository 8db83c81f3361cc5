with

contract_versions as (

    select * from {{ ref('contracts_snapshot') }}

),

contracts as (

    select * from {{ ref('int_contracts') }}

),

seat_days as (

    select * from {{ ref('fct_seat_days') }}

),

account_states as (

    select * from {{ ref('int_account_states') }}

),

seats as (

    select * from {{ ref('int_seats') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

calendar as (

    select * from {{ ref('int_calendar') }}

),

-- of an app that nothing has shown, yesterday is told as well as any day
licensed_apps as (

    select
        listed.org_id,
        listed.app_id,
        coalesce(apps.as_of_date, {{ local_date(now(), 'orgs.time_zone') }} - 1) as as_of_date
    from (
        select
            org_id,
            app_id
        from contract_versions
        union
        select
            org_id,
            app_id
        from seats
    ) as listed
    inner join orgs
        on listed.org_id = orgs.org_id
    left join apps
        on listed.org_id = apps.org_id and listed.app_id = apps.app_id

),

-- a contract counts from its first day on, however late it was told; what was changed, from the day of the change
versions as (

    select
        contract_versions.org_id,
        contract_versions.app_id,
        contract_versions.license_name,
        contract_versions.license_key,
        contract_versions.purchased,
        contract_versions.annual_price,
        contract_versions.currency,
        contract_versions.starts_on,
        contract_versions.ends_on,
        case
            when
                row_number() over (
                    partition by
                        contract_versions.org_id,
                        contract_versions.app_id,
                        contract_versions.license_name,
                        contract_versions.starts_on
                    order by contract_versions.dbt_valid_from, contract_versions.dbt_valid_to nulls last
                ) > 1
                then {{ local_date('contract_versions.dbt_valid_from', 'first_zones.time_zone') }}
        end as known_from,
        {{ local_date('contract_versions.dbt_valid_to', 'last_zones.time_zone') }} - 1 as known_to,
        licensed_apps.as_of_date
    from contract_versions
    inner join licensed_apps
        on contract_versions.org_id = licensed_apps.org_id and contract_versions.app_id = licensed_apps.app_id
    {{ join_time_zone('first_zones', 'contract_versions.org_id', 'contract_versions.dbt_valid_from') }}
    {{ join_time_zone('last_zones', 'contract_versions.org_id', 'contract_versions.dbt_valid_to') }}

),

contract_days as (

    select
        versions.org_id,
        versions.app_id,
        versions.license_key,
        calendar.calendar_date as license_date,
        min(versions.license_name) as license_name,
        min(versions.ends_on) as ends_on,
        count(*) as contract_count,
        case when count(*) = count(versions.purchased) then sum(versions.purchased) end as purchased,
        -- several contracts of one licence: the mean of their prices by seats, if all are known in one currency
        case
            when count(*) = count(versions.annual_price) and min(versions.currency) = max(versions.currency)
                then cast(
                    coalesce(
                        cast(sum(versions.purchased * versions.annual_price) as double precision)
                        / nullif(sum(versions.purchased), 0),
                        avg(cast(versions.annual_price as double precision))
                    ) as numeric(18, 4)
                )
        end as annual_price,
        case when min(versions.currency) = max(versions.currency) then min(versions.currency) end as currency
    from versions
    inner join calendar
        on
            versions.starts_on <= calendar.calendar_date
            and (versions.ends_on >= calendar.calendar_date or versions.ends_on is null)
            and (versions.known_from <= calendar.calendar_date or versions.known_from is null)
            and (versions.known_to >= calendar.calendar_date or versions.known_to is null)
            and calendar.calendar_date between cast({{ dbt.date_trunc('month', 'versions.as_of_date') }} as date)
            and versions.as_of_date
    group by 1, 2, 3, 4

),

seat_counts as (

    select
        org_id,
        app_id,
        {{ normalized_name('license_name') }} as license_key,
        seat_date as license_date,
        min(license_name) as license_name,
        {%- for state in seat_states() %}
        sum(case when seat_state = '{{ state }}' then 1 else 0 end) as {{ state }},
        {%- endfor %}
        count(*) as assigned
    from seat_days
    group by 1, 2, 3, 4

),

-- whose seats are known: the vendor names licences, or what it lists can only be of one contract
apps_with_seats as (

    select
        org_id,
        app_id
    from account_states
    where license_name is not null
    union
    select
        org_id,
        app_id
    from seats

),

published_names as (

    select distinct
        org_id,
        app_id,
        license_key,
        published_name
    from contracts

),

license_days as (

    select
        org_id,
        app_id,
        license_key,
        license_date
    from contract_days
    union
    select
        org_id,
        app_id,
        license_key,
        license_date
    from seat_counts

),

joined as (

    select
        license_days.org_id,
        license_days.app_id,
        coalesce(published_names.published_name, seat_counts.license_name, contract_days.license_name) as license_name,
        license_days.license_date,
        licensed_apps.as_of_date,
        contract_days.ends_on,
        contract_days.contract_count,
        contract_days.purchased,
        {%- for count in ['assigned'] + seat_states() %}
        case when apps_with_seats.app_id is not null then coalesce(seat_counts.{{ count }}, 0) end as {{ count }},
        {%- endfor %}
        contract_days.annual_price,
        contract_days.currency
    from license_days
    inner join licensed_apps
        on license_days.org_id = licensed_apps.org_id and license_days.app_id = licensed_apps.app_id
    left join published_names
        on
            license_days.org_id = published_names.org_id
            and license_days.app_id = published_names.app_id
            and license_days.license_key = published_names.license_key
    left join contract_days
        on
            license_days.org_id = contract_days.org_id
            and license_days.app_id = contract_days.app_id
            and license_days.license_key = contract_days.license_key
            and license_days.license_date = contract_days.license_date
    left join seat_counts
        on
            license_days.org_id = seat_counts.org_id
            and license_days.app_id = seat_counts.app_id
            and license_days.license_key = seat_counts.license_key
            and license_days.license_date = seat_counts.license_date
    left join apps_with_seats
        on license_days.org_id = apps_with_seats.org_id and license_days.app_id = apps_with_seats.app_id

),

counted as (

    select
        joined.*,
        -- engines take the greatest of what is not null
        case when purchased - assigned > 0 then purchased - assigned when purchased >= 0 and assigned >= 0 then 0 end
            as unassigned,
        case when assigned - purchased > 0 then assigned - purchased when purchased >= 0 and assigned >= 0 then 0 end
            as over_assigned,
        idle + never_used + undeprovisioned + suspended as reclaimable
    from joined

),

final as (

    select
        org_id,
        app_id,
        license_name,
        license_date,
        as_of_date,
        ends_on,
        cast(contract_count as bigint) as contract_count,
        cast(purchased as bigint) as purchased,
        annual_price,
        currency,
        {%- for count in ['assigned'] + seat_states() %}
        cast({{ count }} as bigint) as {{ count }},
        {%- endfor %}
        cast(unassigned as bigint) as unassigned,
        cast(over_assigned as bigint) as over_assigned,
        cast(reclaimable as bigint) as reclaimable,
        cast((reclaimable + unassigned) * annual_price as numeric(18, 4)) as wasted_annual_price
    from counted

)

select * from final
