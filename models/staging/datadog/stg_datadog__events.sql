{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_events as (

    select * from {{ landing('datadog', 'audit_events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'datadog' as connector,
        'audit_events' as stream,
        cast(null as varchar(256)) as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(user_email)) as user_email,
        cast(null as varchar(256)) as user_name,
        case
            when upper(actor_type) = 'SUPPORT_USER' then 'external'
            when user_email is not null then 'user'
            else 'unknown'
        end as actor_kind,
        'Datadog' as app_name,
        'direct' as source_kind,
        coalesce(event_name || ' ' || action, event_name, action) as event_code,
        case lower(status)
            when 'error' then 'failure'
            when 'info' then 'success'
            else 'unknown'
        end as status,
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
    from audit_events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
