"""One stream of one connector, its model vendor, and the landing tables it is fetched into.

A run commits like a dlt load does: all rows, both logs and the cursor, or nothing. dlt itself is in the tests that are
about crashes; everywhere else the landing tables are Arrow's, and DuckDB reads them where the product asks in SQL,
which is a hundred times faster.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from types import ModuleType
from typing import Any, cast

import duckdb
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from ingestion import fetch as fetching
from ingestion.connector import Connector, Lateness, Stream
from ingestion.extract import _Landing
from tests.conformance.records import ELEMENTS
from tests.conformance.vendor import Fact, Listing, ModelVendor, connection, small_pages
from tests.support import Answer

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LOAD_EVENTS = 1_000_000

_MARKER = re.compile(r'"kit": ?"(\w+)"')
_LOADS = pa.schema([("load_id", pa.string()), ("status", pa.int64())])


class Crash(BaseException):
    """The process is gone: nothing of the run is committed."""


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


class _Tables(dict[str, pa.Table]):
    """Landing tables, and as much of dlt's SQL client over them as the landing queries use."""

    def __init__(self) -> None:
        super().__init__(_dlt_loads=_LOADS.empty_table())
        self._duckdb = _duckdb().cursor()
        self._duckdb.execute("set timezone = 'UTC'; pragma disable_optimizer")  # to plan takes longer than to read

    def close(self) -> None:
        self._duckdb.close()

    def make_qualified_table_name(self, table: str) -> str:
        return f'"{table}"'

    def execute(self, sql: str, *parameters: Any) -> duckdb.DuckDBPyConnection:
        for name, table in self.items():
            if f'"{name}"' in sql:
                self._duckdb.register(name, table)
        return self._duckdb.execute(sql, list(parameters))

    @contextmanager
    def execute_query(self, sql: str, *parameters: Any) -> Iterator[Any]:
        try:
            result = self.execute(sql.replace("%s", "?"), *parameters)
        except duckdb.CatalogException as error:
            raise DatabaseUndefinedRelation(error) from error

        class Cursor:
            native_cursor = result
            arrow = result.to_arrow_table

        yield Cursor


