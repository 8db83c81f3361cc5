with

users as (

    select * from {{ record_states('zendesk', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'zendesk' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Zendesk' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone or not is_active then 'deprovisioned'
            when is_suspended then 'suspended'
            when is_active then 'active'
            else 'unknown'
        end as account_status,
        'unknown' as account_kind,
        -- agents and administrators take the same seat, light agents and contributors none
        case
            when role_type = 1 then 'Light agent'
            when role_type = 3 then 'Contributor'
            when role in ('agent', 'admin') then 'Agent'
        end as license_name,
        -- a log-in, or a request with the user's token
        'any_activity' as last_activity_basis,

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
