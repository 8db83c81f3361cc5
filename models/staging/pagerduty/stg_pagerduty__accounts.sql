with

users as (

    select * from {{ record_states('pagerduty', 'users') }} as records

),

license_allocations as (

    select * from {{ record_states('pagerduty', 'license_allocations') }} as records

),

held_licenses as (

    select
        connection_id,
        record_id,
        account_id,
        license_name,
        allocated_at as license_assigned_at,
        valid_from,
        valid_to
    from license_allocations
    where not has_gone

),

licensed as (
    {{ with_licenses('users', 'held_licenses', 'accounts.account_id = licenses.account_id') }}
),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'pagerduty' as connector,
        'users' as stream,
        listed_id as record_id,

        -- strings
        'PagerDuty' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_invitation_open then 'invited'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('license_assigned_at') }} as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        held_from as valid_from,
        held_to as valid_to
    from licensed

)

select * from renamed
