{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_logs as (

    select * from {{ landing('openai', 'audit_logs') }} as landed

),

usage_completions as (

    select * from {{ landing('openai', 'usage_completions') }} as landed

),

audit_logs_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'openai' as connector,
        'audit_logs' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        cast(null as varchar(256)) as user_name,
        case
            when actor_type = 'session' or api_key_type = 'user' then 'user'
            when api_key_type = 'service_account' then 'service'
            else 'unknown'
        end as actor_kind,
        'OpenAI Platform' as app_name,
        'direct' as source_kind,
        event_type as event_code,
        case
            when event_type in ('login.succeeded', 'logout.succeeded') then 'success'
            when event_type in ('login.failed', 'logout.failed') then 'failure'
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

usage_completions_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'openai' as connector,
        'usage_completions' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        cast(null as varchar(256)) as user_name,
        case when user_id is null then 'service' else 'user' end as actor_kind,
        'OpenAI Platform' as app_name,
        'usage_report' as source_kind,
        'completions' as event_code,
        'unknown' as status,
        cast(null as varchar(256)) as ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        request_count as event_count,

        -- dates and timestamps
        occurred_at,
        cast(occurred_at as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        occurred_at as window_started_at,
        window_ended_at
    from usage_completions

),

renamed as (

    select * from audit_logs_renamed

    union all
    select * from usage_completions_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
