{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_log as (

    select * from {{ landing('launchdarkly', 'audit_log') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'launchdarkly' as connector,
        'audit_log' as stream,
        member_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(member_email)) as user_email,
        member_name as user_name,
        case when member_id is null then 'service' else 'user' end as actor_kind,
        'LaunchDarkly' as app_name,
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
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from audit_log

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
