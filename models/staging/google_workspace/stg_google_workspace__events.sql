{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

login as (

    select * from {{ landing('google_workspace', 'login') }} as landed

),

saml as (

    select * from {{ landing('google_workspace', 'saml') }} as landed

),

token as (

    select * from {{ landing('google_workspace', 'token') }} as landed

),

login_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'google_workspace' as connector,
        'login' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        cast(null as varchar(256)) as user_name,
        'user' as actor_kind,
        'Google Workspace' as app_name,
        'direct' as source_kind,
        event_name as event_code,
        case
            when event_name like '%_success' then 'success'
            when event_name like '%_failure' then 'failure'
            else 'unknown'
        end as status,
        ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from login

),

saml_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'google_workspace' as connector,
        'saml' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        cast(null as varchar(256)) as user_name,
        'user' as actor_kind,
        app_name,
        'sso' as source_kind,
        event_name as event_code,
        case
            when event_name like '%_success' then 'success'
            when event_name like '%_failure' then 'failure'
            else 'unknown'
        end as status,
        ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from saml

),

token_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'google_workspace' as connector,
        'token' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        cast(null as varchar(256)) as user_name,
        'user' as actor_kind,
        coalesce(app_name, client_id) as app_name,
        'oauth_grant' as source_kind,
        event_name as event_code,
        'unknown' as status,
        ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from token

),

renamed as (

    select * from login_renamed

    union all
    select * from saml_renamed

    union all
    select * from token_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
