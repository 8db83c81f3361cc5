with

users as (

    select * from {{ latest_records('google_workspace', 'users') }} as records

),

licenses as (

    select * from {{ latest_records('google_workspace', 'licenses') }} as records

),

-- a user may hold several licences; the account names them all, one row stays one account
licenses_by_account as (

    select
        connection_id,
        lower(trim(account_email)) as user_email,
        {{ dbt.listagg('sku_name', "', '", 'order by sku_name') }} as license_name
    from licenses
    where not has_gone
    group by 1, 2

),

renamed as (

    select
        -- ids
        users.account_id,
        users.org_id,
        users.connection_id,
        'google_workspace' as connector,
        'users' as stream,
        users.record_id,

        -- strings
        'Google Workspace' as app_name,
        lower(trim(users.email)) as user_email,
        users.display_name as user_name,
        case
            when users.has_gone then 'deprovisioned'
            when users.is_suspended or users.is_archived then 'suspended'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        licenses_by_account.license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        users.is_complete_listing,
        users.has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('users.last_login_at', 'users.fetched_at') }} as last_activity_at,
        {{ not_a_sentinel('users.created_at', 'users.fetched_at') }} as created_at,
        users.fetched_at
    from users
    left join licenses_by_account
        on
            users.connection_id = licenses_by_account.connection_id
            and lower(trim(users.email)) = licenses_by_account.user_email

)

select * from renamed
