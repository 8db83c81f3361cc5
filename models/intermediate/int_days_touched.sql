{{ config(materialized='incremental', incremental_strategy='append') }}

-- depends_on: {{ ref('stg_loads') }}, which says what is unread

{#- Customers that were counted in UTC before their time zone was known: all their days are others now. -#}
{%- set rezoned -%}
    select ledger.org_id
    from {{ this }} as ledger
    inner join {{ ref('int_time_zones') }} as time_zones
        on ledger.org_id = time_zones.org_id and time_zones.has_known_time_zone
    group by 1
    having max(case when ledger.has_known_time_zone then 1 else 0 end) = 0
{%- endset -%}
{#- There are next to none, and to look for their events is to look at every one. -#}
{%- set has_rezoned = is_incremental() and (not can_introspect() or run_query(rezoned).rows | length > 0) %}

with

events as (

    select * from {{ ref('int_events') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

calendar as (

    select * from {{ ref('int_calendar') }}

),

{% if is_incremental() -%}
read_up_to as (

    select
        connector,
        max(batch_id) as batch_id
    from {{ this }}
    group by 1

),

{% endif -%}
unread as (

    select events.*
    from events
    {% if is_incremental() -%}
    left join read_up_to
        on events.connector = read_up_to.connector
    where
        (events.batch_id > coalesce(read_up_to.batch_id, 0) and {{ within_unread_batches() }})
        {%- if has_rezoned %}
        or events.org_id in ({{ rezoned | indent(8) }})
        {%- endif %}
    {%- endif %}

),

days as (

    select
        connector,
        batch_id,
        load_id,
        org_id,
        usage_date
    from unread
    -- not `union all`: a load touches a day once
    union
    -- a corrected event also touches the days that it was taken from
    select
        unread.connector,
        unread.batch_id,
        unread.load_id,
        unread.org_id,
        calendar.calendar_date as usage_date
    from unread
    {{ join_time_zone('first_zones', 'unread.org_id', 'unread.earliest_occurred_at') }}
    {{ join_time_zone('last_zones', 'unread.org_id', 'unread.latest_occurred_at') }}
    inner join calendar
        on
            calendar.calendar_date
            between {{ local_date('unread.earliest_occurred_at', 'first_zones.time_zone') }}
            and {{ local_date('unread.latest_occurred_at', 'last_zones.time_zone') }}
    where unread.earliest_occurred_at < unread.latest_occurred_at
    {%- if has_rezoned %}
    union
    select
        connector,
        batch_id,
        load_id,
        org_id,
        usage_date
    from {{ this }}
    where org_id in ({{ rezoned | indent(4) }})
    {%- endif %}

),

orgs as (

    select distinct
        org_id,
        has_known_time_zone
    from time_zones

),

numbered as (

    select
        days.connector,
        days.batch_id,
        days.load_id,
        days.org_id,
        days.usage_date,
        {{ next_number('ledger_id') }} as ledger_id,
        orgs.has_known_time_zone
    from days
    inner join orgs
        on days.org_id = orgs.org_id

)

select * from numbered
