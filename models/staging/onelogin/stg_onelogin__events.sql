{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

events as (

    select * from {{ landing('onelogin', 'events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'onelogin' as connector,
        'events' as stream,
        coalesce(actor_user_id, user_id) as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        case
            -- the name of a user without one
            when coalesce(actor_user_name, user_name) like '%@%' then lower(trim(coalesce(actor_user_name, user_name)))
        end as user_email,
        coalesce(actor_user_name, user_name) as user_name,
        case
            when nullif(trim(actor_system), '') is not null then 'system'
            when actor_user_id <> user_id then 'admin'
            when coalesce(actor_user_id, user_id) is not null then 'user'
            else 'unknown'
        end as actor_kind,
        case
            -- other events name the app that they provision
            when event_type_id in (8, 29, 35, 77, 78, 85) and app_name is not null then app_name
            else 'OneLogin'
        end as app_name,
        case
            when event_type_id in (8, 29, 35, 77, 78, 85) and app_name is not null then 'sso'
            else 'direct'
        end as source_kind,
        -- what an administrator does as somebody else is nobody's use
        cast(event_type_id as varchar(32))
        || case when assuming_user_id <> coalesce(actor_user_id, user_id) then ' by another' else '' end as event_code,
        case
            when event_type_id in (5, 8, 68, 78, 122, 130, 140, 153) then 'success'
            when event_type_id in (6, 69, 77, 85, 86, 123, 129, 141, 154) then 'failure'
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
    from events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
