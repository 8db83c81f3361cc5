{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

logins as (

    select * from {{ landing('hubspot', 'logins') }} as landed

),

audit_logs as (

    select * from {{ landing('hubspot', 'audit_logs') }} as landed

),

logins_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'hubspot' as connector,
        'logins' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(email)) as user_email,
        cast(null as varchar(256)) as user_name,
        'user' as actor_kind,
        'HubSpot' as app_name,
        'direct' as source_kind,
        'login' as event_code,
        case when is_success then 'success' when not is_success then 'failure' else 'unknown' end as status,
        ip_address,
        user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from logins

),

audit_logs_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'hubspot' as connector,
        'audit_logs' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(email)) as user_email,
        cast(null as varchar(256)) as user_name,
        case when user_id is null then 'system' else 'user' end as actor_kind,
        'HubSpot' as app_name,
        'direct' as source_kind,
        category || ' ' || action as event_code,
        'unknown' as status,
        cast(null as varchar(256)) as ip_address,
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
    from audit_logs

),

renamed as (

    select * from logins_renamed

    union all
    select * from audit_logs_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
