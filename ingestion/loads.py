"""What of all streams goes into one load of dlt's: rows as dlt takes them, and when nobody is waited for any longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any

import dlt
import pyarrow as pa
from dlt.extract import DltResource

from ingestion.connections import Connection
from ingestion.connector import Connector, Stream
from ingestion.fetch import BATCH_BYTES, BATCH_RECORDS, Fetch, Marked, Reader, log_row, rows
from ingestion.records import landing_schema

PATIENCE, PATIENCE_RATIO = 2.0, 0.1  # seconds, and of the time that the others took, that a load waits for the last
POLL = 0.2  # seconds


class Load:
    """The streams that are read into one load. It is over when all have ended, when those left keep the others, or at
    this monotonic time.

    Streams that end at about the same time share a load; what is left of the others, a backlog or a vendor that wants
    a pause, goes on into the next one, and nobody's rows wait for it.
    """

    def __init__(self, streams: int, until: float, on_rows: Callable[[int], None]) -> None:
        self.on_rows = on_rows
        self._until = until
        self._waiting = streams  # of these some have not begun, so the load has use for whoever makes room
        self._has_ended = False
        self._began_at = self._ended_at = time.monotonic()
        self._lock = Lock()

    def begin(self) -> None:
        """A stream begins, or goes on, to land its rows in this load."""
        with self._lock:
            self._waiting -= 1

    def end(self) -> None:
        """A stream has ended."""
        with self._lock:
            self._has_ended, self._ended_at = True, time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether those that still read should go on into the next load."""
        if time.monotonic() > self._until:
            return True
        with self._lock:
            patience = max(PATIENCE, (self._ended_at - self._began_at) * PATIENCE_RATIO)
            return self._has_ended and not self._waiting and time.monotonic() - self._ended_at > patience


class Reading:
    """One stream of a connection on its way into a load, with its cursor as the last load left it.

    Most streams of most runs bring nothing, which is found out before dlt is asked to make a load of it. `pool` reads
    ahead by one step, whoever waits for it, and may be another for the next step.
    """

    def __init__(
        self,
        connector: Connector,
        connection: Connection,
        stream: Stream,
        fetch: Fetch,
        states: Mapping[str, Any],
        pool: ThreadPoolExecutor,
        reader: type[Reader] | None = None,
    ) -> None:
        self.key = connection.connection_id, stream.name + (reader.suffix if reader else "")
        self.is_done = False
        self._name = ":".join(self.key)
        self._stream = stream
        self._state = dict(states.get(self._name, {}))
        self.is_unheard = not self._state
        self._beginning = log_row(connector, connection, stream, fetch.now, "reading")
        self._rows = rows(connector, connection, stream, fetch, self._state, reader)
        self.fetch, self.pool = fetch, pool
        self.step: Future[Any] | None = None

    def look(self) -> Future[Any]:
        """The next rows, or None at the end of them. To cancel it does no harm."""
        if self.step is None or self.step.cancelled():
            self.step = self.pool.submit(next, self._rows, None)
        return self.step

    def begun(self) -> Marked:
        """The row of the fetch log of a stream that nothing is known of yet; once."""
        self.is_unheard = False
        return self._beginning

    def resource(self, load: Load) -> DltResource:
        """Fills the stream's landing table and the two logs."""
        return dlt.resource(
            _items,
            name=self._name,
            table_name=self._stream.name,
            write_disposition="append",
            schema_contract={"tables": "evolve", "columns": "evolve", "data_type": "freeze"},
            parallelized=True,
        )(self, load)

    def items(self, load: Load) -> Iterator[Any]:
        """The rows as `rows` gives them, until the load is over; the cursor moves as far as they go, with the load."""
        state = dlt.current.resource_state()
        kept: dict[str, Any] = {**state}
        yield from _gathered(self._stream.name, self._until_over(load, kept))
        state.clear()
        state.update(kept)
        self.is_unheard &= not kept

    def _until_over(self, load: Load, kept: dict[str, Any]) -> Iterator[Any]:
        load.begin()
        has_begun = False
        while not self.is_done:
            step = self.look()
            wait([step], POLL)
            if load.is_over and (has_begun or not step.done()):  # what waits for a load waits for one at most
                return
            if not step.done():
                continue
            has_begun = True
            item = step.result()
            kept.clear()
            kept.update(self._state)  # before the next step moves it on
            self.step, self.is_done = None, item is None
            if item is not None:
                self.look()
                if isinstance(item, pa.Table):
                    load.on_rows(item.num_rows)
                yield item
        load.end()


