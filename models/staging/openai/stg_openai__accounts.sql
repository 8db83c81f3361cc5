with

users as (

    select * from {{ record_states('openai', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'openai' as connector,
        'users' as stream,
        record_id,

        -- strings
        'OpenAI Platform' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when not is_enabled or is_banned then 'suspended'
            else 'active'
        end as account_status,
        case when is_service_account then 'service' else 'unknown' end as account_kind,
        cast(null as varchar(256)) as license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('api_key_last_used_at') }} as last_activity_at,
        {{ not_a_sentinel('added_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
