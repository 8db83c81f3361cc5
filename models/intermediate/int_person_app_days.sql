{{ config(materialized='view') }}

with

usage as (

    select * from {{ ref('fct_app_usage_daily') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

by_connector as (

    select
        usage.org_id,
        usage.app_id,
        accounts.person_id,
        min(accounts.person_class) as person_class,
        usage.usage_date,
        usage.connector,
        {{ common_day_basis('usage.day_basis') }} as day_basis,
        {{ source_rank('usage.source_kind') }} as source_rank,
        sum(usage.event_count) as event_count,
        bit_or(usage.active_hours) as active_hours
    from usage
    inner join accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    where usage.event_count > 0
    group by usage.org_id, usage.app_id, accounts.person_id, usage.usage_date, usage.connector, usage.source_kind

),

-- two identity providers saw the same log-in: volume comes from the surest source, and of those that are as sure from
-- the one that saw most
person_days as (

    select
        org_id,
        app_id,
        person_id,
        min(person_class) as person_class,
        usage_date,
        {{ common_day_basis('day_basis') }} as day_basis,
        {{ of_the_surest('event_count') }} as event_count,
        bit_or(active_hours) as active_hours
    from by_connector
    group by org_id, app_id, person_id, usage_date

)

select * from person_days
