with

users as (

    select * from {{ record_states('airtable', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'airtable' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Airtable' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when state = 'provisioned' then 'active'
            when state = 'deactivated' then 'suspended'
            else 'unknown'
        end as account_status,
        case
            when is_service_account then 'service'
            when not is_managed then 'external'
            else 'unknown'
        end as account_kind,
        cast(null as varchar(256)) as license_name,
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
