with

usage_settings as (

    select * from {{ landing('product', 'usage_settings') }} as landed

),

renamed as (

    select
        -- ids
        org_id,
        app_id,

        -- strings
        license_name,

        -- numerics
        idle_after_days,
        grace_days,
        underused_ratio
    from usage_settings

)

select * from renamed
