with

users as (

    select * from {{ record_states('tableau', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'tableau' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Tableau Cloud' as app_name,
        case
            when email like '%@%' then lower(trim(email))
            when user_name like '%@%' then lower(trim(user_name))
        end as user_email,
        coalesce(display_name, user_name) as user_name,
        case
            when has_gone then 'deprovisioned'
            when site_role = 'Unlicensed' then 'suspended'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        case
            when site_role like '%Creator' then 'Creator'
            when site_role like '%Explorer%' then 'Explorer'
            when site_role in ('Viewer', 'ReadOnly') then 'Viewer'
            when site_role not in ('Guest', 'Unlicensed') then site_role
        end as license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_login_at') }} as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
