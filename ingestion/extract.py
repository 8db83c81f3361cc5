"""Extracts: every connection's new events and accounts into the landing tables, and the product's own tables.

One dlt pipeline and one dataset per connector, so that connectors run, fail and evolve apart from each other. A run is
a series of loads of bounded size, each of which commits its cursors; killed at any moment it goes on from the last.
Streams that keep the others waiting become stragglers: they read on into the next run, and nobody's rows wait for them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Condition, Event, Semaphore, get_ident
from typing import Any, Literal

import dlt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from dlt.common.configuration.utils import TraceLogContext
from dlt.common.destination import Destination
from dlt.common.schema.utils import new_table
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase
from dlt.extract import DltResource, DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.helpers import pipeline_drop

from ingestion.connections import Connection
from ingestion.connector import Connector, Stream
from ingestion.connectors import product
from ingestion.fetch import ROW_GROUP, Fetch
from ingestion.files import file_readings
from ingestion.http import Sleep
from ingestion.loads import PATIENCE, Load, Reading, beginnings, landing_columns, readings

LOAD_EVENTS = 2_000_000  # events in one load: about a minute's work, so that a killed backfill repeats that at most
PARALLEL_STREAMS = 8  # streams of one connector read at the same time; each waits for its vendor most of the time
PARALLEL_CONNECTORS = 4
READ_FOR = 120.0  # seconds from which on those of a connector's streams that still read are stragglers
LANDED = (
    "select distinct table_schema from information_schema.tables"
    " where table_name = '_dlt_loads' and table_schema like 'landing!_%' escape '!'"
)

os.environ.setdefault("RUNTIME__INTERCEPT_SIGNALS", "false")  # dlt would lose what comes while it ends a load
os.environ.setdefault("EXTRACT__WORKERS", str(PARALLEL_STREAMS))
os.environ.setdefault("EXTRACT__MAX_PARALLEL_ITEMS", str(2 * PARALLEL_STREAMS))
os.environ.setdefault("DATA_WRITER__BUFFER_MAX_ITEMS", str(ROW_GROUP))
TraceLogContext.logging_enabled = False  # of every value it ever resolved, secrets too: a process that stays would grow
warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")  # dlt's cursor is one; the copy is small


class ExtractError(Exception):
    """Nothing could be loaded: the warehouse or the product database is at fault, not a vendor."""


@dataclass
class Extracted:
    """What a run brought: rows by connector, why connections failed, by (connection, stream), and who still reads."""

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    stragglers: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Warehouse:
    """Where dlt writes, and where it keeps its working files. Keep it for the next run: its pipelines stay warm."""

    destination: Destination[Any, Any]
    pipelines_dir: Path
    _pipelines: dict[str, dlt.Pipeline] = field(default_factory=dict)

    def pipeline(self, name: str) -> dlt.Pipeline:
        """The pipeline of a connector, with nothing pending and its state in step with the dataset `landing_<name>`."""
        if name in self._pipelines:
            pipeline = self._pipelines[name]
            pipeline.activate()
            return pipeline
        # of this pipeline alone: each Arrow row is stamped with its load, and a table replaced in one transaction
        os.environ[f"{name}__NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID".upper()] = "true"
        os.environ[f"{name}__DESTINATION__REPLACE_STRATEGY".upper()] = "insert-from-staging"
        pipeline = dlt.pipeline(
            name, destination=self.destination, dataset_name=f"landing_{name}", pipelines_dir=str(self.pipelines_dir)
        )
        # What is here may be torn, of a run that was killed, or newer than a warehouse that came back from a backup:
        # how far every stream was read is in the warehouse.
        pipeline.drop()
        with _failures(pipeline):
            pipeline.sync_destination()
        self._pipelines[name] = pipeline
        return pipeline

    def landed(self) -> dict[str, str]:
        """The connectors of which something has landed, whoever read them: their completed loads' number and newest,
        which tells this moment apart from any other.
        """
        with self.pipeline("product").sql_client() as client:
            with client.execute_query(LANDED) as cursor:
                schemas = sorted(schema for (schema,) in cursor.fetchall())
            if not schemas:
                return {}
            quoted = client.capabilities.escape_identifier
            counts = " union all ".join(
                f"select '{schema}' as dataset, count(*) as n, max(load_id) as newest"
                f" from {quoted(schema)}._dlt_loads where status = 0"
                for schema in schemas
            )
            with client.execute_query(counts) as cursor:
                return {schema.removeprefix("landing_"): f"{n} {newest}" for schema, n, newest in cursor.fetchall()}

    def newest(self, column: str, table: str) -> Any:
        """The highest value in a column of a table of the models; None where it is empty or not there."""
        with self.pipeline("product").sql_client() as client, suppress(DatabaseUndefinedRelation):
            with client.execute_query(f"select max({column}) from {table}") as cursor:
                return cursor.fetchall()[0][0]


def extract(
    warehouse: Warehouse,
    connections: Iterable[Connection],
    connectors: dict[str, Connector],
    *,
    now: datetime,
    span: tuple[datetime, datetime] | None = None,
    is_replay: bool = False,
    on_rows: Callable[[str, int], None] = lambda connector, rows: None,
    sleep: Sleep | None = None,
    stragglers: Stragglers | None = None,
) -> Extracted:
    """Read every connection up to `now`. One that fails is recorded, here and in `fetch_log`; the others go on.

    With `span`, a backfill: the events of that time are read again, and nothing else. `is_replay` asks no vendor, and
    types again what was rejected. Given `stragglers`, it waits for none, and takes what those of before have brought.
    """
    waits_for_all = stragglers is None
    left = Stragglers() if stragglers is None else stragglers
    by_connector: dict[str, list[Connection]] = defaultdict(list)
    for connection in connections:
        by_connector[connection.connector].append(connection)
    report = Extracted()
    report.rows.update(dict.fromkeys(by_connector, 0))

    def count(connector: str, rows: int) -> None:
        report.rows[connector] += rows
        on_rows(connector, rows)

    is_interrupted = Event()

    def read(connector: Connector, connections: list[Connection]) -> None:
        with ExitStack() as turn:
            turn.enter_context(turns)
            if is_interrupted.is_set():
                return
            streams = left.of(connector, sleep)
            fetch = Fetch(
                now,
                streams.landing,
                LOAD_EVENTS,
                span=span,
                is_replay=is_replay,
                sleep=streams.sleep,
                go_on=streams.go_on,
                outcomes=streams.outcomes,
                unfinished=streams.unfinished,
                damaged=streams.damaged,
            )
            until = float("inf") if waits_for_all else time.monotonic() + READ_FOR
            streams.read(
                warehouse, connections, fetch, until=until, make_room=turn.close, on_rows=partial(count, connector.name)
            )
            report.failures.update(streams.failures())
            report.stragglers += streams.keys

    # held open: DuckDB does not stand it when one thread opens the file while another closes it as its last user
    with (
        warehouse.pipeline("product").sql_client(),
        ThreadPoolExecutor(max(len(by_connector), 1), thread_name_prefix="connector") as pool,
    ):
        turns = Semaphore(PARALLEL_CONNECTORS)
        runs = [pool.submit(read, connectors[name], group) for name, group in sorted(by_connector.items())]
        try:
            for run in runs:
                run.result()
        except KeyboardInterrupt:
            is_interrupted.set()
            left.drop()  # a vendor may want a pause of a quarter of an hour
            raise
    report.stragglers.sort()
    return report


def extract_product(warehouse: Warehouse, url: str, report: Extracted) -> None:
    """Read the product's own tables in full, and load them if they changed since the last time. Raises ProductError."""
    tables = product.read_tables(url)
    content = hashlib.sha256(b"".join(_bytes(table) for table in tables.values())).hexdigest()
    pipeline = warehouse.pipeline("product")
    state = pipeline.state.get("sources", {}).get("product", {})
    if state.get("content") == content:
        return

    def rows(table: pa.Table) -> Any:
        dlt.current.source_state()["content"] = content  # a source's state can be set only while it is extracted
        yield table

    @dlt.source(name="product")
    def source() -> Any:
        for name, table in tables.items():
            # what sends Parquet to PostgreSQL does not stand a file without rows
            form: Any = "parquet" if table.num_rows else "insert_values"
            columns = product.hints(name)
            yield dlt.resource(rows, name=name, write_disposition="replace", columns=columns, file_format=form)(table)

    _load(pipeline, source(), form=None)
    report.rows["product"] = sum(table.num_rows for table in tables.values())


