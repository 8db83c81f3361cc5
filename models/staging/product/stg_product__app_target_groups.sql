with

app_target_groups as (

    select * from {{ landing('product', 'app_target_groups') }} as landed

),

renamed as (

    select distinct
        -- ids
        org_id,
        app_id,

        -- strings
        {{ normalized_name('department') }} as department_key
    from app_target_groups
    where department is not null

)

select * from renamed
