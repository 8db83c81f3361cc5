with

users as (

    select * from {{ latest_records('pagerduty', 'users') }} as records

),

license_allocations as (

    select * from {{ latest_records('pagerduty', 'license_allocations') }} as records

),

-- a user may hold several licences; the account names them all, one row stays one account
licenses_by_account as (

    select
        connection_id,
        account_id,
        {{ dbt.listagg('license_name', "', '", 'order by license_name') }} as license_name,
        min(allocated_at) as license_assigned_at
    from license_allocations
    where not has_gone
    group by 1, 2

),

renamed as (

    select
        -- ids
        users.account_id,
        users.org_id,
        users.connection_id,
        'pagerduty' as connector,
        'users' as stream,
        users.record_id,

        -- strings
        'PagerDuty' as app_name,
        lower(trim(users.email)) as user_email,
        users.display_name as user_name,
        case
            when users.has_gone then 'deprovisioned'
            when users.is_invitation_open then 'invited'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        licenses_by_account.license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        users.is_complete_listing,
        users.has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('licenses_by_account.license_assigned_at', 'users.fetched_at') }} as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        cast(null as timestamp) as created_at,
        users.fetched_at
    from users
    left join licenses_by_account
        on
            users.connection_id = licenses_by_account.connection_id
            and users.account_id = licenses_by_account.account_id

)

select * from renamed
