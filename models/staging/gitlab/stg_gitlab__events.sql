{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

group_audit_events as (

    select * from {{ landing('gitlab', 'group_audit_events') }} as landed

),

audit_events as (

    select * from {{ landing('gitlab', 'audit_events') }} as landed

),

group_audit_events_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'gitlab' as connector,
        'group_audit_events' as stream,
        author_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(author_email)) as user_email,
        author_name as user_name,
        case
            when author_class = 'User' then 'user'
            when author_class is not null then 'service'
            -- GitLab gives ids below 1 to whom it does not know and to itself
            when author_id is null or author_id = '0' or author_id like '-%' then 'unknown'
            else 'user'
        end as actor_kind,
        'GitLab' as app_name,
        'direct' as source_kind,
        event_type as event_code,
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
    from group_audit_events

),

audit_events_renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'gitlab' as connector,
        'audit_events' as stream,
        author_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(author_email)) as user_email,
        author_name as user_name,
        case
            when author_class = 'User' then 'user'
            when author_class is not null then 'service'
            -- GitLab gives ids below 1 to whom it does not know and to itself
            when author_id is null or author_id = '0' or author_id like '-%' then 'unknown'
            else 'user'
        end as actor_kind,
        'GitLab' as app_name,
        'direct' as source_kind,
        event_type as event_code,
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

    select * from group_audit_events_renamed

    union all
    select * from audit_events_renamed

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
