with

stream_days as (

    select * from {{ ref('int_stream_days') }}

),

missing as (

    select
        stream_days.*,
        usage_date - cast(
            row_number() over (partition by connection_id, stream, is_lost order by usage_date) as integer
        ) as stretch
    from stream_days
    where is_expected and not is_complete

),

final as (

    select
        org_id,
        connector,
        connection_id,
        stream,
        min(usage_date) as first_date,
        max(usage_date) as last_date,
        count(*) as day_count,
        case when is_lost then 'lost' else 'open' end as gap_state
    from missing
    group by org_id, connector, connection_id, stream, is_lost, stretch

)

select * from final
