with

users as (

    select * from {{ record_states('adobe', 'users') }} as records

),

renamed as (

    select
        -- ids
        record_id as account_id,
        org_id,
        connection_id,
        'adobe' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Adobe Creative Cloud' as app_name,
        lower(trim(email)) as user_email,
        coalesce(nullif(trim(display_name), ''), user_name) as user_name,
        case
            when has_gone then 'deprovisioned'
            when status = 'active' then 'active'
            when status in ('disabled', 'locked', 'removed') then 'suspended'
            else 'unknown'
        end as account_status,
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
