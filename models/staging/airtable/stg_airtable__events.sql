{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_log_events as (

    select * from {{ landing('airtable', 'audit_log_events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'airtable' as connector,
        'audit_log_events' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        case when actor_type = 'user' then 'user' else 'unknown' end as actor_kind,
        'Airtable' as app_name,
        'direct' as source_kind,
        action as event_code,
        'unknown' as status,
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
    from audit_log_events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