class World:
    """A connection to a model vendor that has nothing yet. `engine` is `ingestion.fetch`, or a mutant of it."""

    def __init__(
        self, connector: Connector, stream: Stream, *, engine: ModuleType = fetching, truth: Stream | None = None
    ) -> None:
        self.connector = small_pages(replace(connector, streams=(stream,)))
        (self.stream,) = self.connector.streams
        self.vendor = ModelVendor(small_pages(replace(connector, streams=(truth or stream,))), NOW)
        self.listing: Listing = self.vendor.of(stream)
        self.slept: list[float] = []
        self.state: dict[str, Any] = {}
        self.start: datetime | None = NOW - min(2 * DAY, stream.window.retention / 2) if stream.window else None
        self.expects_rejects = False
        self._engine = engine
        self._tables = _Tables()
        self._stack = ExitStack()

    def __enter__(self) -> World:
        server = self._stack.enter_context(self.vendor.serve())
        self._url, self.requests = server.url, server.requests
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        self._tables.close()

    # ---- what the vendor has

    @property
    def lateness(self) -> Lateness:
        return self.stream.lateness

    @property
    def newest(self) -> datetime:
        """The newest instant that a run at NOW may ask for."""
        return NOW - self.lateness.delay

    def add(self, at: datetime | None = None, **more: Any) -> Fact:
        """A new record at the vendor, by default of about an hour ago. `more` as `Listing.add` has it."""
        return self.listing.add(at or self.newest - HOUR - len(self.listing.facts) * MINUTE, **more)

    def fill(self, count: int | None = None, *, last: datetime | None = None) -> list[Fact]:
        """Enough records for three pages of each of the stream's places, some minutes apart, within one window."""
        places = max(len(self.listing.places), 1)
        count = count or 2 * 3 * places + places
        last = last or self.newest - MINUTE
        step = min(7 * MINUTE, (last - self.start) / (count + 1)) if self.start else 7 * MINUTE
        step = max(timedelta(seconds=int(step.total_seconds())), SECOND)
        return [self.add((last - n * step).replace(microsecond=0)) for n in range(count)]

    # ---- runs

    def run(self, now: datetime = NOW) -> str | None:
        """One run of extraction; why the stream failed, if it did. Every run must be honest about what is complete."""
        self.vendor.now = now
        self.vendor.begin()
        self.slept.clear()
        while True:
            state = copy.deepcopy(self.state)
            landing = _Landing(cast(Any, self._tables))
            fetch = self._engine.Fetch(now, landing, LOAD_EVENTS, sleep=self.slept.append)
            there = connection(self.connector, self._url, self.start)
            self._commit(list(self._engine.rows(self.connector, there, self.stream, fetch, state)), state)
            if not fetch.unfinished:
                break
        self._check_honesty(now)
        (error,) = fetch.outcomes.values()
        return cast(str | None, error)

    def crash(self, after_page: int, now: datetime = NOW) -> bool:
        """A run that dies after so many pages; whether it got so far."""
        engine = self._engine
        pages = engine.PageClient.pages
        read = itertools.count(1)

        def mortal(*args: Any, **kwargs: Any) -> Iterator[Any]:
            for page in pages(*args, **kwargs):
                yield page
                if next(read) == after_page:
                    raise Crash

        engine.PageClient.pages = mortal
        try:
            self.run(now)
        except Crash:
            return True
        finally:
            engine.PageClient.pages = pages
        return False

    def fail_page(self, *numbers: int, reply: Answer | None = None) -> None:
        """Refuse the pages with these numbers of the next run, for good unless told otherwise."""
        self.vendor.before_page = lambda ask: (
            (reply or Answer({"error": "gone"}, 410)) if ask.number in numbers else None
        )

    def heal(self) -> None:
        """The vendor behaves again."""
        self.vendor.before_page = lambda ask: None
        self.vendor.endless = ""
        self.vendor.claims = None
        self.vendor.empty_page_at = None

    def _commit(self, items: Sequence[Any], state: dict[str, Any]) -> None:
        tables: dict[str, list[pa.Table]] = defaultdict(list)
        for item in items:
            tables[getattr(item, "table", self.stream.name)].append(getattr(item, "rows", item))
        assert tables or state == self.state, "the cursor moved, yet nothing is loaded that would keep it"
        self.state = state
        if not tables:
            return
        load = str(self._tables["_dlt_loads"].num_rows + 1)
        for name, parts in tables.items():
            rows = pa.concat_tables(parts)
            rows = rows.append_column("_dlt_load_id", pa.array([load] * rows.num_rows, pa.string()))
            self._tables[name] = pa.concat_tables([*([self._tables[name]] if name in self._tables else []), rows])
        loads = pa.table({"load_id": [load], "status": [0]}, _LOADS)
        self._tables["_dlt_loads"] = pa.concat_tables([self._tables["_dlt_loads"], loads])

    # ---- what landed

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """SQL over `{events}` or `{records}`; no rows where there is no such table yet."""
        table = f'"{self.stream.name}"'
        try:
            return self._tables.execute(sql.format(events=table, records=table)).fetchall()
        except duckdb.CatalogException:
            return []

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Some columns of a landing table, which takes a tenth of what SQL takes."""
        rows = self._tables.get(table)
        return [] if rows is None else list(zip(*(rows[name].to_pylist() for name in columns), strict=True))

    @property
    def _marked(self) -> set[tuple[str, str]]:
        """The kit's name of the record, and the id, of what landed."""
        key = "event_id" if self.stream.kind == "events" else "record_id"
        return {
            (found[1] if (found := _MARKER.search(payload)) else "", id_)
            for payload, id_ in self.rows(self.stream.name, "payload", key)
            if payload is not None
        }

    @property
    def landed(self) -> Counter[str]:
        """How many different events there are of each record of the vendor, by staging's rule."""
        return Counter(name for name, id_ in self._marked if id_ is not None)

    @property
    def rejects(self) -> list[tuple[str, str]]:
        """Reason and payload of the rejected records."""
        return sorted(set(self.rows("rejected_records", "reason", "payload")))

    def log(self, outcome: str) -> list[tuple[Any, ...]]:
        """window_start, window_end, error and complete_through of the runs so far that ended so."""
        columns = "fetched_at", "window_start", "window_end", "error", "complete_through", "outcome"
        rows = [row for row in self.rows("fetch_log", *columns) if row[-1] == outcome]
        return [row[1:-1] for row in sorted(rows, key=lambda row: (row[0], row[1] or datetime.max))]

    def expected(self, facts: Sequence[Fact] | None = None) -> Counter[str]:
        """What must be there when everything that the vendor has is: each record, once per element."""
        elements = ELEMENTS if self.stream.explode else 1
        chosen = self.listing.facts if facts is None else facts
        return Counter({name: n * elements for name, n in Counter(marker(fact) for fact in chosen).items()})

    def assert_all_there(self, facts: Sequence[Fact] | None = None) -> None:
        """Everything that the vendor has, once each, and nothing else."""
        landed, expected = self.landed, self.expected(facts)
        assert not expected - landed, f"lost {dict(expected - landed)}"
        assert not landed - expected, f"too many {dict(landed - expected)}"
        if self.stream.kind == "events":
            shared = [id_ for id_, names in Counter(id_ for _, id_ in self._marked).items() if names > 1]
            assert not shared, f"different events share the id {shared[0]}"
        if not self.expects_rejects:
            assert not self.rejects, f"rejected {self.rejects[0]}"

    def _check_honesty(self, now: datetime) -> None:
        """What the fetch log calls complete is complete: whatever was visible in the usual time is there."""
        assert not self.vendor.complaints, self.vendor.complaints[0]
        if self.stream.kind != "events":
            return
        through = [row[0] for row in self.rows("fetch_log", "complete_through") if row[0]]
        if not through or self.expects_rejects:
            return
        limit = max(through).replace(tzinfo=UTC)
        kept = max(now - self.stream.window.retention, self.start or now) if self.stream.window else now
        landed = self.landed
        for fact in self.listing.facts:
            is_due = kept <= fact.at < limit and fact.appears_at <= min(
                fact.at + max(self.lateness.usual, self.lateness.delay), now
            )
            if is_due and isinstance(fact.record, dict) and not fact.is_stray:
                assert landed[marker(fact)], (
                    f"the fetch log says complete through {limit}, but {marker(fact)} of {fact.at} is not there"
                )


def marker(fact: Fact) -> str:
    """The name that the kit gave a record."""
    record = fact.record
    return str(record.get("kit") or record["value"]["kit"])
