{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

login_history as (

    select * from {{ landing('salesforce', 'login_history') }} as landed

),

event_log as (

    select * from {{ landing('salesforce', 'event_log') }} as landed

),

login_history_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'salesforce' as connector,
        'login_history' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        cast(null as varchar(256)) as user_name,
        'user' as actor_kind,
        'Salesforce' as app_name,
        'direct' as source_kind,
        login_type as event_code,
        case when status = 'Success' then 'success' when status is not null then 'failure' else 'unknown' end as status,
        ip_address,
        nullif(trim(coalesce(browser, '') || ' ' || coalesce(platform, '')), '') as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from login_history

),

event_log_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'salesforce' as connector,
        'event_log' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        cast(null as varchar(256)) as user_name,
        'user' as actor_kind,
        'Salesforce' as app_name,
        'direct' as source_kind,
        event_type as event_code,
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
    from event_log

),

renamed as (

    select * from login_history_renamed

    union all
    select * from event_log_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
