with

users as (

    select * from {{ record_states('hubspot', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'hubspot' as connector,
        'users' as stream,
        record_id,

        -- strings
        'HubSpot' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case when has_gone then 'deprovisioned' else 'unknown' end as account_status,
        'unknown' as account_kind,
        cast(null as varchar(256)) as license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
