with

owners as (

    select * from {{ ref('email_owners_snapshot') }}

),

forgotten as (

    select * from {{ ref('int_forgotten_people') }}

),

employees as (

    select * from {{ ref('stg_product__employees') }}

),

known as (

    select
        org_id,
        person_id
    from employees
    union
    select
        org_id,
        person_id
    from forgotten

),

-- an alias that was taken from somebody was a mistake; a main address was theirs, and apps may still know them by it
former as (

    select
        org_id,
        email_hash,
        person_id,
        matched_by,
        1 as trust,
        cast(null as timestamp) as had_until
    from forgotten
    union all
    select
        owners.org_id,
        owners.email_hash,
        owners.person_id,
        'former_email' as matched_by,
        2 as trust,
        owners.dbt_valid_to as had_until
    from owners
    inner join known
        on owners.org_id = known.org_id and owners.person_id = known.person_id
    where owners.matched_by = 'email' and owners.dbt_valid_to is not null

),

ranked as (

    select
        former.*,
        row_number() over (
            partition by org_id, email_hash order by trust asc, had_until desc nulls last, person_id asc
        ) as recency
    from former

),

final as (

    select
        org_id,
        email_hash,
        person_id,
        matched_by
    from ranked
    where recency = 1

)

select * from final
