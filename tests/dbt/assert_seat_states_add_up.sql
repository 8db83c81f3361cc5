-- Every seat is in one state, and what is bought is assigned or not: the figures of a licence account for one another.
with

seats as (

    select
        org_id,
        app_id,
        license_name,
        count(*) as seat_count,
        sum(case when seat_state in ('idle', 'never_used', 'undeprovisioned', 'suspended') then 1 else 0 end)
            as reclaimable_count,
        sum(case when is_underused then 1 else 0 end) as underused_count
    from {{ ref('license_seats') }}
    group by 1, 2, 3

)

select licenses.*
from {{ ref('license_utilization') }} as licenses
left join seats
    on
        licenses.org_id = seats.org_id
        and licenses.app_id = seats.app_id
        and licenses.license_name = seats.license_name
where
    licenses.assigned <> coalesce(seats.seat_count, 0)
    or licenses.reclaimable_seats <> coalesce(seats.reclaimable_count, 0)
    or licenses.underused <> coalesce(seats.underused_count, 0)
    or licenses.assigned
    <> licenses.active + licenses.underused + licenses.idle + licenses.never_used + licenses.undeprovisioned
    + licenses.suspended + licenses.exempt + licenses.unknown + licenses.grace
    or licenses.assigned + licenses.unassigned - licenses.over_assigned <> licenses.purchased
    or licenses.active < 0
    or licenses.allocation_rate not between 0 and 1
    or licenses.utilization_rate not between 0 and 1
    or licenses.assigned_utilization_rate not between 0 and 1
    or licenses.wasted_spend_month < 0
