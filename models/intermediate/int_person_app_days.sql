{{ config(materialized='incremental', incremental_strategy='replace_days', unique_key=['org_id', 'usage_date']) }}

{%- set version = definition_of_usage() %}
{%- set uncounted = uncounted_days() %}

with

usage as (

    select * from {{ ref('fct_app_usage_daily') }}
    {% if is_incremental() -%}
    where {{ from_first_uncounted_day() }}
    {%- endif %}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

{% if is_incremental() -%}
days_to_count as (

    select distinct
        org_id,
        usage_date
    from ({{ uncounted | indent(8) }}) as uncounted_days

),

{% endif -%}
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
    {%- if is_incremental() %}
    inner join days_to_count
        on usage.org_id = days_to_count.org_id and usage.usage_date = days_to_count.usage_date
    {%- endif %}
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
        cast({{ of_the_surest('event_count') }} as bigint) as event_count,
        bit_or(active_hours) as active_hours
    from by_connector
    group by org_id, app_id, person_id, usage_date
    {%- if is_incremental() %}
    union all
    -- not kept: by it replace_days knows that the day was counted, if nothing is left on it
    select
        org_id,
        null as app_id,
        null as person_id,
        null as person_class,
        usage_date,
        null as day_basis,
        null as event_count,
        null as active_hours
    from days_to_count
    {%- endif %}

),

final as (

    select
        person_days.*,
        {{ counted_with(version) | indent(8) }}
    from person_days

)

select * from final
order by usage_date
