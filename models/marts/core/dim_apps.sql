with

app_catalog as (

    select * from {{ ref('app_catalog') }}

),

evidence as (

    select * from {{ ref('int_evidence') }}

),

contracts as (

    select * from {{ ref('int_contracts') }}

),

discovered as (

    select app_id
    from evidence
    where app_id like 'discovered:%'
    union
    select contracts.app_id
    from contracts
    left join app_catalog
        on contracts.app_id = app_catalog.app_id
    where app_catalog.app_id is null

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
        case when app_id like 'discovered:%' then substring(app_id, 12) else app_id end as app_name,
        null as category,
        null as vendor,
        null as domain,
        true as is_discovered
    from discovered

)

select * from apps