class Stragglers:
    """Streams that read on while what the others brought is built and published, until the next run takes their rows.

    One that needs the warehouse meanwhile waits: it may be closed, or another's.
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Streams] = {}

    def of(self, connector: Connector, sleep: Sleep | None) -> _Streams:
        """Those of a connector, which may be none."""
        known = self._streams.get(connector.name)
        if known is None or known.is_dropped:
            known = self._streams[connector.name] = _Streams(connector, sleep)
        return known

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(connection id, stream) of each."""
        return sorted(key for streams in self._streams.values() for key in streams.keys)

    def wait(self, seconds: float) -> None:
        """Until one of them has something, or asks something of the warehouse, or as long as this."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            steps = [step for streams in self._streams.values() for step in streams.steps]
            if any(step is None or step.done() for step in steps):
                return
            if any(streams.landing.is_asked for streams in self._streams.values()):
                return
            wait([step for step in steps if step is not None], min(left, PATIENCE), FIRST_COMPLETED)

    def drop(self) -> None:
        """Read no further. What was not loaded is read again, from the cursors in the warehouse."""
        for streams in self._streams.values():
            streams.drop()
        self._streams.clear()


class _Streams:
    """What is read of one connector, by one run or, where it takes long, by several."""

    def __init__(self, connector: Connector, sleep: Sleep | None) -> None:
        self.landing = _Landing()
        self.outcomes: dict[tuple[str, str], str | None] = {}
        self.unfinished: set[tuple[str, str]] = set()
        self.damaged: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._connector = connector
        self._going_on: list[Reading] = []
        self._wakes: dict[int, float] = {}  # when, by thread
        self._dropped = Event()
        self._sleep = sleep or self._dropped.wait

    def read(
        self,
        warehouse: Warehouse,
        connections: list[Connection],
        fetch: Fetch,
        *,
        until: float,
        make_room: Callable[[], None],
        on_rows: Callable[[int], None],
    ) -> None:
        """Load what comes, `until` this monotonic time at most, and of streams that sleep beyond it nothing.

        `make_room` is called when this keeps its neighbours waiting and should not.
        """
        connector = self._connector
        pipeline = warehouse.pipeline(connector.name)
        _add_new_columns(pipeline, connector)
        # of this run: who sleeps in that of a run before keeps nobody from being read
        pool = ThreadPoolExecutor(PARALLEL_STREAMS, thread_name_prefix=connector.name)
        for stream in self._going_on:
            stream.pool = pool
        again: set[tuple[str, str]] | None = None  # None: all
        # one client, opened here: dlt's contexts do not stand being entered by several of its worker threads
        with pipeline.sql_client() as client, self.landing.opened(client):
            try:
                while again is None or ((again or self._going_on) and time.monotonic() < until):
                    self.go_on()
                    streams = self._going_on
                    if again is None or again:
                        states = pipeline.state.get("sources", {}).get(connector.name, {}).get("resources", {})
                        wanted = connector, connections, fetch, states, pool, again or ()
                        begun = {stream.key for stream in streams}
                        self.unfinished &= begun
                        found = readings(*wanted) + file_readings(*wanted)
                        streams = streams + [stream for stream in found if stream.key not in begun]
                    for stream in streams:
                        stream.fetch.budget = LOAD_EVENTS
                    brought, ahead = self._looked(streams, until, make_room)
                    if brought:
                        _load(pipeline, _source(connector, brought + ahead, until, on_rows))
                    self._going_on = [stream for stream in brought + ahead if not stream.is_done]
                    if ahead and not brought:
                        break
                    again = self.unfinished - {stream.key for stream in self._going_on}
                    if not again:
                        make_room()  # what kept its neighbours waiting keeps no other connector waiting
                if unheard := [stream for stream in self._going_on if stream.is_unheard]:
                    _load(pipeline, _of(connector, [beginnings(unheard)]))
            except BaseException:
                self.drop()  # of what they gave, some may not have landed
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _looked(
        self, streams: list[Reading], until: float, make_room: Callable[[], None]
    ) -> tuple[list[Reading], list[Reading]]:
        """Of the streams that have not ended those that bring something, and those that read ahead.

        All are read until the first turns up, the others go on in the load.
        """
        looks: dict[Future[Any], Reading] = {stream.look(): stream for stream in streams}
        waiting, has_come = set(looks), False
        brought: list[Reading] = []
        ahead: list[Reading] = []
        try:
            while waiting and not has_come:
                told, waiting = wait(waiting, PATIENCE, FIRST_COMPLETED)
                has_come = any(look.result() is not None for look in told)
                if not told:
                    make_room()
                    asleep = sum(wake > until for wake in list(self._wakes.values()))
                    if time.monotonic() > until or 0 < sum(look.running() for look in waiting) <= asleep:
                        break
            for look, stream in looks.items():
                if look.cancel() or not look.done():
                    ahead.append(stream)
                elif look.result() is not None:
                    brought.append(stream)
        except Exception as error:
            raise ExtractError(f"{self._connector.name}: {type(error).__name__}: {error}") from error
        return brought, ahead

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(connection id, stream) of each that reads on."""
        return list({stream.key for stream in self._going_on} | self.unfinished)

    @property
    def is_dropped(self) -> bool:
        return self._dropped.is_set()

    @property
    def steps(self) -> list[Future[Any] | None]:
        """What becomes of the next rows of each; None of one that has to be begun."""
        return [stream.step for stream in self._going_on] + [None for _ in self.unfinished]

    def failures(self) -> dict[tuple[str, str], str]:
        """Why streams failed that have ended; told once."""
        going_on = {stream.key for stream in self._going_on}  # what one has told last lands with the next run
        ended = {key: self.outcomes.pop(key) for key in list(self.outcomes) if key not in going_on}
        for key in ended:
            self.damaged.pop(key, None)
        return {key: error for key, error in ended.items() if error is not None}

    def sleep(self, seconds: float) -> None:
        self._wakes[get_ident()] = time.monotonic() + seconds
        self._sleep(seconds)
        del self._wakes[get_ident()]
        self.go_on()

    def go_on(self) -> None:
        """Raises an error where nobody wants it any more."""
        if self.is_dropped:
            raise _DroppedError

    def drop(self) -> None:
        self._dropped.set()
        self.landing.drop()
        self._going_on.clear()
        self.unfinished.clear()


