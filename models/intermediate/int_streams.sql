with

fetches as (

    select * from {{ ref('int_fetches') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

newest as (

    select
        fetches.*,
        row_number() over (
            partition by connection_id, stream order by fetched_at desc, window_started_at desc nulls last
        ) as fetch_rank
    from fetches

),

-- a later failure takes nothing back: what was asked for before has landed; that it has ended, no vendor was asked
reached as (

    select
        connection_id,
        stream,
        max(case when fetch_rank = 1 then org_id end) as org_id,
        max(case when fetch_rank = 1 then connector end) as connector,
        max(stream_kind) as stream_kind,
        max(complete_through) as complete_through,
        max(case when outcome <> 'ended' then fetched_at end) as last_fetched_at,
        max(case when outcome = 'ended' then fetched_at end) as last_ended_at,
        max(case when fetch_rank = 1 and outcome = 'ended' then window_started_at end) as ended_at,
        max(case when outcome = 'complete' then fetched_at end) as last_completed_at,
        max(case when fetch_rank = 1 then expected_lag_seconds end) as expected_lag_seconds,
        max(case when fetch_rank = 1 then restate_days end) as restate_days
    from newest
    group by 1, 2

),

connections as (

    select
        connection_id,
        max(last_fetched_at) as last_fetched_at,
        case when max(last_ended_at) >= max(last_fetched_at) then max(ended_at) end as ended_at
    from reached
    group by 1

),

-- what fails is asked again by every run: a stream that is not is one that the connection's settings leave out by now
final as (

    select
        reached.org_id,
        reached.connector,
        reached.connection_id,
        reached.stream,
        reached.stream_kind,
        reached.complete_through,
        reached.last_fetched_at,
        reached.last_completed_at,
        reached.expected_lag_seconds,
        reached.restate_days,
        {{ local_date('connections.ended_at', 'end_zones.time_zone') }} as ended_on
    from reached
    inner join connections
        on reached.connection_id = connections.connection_id
    {{ join_time_zone('end_zones', 'reached.org_id', 'connections.ended_at') }}
    where reached.last_fetched_at >= {{ dbt.dateadd('day', -7, 'connections.last_fetched_at') }}

)

select * from final
