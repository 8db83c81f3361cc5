with

apps as (

    select * from {{ ref('int_apps') }}

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

holidays as (

    select * from {{ ref('stg_product__org_holidays') }}

),

holidays_of_orgs as (

    select
        org_id,
        {{ dbt.listagg('cast(holiday_on as varchar(10))', "','", 'order by holiday_on') }} as holidays
    from holidays
    group by 1

),

missing_days as (

    select
        connection_id,
        {{ dbt.listagg('cast(usage_date as varchar(10))', "','", 'order by usage_date') }} as missing
    from (
        select distinct
            source_days.connection_id,
            source_days.usage_date
        from source_days
        inner join app_sources
            on
                source_days.connection_id = app_sources.connection_id
                and source_days.usage_date < app_sources.complete_on
        where not source_days.is_complete
    ) as days
    group by 1

),

told as (

    select
        app_sources.org_id,
        app_sources.app_id,
        app_sources.connection_id || ' ' || app_sources.connector
        || ' ' || coalesce(cast(app_sources.starts_on as varchar(10)), '')
        -- of one that told until lately, its end is among the newest days; of one that has ended, there are no more
        || ' ' || case
            when app_sources.complete_on >= apps.expected_as_of_date - 7 and app_sources.ended_on is null then ''
            else coalesce(cast(app_sources.complete_on as varchar(10)), 'nothing')
        end
        || coalesce(' ' || cast(app_sources.ended_on as varchar(10)), '')
        || ' ' || md5(coalesce(missing_days.missing, '')) as source_told
    from app_sources
    inner join apps
        on app_sources.org_id = apps.org_id and app_sources.app_id = apps.app_id
    left join missing_days
        on app_sources.connection_id = missing_days.connection_id

),

told_of_apps as (

    select
        org_id,
        app_id,
        {{ dbt.listagg('source_told', "','", 'order by source_told') }} as sources_told
    from told
    group by 1, 2

),

final as (

    select
        apps.org_id,
        apps.app_id,
        apps.first_seen_on,
        apps.expected_as_of_date,
        apps.restate_days,
        orgs.working_days,
        {{ local_date(now(), 'orgs.time_zone') }} as today,
        md5(
            '{{ var('min_complete_ratio') }} '
            || cast(apps.first_seen_on as varchar(10)) || ' ' || cast(apps.restate_days as varchar(20))
            || ' ' || orgs.working_days || ' ' || coalesce(holidays_of_orgs.holidays, '')
            || ' ' || coalesce(told_of_apps.sources_told, '')
        ) as counted_as
    from apps
    inner join orgs
        on apps.org_id = orgs.org_id
    left join holidays_of_orgs
        on apps.org_id = holidays_of_orgs.org_id
    left join told_of_apps
        on apps.org_id = told_of_apps.org_id and apps.app_id = told_of_apps.app_id

)

select * from final
