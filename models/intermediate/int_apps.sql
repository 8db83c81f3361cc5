with

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

apps as (

    select
        app_sources.org_id,
        app_sources.app_id,
        min(app_sources.first_seen_on) as first_seen_on,
        max(coalesce(app_sources.restate_days, 0)) as restate_days,
        min(
            {{ local_date(seconds_before('coalesce(app_sources.expected_lag_seconds, 0)', now()), 'orgs.time_zone') }}
        ) - 1 as expected_as_of_date,
        min(app_sources.complete_from) as complete_from,
        max(app_sources.complete_on) as complete_on,
        case
            when max(case when app_sources.has_events and app_sources.complete_on is null then 1 else 0 end) = 0
                then min(app_sources.complete_on)
        end as complete_through
    from app_sources
    inner join orgs
        on app_sources.org_id = orgs.org_id
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