def _source(connector: Connector, streams: list[Reading], until: float, on_rows: Callable[[int], None]) -> DltSource:
    load = Load(len(streams), until, on_rows)
    return _of(connector, [stream.resource(load) for stream in streams])


def _of(connector: Connector, resources: list[DltResource]) -> DltSource:
    # no arguments: dlt would fill them from the environment
    @dlt.source(name=connector.name, max_table_nesting=0)
    def source() -> Any:
        return resources

    return source()


def _add_new_columns(pipeline: dlt.Pipeline, connector: Connector) -> None:
    """What a newer connector reads has its column before its first row, for the models name it."""
    if not pipeline.default_schema_name:
        return  # nothing has landed
    schema, is_new = pipeline.default_schema, False
    for stream in connector.streams:
        if stream.name in schema.tables:
            known = schema.get_table_columns(stream.name, include_incomplete=True)
            added: list[Any] = [{"name": n, **c} for n, c in landing_columns(stream).items() if n not in known]
            schema.update_table(new_table(stream.name, columns=added))
            is_new |= bool(added)
    if is_new:
        with _failures(pipeline):
            pipeline.sync_schema()


def _load(pipeline: dlt.Pipeline, source: DltSource, form: Literal["parquet"] | None = "parquet") -> None:
    """`form` of the files, or that of each resource."""
    with _failures(pipeline):
        pipeline.extract(source, loader_file_format=form)
    _load_pending(pipeline)


