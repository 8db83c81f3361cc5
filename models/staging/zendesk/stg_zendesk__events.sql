{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_logs as (

    select * from {{ landing('zendesk', 'audit_logs') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'zendesk' as connector,
        'audit_logs' as stream,
        case when actor_id <> '-1' then actor_id end as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        actor_name as user_name,
        case when actor_id = '-1' then 'system' else 'user' end as actor_kind,
        'Zendesk' as app_name,
        'direct' as source_kind,
        action as event_code,
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
    from audit_logs

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
