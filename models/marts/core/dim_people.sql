with

employees as (

    select * from {{ ref('stg_product__employees') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

forgotten as (

    select * from {{ ref('int_forgotten_people') }}

),

people as (

    select
        org_id,
        person_id,
        user_email,
        full_name,
        department,
        'human' as person_class,
        started_on,
        left_on,
        on_leave_from,
        on_leave_to,
        garden_leave_from,
        row_number() over (
            partition by org_id, person_id order by user_email nulls last, started_on nulls last
        ) as listing
    from employees
    where org_id is not null and person_id is not null
    union all
    select
        org_id,
        person_id,
        max(user_email) as user_email,
        null as full_name,
        null as department,
        min(person_class) as person_class,
        null as started_on,
        null as left_on,
        null as on_leave_from,
        null as on_leave_to,
        null as garden_leave_from,
        1 as listing
    from accounts
    where matched_by is null
    group by 1, 2
    union all
    select
        org_id,
        person_id,
        null as user_email,
        null as full_name,
        null as department,
        'human' as person_class,
        null as started_on,
        max(left_on) as left_on,
        null as on_leave_from,
        null as on_leave_to,
        max(garden_leave_from) as garden_leave_from,
        1 as listing
    from forgotten
    group by 1, 2

),

final as (

    select
        org_id,
        person_id,
        user_email,
        full_name,
        department,
        person_class,
        started_on,
        left_on,
        on_leave_from,
        on_leave_to,
        garden_leave_from
    from people
    where listing = 1

)

select * from final
