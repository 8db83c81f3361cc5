with

users as (

    select * from {{ record_states('pingone', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'pingone' as connector,
        'users' as stream,
        record_id,

        -- strings
        'PingOne' as app_name,
        lower(trim(case when email like '%@%' then email when user_name like '%@%' then user_name end)) as user_email,
        coalesce(nullif(display_name, ''), user_name) as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_enabled then 'active'
            when not is_enabled then 'suspended'
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
        {{ not_a_sentinel('last_sign_on_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
