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
        lower(trim(billing_period)) as billing_period,

        -- numerics
        purchased,
        annual_price,
        minimum_purchased,

        -- dates
        {{ not_never('starts_on') }} as starts_on,
        {{ not_never('ends_on') }} as ends_on
    from app_contracts

)

select * from renamed
