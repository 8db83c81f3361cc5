{{ config(materialized='view') }}

with

fetches as (
    {%- set connectors = landed_vendors('stg_%s__events.sql') + landed_vendors('stg_%s__accounts.sql') %}
    {% for connector in connectors | unique | sort %}
    select
        -- ids
        fetches.connection_id,
        fetches.org_id,
        '{{ connector }}' as connector,
        fetches.stream,
        fetches._dlt_load_id as load_id,
        fetches.batch_id,

        -- strings
        fetches.stream_kind,
        fetches.outcome,
        fetches.error,

        -- numerics
        fetches.row_count,
        fetches.rejected_count,
        fetches.expected_lag_seconds,
        fetches.restate_days,

        -- timestamps
        fetches.window_start as window_started_at,
        fetches.window_end as window_ended_at,
        fetches.complete_through,
        fetches.fetched_at
    from {{ landing(connector, 'fetch_log') }} as fetches
    {%- if not loop.last %}
    union all
    {%- endif %}
    {% endfor %}
)

select * from fetches
