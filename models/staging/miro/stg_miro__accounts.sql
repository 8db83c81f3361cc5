with

members as (

    select * from {{ record_states('miro', 'members') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'miro' as connector,
        'members' as stream,
        record_id,

        -- strings
        'Miro' as app_name,
        lower(trim(email)) as user_email,
        cast(null as varchar(256)) as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_active then 'active'
            when not is_active then 'suspended'
            else 'unknown'
        end as account_status,
        case
            when role in ('organization_external_user', 'organization_team_guest_user') then 'external'
            else 'unknown'
        end as account_kind,
        license as license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('license_assigned_at') }} as license_assigned_at,
        {{ not_a_sentinel('last_activity_at') }} as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from members

)

select * from renamed
