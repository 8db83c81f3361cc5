{{ config(materialized='view') }}

with

usage as (

    select * from {{ ref('fct_app_usage_daily') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

used as (

    select
        usage.org_id,
        usage.app_id,
        accounts.person_id,
        accounts.person_class,
        usage.usage_date,
        usage.source_kind,
        usage.event_count,
        usage.active_hours,
        {{ source_rank('usage.source_kind') }} as source_rank,
        min({{ source_rank('usage.source_kind') }}) over (
            partition by usage.org_id, usage.app_id, accounts.person_id, usage.usage_date
        ) as surest_rank
    from usage
    inner join accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    where usage.event_count > 0

),

person_days as (

    select
        org_id,
        app_id,
        person_id,
        min(person_class) as person_class,
        usage_date,
        sum(case when source_rank = surest_rank then event_count end) as event_count,
        bit_or(active_hours) as active_hours
    from used
    group by org_id, app_id, person_id, usage_date

)

select * from person_days
