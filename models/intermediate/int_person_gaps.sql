with

evidence as (

    select * from {{ ref('int_evidence') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

person_apps as (

    select * from {{ ref('int_person_apps') }}

),

-- what comes after the last day that was told is no gap: nothing is said of it
gaps as (

    select
        app_sources.org_id,
        app_sources.app_id,
        app_sources.connection_id,
        app_sources.ended_on,
        source_days.usage_date
    from app_sources
    inner join apps
        on app_sources.org_id = apps.org_id and app_sources.app_id = apps.app_id
    inner join source_days
        on app_sources.connection_id = source_days.connection_id and app_sources.complete_on > source_days.usage_date
    where not source_days.is_complete and source_days.usage_date > apps.as_of_date - 400

),

sources_of_people as (

    select distinct
        org_id,
        app_id,
        person_id,
        connection_id
    from evidence

),

final as (

    select
        gaps.org_id,
        gaps.app_id,
        sources_of_people.person_id,
        gaps.usage_date,
        count(*) as untold_count
    from gaps
    inner join sources_of_people
        on
            gaps.org_id = sources_of_people.org_id
            and gaps.app_id = sources_of_people.app_id
            and gaps.connection_id = sources_of_people.connection_id
    -- days before all of the person's sources could tell do not count at all: see is_told()
    inner join person_apps
        on
            sources_of_people.org_id = person_apps.org_id
            and sources_of_people.app_id = person_apps.app_id
            and sources_of_people.person_id = person_apps.person_id
            and gaps.usage_date >= person_apps.history_from
            and (gaps.ended_on is null or not person_apps.goes_on)
    group by 1, 2, 3, 4

)

select * from final
