{{ config(materialized='incremental', incremental_strategy='replace_days', unique_key=['org_id', 'block_start_date']) }}

{%- set version = definition_of_usage() %}

with

usage as (

    select * from {{ ref('fct_app_usage_daily') }}
    {% if is_incremental() -%}
    where {{ within_blocks_to_count() }}
    {%- endif %}

),

ledger as (

    select * from {{ ref('int_days_touched') }}

),

blocks_to_count as (

    select distinct
        org_id,
        {{ block_starts_on('usage_date') }} as block_start_date
    from ledger
    {% if is_incremental() -%}
    where ledger_id > {{ counted_up_to() }}
    {%- endif %}

),

placed as (

    select
        usage.*,
        {{ block_starts_on('usage.usage_date') }} as block_start_date
    from usage

),

counted as (

    select
        placed.org_id,
        placed.app_id,
        placed.connection_id,
        placed.connector,
        placed.account_key,
        placed.block_start_date,
        max(placed.user_email) as user_email,
        min(placed.actor_kind) as actor_kind,
        min(placed.usage_date) as first_seen_on,
        min(case when placed.event_count > 0 then placed.usage_date end) as first_used_on,
        max(case when placed.event_count > 0 then placed.usage_date end) as last_used_on,
        max(placed.last_event_at) as last_event_at,
        max(placed.last_loaded_at) as last_loaded_at
    from placed
    inner join blocks_to_count
        on placed.org_id = blocks_to_count.org_id and placed.block_start_date = blocks_to_count.block_start_date
    group by 1, 2, 3, 4, 5, 6
    {%- if is_incremental() %}
    union all
    -- not kept: by it replace_days knows that the day was counted, if nothing is left on it
    select
        org_id,
        null as app_id,
        null as connection_id,
        null as connector,
        null as account_key,
        block_start_date,
        null as user_email,
        null as actor_kind,
        null as first_seen_on,
        null as first_used_on,
        null as last_used_on,
        null as last_event_at,
        null as last_loaded_at
    from blocks_to_count
    {%- endif %}

),

final as (

    select
        counted.*,
        (select max(usage.ledger_id) from {{ ref('fct_app_usage_daily') }} as usage) as ledger_id,
        '{{ version }}' as definition_version
    from counted

)

select * from final
order by block_start_date
