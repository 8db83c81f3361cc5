with

users as (

    select * from {{ record_states('microsoft365', 'users') }} as records

),

licenses as (

    select * from {{ record_states('microsoft365', 'licenses') }} as records

),

subscribed_skus as (

    select * from {{ record_states('microsoft365', 'subscribed_skus') }} as records

),

active_users as (

    select * from {{ record_states('microsoft365', 'active_users') }} as records

),

held_licenses as (

    select
        licenses.connection_id,
        licenses.record_id,
        licenses.account_id,
        subscribed_skus.sku_name as license_name,
        cast(null as timestamp) as license_assigned_at,
        licenses.valid_from,
        licenses.valid_to
    from licenses
    inner join subscribed_skus
        on licenses.connection_id = subscribed_skus.connection_id and licenses.sku_id = subscribed_skus.sku_id
    where not licenses.has_gone and subscribed_skus.valid_to is null

),

licensed as (
    {{ with_licenses('users', 'held_licenses', 'accounts.account_id = licenses.account_id') }}
),

-- a tenant that is told of nobody's sign-in is told of none: that is not to say that nobody ever signed in
tenants_with_sign_ins as (

    select distinct connection_id
    from users
    where valid_to is null and not has_gone and coalesce(last_login_attempt_at, last_successful_login_at) is not null

),

users_renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'microsoft365' as connector,
        'users' as stream,
        listed_id as record_id,

        -- strings
        'Microsoft 365' as app_name,
        lower(trim(coalesce(email, user_principal_name))) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when not is_enabled then 'suspended'
            when is_enabled then 'active'
            else 'unknown'
        end as account_status,
        case when user_type = 'Guest' then 'external' else 'unknown' end as account_kind,
        license_name,
        case
            when connection_id in (select tenants_with_sign_ins.connection_id from tenants_with_sign_ins)
                then 'successful_login'
        end as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        license_assigned_at,
        {{ not_a_sentinel('last_successful_login_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        held_from as valid_from,
        held_to as valid_to
    from licensed

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
        fetched_at,
        valid_from,
        valid_to
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
