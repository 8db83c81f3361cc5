with

fetches as (

    select * from {{ ref('stg_fetches') }}

),

streams as (

    select * from {{ ref('int_streams') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

calendar as (

    select * from {{ ref('int_calendar') }}

),

-- the spans of time that were read, each row the part that no earlier one reaches
windows as (

    select
        connection_id,
        stream,
        window_started_at,
        window_ended_at,
        max(window_ended_at) over (
            partition by connection_id, stream
            order by window_started_at, window_ended_at
            rows between unbounded preceding and 1 preceding
        ) as read_up_to
    from fetches
    where outcome = 'complete' and stream_kind = 'events' and window_started_at < window_ended_at

),

-- vendors' bounds may be inclusive: a second between two windows is no gap
numbered as (

    select
        windows.*,
        sum(case when window_started_at <= {{ dbt.dateadd('second', 1, 'read_up_to') }} then 0 else 1 end) over (
            partition by connection_id, stream
            order by window_started_at, window_ended_at
            rows between unbounded preceding and current row
        ) as span_number
    from windows

),

spans as (

    select
        connection_id,
        stream,
        span_number,
        min(window_started_at) as started_at,
        max(window_ended_at) as ended_at
    from numbered
    group by 1, 2, 3

),

-- whole days of the org's calendar within a span
whole_days as (

    select
        streams.connection_id,
        streams.stream,
        {{ local_date('spans.started_at', 'orgs.time_zone') }}
        + case
            when
                {{ day_starts_at(local_date('spans.started_at', 'orgs.time_zone'), 'orgs.time_zone') }}
                < spans.started_at
                then 1
            else 0
        end as first_date,
        {{ local_date('least(spans.ended_at, streams.complete_through)', 'orgs.time_zone') }} - 1 as last_date
    from spans
    inner join streams
        on spans.connection_id = streams.connection_id and spans.stream = streams.stream
    inner join orgs
        on streams.org_id = orgs.org_id

),

begun as (

    select
        connection_id,
        stream,
        min(first_date) as first_date
    from whole_days
    group by 1, 2

),

-- what was asked for when the vendor had forgotten it
lost as (

    select
        fetches.connection_id,
        fetches.stream,
        {{ local_date('fetches.window_started_at', 'orgs.time_zone') }} as first_date,
        {{ local_date('fetches.window_ended_at', 'orgs.time_zone') }} as last_date
    from fetches
    inner join orgs
        on fetches.org_id = orgs.org_id
    where fetches.outcome = 'gap'

),

-- a stream begins on the first whole day that was read, and should go on to this day
known_streams as (

    select
        streams.org_id,
        streams.connector,
        streams.connection_id,
        streams.stream,
        min(begun.first_date) as first_date,
        max({{ local_date(now(), 'orgs.time_zone') }}) - 1 as last_date,
        max(
            {{ local_date(seconds_before('coalesce(streams.expected_lag_seconds, 0)', now()), 'orgs.time_zone') }}
        ) - 1 as expected_date
    from streams
    inner join orgs
        on streams.org_id = orgs.org_id
    inner join begun
        on streams.connection_id = begun.connection_id and streams.stream = begun.stream
    where streams.stream_kind = 'events'
    group by 1, 2, 3, 4

),

final as (

    select
        known_streams.org_id,
        known_streams.connector,
        known_streams.connection_id,
        known_streams.stream,
        calendar.calendar_date as usage_date,
        calendar.calendar_date <= known_streams.expected_date as is_expected,
        count(whole_days.stream) > 0 as is_complete,
        count(lost.stream) > 0 as is_lost
    from known_streams
    inner join calendar
        on calendar.calendar_date between known_streams.first_date and known_streams.last_date
    left join whole_days
        on
            known_streams.connection_id = whole_days.connection_id
            and known_streams.stream = whole_days.stream
            and calendar.calendar_date between whole_days.first_date and whole_days.last_date
    left join lost
        on
            known_streams.connection_id = lost.connection_id
            and known_streams.stream = lost.stream
            and calendar.calendar_date between lost.first_date and lost.last_date
    group by 1, 2, 3, 4, 5, 6

)

select * from final
