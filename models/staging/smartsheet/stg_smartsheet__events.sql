{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

events as (

    select * from {{ landing('smartsheet', 'events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'smartsheet' as connector,
        'events' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(email)) as user_email,
        cast(null as varchar(256)) as user_name,
        case
            -- Skype, imports from Trello, cell links, automations, what is published, notifications, forms
            when
                user_id in (
                    '1688855062570884', '2814754969413508', '3377704922834820', '3940654876256132',
                    '5066554783098756', '5629504736520068', '6192454689941380', '7881304550205316'
                )
                then 'system'
            else 'user'
        end as actor_kind,
        'Smartsheet' as app_name,
        'direct' as source_kind,
        event_type || case when source like 'API%' then ' by a program' else '' end as event_code,
        'unknown' as status,
        ip_address,
        source as user_agent,

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
