{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_log_events as (

    select * from {{ landing('asana', 'audit_log_events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'asana' as connector,
        'audit_log_events' as stream,
        actor_gid as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        case
            when rule_name is not null then 'system'
            when api_authentication_method = 'service_account' then 'service'
            when actor_type = 'user' then 'user'
            when actor_type = 'asana' then 'system'
            when actor_type in ('asana_support', 'external_administrator') then 'external'
            else 'unknown'
        end as actor_kind,
        'Asana' as app_name,
        'direct' as source_kind,
        event_type as event_code,
        case
            when event_type = 'user_login_succeeded' then 'success'
            when event_type = 'user_login_failed' then 'failure'
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
    from audit_log_events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
