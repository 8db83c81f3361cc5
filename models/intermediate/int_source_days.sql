with

streams as (

    select * from {{ ref('int_streams') }}

),

stream_days as (

    select * from {{ ref('int_stream_days') }}

),

-- a connection is one source: all its event streams, from the first day that all of them could give
sources as (

    select
        connection_id,
        count(*) as stream_count
    from streams
    where stream_kind = 'events'
    group by 1

),

begun as (

    select
        connection_id,
        max(first_date) as first_date
    from (
        select
            connection_id,
            stream,
            min(usage_date) as first_date
        from stream_days
        group by 1, 2
    ) as firsts
    group by 1

),

final as (

    select
        stream_days.org_id,
        stream_days.connector,
        stream_days.connection_id,
        stream_days.usage_date,
        sum(case when stream_days.is_complete then 1 else 0 end) = max(sources.stream_count) as is_complete
    from stream_days
    inner join sources
        on stream_days.connection_id = sources.connection_id
    inner join begun
        on stream_days.connection_id = begun.connection_id and stream_days.usage_date >= begun.first_date
    group by 1, 2, 3, 4

)

select * from final
