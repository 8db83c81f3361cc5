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
        {{ not_never('started_on') }} as started_on,
        {{ not_never('left_on') }} as left_on,
        {{ not_never('on_leave_from') }} as on_leave_from,
        {{ not_never('on_leave_to') }} as on_leave_to,
        {{ not_never('garden_leave_from') }} as garden_leave_from
    from employees

)

select * from renamed