def beginnings(readings: Iterable[Reading]) -> DltResource:
    """Tells of streams that nothing is known of yet but that they are read: until they tell, people are unknown."""
    rows = pa.concat_tables([reading.begun().rows for reading in readings])
    return dlt.resource([rows], name="fetch_log", write_disposition="append", columns=_hints(rows.schema))


def _items(reading: Reading, load: Load) -> Iterator[Any]:
    yield from reading.items(load)  # dlt makes resources of functions only


def readings(
    connector: Connector,
    connections: Iterable[Connection],
    fetch: Fetch,
    states: Mapping[str, Any],
    pool: ThreadPoolExecutor,
    only: Collection[tuple[str, str]] = (),
) -> list[Reading]:
    """A reading of each stream that a connection is set up for, or of `only` these (connection id, stream).

    Of one that has ended, of each that it ever was set up for.

    `states` are dlt's of the source's resources.
    """
    return [
        Reading(connector, connection, stream, fetch, states, pool)
        for connection in connections
        for stream in connector.streams
        if stream.path and (connection.has_ended(fetch.now) or _is_set_up(stream, connection))
        if stream.kind == "events" or not (fetch.span or fetch.is_replay)  # listings are read in full at every run
        if not only or (connection.connection_id, stream.name) in only
    ]


def _is_set_up(stream: Stream, connection: Connection) -> bool:
    is_on = connection.settings.get  # `monitor = false` is as if it were not there
    return (not stream.needs or bool(is_on(stream.needs))) and not (stream.unless and is_on(stream.unless))


def _gathered(own_table: str, items: Iterable[pa.Table | Marked]) -> Iterator[Any]:
    """Fewer, larger tables for dlt, which takes ten milliseconds for each, be it of one row.

    All of them are marked: what a resource says of its own columns, dlt takes to be said of those of its logs, too.
    """
    waiting: dict[str, list[pa.Table]] = {}

    def together(table: str) -> Any:
        whole = pa.concat_tables(waiting.pop(table))
        hints = dlt.mark.make_hints(table_name=table, write_disposition="append", columns=_hints(whole.schema))
        return dlt.mark.with_hints(whole, hints, create_table_variant=True)

    for item in items:
        table, part = (item.table, item.rows) if isinstance(item, Marked) else (own_table, item)
        parts = waiting.setdefault(table, [])
        parts.append(part)
        if sum(p.num_rows for p in parts) >= BATCH_RECORDS or sum(p.nbytes for p in parts) >= BATCH_BYTES:
            yield together(table)
    for table in list(waiting):
        yield together(table)


def landing_columns(stream: Stream) -> Any:
    """dlt column hints of a stream's landing table."""
    return _hints(landing_schema(stream))


def _hints(schema: pa.Schema) -> Any:
    """dlt column hints for an Arrow schema: naive timestamps, and the payload of events as JSON."""
    kinds = {pa.string(): "text", pa.int64(): "bigint", pa.float64(): "double", pa.bool_(): "bool"}
    hints: dict[str, dict[str, Any]] = {}
    is_log = not {"event_id", "record_id"} & set(schema.names)  # any other name may be a column of a vendor
    for column in schema:
        if pa.types.is_timestamp(column.type):
            hints[column.name] = {"data_type": "timestamp", "timezone": False, "precision": 6}
        elif column.name == "payload" and not is_log:
            hints[column.name] = {"data_type": "json"}
        else:
            hints[column.name] = {"data_type": kinds[column.type]}
        hints[column.name]["nullable"] = True
    return hints
