{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

monitor as (

    select * from {{ landing('docusign', 'monitor') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'docusign' as connector,
        'monitor' as stream,
        nullif(user_id, '') as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        cast(null as varchar(256)) as user_email,
        cast(null as varchar(256)) as user_name,
        'unknown' as actor_kind,
        'DocuSign' as app_name,
        'direct' as source_kind,
        action as event_code,
        case
            when lower(result) = 'success' then 'success'
            when result <> '' then 'failure'
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
    from monitor

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