def _load_pending(pipeline: dlt.Pipeline) -> None:
    with _failures(pipeline):
        if pipeline.has_pending_data:
            pipeline.normalize()
            for load_id in pipeline.load().loads_ids:
                # what has landed is in the warehouse, and would be here once more for ever
                shutil.rmtree(Path(pipeline.working_dir) / "load" / "loaded" / load_id, ignore_errors=True)
            _forget_old_states(pipeline)


def drop_cursors(pipeline: dlt.Pipeline, org: str) -> None:
    """A customer's: should it come back, under the same connections, it is read from the beginning."""
    states = pipeline.state.get("sources", {}).get(pipeline.pipeline_name, {}).get("resources", {})
    if names := [name for name, state in states.items() if state.get("org_id") == org]:
        with _failures(pipeline):
            pipeline_drop(pipeline, resources=names, state_only=True)()
    if pipeline.default_schema_name:
        _forget_old_states(pipeline)


def _forget_old_states(pipeline: dlt.Pipeline) -> None:
    """dlt keeps them all, every connection's cursors of every run, and reads that of the load whose id is the highest.

    A load's id is its time: of a clock that was set back, the newest state has a lower one.
    """
    with pipeline.sql_client() as client:
        states, loads = map(client.make_qualified_table_name, ("_dlt_pipeline_state", "_dlt_loads"))
        client.execute_sql(
            f"delete from {states} where version < (select max(states.version) from {states} as states"
            f" inner join {loads} as loads on states._dlt_load_id = loads.load_id where loads.status = 0)"
        )


