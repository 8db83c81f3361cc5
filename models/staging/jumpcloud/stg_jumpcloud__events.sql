{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

events as (

    select * from {{ landing('jumpcloud', 'events') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'jumpcloud' as connector,
        'events' as stream,
        case when event_type like '%login_attempt' then coalesce(actor_id, resource_id) else actor_id end as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(
            case
                when event_type like '%login_attempt' then coalesce(actor_email, resource_email)
                when actor_email is null and actor_username like '%@%' then actor_username
                else actor_email
            end
        )) as user_email,
        case
            when event_type like '%login_attempt' then coalesce(actor_username, resource_username)
            else actor_username
        end as user_name,
        case coalesce(actor_type, case when event_type like '%login_attempt' then resource_type end)
            when 'systemuser' then 'user'
            when 'user' then 'user'
            when 'admin' then 'admin'
            else 'unknown'
        end as actor_kind,
        case
            when event_type = 'sso_auth' then coalesce(app_name, app_type, 'JumpCloud')
            else 'JumpCloud'
        end as app_name,
        case when event_type = 'sso_auth' then 'sso' else 'direct' end as source_kind,
        event_type as event_code,
        case
            when coalesce(is_sso_success, is_success) then 'success'
            when not coalesce(is_sso_success, is_success) then 'failure'
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
