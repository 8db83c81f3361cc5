{{ config(materialized='incremental', incremental_strategy='replace_days', unique_key=['org_id', 'block_start_date']) }}

{%- set version = definition_of_usage() %}
{%- set uncounted = uncounted_days() %}

with

usage as (

    select * from {{ ref('int_account_blocks') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

{% if is_incremental() -%}
blocks_to_count as (

    select distinct
        org_id,
        {{ block_starts_on('usage_date') }} as block_start_date
    from ({{ uncounted | indent(8) }}) as uncounted_days

),

{% endif -%}
counted as (

    select
        usage.org_id,
        usage.app_id,
        accounts.person_id,
        min(accounts.person_class) as person_class,
        usage.block_start_date,
        min(usage.first_used_on) as first_used_on,
        max(usage.last_used_on) as last_used_on
    from usage
    inner join accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    {%- if is_incremental() %}
    inner join blocks_to_count
        on usage.org_id = blocks_to_count.org_id and usage.block_start_date = blocks_to_count.block_start_date
    {%- endif %}
    where usage.first_used_on is not null
    group by usage.org_id, usage.app_id, accounts.person_id, usage.block_start_date
    {%- if is_incremental() %}
    union all
    -- not kept: by it replace_days knows that the day was counted, if nothing is left on it
    select
        org_id,
        null as app_id,
        null as person_id,
        null as person_class,
        block_start_date,
        null as first_used_on,
        null as last_used_on
    from blocks_to_count
    {%- endif %}

),

final as (

    select
        counted.*,
        {{ counted_with(version) | indent(8) }}
    from counted

)

select * from final
