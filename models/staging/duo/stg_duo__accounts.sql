with

users as (

    select * from {{ record_states('duo', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'duo' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Duo Security' as app_name,
        case
            when email like '%@%' then lower(trim(email))
            when user_name like '%@%' then lower(trim(user_name))
        end as user_email,
        coalesce(nullif(trim(display_name), ''), user_name) as user_name,
        case
            when has_gone or status = 'pending deletion' then 'deprovisioned'
            when status in ('active', 'bypass') then 'active'
            when status in ('disabled', 'locked out') then 'suspended'
            else 'unknown'
        end as account_status,
        'unknown' as account_kind,
        cast(null as varchar(256)) as license_name,
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
