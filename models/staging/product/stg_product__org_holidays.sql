with

org_holidays as (

    select * from {{ landing('product', 'org_holidays') }} as landed

),

renamed as (

    select distinct
        -- ids
        org_id,

        -- dates
        holiday_on
    from org_holidays

)

select * from renamed
