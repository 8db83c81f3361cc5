with

users as (

    select * from {{ record_states('monday', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'monday' as connector,
        'users' as stream,
        record_id,

        -- strings
        'monday.com' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_pending then 'invited'
            when is_enabled then 'active'
            when not is_enabled then 'suspended'
            else 'unknown'
        end as account_status,
        case when is_guest then 'external' else 'unknown' end as account_kind,
        case
            when is_guest then 'Guest'
            when is_view_only then 'Viewer'
            when is_enabled then 'Member'
        end as license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_activity_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
