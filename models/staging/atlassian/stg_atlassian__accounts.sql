with

users as (

    select * from {{ record_states('atlassian', 'users') }} as records

),

product_access as (

    select * from {{ record_states('atlassian', 'product_access') }} as records

),

users_renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'atlassian' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Atlassian Cloud' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone or account_status = 'closed' then 'deprovisioned'
            when account_status = 'active' then 'active'
            when account_status = 'inactive' then 'suspended'
            else 'unknown'
        end as account_status,
        case account_type
            when 'atlassian' then 'human'
            when 'customer' then 'external'
            when 'app' then 'service'
            else 'unknown'
        end as account_kind,
        cast(null as varchar(256)) as license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_active_at') }} as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

),

product_access_renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'atlassian' as connector,
        'product_access' as stream,
        record_id,

        -- strings
        case
            when product_key like 'jira%' then 'Jira'
            when product_key = 'confluence' then 'Confluence'
            when product_key = 'trello' then 'Trello'
            when product_key = 'bitbucket' then 'Bitbucket'
            else coalesce(product_name, product_key)
        end as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone or account_status = 'closed' then 'deprovisioned'
            when account_status = 'active' then 'active'
            when account_status = 'inactive' then 'suspended'
            else 'unknown'
        end as account_status,
        case account_type
            when 'atlassian' then 'human'
            when 'customer' then 'external'
            when 'app' then 'service'
            else 'unknown'
        end as account_kind,
        coalesce(product_name, product_key) as license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('last_active_at') }} as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from product_access

),

renamed as (

    select * from users_renamed

    union all
    select * from product_access_renamed

)

select * from renamed
