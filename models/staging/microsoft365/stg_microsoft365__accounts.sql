with

users as (

    select * from {{ latest_records('microsoft365', 'users') }} as records

),

licenses as (

    select * from {{ latest_records('microsoft365', 'licenses') }} as records

),

subscribed_skus as (

    select * from {{ latest_records('microsoft365', 'subscribed_skus') }} as records

),

active_users as (

    select * from {{ latest_records('microsoft365', 'active_users') }} as records

),

-- a user may hold several licences; the account names them all, one row stays one account
licenses_by_account as (

    select
        licenses.connection_id,
        licenses.account_id,
        {{ dbt.listagg('subscribed_skus.sku_name', "', '", 'order by subscribed_skus.sku_name') }} as license_name
    from licenses
    inner join subscribed_skus
        on licenses.connection_id = subscribed_skus.connection_id and licenses.sku_id = subscribed_skus.sku_id
    where not licenses.has_gone
    group by 1, 2

),

users_renamed as (

    select
        -- ids
        users.account_id,
        users.org_id,
        users.connection_id,
        'microsoft365' as connector,
        'users' as stream,
        users.record_id,

        -- strings
        'Microsoft 365' as app_name,
        lower(trim(coalesce(users.email, users.user_principal_name))) as user_email,
        users.display_name as user_name,
        case
            when users.has_gone then 'deprovisioned'
            when not users.is_enabled then 'suspended'
            when users.is_enabled then 'active'
            else 'unknown'
        end as account_status,
        case when users.user_type = 'Guest' then 'external' else 'unknown' end as account_kind,
        licenses_by_account.license_name,
        'successful_login' as last_activity_basis,

        -- booleans
        users.is_complete_listing,
        users.has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('users.last_successful_login_at', 'users.fetched_at') }} as last_activity_at,
        {{ not_a_sentinel('users.created_at', 'users.fetched_at') }} as created_at,
        users.fetched_at
    from users
    left join licenses_by_account
        on users.connection_id = licenses_by_account.connection_id and users.account_id = licenses_by_account.account_id

),

-- the suite is one licence; what it holds is used, or not, product by product
products_renamed as (
    {% for product, app_name in [
        ('exchange', 'Outlook'),
        ('onedrive', 'OneDrive'),
        ('sharepoint', 'SharePoint'),
        ('teams', 'Microsoft Teams'),
        ('yammer', 'Viva Engage'),
    ] %}
    select
        -- ids
        user_principal_name as account_id,
        org_id,
        connection_id,
        'microsoft365' as connector,
        'active_users' as stream,
        record_id || '/{{ product }}' as record_id,

        -- strings
        '{{ app_name }}' as app_name,
        lower(trim(user_principal_name)) as user_email,
        display_name as user_name,
        case when has_gone or is_deleted then 'deprovisioned' else 'active' end as account_status,
        'unknown' as account_kind,
        cast(null as varchar(256)) as license_name,
        'report_date' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel(product ~ '_active_on') }} as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at
    from active_users
    where has_{{ product }}_license
    {%- if not loop.last %}
    union all
    {%- endif %}
    {% endfor %}
),

renamed as (

    select * from users_renamed
    union all
    select * from products_renamed

)

select * from renamed
