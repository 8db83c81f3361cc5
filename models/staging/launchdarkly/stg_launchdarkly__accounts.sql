with

members as (

    select * from {{ record_states('launchdarkly', 'members') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'launchdarkly' as connector,
        'members' as stream,
        record_id,

        -- strings
        'LaunchDarkly' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_pending then 'invited'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        cast(null as varchar(256)) as license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_seen_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from members

)

select * from renamed
