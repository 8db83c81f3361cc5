with

billable_members as (

    select * from {{ record_states('gitlab', 'billable_members') }} as records

),

users as (

    select * from {{ record_states('gitlab', 'users') }} as records

),

billable_members_renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'gitlab' as connector,
        'billable_members' as stream,
        record_id,

        -- strings
        'GitLab' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when state = 'active' then 'active'
            when state in ('blocked', 'ldap_blocked', 'banned', 'deactivated') then 'suspended'
            when state in ('awaiting', 'invited', 'blocked_pending_approval') then 'invited'
            else 'unknown'
        end as account_status,
        'unknown' as account_kind,
        'Billable' as license_name,
        'report_date' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_activity_on') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from billable_members

),

users_renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'gitlab' as connector,
        'users' as stream,
        record_id,

        -- strings
        'GitLab' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when state = 'active' then 'active'
            when state in ('blocked', 'ldap_blocked', 'banned', 'deactivated') then 'suspended'
            when state in ('awaiting', 'invited', 'blocked_pending_approval') then 'invited'
            else 'unknown'
        end as account_status,
        case
            when is_bot then 'service'
            when is_external then 'external'
            else 'unknown'
        end as account_kind,
        case when is_using_seat then 'Billable' end as license_name,
        'report_date' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_activity_on') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

),

renamed as (

    select * from billable_members_renamed

    union all
    select * from users_renamed

)

select * from renamed
