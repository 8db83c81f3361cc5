{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_logs as (

    select * from {{ landing('miro', 'audit_logs') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'miro' as connector,
        'audit_logs' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        case
            when actor_type = 'user' then 'user'
            when actor_type in ('application', 'scim_provisioner') then 'service'
            when actor_type = 'miro_automation' then 'system'
            else 'unknown'
        end as actor_kind,
        'Miro' as app_name,
        'direct' as source_kind,
        event as event_code,
        case
            when event = 'sign_in_succeeded' then 'success'
            when event = 'sign_in_failed' then 'failure'
            else 'unknown'
        end as status,
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