# DuckDB's words
_DAMAGED = re.compile(r"not a valid DuckDB database file|Corrupt database file")
_HELD = re.compile(r'Could not set lock on file "(.+?)": Conflicting lock is held in (.+?\(PID \d+\))')


@contextmanager
def _failures(pipeline: dlt.Pipeline) -> Iterator[None]:
    try:
        yield
    except PipelineStepFailed as error:
        # without the way it took through dlt, and what dlt guesses
        cause = str(getattr(error.exception, "client_exception", error.exception)).split("actual reason given is: ")[-1]
        if _DAMAGED.search(cause):
            raise ExtractError(
                f"the warehouse's file is damaged: {cause}. Put a backup in its place, and it is read on from where"
                " that was; without one move it away, and the next run reads anew all that the vendors still keep"
            ) from error
        if held := _HELD.search(cause):
            raise ExtractError(
                f"the warehouse {held[1]} is open in another process, {held[2]}: close it there, or end that process,"
                " and run again: nothing is lost"
            ) from error
        raise ExtractError(
            f"pipeline {pipeline.pipeline_name} failed to {error.step}: {cause}; "
            f"see `dlt pipeline {pipeline.pipeline_name} info`, and run again: nothing is lost"
        ) from error


class _DroppedError(Exception):
    """Nobody wants any more what a straggler reads."""


