with

orgs as (

    select * from {{ ref('stg_product__orgs') }}

),

fetches as (

    select * from {{ ref('stg_fetches') }}

),

time_zones as (

    select * from {{ ref('time_zones') }}

),

-- an org that the product does not know yet is read, and counted, all the same
named as (

    select
        org_id,
        max(org_name) as org_name,
        max(time_zone) as given_time_zone,
        max(email_domains) as email_domains,
        max(currency) as currency,
        coalesce(max(working_days), '[1,2,3,4,5]') as working_days
    from (
        select
            org_id,
            org_name,
            time_zone,
            email_domains,
            currency,
            working_days
        from orgs
        union all
        select
            org_id,
            null as org_name,
            null as time_zone,
            null as email_domains,
            null as currency,
            null as working_days
        from fetches
    ) as every_org
    where org_id is not null
    group by 1

),

zoned as (

    select
        named.org_id,
        named.org_name,
        named.given_time_zone,
        named.email_domains,
        named.currency,
        named.working_days,
        coalesce(time_zones.time_zone, 'UTC') as time_zone,
        time_zones.time_zone is not null as has_known_time_zone
    from named
    left join time_zones
        on named.given_time_zone = time_zones.time_zone

)

select * from zoned
