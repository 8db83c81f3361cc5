with

fetches as (

    select * from {{ ref('int_fetches') }}

),

streams as (

    select * from {{ ref('int_streams') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

calendar as (

    select * from {{ ref('int_calendar') }}

),

told as (

    select
        streams.org_id,
        streams.connection_id,
        streams.stream,
        fetches.window_started_at as started_at,
        least(fetches.window_ended_at, streams.complete_through) as ended_at
    from fetches
    inner join streams
        on fetches.connection_id = streams.connection_id and fetches.stream = streams.stream
    where
        fetches.outcome = 'complete'
        and fetches.stream_kind = 'events'
        and fetches.window_started_at < fetches.window_ended_at

),

-- whole days of the org's calendar within a span
whole_days as (

    select
        told.connection_id,
        told.stream,
        {{ local_date('told.started_at', 'first_zones.time_zone') }}
        + case
            when
                {{ day_starts_at(local_date('told.started_at', 'first_zones.time_zone'), 'first_zones.time_zone') }}
                < told.started_at
                then 1
            else 0
        end as first_date,
        {{ local_date('told.ended_at', 'last_zones.time_zone') }} - 1 as last_date
    from told
    {{ join_time_zone('first_zones', 'told.org_id', 'told.started_at') }}
    {{ join_time_zone('last_zones', 'told.org_id', 'told.ended_at') }}

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
        {{ local_date('fetches.window_started_at', 'first_zones.time_zone') }} as first_date,
        {{ local_date('fetches.window_ended_at', 'last_zones.time_zone') }} as last_date
    from fetches
    {{ join_time_zone('first_zones', 'fetches.org_id', 'fetches.window_started_at') }}
    {{ join_time_zone('last_zones', 'fetches.org_id', 'fetches.window_ended_at') }}
    where fetches.outcome = 'gap'

),

begun_streams as (

    select
        streams.org_id,
        streams.connector,
        streams.connection_id,
        streams.stream,
        begun.first_date,
        streams.ended_on,
        {{ seconds_before('coalesce(streams.expected_lag_seconds, 0)', now()) }} as due_at
    from streams
    inner join begun
        on streams.connection_id = begun.connection_id and streams.stream = begun.stream
    where streams.stream_kind = 'events'

),

-- a stream begins on the first whole day that was read, and should go on to this day, or to where it was taken away
known_streams as (

    select
        begun_streams.org_id,
        begun_streams.connector,
        begun_streams.connection_id,
        begun_streams.stream,
        begun_streams.first_date,
        least({{ local_date(now(), 'orgs.time_zone') }}, begun_streams.ended_on) - 1 as last_date,
        {{ local_date('begun_streams.due_at', 'due_zones.time_zone') }} - 1 as expected_date
    from begun_streams
    inner join orgs
        on begun_streams.org_id = orgs.org_id
    {{ join_time_zone('due_zones', 'begun_streams.org_id', 'begun_streams.due_at') }}

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
