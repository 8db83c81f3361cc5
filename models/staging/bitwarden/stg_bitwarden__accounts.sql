with

members as (

    select * from {{ record_states('bitwarden', 'members') }} as records

),

renamed as (

    select
        -- ids
        coalesce(user_id, member_id) as account_id,
        org_id,
        connection_id,
        'bitwarden' as connector,
        'members' as stream,
        record_id,

        -- strings
        'Bitwarden' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            -- 3 is staged by a directory: neither invited nor a seat
            when has_gone or status = 3 then 'deprovisioned'
            when status = -1 then 'suspended'
            -- accepted is not yet confirmed: no access
            when status in (0, 1) then 'invited'
            when status = 2 then 'active'
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
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from members

)

select * from renamed
