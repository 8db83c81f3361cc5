{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_logs as (

    select * from {{ landing('slack', 'audit_logs') }} as landed

),

access_logs as (

    select * from {{ landing('slack', 'access_logs') }} as landed

),

audit_logs_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'slack' as connector,
        'audit_logs' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        case actor_type
            when 'user' then 'user'
            else 'unknown'
        end as actor_kind,
        'Slack' as app_name,
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
    from audit_logs

),

-- each row is the last access that a user's client had shown when it was read: one access, for the count is of all
-- since the first, and would count those of the row before again
access_logs_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'slack' as connector,
        'access_logs' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        user_name,
        'user' as actor_kind,
        'Slack' as app_name,
        'direct' as source_kind,
        'access' as event_code,
        'success' as status,
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
    from access_logs

),

renamed as (

    select * from audit_logs_renamed

    union all
    select * from access_logs_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
