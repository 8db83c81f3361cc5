{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

team_events as (

    select * from {{ landing('dropbox', 'team_events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'dropbox' as connector,
        'team_events' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_email)) as user_email,
        actor_name as user_name,
        case
            when actor_membership in ('non_team_member', 'trusted_non_team_member') then 'external'
            when actor_type = 'user' then 'user'
            when actor_type = 'admin' then 'admin'
            when actor_type = 'app' then 'service'
            when actor_type = 'dropbox' then 'system'
            when actor_type = 'reseller' then 'external'
            else 'unknown'
        end as actor_kind,
        'Dropbox' as app_name,
        'direct' as source_kind,
        event_type as event_code,
        case
            when event_type = 'login_success' then 'success'
            when event_type in ('login_fail', 'sso_error', 'emm_error', 'app_blocked_by_permissions') then 'failure'
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
    from team_events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
