with

users as (

    select * from {{ record_states('datadog', 'users') }} as records

),

seats as (

    select * from {{ record_states('datadog', 'seats') }} as records

),

held_seats as (

    select
        connection_id,
        record_id,
        lower(trim(email)) as user_email,
        product_code as license_name,
        assigned_at as license_assigned_at,
        valid_from,
        valid_to
    from seats
    where not has_gone

),

licensed as (
    {{ with_licenses('users', 'held_seats', 'lower(trim(accounts.email)) = licenses.user_email') }}
),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'datadog' as connector,
        'users' as stream,
        listed_id as record_id,

        -- strings
        'Datadog' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_disabled or status = 'Disabled' then 'suspended'
            when status = 'Pending' then 'invited'
            when status = 'Active' then 'active'
            else 'unknown'
        end as account_status,
        case when is_service_account then 'service' else 'human' end as account_kind,
        license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('license_assigned_at') }} as license_assigned_at,
        {{ not_a_sentinel('last_login_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        held_from as valid_from,
        held_to as valid_to
    from licensed

)

select * from renamed
