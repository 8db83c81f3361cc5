with

app_states as (

    select * from {{ ref('stg_product__app_states') }}

),

app_state_versions as (

    select * from {{ ref('app_states_snapshot') }}

),

listed as (

    select distinct
        org_id,
        app_id
    from app_states

),

-- where the product has put what is decided for a day to come in its place, the last decision stays in force
ranked as (

    select
        app_state_versions.org_id,
        app_state_versions.app_id,
        app_state_versions.app_state,
        app_state_versions.changed_at,
        row_number() over (
            partition by app_state_versions.org_id, app_state_versions.app_id
            order by app_state_versions.dbt_valid_to desc nulls first, app_state_versions.dbt_valid_from desc
        ) as recency
    from app_state_versions
    inner join listed
        on app_state_versions.org_id = listed.org_id and app_state_versions.app_id = listed.app_id

),

latest as (

    select
        org_id,
        app_id,
        app_state,
        changed_at
    from ranked
    where recency = 1

)

select * from latest
