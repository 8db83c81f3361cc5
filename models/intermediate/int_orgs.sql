with

orgs as (

    select * from {{ ref('stg_product__orgs') }}

),

given_time_zones as (

    select * from {{ ref('int_given_time_zones') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

named as (

    select
        org_id,
        max(org_name) as org_name,
        max(email_domains) as email_domains,
        max(currency) as currency,
        max(working_days) as working_days
    from orgs
    group by 1

),

zoned as (

    select
        given_time_zones.org_id,
        named.org_name,
        named.email_domains,
        named.currency,
        coalesce(named.working_days, '[1,2,3,4,5]') as working_days,
        time_zones.time_zone
    from given_time_zones
    inner join time_zones
        on given_time_zones.org_id = time_zones.org_id and time_zones.valid_to = cast('9999-12-31' as timestamp)
    left join named
        on given_time_zones.org_id = named.org_id

)

select * from zoned
