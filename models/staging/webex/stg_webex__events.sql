{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

admin_audit as (

    select * from {{ landing('webex', 'admin_audit') }} as landed

),

security_audit as (

    select * from {{ landing('webex', 'security_audit') }} as landed

),

admin_audit_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'webex' as connector,
        'admin_audit' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        'admin' as actor_kind,
        'Webex' as app_name,
        'direct' as source_kind,
        event_category as event_code,
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
    from admin_audit

),

security_audit_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'webex' as connector,
        'security_audit' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        'user' as actor_kind,
        'Webex' as app_name,
        'direct' as source_kind,
        event_category
        || case when lower(authentication_method) = 'non-interactive' then ' non-interactive' else '' end as event_code,
        case lower(event_status)
            when 'success' then 'success'
            when 'failure' then 'failure'
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
    from security_audit

),

renamed as (

    select * from admin_audit_renamed

    union all
    select * from security_audit_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
