with

users as (

    select * from {{ record_states('salesforce', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'salesforce' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Salesforce' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_active then 'active'
            when not is_active then 'suspended'
            else 'unknown'
        end as account_status,
        case
            when user_type = 'Standard' then 'human'
            when user_type in ('AutomatedProcess', 'CloudIntegrationUser') then 'service'
            when
                lower(user_type) in (
                    'cspliteportal', 'customersuccess', 'guest', 'powercustomersuccess', 'powerpartner', 'selfservice'
                )
                then 'external'
            else 'unknown'
        end as account_kind,
        -- who is deactivated, as users are who left, for they can't be deleted, takes none
        case when is_active then license_name end as license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_login_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
