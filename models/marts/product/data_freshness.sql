with

apps as (

    select * from {{ ref('int_apps') }}

),

usage as (

    select * from {{ ref('int_account_blocks') }}

),

accounts as (

    select * from {{ ref('int_accounts') }}

),

arrivals as (

    select
        org_id,
        app_id,
        last_event_at,
        last_loaded_at
    from usage
    union all
    select
        org_id,
        app_id,
        null as last_event_at,
        fetched_at as last_loaded_at
    from accounts

),

newest as (

    select
        org_id,
        app_id,
        max(last_event_at) as last_event_at,
        max(last_loaded_at) as last_loaded_at
    from arrivals
    group by 1, 2

),

final as (

    select
        apps.org_id,
        apps.app_id,
        apps.complete_through,
        newest.last_event_at,
        newest.last_loaded_at,
        apps.sources,
        -- the publisher fills these two
        cast(null as varchar(1024)) as generation_id,
        cast(null as timestamp) as published_at
    from apps
    left join newest
        on apps.org_id = newest.org_id and apps.app_id = newest.app_id

)

select * from final