class _Landing:
    """The rows that are already in a connector's landing tables, of completed loads only, while a run reads."""

    def __init__(self, client: SqlClientBase[Any] | None = None) -> None:
        self._client = client
        self._is_dropped = False
        self._asking = 0
        self._turn = Condition()

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for it to be opened."""
        return self._asking > 0 and self._client is None

    @contextmanager
    def opened(self, client: SqlClientBase[Any]) -> Iterator[None]:
        """Until the end of this everybody is answered, and nobody is after it."""
        self._change(client)
        try:
            yield
        finally:
            self._change(None)

    def drop(self) -> None:
        """Nobody will be answered any more."""
        self._is_dropped = True
        self._change(None)

    def _change(self, client: SqlClientBase[Any] | None) -> None:
        with self._turn:
            self._client = client
            self._turn.notify_all()

    def known_events(self, stream: Stream, connection_id: str, start: datetime, end: datetime) -> pa.Table | None:
        return self._query(
            stream.name,
            "select distinct event_id as id, record_hash from {table} where connection_id = %s"
            " and occurred_at >= %s and occurred_at < %s and _dlt_load_id in ({loads})",
            connection_id,
            start.replace(tzinfo=None),
            end.replace(tzinfo=None),
        )

    def known_records(self, stream: Stream, connection_id: str) -> pa.Table | None:
        return self._query(
            stream.name,
            "select record_id as id, record_hash from (select record_id, record_hash, is_gone, row_number() over"
            " (partition by record_id order by fetched_at desc, is_gone desc, record_hash) as newest"
            " from {table} where connection_id = %s and _dlt_load_id in ({loads})) as versions"
            " where newest = 1 and not is_gone",
            connection_id,
        )

    def known_rejects(self, stream: Stream, connection_id: str) -> pa.Table | None:
        return self._query(
            "rejected_records",
            "select distinct record_hash from {table} where connection_id = %s and stream = %s"
            " and _dlt_load_id in ({loads})",
            connection_id,
            stream.name,
        )

    def open_rejects(self, stream: Stream, connection_id: str) -> pa.Table | None:
        of_stream = "from {table} where connection_id = %s and stream = %s and _dlt_load_id in ({loads})"
        wanted = connection_id, stream.name
        rejected = self._query("rejected_records", f"select record_hash, payload, parent {of_stream}", *wanted)
        replayed = self._query("replayed_records", f"select record_hash {of_stream}", *wanted)
        if rejected is None or replayed is None:
            return rejected
        return rejected.filter(pc.invert(pc.is_in(rejected["record_hash"], value_set=replayed["record_hash"])))

    def known_files(self, stream: Stream, connection_id: str) -> pa.Table | None:
        return self._query(
            "files",
            "select path, version, modified_at, content_hash, outcome from {table}"
            " where connection_id = %s and stream = %s and _dlt_load_id in ({loads})"
            " order by fetched_at, _dlt_load_id, modified_at, path",
            connection_id,
            stream.name,
        )

    def _query(self, table: str, sql: str, *parameters: Any) -> pa.Table | None:
        with self._turn:
            self._asking += 1
            self._turn.wait_for(lambda: self._client is not None or self._is_dropped)
            self._asking -= 1
            client = self._client
            if client is None:
                raise _DroppedError
            loads = f"select load_id from {client.make_qualified_table_name('_dlt_loads')} where status = 0"
            statement = sql.format(table=client.make_qualified_table_name(table), loads=loads)
            try:
                with client.execute_query(statement, *parameters) as cursor:
                    # dlt 1.31 asks DuckDB for Arrow by a name that DuckDB 2.0 no longer knows
                    read = getattr(cursor.native_cursor, "to_arrow_table", cursor.arrow)
                    return _typed(read())
            except DatabaseUndefinedRelation:
                return None


def _typed(table: pa.Table) -> pa.Table:
    """PostgreSQL's rows have the types of their values, and none where there is no row."""
    types = {"record_hash": pa.int64(), "modified_at": pa.timestamp("us")}
    fields = (f.with_type(types.get(f.name, pa.string())) if pa.types.is_null(f.type) else f for f in table.schema)
    return table.cast(pa.schema(fields))


def _bytes(table: pa.Table) -> bytes:
    """The same for the same rows. As CSV: what lies in Arrow's memory where a value is NULL is anything."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(quoting_style="all_valid"))
    content: bytes = sink.getvalue().to_pybytes()
    return content
