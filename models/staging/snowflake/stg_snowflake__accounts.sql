with

users as (

    select * from {{ record_states('snowflake', 'users') }} as records

),

renamed as (

    select
        -- ids
        user_name as account_id,
        org_id,
        connection_id,
        'snowflake' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Snowflake' as app_name,
        case
            when email like '%@%' then lower(trim(email))
            when login_name like '%@%' then lower(trim(login_name))
        end as user_email,
        coalesce(nullif(trim(display_name), ''), user_name) as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_disabled then 'suspended'
            when not is_disabled then 'active'
            else 'unknown'
        end as account_status,
        case
            when coalesce(user_type, 'PERSON') = 'PERSON' then 'human'
            when user_type in ('LEGACY_SERVICE', 'SERVICE', 'SNOWFLAKE_SERVICE') then 'service'
            else 'unknown'
        end as account_kind,
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
