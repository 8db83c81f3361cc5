with

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

due_sources as (

    select
        app_sources.*,
        has_events and complete_on is null as is_untold,
        -- one that has ended says how far the app is told only where none goes on
        min(case when ended_on is null then 0 else 1 end) over (partition by org_id, app_id) = 1
        or ended_on is null as is_heard,
        {{ seconds_before('coalesce(app_sources.expected_lag_seconds, 0)', now()) }} as due_at
    from app_sources

),

apps as (

    select
        due_sources.org_id,
        due_sources.app_id,
        min(due_sources.first_seen_on) as first_seen_on,
        max(coalesce(due_sources.restate_days, 0)) as restate_days,
        min(
            case when due_sources.is_heard then {{ local_date('due_sources.due_at', 'due_zones.time_zone') }} end
        ) - 1 as expected_as_of_date,
        min(due_sources.complete_from) as complete_from,
        max(case when due_sources.is_heard then due_sources.complete_on end) as complete_on,
        max(case when due_sources.ended_on is null then due_sources.complete_on end) as current_on,
        case
            when max(case when due_sources.is_heard and due_sources.is_untold then 1 else 0 end) = 0
                then min(case when due_sources.is_heard then due_sources.complete_on end)
        end as complete_through
    from due_sources
    {{ join_time_zone('due_zones', 'due_sources.org_id', 'due_sources.due_at') }}
    group by 1, 2

),

connectors as (

    select distinct
        org_id,
        app_id,
        connector
    from app_sources

),

sources as (

    select
        org_id,
        app_id,
        {{ dbt.listagg('connector', "','", 'order by connector') }} as sources
    from connectors
    group by 1, 2

),

dated as (

    select
        apps.*,
        -- with no source alive, the last day that any of them told everything about
        least(expected_as_of_date, complete_on) as as_of_date
    from apps

),

told as (

    select
        connection_id,
        usage_date,
        sum(case when is_complete then 1 else 0 end) over (
            partition by connection_id order by usage_date rows between 29 preceding and current row
        ) as complete_count,
        count(*) over (
            partition by connection_id order by usage_date rows between 29 preceding and current row
        ) as day_count
    from source_days

),

completeness as (

    select
        app_sources.org_id,
        app_sources.app_id,
        cast(sum(told.complete_count) as double precision) / sum(told.day_count) as data_complete_ratio
    from app_sources
    inner join dated
        on app_sources.org_id = dated.org_id and app_sources.app_id = dated.app_id
    inner join told
        on app_sources.connection_id = told.connection_id and dated.as_of_date = told.usage_date
    group by 1, 2

),

final as (

    select
        dated.org_id,
        dated.app_id,
        sources.sources,
        dated.first_seen_on,
        dated.restate_days,
        dated.expected_as_of_date,
        dated.as_of_date,
        coalesce(dated.current_on >= dated.expected_as_of_date, false) as is_current,
        coalesce(
            dated.current_on >= dated.expected_as_of_date
            and {{ days_between('dated.as_of_date', local_date(now(), 'orgs.time_zone')) }} > dated.restate_days,
            false
        ) as is_final,
        dated.complete_from,
        dated.complete_through,
        completeness.data_complete_ratio
    from dated
    inner join sources
        on dated.org_id = sources.org_id and dated.app_id = sources.app_id
    left join orgs
        on dated.org_id = orgs.org_id
    left join completeness
        on dated.org_id = completeness.org_id and dated.app_id = completeness.app_id

)

select * from final
