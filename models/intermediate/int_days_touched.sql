{{ config(materialized='incremental', incremental_strategy='append') }}

-- depends_on: {{ ref('stg_loads') }}, which says what is unread

with

events as (

    select * from {{ ref('int_events') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

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
    where events.batch_id > coalesce(read_up_to.batch_id, 0) and {{ within_unread_batches() }}
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
    inner join orgs
        on unread.org_id = orgs.org_id
    inner join calendar
        on
            calendar.calendar_date
            between {{ local_date('unread.earliest_occurred_at', 'orgs.time_zone') }}
            and {{ local_date('unread.latest_occurred_at', 'orgs.time_zone') }}
    where unread.earliest_occurred_at < unread.latest_occurred_at

),

numbered as (

    select
        days.connector,
        days.batch_id,
        days.load_id,
        days.org_id,
        days.usage_date,
        {% if is_incremental() -%}
        (select coalesce(max(ledger.ledger_id), 0) + 1 from {{ this }} as ledger) as ledger_id
        {%- else -%}
        cast(1 as bigint) as ledger_id
        {%- endif %}
    from days

)

select * from numbered
