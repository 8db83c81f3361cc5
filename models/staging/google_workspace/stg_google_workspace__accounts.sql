with

users as (

    select * from {{ record_states('google_workspace', 'users') }} as records

),

licenses as (

    select * from {{ record_states('google_workspace', 'licenses') }} as records

),

held_licenses as (

    select
        connection_id,
        record_id,
        lower(trim(account_email)) as user_email,
        sku_name as license_name,
        cast(null as timestamp) as license_assigned_at,
        valid_from,
        valid_to
    from licenses
    where not has_gone

),

licensed as (
    {{ with_licenses('users', 'held_licenses', 'lower(trim(accounts.email)) = licenses.user_email') }}
),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'google_workspace' as connector,
        'users' as stream,
        listed_id as record_id,

        -- strings
        'Google Workspace' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_suspended or is_archived then 'suspended'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        license_assigned_at,
        {{ not_a_sentinel('last_login_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        held_from as valid_from,
        held_to as valid_to
    from licensed

)

select * from renamed
