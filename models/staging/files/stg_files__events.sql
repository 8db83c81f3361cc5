{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

events as (

    select * from {{ landing('files', 'events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'files' as connector,
        'events' as stream,
        account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        case when email like '%@%' then lower(trim(email)) end as user_email,
        user_name,
        case
            when lower(actor_kind) in ('user', 'admin', 'service', 'system', 'external') then lower(actor_kind)
            else 'unknown'
        end as actor_kind,
        -- events of an app that nobody named are of an app all the same
        coalesce(nullif(trim(app_name), ''), connection_id) as app_name,
        case
            when lower(source_kind) in ('sso', 'oauth_grant', 'usage_report') then lower(source_kind)
            else 'direct'
        end as source_kind,
        action as event_code,
        case
            when lower(outcome) in ('success', 'succeeded', 'successful', 'ok', 'allow', 'allowed', 'true')
                then 'success'
            when outcome <> '' then 'failure'
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
    from events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
