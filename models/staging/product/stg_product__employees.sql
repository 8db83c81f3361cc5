with

employees as (

    select * from {{ landing('product', 'employees') }} as landed

),

renamed as (

    select
        -- ids
        org_id,
        person_id,

        -- strings
        lower(trim(email)) as user_email,
        lower(alias_emails) as alias_emails,
        full_name,
        department,

        -- dates
        started_on,
        left_on,
        on_leave_from,
        on_leave_to,
        garden_leave_from
    from employees

)

select * from renamed
