{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

activity_logs as (

    select * from {{ landing('figma', 'activity_logs') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'figma' as connector,
        'activity_logs' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        case
            when is_support_action then 'external'
            when actor_type = 'user' then 'user'
            when actor_name = 'SCIM Provider' then 'service'
            else 'unknown'
        end as actor_kind,
        'Figma' as app_name,
        'direct' as source_kind,
        action as event_code,
        'unknown' as status,
        ip_address,
        client_name as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from activity_logs

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
