{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_logs as (

    select * from {{ landing('monday', 'audit_logs') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'monday' as connector,
        'audit_logs' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        user_name,
        'user' as actor_kind,
        'monday.com' as app_name,
        'direct' as source_kind,
        event as event_code,
        case
            when event = 'login' then 'success'
            when event = 'failed-login' then 'failure'
            else 'unknown'
        end as status,
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
    from audit_logs

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
