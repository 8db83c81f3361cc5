with

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

app_days as (

    select
        app_sources.org_id,
        app_sources.app_id,
        source_days.usage_date,
        count(*) as source_count,
        cast(sum(case when source_days.is_complete then 1 else 0 end) as bigint) as complete_count
    from app_sources
    inner join source_days
        on app_sources.connection_id = source_days.connection_id
    group by 1, 2, 3

)

select * from app_days
