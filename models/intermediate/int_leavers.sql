{%- set overdue_on = 'ended.access_ended_on + 1 + ' ~ var('offboarding_grace_days') %}

with

people as (

    select * from {{ ref('dim_people') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

dated as (

    select
        people.*,
        {{ local_date(now(), 'orgs.time_zone') }} as today
    from people
    inner join orgs
        on people.org_id = orgs.org_id
    where people.person_class = 'human'

),

-- who was hired again is back
present as (

    select
        org_id,
        person_id,
        today,
        case when not coalesce(started_on > left_on and started_on <= today, false) then left_on end as left_on,
        case
            when not coalesce(started_on > garden_leave_from and started_on <= today, false) then garden_leave_from
        end as garden_leave_from
    from dated

),

ended as (

    select
        present.*,
        least(left_on, garden_leave_from - 1) as access_ended_on
    from present

),

-- HR gives the last day, not an hour: access may be used until the end of so many days after it
leavers as (

    select
        ended.org_id,
        ended.person_id,
        ended.left_on,
        ended.access_ended_on,
        coalesce(ended.left_on + {{ var('offboarding_grace_days') }} >= ended.today, true) as is_suspended_expected,
        ended.access_ended_on + {{ var('offboarding_grace_days') }} as allowed_through,
        {{ day_starts_at(overdue_on, 'time_zones.time_zone') }} as overdue_at,
        ended.today
    from ended
    inner join time_zones
        on ended.org_id = time_zones.org_id and {{ overdue_on }} between time_zones.first_date and time_zones.last_date

),

overdue as (

    select *
    from leavers
    where allowed_through < today

)

select * from overdue
