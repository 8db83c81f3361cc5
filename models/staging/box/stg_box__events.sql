{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

events as (

    select * from {{ landing('box', 'events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'box' as connector,
        'events' as stream,
        nullif(actor_id, '2') as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(actor_login)) as user_email,
        actor_name as user_name,
        case
            -- 2 stands for whoever was not logged in
            when actor_id is null or actor_id = '2' then 'unknown'
            else 'user'
        end as actor_kind,
        'Box' as app_name,
        'direct' as source_kind,
        event_type as event_code,
        case
            when event_type in ('LOGIN', 'ADMIN_LOGIN') then 'success'
            when event_type in ('FAILED_LOGIN', 'BOX_AI_USER_FAILED_REQUEST') then 'failure'
            when event_type like '%BLOCKED' or event_type = 'DEVICE_TRUST_CHECK_FAILED' then 'failure'
            else 'unknown'
        end as status,
        cast(null as varchar(256)) as ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        recorded_at as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from events

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
