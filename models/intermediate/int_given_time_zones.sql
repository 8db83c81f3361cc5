with

orgs as (

    select * from {{ ref('stg_product__orgs') }}

),

fetches as (

    select * from {{ ref('int_fetches') }}

),

time_zones as (

    select * from {{ ref('time_zones') }}

),

-- an org that the product does not know yet is read, and counted, all the same
named as (

    select
        org_id,
        max(time_zone) as given_time_zone
    from (
        select
            org_id,
            time_zone
        from orgs
        union all
        select
            org_id,
            null as time_zone
        from fetches
    ) as every_org
    where org_id is not null
    group by 1

),

zoned as (

    select
        named.org_id,
        named.given_time_zone,
        coalesce(time_zones.time_zone, 'UTC') as time_zone,
        time_zones.time_zone is not null as has_known_time_zone
    from named
    left join time_zones
        on named.given_time_zone = time_zones.time_zone

)

select * from zoned
