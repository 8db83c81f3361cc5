{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

audit_records as (

    select * from {{ landing('pagerduty', 'audit_records') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'pagerduty' as connector,
        'audit_records' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        actor_name as user_name,
        case
            when method_type = 'identity_provider' then 'service'
            when actor_type = 'user_reference' then 'user'
            when actor_type in ('api_key_reference', 'app_reference') then 'service'
            else 'unknown'
        end as actor_kind,
        'PagerDuty' as app_name,
        'direct' as source_kind,
        coalesce(resource_type || ' ' || action, action) as event_code,
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
    from audit_records

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
