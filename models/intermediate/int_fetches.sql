{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['connection_id', 'stream']) }}

-- depends_on: {{ ref('stg_loads') }}, which says what is unread

{%- set span = 'connection_id, stream, outcome, has_span' %}

with

fetches as (

    select * from {{ ref('stg_fetches') }}
    {% if is_incremental() -%}
    where {{ within_unread_loads() }}
    {%- endif %}

),

{% if is_incremental() -%}
known as (

    select * from {{ this }}

),

read_up_to as (

    select
        connector,
        max(batch_id) as batch_id
    from known
    group by 1

),

{% endif -%}
unread as (

    select
        fetches.connection_id,
        fetches.org_id,
        fetches.connector,
        fetches.stream,
        fetches.stream_kind,
        fetches.outcome,
        fetches.expected_lag_seconds,
        fetches.restate_days,
        {%- for bound in ['window_started_at', 'window_ended_at'] %}
        case when fetches.window_started_at < fetches.window_ended_at then fetches.{{ bound }} end as {{ bound }},
        {%- endfor %}
        fetches.complete_through,
        fetches.fetched_at,
        fetches.batch_id
    from fetches
    {% if is_incremental() -%}
    left join read_up_to
        on fetches.connector = read_up_to.connector
    where fetches.batch_id > coalesce(read_up_to.batch_id, 0)
    {%- endif %}

),

{% if is_incremental() -%}
streams as (

    select distinct
        connection_id,
        stream
    from unread

),

{% endif -%}
asked as (

    select
        unread.*,
        case when window_started_at is null then 0 else 1 end as has_span
    from unread
    {%- if is_incremental() %}
    union all
    select
        known.connection_id,
        known.org_id,
        known.connector,
        known.stream,
        known.stream_kind,
        known.outcome,
        known.expected_lag_seconds,
        known.restate_days,
        known.window_started_at,
        known.window_ended_at,
        known.complete_through,
        known.fetched_at,
        known.batch_id,
        case when known.window_started_at is null then 0 else 1 end as has_span
    from known
    inner join streams
        on known.connection_id = streams.connection_id and known.stream = streams.stream
    {%- endif %}

),

-- each row the part that no earlier one reaches
reached as (

    select
        asked.*,
        max(window_ended_at) over (
            partition by {{ span }}
            order by window_started_at, window_ended_at
            rows between unbounded preceding and 1 preceding
        ) as reached_at
    from asked

),

-- vendors' bounds may be inclusive: a second between two windows is no gap
numbered as (

    select
        reached.*,
        sum(
            case
                when has_span = 0 or window_started_at <= {{ dbt.dateadd('second', 1, 'reached_at') }} then 0
                else 1
            end
        ) over (
            partition by {{ span }}
            order by window_started_at, window_ended_at
            rows between unbounded preceding and current row
        ) as span_number
    from reached

),

ranked as (

    select
        numbered.*,
        row_number() over (
            partition by {{ span }}, span_number
            order by
                fetched_at desc, org_id asc, expected_lag_seconds desc nulls last, restate_days desc nulls last
        ) as recency
    from numbered

),

final as (

    select
        connection_id,
        max(case when recency = 1 then org_id end) as org_id,
        max(case when recency = 1 then connector end) as connector,
        stream,
        max(case when recency = 1 then stream_kind end) as stream_kind,
        outcome,
        cast(span_number as bigint) as span_number,
        max(case when recency = 1 then expected_lag_seconds end) as expected_lag_seconds,
        max(case when recency = 1 then restate_days end) as restate_days,
        min(window_started_at) as window_started_at,
        max(window_ended_at) as window_ended_at,
        max(complete_through) as complete_through,
        max(fetched_at) as fetched_at,
        max(batch_id) as batch_id
    from ranked
    group by connection_id, stream, outcome, span_number

)

select * from final
