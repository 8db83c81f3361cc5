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

orgs as (

    select * from {{ ref('int_orgs') }}

),

-- a connection is one source: as late as the latest of its event streams
sources as (

    select
        connection_id,
        max(expected_lag_seconds) as expected_lag_seconds,
        max(restate_days) as restate_days
    from streams
    where stream_kind = 'events'
    group by 1

),

complete_sources as (

    select
        connection_id,
        max(usage_date) as complete_on
    from source_days
    where is_complete
    group by 1

),

sources_of_apps as (

    select
        org_id,
        app_id,
        connection_id,
        min(first_seen_on) as first_seen_on
    from evidence
    group by 1, 2, 3

),

apps as (

    select
        sources_of_apps.org_id,
        sources_of_apps.app_id,
        min(sources_of_apps.first_seen_on) as first_seen_on,
        max(coalesce(sources.restate_days, 0)) as restate_days,
        min(
            {{ local_date(seconds_before('coalesce(sources.expected_lag_seconds, 0)', now()), 'orgs.time_zone') }}
        ) - 1 as expected_as_of_date,
        max(complete_sources.complete_on) as complete_on
    from sources_of_apps
    inner join orgs
        on sources_of_apps.org_id = orgs.org_id
    left join sources
        on sources_of_apps.connection_id = sources.connection_id
    left join complete_sources
        on sources_of_apps.connection_id = complete_sources.connection_id
    group by 1, 2

),

final as (

    select
        org_id,
        app_id,
        first_seen_on,
        restate_days,
        expected_as_of_date,
        -- with no source alive, the last day that any of them told everything about
        least(expected_as_of_date, complete_on) as as_of_date
    from apps

)

select * from final
