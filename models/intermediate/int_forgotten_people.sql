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

gone as (

    select
        owners.org_id,
        owners.email_hash,
        owners.person_id,
        owners.matched_by,
        max({{ local_date('owners.dbt_valid_to', 'time_zones.time_zone') }}) over (
            partition by owners.org_id, owners.person_id
        ) as left_on,
        row_number() over (
            partition by owners.org_id, owners.email_hash order by owners.dbt_valid_to desc, owners.person_id asc
        ) as recency
    from owners
    left join listed
        on owners.org_id = listed.org_id and owners.person_id = listed.person_id
    {{ join_time_zone('time_zones', 'owners.org_id', 'owners.dbt_valid_to') }}
    where owners.dbt_valid_to is not null and listed.person_id is null

),

final as (

    select
        org_id,
        email_hash,
        person_id,
        matched_by,
        left_on
    from gone
    where recency = 1

)

select * from final
