with

users as (

    select * from {{ record_states('docusign', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'docusign' as connector,
        'users' as stream,
        record_id,

        -- strings
        'DocuSign' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone or membership_status = 'closed' then 'deprovisioned'
            when membership_status = 'active' then 'active'
            when membership_status = 'disabled' then 'suspended'
            when membership_status in ('activation_required', 'activation_sent') then 'invited'
            else 'unknown'
        end as account_status,
        'unknown' as account_kind,
        plan_name as license_name,
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
