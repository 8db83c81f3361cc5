{{ config(materialized='landed_incremental', incremental_strategy='latest_copy') }}

with

sign_ins as (

    select * from {{ landing('microsoft365', 'sign_ins') }} as landed

),

renamed as (

    select
        -- ids
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        'microsoft365' as connector,
        'sign_ins' as stream,
        user_id as account_id,
        _dlt_load_id as load_id,
        batch_id,

        -- strings
        lower(trim(user_principal_name)) as user_email,
        user_display_name as user_name,
        case when lower(user_principal_name) like '%#ext#@%' then 'external' else 'user' end as actor_kind,
        coalesce(app_name, 'Microsoft Entra ID') as app_name,
        'sso' as source_kind,
        case when is_interactive then 'interactive' when not is_interactive then 'non_interactive' end as event_code,
        case when error_code = 0 then 'success' when error_code is not null then 'failure' else 'unknown' end as status,
        ip_address,
        client_app as user_agent,

        -- numerics
        cast(null as bigint) as event_count,

        -- dates and timestamps
        occurred_at,
        cast(null as date) as occurred_on,
        cast(null as timestamp) as logged_at,
        fetched_at as loaded_at,
        cast(null as timestamp) as window_started_at,
        cast(null as timestamp) as window_ended_at
    from sign_ins

),

latest as (
    {{ latest_copies('renamed') }}
)

select * from latest
