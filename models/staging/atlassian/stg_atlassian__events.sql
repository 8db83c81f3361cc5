{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

events as (

    select * from {{ landing('atlassian', 'events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'atlassian' as connector,
        'events' as stream,
        actor_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        case when actor_email like '%@%' then lower(trim(actor_email)) end as user_email,
        actor_name as user_name,
        case
            -- an app of Atlassian's own has words where a person has an address
            when actor_email like '%@%' then 'user'
            when actor_email is not null then 'system'
            else 'unknown'
        end as actor_kind,
        'Atlassian Cloud' as app_name,
        'direct' as source_kind,
        action as event_code,
        case
            when action = 'user_login' then 'success'
            when action = 'user_login_failed' then 'failure'
            else 'unknown'
        end as status,
        ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        processed_at as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
