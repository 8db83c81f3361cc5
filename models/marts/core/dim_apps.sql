with

app_catalog as (

    select * from {{ ref('app_catalog') }}

),

evidence as (

    select * from {{ ref('int_evidence') }}

),

discovered as (

    select distinct app_id
    from evidence
    where app_id like 'discovered:%'

),

apps as (

    select
        app_id,
        app_name,
        category,
        vendor,
        domain,
        false as is_discovered
    from app_catalog
    union all
    select
        app_id,
        substring(app_id, 12) as app_name,
        null as category,
        null as vendor,
        null as domain,
        true as is_discovered
    from discovered

)

select * from apps
