-- depends_on: {{ ref('int_fetches') }}, by which the snapshot of this model tells the time
with

app_states as (

    select * from {{ ref('stg_product__app_states') }}

),

ranked as (

    select
        org_id,
        app_id,
        app_state,
        changed_at,
        row_number() over (partition by org_id, app_id order by changed_at desc nulls last, app_state asc) as recency
    from app_states
    where
        org_id is not null
        and app_id is not null
        -- what is decided for a day to come is not so yet
        and (changed_at <= {{ now() }} or changed_at is null)

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
