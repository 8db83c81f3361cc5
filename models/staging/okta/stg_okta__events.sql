{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

system_log as (

    select * from {{ landing('okta', 'system_log') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'okta' as connector,
        'system_log' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        case when actor_email like '%@%' then lower(trim(actor_email)) end as user_email,
        actor_name as user_name,
        case actor_type
            when 'User' then 'user'
            when 'SystemPrincipal' then 'system'
            when 'PublicClientApp' then 'service'
            else 'unknown'
        end as actor_kind,
        coalesce(app_name, 'Okta') as app_name,
        case when app_name is null then 'direct' else 'sso' end as source_kind,
        event_type as event_code,
        case
            when outcome in ('SUCCESS', 'ALLOW') then 'success'
            when outcome <> 'UNKNOWN' then 'failure'
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
    from system_log

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
