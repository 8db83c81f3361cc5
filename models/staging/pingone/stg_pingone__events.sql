{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

activities as (

    select * from {{ landing('pingone', 'activities') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'pingone' as connector,
        'activities' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        case when user_name like '%@%' then lower(trim(user_name)) end as user_email,
        user_name,
        case
            when user_id is not null then 'user'
            when client_id is not null then 'service'
            else 'unknown'
        end as actor_kind,
        case
            -- elsewhere the client is the console, and the application what is administered
            when action_type in ('USER.ACCESS_ALLOWED', 'USER.ACCESS_DENIED')
                then coalesce(app_name, client_name, 'PingOne')
            else 'PingOne'
        end as app_name,
        case
            when action_type in ('USER.ACCESS_ALLOWED', 'USER.ACCESS_DENIED') then 'sso'
            else 'direct'
        end as source_kind,
        action_type as event_code,
        case
            when result_status = 'SUCCESS' then 'success'
            when result_status is not null then 'failure'
            else 'unknown'
        end as status,
        cast(null as varchar(256)) as ip_address,
        cast(null as varchar(256)) as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        created_at as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from activities

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
