with

versions as (

    select * from {{ ref('int_contract_versions') }}

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
        from versions
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

contract_months as (

    select
        versions.*,
        licensed_apps.as_of_date,
        case versions.billing_period when 'month' then 1 when 'year' then 12 end as bill_months
    from versions
    inner join licensed_apps
        on versions.org_id = licensed_apps.org_id and versions.app_id = licensed_apps.app_id

),

-- a fixed term can be cut when it ends, an open one whenever it is billed
contract_terms as (

    select
        contract_months.*,
        calendar.calendar_date as license_date,
        case
            when contract_months.ends_on is null
                then {{ billed_on(
                    'contract_months.starts_on', 'contract_months.bill_months', 'calendar.calendar_date'
                ) }}
            else contract_months.starts_on
        end as term_from,
        case
            when contract_months.ends_on is null
                then {{ billed_on(
                    'contract_months.starts_on', 'contract_months.bill_months', 'calendar.calendar_date', 1
                ) }}
            else contract_months.ends_on + 1
        end as realisable_on
    from contract_months
    inner join calendar
        on
            contract_months.starts_on <= calendar.calendar_date
            and (contract_months.ends_on >= calendar.calendar_date or contract_months.ends_on is null)
            and (contract_months.known_from <= calendar.calendar_date or contract_months.known_from is null)
            and (contract_months.known_to >= calendar.calendar_date or contract_months.known_to is null)
            and calendar.calendar_date between cast({{ dbt.date_trunc('month', 'contract_months.as_of_date') }} as date)
            and contract_months.as_of_date

),

contract_days as (

    select
        org_id,
        app_id,
        license_key,
        license_date,
        min(license_name) as license_name,
        min(ends_on) as ends_on,
        min(term_from) as term_from,
        min(realisable_on) as realisable_on,
        count(*) as contract_count,
        case when count(*) = count(purchased) then sum(purchased) end as purchased,
        sum(minimum_purchased) as minimum_purchased,
        -- several contracts of one licence: the mean of their prices by seats, if all are known in one currency
        case
            when count(*) = count(annual_price) and min(currency) = max(currency)
                then cast(
                    coalesce(
                        cast(sum(purchased * annual_price) as double precision) / nullif(sum(purchased), 0),
                        avg(cast(annual_price as double precision))
                    ) as numeric(18, 4)
                )
        end as annual_price,
        case when min(currency) = max(currency) then min(currency) end as currency,
        case
            when count(*) > count(annual_price) then 'unpriced'
            when min(currency) <> max(currency) then 'mixed_currencies'
        end as price_status
    from contract_terms
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

-- whose seats are known: the vendor still names licences, or what it lists can only be of one contract
apps_with_seats as (

    select
        org_id,
        app_id
    from account_states
    where license_name is not null and ended_on is null
    union
    select
        org_id,
        app_id
    from seats
    where ended_on is null

),

-- who held one when a connection ended, and is listed by no other: nobody knows whether it is held since
unlisted_seats as (

    select
        seats.org_id,
        seats.app_id,
        min(seats.ended_on) as ended_on
    from seats
    left join account_states
        on
            seats.org_id = account_states.org_id
            and seats.app_id = account_states.app_id
            and seats.account_id = account_states.account_id
            and account_states.ended_on is null
    where
        seats.ended_on is not null
        and (seats.held_to >= seats.ended_on - 1 or seats.held_to is null)
        and account_states.account_id is null
    group by 1, 2

),

listed_licenses as (

    select distinct
        org_id,
        app_id,
        {{ normalized_name('license_name') }} as license_key
    from account_states
    where license_name is not null
    union
    select distinct
        org_id,
        app_id,
        {{ normalized_name('license_name') }} as license_key
    from seats

),

unbought_days as (

    select distinct
        seat_counts.org_id,
        seat_counts.app_id,
        seat_counts.license_date
    from seat_counts
    left join contract_days
        on
            seat_counts.org_id = contract_days.org_id
            and seat_counts.app_id = contract_days.app_id
            and seat_counts.license_key = contract_days.license_key
            and seat_counts.license_date = contract_days.license_date
    where contract_days.org_id is null

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
        contract_days.term_from,
        contract_days.realisable_on,
        contract_days.contract_count,
        contract_days.purchased,
        contract_days.minimum_purchased,
        {%- for count in ['assigned'] + seat_states() %}
        case
            when
                apps_with_seats.app_id is not null
                and (license_days.license_date < unlisted_seats.ended_on or unlisted_seats.ended_on is null)
                -- of a name that no listing has ever had, seats of another name may be the ones that were bought
                and (listed_licenses.app_id is not null or unbought_days.app_id is null)
                then coalesce(seat_counts.{{ count }}, 0)
        end as {{ count }},
        {%- endfor %}
        contract_days.annual_price,
        contract_days.currency,
        case
            when contract_days.contract_count is null then 'no_contract' else contract_days.price_status
        end as price_status
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
    left join unlisted_seats
        on license_days.org_id = unlisted_seats.org_id and license_days.app_id = unlisted_seats.app_id
    left join listed_licenses
        on
            license_days.org_id = listed_licenses.org_id
            and license_days.app_id = listed_licenses.app_id
            and license_days.license_key = listed_licenses.license_key
    left join unbought_days
        on
            license_days.org_id = unbought_days.org_id
            and license_days.app_id = unbought_days.app_id
            and license_days.license_date = unbought_days.license_date

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
        term_from,
        realisable_on,
        cast(contract_count as bigint) as contract_count,
        cast(purchased as bigint) as purchased,
        cast(minimum_purchased as bigint) as minimum_purchased,
        annual_price,
        currency,
        price_status,
        {%- for count in ['assigned'] + seat_states() %}
        cast({{ count }} as bigint) as {{ count }},
        {%- endfor %}
        cast(unassigned as bigint) as unassigned,
        cast(over_assigned as bigint) as over_assigned,
        cast(reclaimable as bigint) as reclaimable,
        -- who holds more than was bought wastes what was bought
        cast(
            case when reclaimable + unassigned > purchased then purchased else reclaimable + unassigned end
            * annual_price as numeric(18, 4)
        ) as wasted_annual_price
    from counted

)

select * from final
