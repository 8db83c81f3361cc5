{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

login_history as (

    select * from {{ landing('snowflake', 'login_history') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'snowflake' as connector,
        'login_history' as stream,
        user_name as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        case when user_name like '%@%' then lower(trim(user_name)) end as user_email,
        user_name,
        'user' as actor_kind,
        'Snowflake' as app_name,
        'direct' as source_kind,
        event_type as event_code,
        case
            when is_success = 'YES' then 'success'
            when is_success is not null then 'failure'
            else 'unknown'
        end as status,
        ip_address,
        nullif(trim(coalesce(client_type, '') || ' ' || coalesce(client_version, '')), '') as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from login_history

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
