with

members as (

    select * from {{ record_states('dropbox', 'members') }} as records

),

renamed as (

    select
        -- ids
        coalesce(account_id, team_member_id) as account_id,
        org_id,
        connection_id,
        'dropbox' as connector,
        'members' as stream,
        record_id,

        -- strings
        'Dropbox' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone or status = 'removed' then 'deprovisioned'
            when status = 'active' then 'active'
            when status = 'suspended' then 'suspended'
            when status = 'invited' then 'invited'
            else 'unknown'
        end as account_status,
        'unknown' as account_kind,
        case
            -- a limited member takes no licence
            when membership_type = 'full' then 'Full'
        end as license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('joined_at') }} as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        {{ not_a_sentinel('joined_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from members

)

select * from renamed
