with

admins as (

    select * from {{ record_states('intercom', 'admins') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'intercom' as connector,
        'admins' as stream,
        record_id,

        -- strings
        'Intercom' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case when has_gone then 'deprovisioned' else 'active' end as account_status,
        'unknown' as account_kind,
        case when has_inbox_seat then 'Inbox seat' end as license_name,
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
    from admins

)

select * from renamed
