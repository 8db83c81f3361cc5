{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_log as (

    select * from {{ landing('github', 'audit_log') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'github' as connector,
        'audit_log' as stream,
        nullif(actor, '') as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        actor as user_name,
        case
            when actor like '%[bot]' or is_bot or is_agent then 'service'
            when actor <> '' then 'user'
            else 'unknown'
        end as actor_kind,
        'GitHub' as app_name,
        'direct' as source_kind,
        action as event_code,
        'unknown' as status,
        cast(null as varchar(256)) as ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        recorded_at as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from audit_log

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
