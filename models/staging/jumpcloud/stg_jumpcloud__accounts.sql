with

users as (

    select * from {{ record_states('jumpcloud', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'jumpcloud' as connector,
        'users' as stream,
        record_id,

        -- strings
        'JumpCloud' as app_name,
        lower(trim(email)) as user_email,
        coalesce(nullif(display_name, ''), username) as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_suspended or state = 'SUSPENDED' then 'suspended'
            when state = 'STAGED' then 'invited'
            when state = 'ACTIVATED' then 'active'
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
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
