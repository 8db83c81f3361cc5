with

fetches as (

    select * from {{ ref('stg_fetches') }}

),

newest as (

    select
        fetches.*,
        row_number() over (
            partition by connection_id, stream order by fetched_at desc, window_started_at desc nulls last
        ) as fetch_rank
    from fetches

),

-- a later failure takes nothing back: what was asked for before has landed
reached as (

    select
        org_id,
        connector,
        connection_id,
        stream,
        max(stream_kind) as stream_kind,
        max(complete_through) as complete_through,
        max(fetched_at) as last_fetched_at,
        max(case when outcome = 'complete' then fetched_at end) as last_completed_at,
        max(case when fetch_rank = 1 then expected_lag_seconds end) as expected_lag_seconds,
        max(case when fetch_rank = 1 then restate_days end) as restate_days
    from newest
    group by 1, 2, 3, 4

)

select * from reached
