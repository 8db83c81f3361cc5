{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

events as (

    select * from {{ landing('bitwarden', 'events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'bitwarden' as connector,
        'events' as stream,
        acting_user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        cast(null as varchar(256)) as user_name,
        case when acting_user_id is not null then 'user' else 'unknown' end as actor_kind,
        'Bitwarden' as app_name,
        'direct' as source_kind,
        cast(type as varchar(32)) as event_code,
        case
            when type = 1000 then 'success'
            when type in (1005, 1006) then 'failure'
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
