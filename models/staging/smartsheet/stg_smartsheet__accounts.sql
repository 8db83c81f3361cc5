with

users as (

    select * from {{ record_states('smartsheet', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'smartsheet' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Smartsheet' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone or status = 'DECLINED' then 'deprovisioned'
            when status = 'ACTIVE' then 'active'
            when status = 'DEACTIVATED' then 'suspended'
            when status = 'PENDING' then 'invited'
            else 'unknown'
        end as account_status,
        case seat_type when 'GUEST' then 'external' else 'unknown' end as account_kind,
        case when is_licensed then 'Licensed' end as license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        case when is_licensed then seat_type_changed_at end as license_assigned_at,
        {{ not_a_sentinel('last_login_at') }} as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
