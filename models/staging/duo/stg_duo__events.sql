{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

authentication as (

    select * from {{ landing('duo', 'authentication') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'duo' as connector,
        'authentication' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        case
            when email like '%@%' then lower(trim(email))
            when user_name like '%@%' then lower(trim(user_name))
        end as user_email,
        user_name,
        'user' as actor_kind,
        coalesce(app_name, 'Duo Security') as app_name,
        'sso' as source_kind,
        event_type as event_code,
        case
            when result = 'success' then 'success'
            when result is not null then 'failure'
            else 'unknown'
        end as status,
        ip_address,
        browser as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from authentication

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
