-- A vendor of whose events the seed activity_types has none would show nobody a use: its people would be idle.
select
    streams.connection_id,
    streams.connector,
    streams.stream
from {{ ref('int_streams') }} as streams
left join {{ ref('activity_types') }} as activity_types
    on streams.connector = activity_types.connector and streams.stream = activity_types.stream
where streams.stream_kind = 'events' and activity_types.connector is null
