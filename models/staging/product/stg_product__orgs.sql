with

orgs as (

    select * from {{ landing('product', 'orgs') }} as landed

),

renamed as (

    select
        -- ids
        org_id,

        -- strings
        name as org_name,
        timezone as time_zone,
        email_domains,
        nullif(upper(trim(currency)), '') as currency,
        working_days,

        -- timestamps
        created_at
    from orgs

)

select * from renamed
