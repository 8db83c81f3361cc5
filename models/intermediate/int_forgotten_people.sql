with

owners as (

    select * from {{ ref('email_owners_snapshot') }}

),

employees as (

    select * from {{ ref('stg_product__employees') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

listed as (

    select distinct
        org_id,
        person_id
    from employees

),

unlisted as (

    select
        owners.*,
        max(owners.dbt_valid_to) over (partition by owners.org_id, owners.person_id) as missed_at
    from owners
    left join listed
        on owners.org_id = listed.org_id and owners.person_id = listed.person_id
    where owners.dbt_valid_to is not null and listed.person_id is null

),

-- what was taken from somebody before was not that person's any more
kept as (

    select
        unlisted.org_id,
        unlisted.email_hash,
        unlisted.person_id,
        unlisted.matched_by,
        unlisted.garden_leave_from,
        -- who left before, and was not hired again, did not leave when HR's row went
        case when unlisted.left_on < unlisted.started_on then null else unlisted.left_on end as told_left_on,
        {{ local_date('unlisted.missed_at', 'time_zones.time_zone') }} as missed_on,
        row_number() over (
            partition by unlisted.org_id, unlisted.email_hash
            order by unlisted.missed_at desc, unlisted.dbt_valid_from desc, unlisted.person_id asc
        ) as recency
    from unlisted
    {{ join_time_zone('time_zones', 'unlisted.org_id', 'unlisted.missed_at') }}
    where unlisted.dbt_valid_to = unlisted.missed_at

),

final as (

    select
        org_id,
        email_hash,
        person_id,
        matched_by,
        least(coalesce(told_left_on, missed_on), missed_on) as left_on,
        garden_leave_from
    from kept
    where recency = 1

)

select * from final
