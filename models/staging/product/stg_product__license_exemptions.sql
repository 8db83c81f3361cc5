with

license_exemptions as (

    select * from {{ landing('product', 'license_exemptions') }} as landed

),

renamed as (

    select
        -- ids
        org_id,
        app_id,

        -- strings
        lower(trim(account_email)) as user_email,
        reason,

        -- dates
        expires_on
    from license_exemptions

)

select * from renamed
