{%- set held_until = 'coalesce(least(holders.held_to, holders.ended_on - 1), last_days.as_of_date)' %}

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

holders as (

    select * from {{ ref('int_seats') }}

),

versions as (

    select * from {{ ref('int_contract_versions') }}

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
                and coalesce(min(currency) = max(currency), true)
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

-- whose last days are the first ones of its renewal has saved nothing when it ends
renewals as (

    select
        ending.org_id,
        ending.app_id,
        ending.license_key,
        ending.starts_on,
        min(following.starts_on) as renewed_on
    from versions as ending
    inner join versions as following
        on
            ending.org_id = following.org_id
            and ending.app_id = following.app_id
            and ending.license_key = following.license_key
            and ending.starts_on < following.starts_on
            and following.starts_on between ending.ends_on - 30 and ending.ends_on
    where coalesce(following.ends_on > ending.ends_on, true)
    group by 1, 2, 3, 4

),

-- seats bought by day: as many more on the first day of a contract, or of what is known of it, and fewer after the last
changes as (

    select
        org_id,
        app_id,
        license_key,
        greatest(starts_on, known_from) as changed_on,
        purchased as change
    from versions
    union all
    select
        versions.org_id,
        versions.app_id,
        versions.license_key,
        greatest(
            least(versions.ends_on + 1, versions.known_to + 1, renewals.renewed_on),
            versions.starts_on,
            versions.known_from
        ) as changed_on,
        -versions.purchased as change
    from versions
    left join renewals
        on
            versions.org_id = renewals.org_id
            and versions.app_id = renewals.app_id
            and versions.license_key = renewals.license_key
            and versions.starts_on = renewals.starts_on
    where versions.ends_on is not null or versions.known_to is not null

),

levels as (

    select
        changes.org_id,
        changes.app_id,
        changes.license_key,
        changes.changed_on,
        last_days.term_from,
        sum(sum(changes.change)) over (
            partition by changes.org_id, changes.app_id, changes.license_key
            order by changes.changed_on
            rows between unbounded preceding and current row
        ) as bought,
        sum(changes.change) as change
    from changes
    inner join last_days
        on
            changes.org_id = last_days.org_id
            and changes.app_id = last_days.app_id
            and changes.license_key = last_days.license_key
            and changes.changed_on <= last_days.as_of_date
    group by 1, 2, 3, 4, 5

),

-- fewer were bought: as many as were not bought again by now
dropped as (

    select
        levels.*,
        bought - change - max(bought) over (
            partition by org_id, app_id, license_key
            order by changed_on
            rows between current row and unbounded following
        ) as seats,
        lead(changed_on) over (partition by org_id, app_id, license_key order by changed_on) as changed_again_on
    from levels

),

most_bought as (

    select
        org_id,
        app_id,
        license_key,
        max(bought) as purchased
    from dropped
    where changed_again_on > term_from or changed_again_on is null
    group by 1, 2, 3

),

-- who gave a seat back in the present term, the first of them first
held as (

    select
        last_days.org_id,
        last_days.app_id,
        last_days.license_key,
        holders.account_id,
        max(last_days.assigned) as assigned,
        case
            when max({{ held_until }}) < max(last_days.as_of_date) then max(holders.held_to) + 1
        end as released_on
    from last_days
    inner join holders
        on
            last_days.org_id = holders.org_id
            and last_days.app_id = holders.app_id
            and last_days.license_key = {{ normalized_name('holders.license_name') }}
            and coalesce(last_days.as_of_date >= holders.held_from, true)
            and coalesce(last_days.term_from <= holders.held_to, holders.held_to is null)
    group by 1, 2, 3, 4
    -- who had one when the connection was taken away gave nothing back
    having
        max({{ held_until }}) >= max(last_days.as_of_date)
        or coalesce(max({{ held_until }}) <> max(holders.ended_on) - 1, true)

),

ranked as (

    select
        held.*,
        count(*) over (partition by org_id, app_id, license_key) as holder_count,
        row_number() over (
            partition by org_id, app_id, license_key order by released_on nulls last, account_id
        ) as release_rank
    from held

),

-- had nobody given one back, as many seats had to be bought as people held one
realised as (

    select
        org_id,
        app_id,
        license_key,
        changed_on as released_on,
        seats
    from dropped
    where changed_on >= term_from and seats > 0
    union all
    select
        ranked.org_id,
        ranked.app_id,
        ranked.license_key,
        ranked.released_on,
        1 as seats
    from ranked
    inner join most_bought
        on
            ranked.org_id = most_bought.org_id
            and ranked.app_id = most_bought.app_id
            and ranked.license_key = most_bought.license_key
    where
        ranked.released_on is not null
        and ranked.release_rank <= ranked.holder_count - greatest(most_bought.purchased, ranked.assigned)

),

realised_days as (

    select
        realised.org_id,
        realised.app_id,
        realised.license_key,
        sum(realised.seats) as seats,
        sum(realised.seats * {{ days_between('realised.released_on', 'last_days.realisable_on') }}) as seat_days
    from realised
    inner join last_days
        on
            realised.org_id = last_days.org_id
            and realised.app_id = last_days.app_id
            and realised.license_key = last_days.license_key
    group by 1, 2, 3

),

counted as (

    select
        last_days.*,
        case when last_days.assigned is not null then coalesce(underused.underused, 0) end as underused,
        months.wasted_spend_month,
        -- what must be paid whatever happens cannot be saved
        greatest(0, last_days.purchased - coalesce(last_days.minimum_purchased, 0)) as cuttable,
        case
            when last_days.purchased is not null and last_days.realisable_on is not null
                then coalesce(realised_days.seats, 0)
        end as realised_seats,
        coalesce(realised_days.seat_days, 0) as realised_seat_days,
        cast(last_days.assigned - last_days.unknown as double precision) / nullif(last_days.assigned, 0)
            as data_complete_ratio,
        apps.sources,
        coalesce(apps.is_final, false) as is_final,
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
    left join realised_days
        on
            last_days.org_id = realised_days.org_id
            and last_days.app_id = realised_days.app_id
            and last_days.license_key = realised_days.license_key
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
        cast(
            case when reclaimable + unassigned > cuttable then cuttable else reclaimable + unassigned end
            * annual_price as double precision
        ) as potential_annual_savings,
        case
            when realised_seats is not null
                then
                    {{ rounded('cast(annual_price as double precision) * realised_seat_days / days_in_year') }}
        end as realised_savings,
        cast(realised_seats as bigint) as realised_seats,
        minimum_purchased,
        cast(annual_price as double precision) / 12 as cost_per_seat,
        realisable_on,
        currency,
        price_status,
        coalesce(purchased < 5 or assigned - exempt - unknown < 5, false) as is_small,
        is_known as usage_known,
        is_known and is_final as is_final,
        data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version,
        as_of_date
    from counted

)

select * from final
