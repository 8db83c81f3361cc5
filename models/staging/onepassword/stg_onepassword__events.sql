{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

sign_in_attempts as (

    select * from {{ landing('onepassword', 'sign_in_attempts') }} as landed

),

item_usages as (

    select * from {{ landing('onepassword', 'item_usages') }} as landed

),

audit_events as (

    select * from {{ landing('onepassword', 'audit_events') }} as landed

),

sign_in_attempts_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'onepassword' as connector,
        'sign_in_attempts' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(user_email)) as user_email,
        user_name,
        'user' as actor_kind,
        '1Password' as app_name,
        'direct' as source_kind,
        category as event_code,
        case
            when category in ('success', 'firewall_reported_success') then 'success'
            when category is not null then 'failure'
            else 'unknown'
        end as status,
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
    from sign_in_attempts

),

item_usages_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'onepassword' as connector,
        'item_usages' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(user_email)) as user_email,
        user_name,
        'user' as actor_kind,
        '1Password' as app_name,
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
    from item_usages

),

audit_events_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'onepassword' as connector,
        'audit_events' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(user_email)) as user_email,
        user_name,
        'admin' as actor_kind,
        '1Password' as app_name,
        'direct' as source_kind,
        action as event_code,
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
    from audit_events

),

renamed as (

    select * from sign_in_attempts_renamed

    union all
    select * from item_usages_renamed

    union all
    select * from audit_events_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
