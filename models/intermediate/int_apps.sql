with

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

due_sources as (

    select
        app_sources.*,
        {{ seconds_before('coalesce(app_sources.expected_lag_seconds, 0)', now()) }} as due_at
    from app_sources

),

apps as (

    select
        due_sources.org_id,
        due_sources.app_id,
        min(due_sources.first_seen_on) as first_seen_on,
        max(coalesce(due_sources.restate_days, 0)) as restate_days,
        min({{ local_date('due_sources.due_at', 'due_zones.time_zone') }}) - 1 as expected_as_of_date,
        min(due_sources.complete_from) as complete_from,
        max(due_sources.complete_on) as complete_on,
        case
            when max(case when due_sources.has_events and due_sources.complete_on is null then 1 else 0 end) = 0
                then min(due_sources.complete_on)
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

final as (

    select
        apps.org_id,
        apps.app_id,
        sources.sources,
        apps.first_seen_on,
        apps.restate_days,
        apps.expected_as_of_date,
        -- with no source alive, the last day that any of them told everything about
        least(apps.expected_as_of_date, apps.complete_on) as as_of_date,
        coalesce(apps.complete_on >= apps.expected_as_of_date, false) as is_current,
        apps.complete_from,
        apps.complete_through
    from apps
    inner join sources
        on apps.org_id = sources.org_id and apps.app_id = sources.app_id

)

select * from final
