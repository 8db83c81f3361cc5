with

app_contracts as (

    select * from {{ landing('product', 'app_contracts') }} as landed

),

renamed as (

    select
        -- ids
        org_id,
        app_id,

        -- strings
        license_name,
        upper(trim(currency)) as currency,

        -- numerics
        purchased,
        annual_price,

        -- dates
        starts_on,
        ends_on
    from app_contracts

)

select * from renamed
