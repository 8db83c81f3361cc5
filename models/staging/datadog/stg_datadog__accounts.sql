with

users as (

    select * from {{ latest_records('datadog', 'users') }} as records

),

seats as (

    select * from {{ latest_records('datadog', 'seats') }} as records

),

-- a user may hold seats of several products; the account names them all, one row stays one account
licenses_by_account as (

    select
        connection_id,
        lower(trim(email)) as user_email,
        {{ dbt.listagg('product_code', "', '", 'order by product_code') }} as license_name,
        min(assigned_at) as license_assigned_at
    from seats
    where not has_gone
    group by 1, 2

),

renamed as (

    select
        -- ids
        users.account_id,
        users.org_id,
        users.connection_id,
        'datadog' as connector,
        'users' as stream,
        users.record_id,

        -- strings
        'Datadog' as app_name,
        lower(trim(users.email)) as user_email,
        users.display_name as user_name,
        case
            when users.has_gone then 'deprovisioned'
            when users.is_disabled or users.status = 'Disabled' then 'suspended'
            when users.status = 'Pending' then 'invited'
            when users.status = 'Active' then 'active'
            else 'unknown'
        end as account_status,
        case when users.is_service_account then 'service' else 'human' end as account_kind,
        licenses_by_account.license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        users.is_complete_listing,
        users.has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('licenses_by_account.license_assigned_at', 'users.fetched_at') }} as license_assigned_at,
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
