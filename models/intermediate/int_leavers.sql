{%- set overdue_on = 'people.left_on + 1 + ' ~ var('offboarding_grace_days') %}

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

-- HR gives the last day, not an hour: access may be used until the end of so many days after it
leavers as (

    select
        people.org_id,
        people.person_id,
        people.left_on,
        people.left_on + {{ var('offboarding_grace_days') }} as allowed_through,
        {{ day_starts_at(overdue_on, 'time_zones.time_zone') }} as overdue_at,
        {{ local_date(now(), 'orgs.time_zone') }} as today,
        people.started_on
    from people
    inner join orgs
        on people.org_id = orgs.org_id
    inner join time_zones
        on people.org_id = time_zones.org_id and {{ overdue_on }} between time_zones.first_date and time_zones.last_date
    where people.person_class = 'human' and people.left_on is not null

),

overdue as (

    select
        org_id,
        person_id,
        left_on,
        allowed_through,
        overdue_at,
        today
    from leavers
    where
        allowed_through < today
        -- hired again
        and not coalesce(started_on > left_on and started_on <= today, false)

)

select * from overdue
