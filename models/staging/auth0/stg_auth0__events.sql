{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

logs as (

    select * from {{ landing('auth0', 'logs') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'auth0' as connector,
        'logs' as stream,
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
            -- elsewhere the client is what is administered, or what administers
            when type in ('s', 'sens', 'ssa', 'f', 'fp', 'fu', 'fsa', 'fens') then coalesce(client_name, 'Auth0')
            else 'Auth0'
        end as app_name,
        case
            when client_name is not null and type in ('s', 'sens', 'ssa', 'f', 'fp', 'fu', 'fsa', 'fens') then 'sso'
            else 'direct'
        end as source_kind,
        type as event_code,
        case
            when type in ('s', 'sens', 'ssa', 'ss', 'slo', 'seacft', 'sepft', 'scp', 'sapi') then 'success'
            when type like '%succeeded' or type like '%completed' then 'success'
            when type like 'f%' or type like '%failed' then 'failure'
            else 'unknown'
        end as status,
        ip_address,
        user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from logs

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
