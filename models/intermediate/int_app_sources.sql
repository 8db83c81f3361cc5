with

evidence as (

    select * from {{ ref('int_evidence') }}

),

streams as (

    select * from {{ ref('int_streams') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

-- a connection is one source: as late as the latest of its event streams
sources as (

    select
        connection_id,
        max(case when stream_kind = 'events' then 1 else 0 end) = 1 as has_events,
        max(case when stream_kind = 'events' then expected_lag_seconds end) as expected_lag_seconds,
        max(case when stream_kind = 'events' then restate_days end) as restate_days,
        max(ended_on) as ended_on
    from streams
    group by 1

),

histories as (

    select
        connection_id,
        min(usage_date) as starts_on,
        min(case when is_complete then usage_date end) as complete_from,
        max(case when is_complete then usage_date end) as complete_on
    from source_days
    group by 1

),

shown as (

    select
        org_id,
        app_id,
        connector,
        connection_id,
        min(first_seen_on) as first_seen_on
    from evidence
    group by 1, 2, 3, 4

),

joined as (

    select
        shown.org_id,
        shown.app_id,
        shown.connector,
        shown.connection_id,
        shown.first_seen_on,
        coalesce(sources.has_events, false) as has_events,
        sources.expected_lag_seconds,
        sources.restate_days,
        histories.starts_on,
        histories.complete_from,
        histories.complete_on,
        sources.ended_on
    from shown
    left join sources
        on shown.connection_id = sources.connection_id
    left join histories
        on shown.connection_id = histories.connection_id

)

select * from joined
