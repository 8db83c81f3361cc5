with

users as (

    select * from {{ record_states('okta', 'users') }} as records

),

app_users as (

    select * from {{ record_states('okta', 'app_users') }} as records

),

users_renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'okta' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Okta' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone or status = 'DEPROVISIONED' then 'deprovisioned'
            when status in ('ACTIVE', 'RECOVERY', 'PASSWORD_EXPIRED', 'LOCKED_OUT') then 'active'
            when status = 'SUSPENDED' then 'suspended'
            when status in ('STAGED', 'PROVISIONED') then 'invited'
            else 'unknown'
        end as account_status,
        'unknown' as account_kind,
        cast(null as varchar(256)) as license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_login_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

),

app_users_renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'okta' as connector,
        'app_users' as stream,
        record_id,

        -- strings
        app_name,
        lower(trim(email)) as user_email,
        user_name,
        case
            when has_gone or status in ('DEPROVISIONED', 'INACTIVE', 'REVOKED') then 'deprovisioned'
            when status = 'SUSPENDED' then 'suspended'
            when status in ('APPROVED', 'PENDING', 'STAGED') then 'invited'
            when status in ('IMPORTED', 'UNASSIGNED') then 'unknown'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        cast(null as varchar(256)) as license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('assigned_at') }} as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        {{ not_a_sentinel('assigned_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from app_users

),

renamed as (

    select * from users_renamed
    union all
    select * from app_users_renamed

)

select * from renamed
