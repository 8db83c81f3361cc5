with

users as (

    select * from {{ record_states('onelogin', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'onelogin' as connector,
        'users' as stream,
        record_id,

        -- strings
        'OneLogin' as app_name,
        lower(trim(email)) as user_email,
        nullif(display_name, '') as user_name,
        case
            when has_gone then 'deprovisioned'
            -- rejected or without a licence, or suspended by an administrator
            when state in (2, 3) or status = 2 then 'suspended'
            -- not yet approved, not activated, no password yet
            when state = 0 or status in (0, 7) then 'invited'
            -- 3 to 8: locked, or a password or question is due; a log-in is one step away
            when status in (1, 3, 4, 5, 8) then 'active'
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

)

select * from renamed
