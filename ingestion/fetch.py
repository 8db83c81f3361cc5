"""Reads the streams of one connection: windows, cursors, re-reading what was late, and the fetch log.

A stream's cursor is dlt state of its own resource. It moves only when every page of a window is in, so a crash between
two pages, whatever the vendor's order, re-reads the window. What failed is a row of the fetch log with the reason; the
other streams and connections go on.
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import product
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from ingestion.connections import Connection, ConnectionsError
from ingestion.connector import Connector, Stream, Window
from ingestion.http import FetchError, PageClient, Record, Sleep, VendorSession, checked, redacted
from ingestion.records import RecordTyper, Typed, landing_schema

ROW_GROUP = 122_880  # rows that DuckDB compresses as one; files in the same pieces load on all cores
BATCH_RECORDS = ROW_GROUP // 4  # raw records typed at once: large enough for DuckDB's threads,
BATCH_BYTES = 32 * 1024 * 1024  # and small beside 1 GB
FIRST_SPAN = timedelta(days=1)  # a first window; the next is twice as long while windows are small
MANY_REJECTS = 10  # in a window, if they are most of it: not odd records, but another format
QUARTER = timedelta(minutes=15)
PAGES_OF_A_SMALL_WINDOW, PAGES_OF_A_LARGE_WINDOW = 4, 100  # a lost page token costs one window: they stay modest

FETCH_LOG = pa.schema(
    [
        ("connection_id", pa.string()),
        ("org_id", pa.string()),
        ("connector", pa.string()),
        ("stream", pa.string()),
        ("stream_kind", pa.string()),
        ("window_start", pa.timestamp("us")),
        ("window_end", pa.timestamp("us")),
        ("outcome", pa.string()),
        ("row_count", pa.int64()),
        ("rejected_count", pa.int64()),
        ("error", pa.string()),
        ("complete_through", pa.timestamp("us")),
        ("fetched_at", pa.timestamp("us")),
        ("expected_lag_seconds", pa.int64()),
        ("restate_days", pa.int64()),
    ]
)

REPLAYED = pa.schema(
    [
        ("connection_id", pa.string()),
        ("stream", pa.string()),
        ("record_hash", pa.int64()),
        ("replayed_at", pa.timestamp("us")),
    ]
)


class Landing(Protocol):
    """What a fetch asks of the rows that are already in the warehouse. `None`: there is no such table yet."""

    def known_events(self, stream: Stream, connection_id: str, start: datetime, end: datetime) -> pa.Table | None:
        """`id`, `record_hash` of the events that occurred in [start, end)."""

    def known_records(self, stream: Stream, connection_id: str) -> pa.Table | None:
        """`id`, `record_hash` of the records that a listing has and that are not gone."""

    def known_rejects(self, stream: Stream, connection_id: str) -> pa.Table | None:
        """`record_hash` of the stream's rejected records."""

    def open_rejects(self, stream: Stream, connection_id: str) -> pa.Table | None:
        """`record_hash`, `payload`, `parent` of the stream's rejected records that no replay could type yet."""

    def known_files(self, stream: Stream, connection_id: str) -> pa.Table | None:
        """`path`, `version`, `modified_at`, `content_hash`, `outcome` of every file that was read, the newest last."""


@dataclass
class Fetch:
    """What one run of extraction shares: the clock, the landing tables, how much it may still take in one load."""

    now: datetime
    landing: Landing
    budget: int  # events; a load is committed when they are used up, and the next one goes on from the cursors
    span: tuple[datetime, datetime] | None = None  # a backfill: these times again, instead of what is new
    is_replay: bool = False  # what was rejected is typed again, and no vendor is asked
    sleep: Sleep = time.sleep
    go_on: Callable[[], None] = lambda: None  # asked before each page; raises an error where nobody wants it any more
    outcomes: dict[tuple[str, str], str | None] = field(default_factory=dict)  # (connection, stream) -> error
    unfinished: set[tuple[str, str]] = field(default_factory=set)  # streams that the next load goes on with
    damaged: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))  # files, by stream


@dataclass(frozen=True)
class Marked:
    """Rows and the landing table that they are for: the stream's own, or a log."""

    rows: pa.Table
    table: str


def rows(
    connector: Connector,
    connection: Connection,
    stream: Stream,
    fetch: Fetch,
    state: dict[str, Any],
    reader: type[Reader] | None = None,
) -> Iterator[Any]:
    """The stream's new rows as Arrow tables, each marked with the table it belongs to; `state` keeps its cursor."""
    of_api = _EventReader if stream.kind == "events" else _ListingReader
    reading = (reader or of_api)(connector, connection, stream, fetch, state)
    try:
        if connection.ended_on is not None and connection.has_ended(fetch.now):
            yield from reading.ended(connection.ended_on)
            return
        if state.get("org_id", connection.org_id) != connection.org_id:
            raise ConnectionsError(
                f"{connection.connection_id} has been read for {state['org_id']}, and one customer's events are no"
                f" other's: what is read for {connection.org_id} needs a new connection_id"
            )
        yield from reading.rows()
    except (FetchError, ConnectionsError) as error:
        yield from reading.failed(redacted(str(error), reading.secrets))
    finally:
        reading.close()


def log_row(
    connector: Connector, connection: Connection, stream: Stream, now: datetime, outcome: str, **told: Any
) -> Marked:
    """A row of the fetch log."""
    row = {
        "connection_id": connection.connection_id,
        "org_id": connection.org_id,
        "connector": connector.name,
        "stream": stream.name,
        "stream_kind": stream.kind,
        "outcome": outcome,
        "row_count": 0,
        "rejected_count": 0,
        "fetched_at": now,
        "expected_lag_seconds": int(stream.lateness.usual.total_seconds()),
        "restate_days": -(-stream.lateness.rare // timedelta(days=1)),
        **told,
    }
    naive = {name: v.replace(tzinfo=None) if isinstance(v, datetime) else v for name, v in row.items()}
    return Marked(pa.Table.from_pylist([naive], FETCH_LOG), "fetch_log")


class Reader(ABC):
    """Reads a stream: types what a source gives, sets aside what is no good, and notes how complete it is."""

    suffix = ""  # tells one way to read a stream apart from another

    def __init__(
        self,
        connector: Connector,
        connection: Connection,
        stream: Stream,
        fetch: Fetch,
        state: dict[str, Any],
    ) -> None:
        self._connector = connector
        self._connection = connection
        self._stream = stream
        self._fetch = fetch
        self._state = state
        self._typer = RecordTyper(stream, connection, fetch.now)
        self._typist = ThreadPoolExecutor(1, thread_name_prefix="typist")
        self._typing: Future[Typed] | None = None
        self._counts = [0, 0]  # rows that landed, rows that were rejected
        self._has_landed = self._has_logged = False
        self._window: tuple[datetime | None, datetime | None] = (None, None)
        self._known_rejects: pa.Array | None = None
        self._rejects: list[pa.ChunkedArray] = []  # of this window
        self.secrets: list[str] = []

    def close(self) -> None:
        self._typist.shutdown()
        self._typer.close()

    def rows(self) -> Iterator[Any]:
        """Rows for the landing table and the logs. Raises FetchError or ConnectionsError."""
        yield from self._replay() if self._fetch.is_replay else self._new()
        self._fetch.outcomes[self._key] = None

    def failed(self, error: str) -> Iterator[Any]:
        """What came in before the failure stays, and the failure is a row of the fetch log."""
        self._fetch.outcomes[self._key] = error
        yield self._log("failed", error=error, complete_through=self._complete_through())

    def ended(self, at: datetime) -> Iterator[Any]:
        """Once, that the connection was taken away; of a stream that was never read there is nothing to tell.

        The window is an instant, so that `int_fetches` joins it with no other that was told before.
        """
        if self._state and self._instant("ended_on") != at:
            window = at, at + timedelta.resolution
            log = self._log("ended", window=window, complete_through=self._complete_through())
            self._state["ended_on"] = at.isoformat()
            yield log

    @abstractmethod
    def _new(self) -> Iterator[Any]:
        """Everything that the source has and the warehouse has not."""

    @abstractmethod
    def _complete_through(self) -> datetime | None:
        """Up to when all is there, as far as is known."""

    @property
    def _key(self) -> tuple[str, str]:
        return self._connection.connection_id, self._stream.name + self.suffix

    # ---- rows

    def _typed(self, batch: list[Record], fields: Mapping[str, str], *, ahead: bool = False) -> Iterator[Any]:
        """The rows of a batch; with `ahead` those of the one before, while this one is typed and the next fetched."""
        if self._typing is not None:
            yield from self._sorted_out(self._typing.result())
            self._typing = None
        if batch and ahead:
            self._typing = self._typist.submit(self._typer.type, batch, fields)
        elif batch:
            yield from self._sorted_out(self._typer.type(batch, fields))

    def _sorted_out(self, typed: Typed) -> Iterator[Any]:
        if typed.rejected.num_rows:
            self._counts[1] += typed.rejected.num_rows
            yield from self._reject(typed.rejected)
        yield from self._accept(typed.accepted)

    def _accept(self, rows: pa.Table) -> Iterator[Any]:
        yield from self._landed(rows)

    def _reject(self, rows: pa.Table) -> Iterator[Any]:
        """A record that is bad in every window that has it, and at every re-read, is rejected once."""
        if self._known_rejects is None:
            known = self._fetch.landing.known_rejects(self._stream, self._connection.connection_id)
            self._known_rejects = pa.array([], pa.int64()) if known is None else known["record_hash"].combine_chunks()
        rows = rows.filter(pc.invert(pc.is_in(rows["record_hash"], value_set=self._known_rejects)))
        if rows.num_rows:
            self._rejects.append(rows["record_hash"])
            self._has_landed = True
            yield Marked(rows, "rejected_records")

    def _landed(self, rows: pa.Table) -> Iterator[Any]:
        self._counts[0] += rows.num_rows
        self._fetch.budget -= rows.num_rows
        if rows.num_rows:
            self._has_landed = True
            yield rows

    # ---- what was rejected

    def _replay(self) -> Iterator[Any]:
        """Types again what was rejected; what is good now lands, and is noted so that it counts as rejected no more."""
        rejects = self._fetch.landing.open_rejects(self._stream, self._connection.connection_id)
        by_parent: dict[str, list[dict[str, Any]]] = {}
        for reject in rejects.to_pylist() if rejects is not None else ():
            by_parent.setdefault(reject["parent"], []).append(reject)
        for parent, group in by_parent.items():
            # one that was rejected before the stream had its options has none of theirs
            fields = dict.fromkeys(self._stream.options, "") | msgspec.json.decode(parent, type=dict[str, str])
            for start in range(0, len(group), BATCH_RECORDS):
                batch = group[start : start + BATCH_RECORDS]
                typed = self._typer.type([checked(reject["payload"].encode()) for reject in batch], fields)
                still_bad = set(typed.rejected["payload"].to_pylist())
                good = [reject["record_hash"] for reject in batch if reject["payload"] not in still_bad]
                if good:
                    yield from self._landed(typed.accepted)
                    yield Marked(self._replayed(good), "replayed_records")

    def _replayed(self, hashes: list[int]) -> pa.Table:
        constants = {
            "connection_id": self._connection.connection_id,
            "stream": self._stream.name,
            "replayed_at": self._fetch.now.replace(tzinfo=None),
        }
        rows = [{**constants, "record_hash": record_hash} for record_hash in hashes]
        return pa.Table.from_pylist(rows, REPLAYED)

    # ---- the fetch log

    def _instant(self, name: str) -> datetime | None:
        """What the state keeps under this name."""
        value = self._state.get(name)
        return datetime.fromisoformat(value) if value else None

    def _is_news(self, complete_through: datetime) -> bool:
        """Whether a window says anything that the warehouse does not know yet.

        A run every few minutes mostly finds nothing, and then costs no load. Completeness is news when it enters
        another quarter of an hour: every time zone's midnight is on one, and days are what completeness decides.
        """
        known = self._state.get("logged_through")
        if self._has_landed or known is None or "has_failed" in self._state:
            return True
        return _floor(datetime.fromisoformat(known), QUARTER) != _floor(complete_through, QUARTER)

    def _log(
        self,
        outcome: str,
        *,
        window: tuple[datetime, datetime] | None = None,
        error: str | None = None,
        complete_through: datetime | None = None,
    ) -> Any:
        start, end = window or self._window
        self._has_logged, self._has_landed = True, False
        self._state.pop("ended_on", None)  # who is read again has not ended
        if outcome == "complete":
            if complete_through is not None:
                self._state["logged_through"] = complete_through.isoformat()
            self._state.pop("has_failed", None)
            self._state["org_id"] = self._connection.org_id
        else:
            self._state["has_failed"] = True
        return log_row(
            self._connector,
            self._connection,
            self._stream,
            self._fetch.now,
            outcome,
            org_id=self._state.get("org_id", self._connection.org_id),
            window_start=start,
            window_end=end,
            row_count=self._counts[0],
            rejected_count=self._counts[1],
            error=error,
            complete_through=complete_through,
        )


class _ApiReader(Reader):
    """Reads a stream from the vendor's API."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._pages = 0  # of this window
        self._records = [0, 0]  # read, of which bad
        self._stops_at_known = False
        self._session: VendorSession | None = None

    def close(self) -> None:
        super().close()
        if self._session is not None:
            self._session.close()

    @cached_property
    def _client(self) -> PageClient:
        connection, connector = self._connection, self._connector
        self._session = session = VendorSession(connector.rate_limit, connection.base_url, self._fetch.sleep)
        try:
            auth = connector.auth(connection, session)
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # whose text may show a secret
            raise ConnectionsError(
                f"connection {connection.connection_id!r}: a secret or setting is not as {connector.name} writes it"
                f" ({type(error).__name__}); `app-usage connectors {connector.name}` tells how each looks"
            ) from error
        self.secrets = [str(v) for v in vars(auth).values() if isinstance(v, str) and len(v) > 7]
        return PageClient(connector, session, auth)

    def _requests(self, params: Mapping[str, Any]) -> Iterator[Any]:
        """All pages of one window or listing, of each variant and of each thing that the stream hangs under."""
        stream = self._stream
        fixed = dict(stream.params)
        for setting, changed in stream.params_if.items():
            fixed |= changed if self._connection.settings.get(setting) else {}
        fixed |= {name: self._connection.setting(setting) for name, setting in stream.settings.items()}
        given = {name: self._connection.settings.get(option) or None for name, option in stream.options.items()}
        options = [
            [(name, value) for value in (values if isinstance(values, list) else [values])]
            for name, values in given.items()
        ]
        of_listing = params if stream.parent and stream.parent.is_windowed else {}
        if of_listing:
            params = {}
        for fields in self._above(of_listing):
            for option in map(dict, product(*options)):
                below = {**fields, **{name: "" if value is None else str(value) for name, value in option.items()}}
                chosen = {name: value for name, value in option.items() if value is not None}
                for variant in stream.variants:
                    yield from self._read_pages(below, {**fixed, **chosen, **variant, **params})

    def _read_pages(self, fields: Mapping[str, str], params: Mapping[str, Any]) -> Iterator[Any]:
        stream = self._stream
        batch: list[Record] = []
        size = 0
        pages = self._client.pages(
            self._path(stream.path, fields),
            records=stream.records,
            paginator=_paginator(stream.paginator),
            method=stream.method,
            params=params,
            ends_on_empty_page=stream.ends_on_empty_page,
            csv_columns=stream.csv,
            names=stream.names,
        )
        try:
            for records, envelope in pages:
                self._fetch.go_on()
                self._pages += 1
                self._records[0] += len(records)
                if self._stops_at_known and records:
                    landed = self._counts[0]
                    yield from self._typed(records, fields)
                    if self._counts[0] == landed:
                        return
                    continue
                if stream.total and not records and not batch and (total := _dig(envelope, stream.total)):
                    raise FetchError(f"{stream.path} answered an empty list, yet counts {total}: check the time format")
                batch += records
                size += sum(map(len, records))
                if size >= BATCH_BYTES or len(batch) >= BATCH_RECORDS:
                    yield from self._typed(batch[:BATCH_RECORDS], fields, ahead=True)
                    batch = batch[BATCH_RECORDS:]
                    size = sum(map(len, batch))
        except FetchError:
            yield from self._typed(batch, fields)  # what came in before the failure stays
            raise
        yield from self._typed(batch, fields)

    def _above(self, params: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """The values that fill the path of each request: of a parent's records, of a setting's entries, or none."""
        parent, for_each = self._stream.parent, self._stream.for_each
        if for_each:
            items = self._connection.setting(for_each)
            if not isinstance(items, list):
                raise ConnectionsError(
                    f"connection {self._connection.connection_id!r}: the setting {for_each} {items!r} is no list:"
                    f" write {for_each} = [{items!r}]"
                )
            yield from ({"item": str(item)} for item in items)
        elif parent is None:
            yield {}
        else:
            for records, _ in self._client.pages(
                self._path(parent.path, {}),
                records=parent.records,
                paginator=_paginator(parent.paginator),
                params={**parent.params, **params},
            ):
                self._fetch.go_on()
                for record in records:
                    yield {name: self._field(record, path) for name, path in parent.fields.items()}

    def _field(self, parent: Record, path: str) -> str:
        try:
            value = _dig(msgspec.json.decode(parent), path)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FetchError(f"{self._stream.name}: a record that it starts from is no good JSON: {error}") from error
        if value is None:
            raise FetchError(f"{self._stream.name}: a record that it starts from has no {path!r}")
        return str(value)

    def _path(self, path: str, fields: Mapping[str, str]) -> str:
        return (self._stream.base_url + path).format_map(_Names(self._connection, fields))


class _EventReader(_ApiReader):
    """Reads events, window by window."""

    def _new(self) -> Iterator[Any]:
        stream, window, now = self._stream, self._stream.window, self._fetch.now
        if window is None:
            raise TypeError(f"the event stream {stream.name} declares no window")
        cursor = self._instant("cursor")
        until = now - stream.lateness.delay
        start, is_deep = self._start(window, cursor, until)
        margin = _margin(window, self._connection.time_zone)
        # what is asked for before a start
        before = margin + (window.step if window.start_is_exclusive else timedelta())
        longest = window.longest - before - margin
        oldest = _ceil(now - window.retention, window.step) + before
        if self._fetch.span is not None:
            yield from self._backfill(window, self._fetch.span, oldest, until, longest)
            return
        if cursor is None and self._connection.start_date is not None:
            self._state["began_at"] = self._connection.start_date.isoformat()
        if cursor is not None and cursor < oldest:
            yield self._log("gap", window=(cursor, oldest), error="older than the vendor keeps events")
        start = _floor(max(start, oldest), window.step)
        is_whole = "{end}" not in repr(window.params)
        span = until - start if is_whole else min(FIRST_SPAN, longest)
        self._stops_at_known = not window.params and stream.order == "newest_first" and not is_deep
        unlogged: datetime | None = None  # windows that brought no news belong to the next one that does
        while start < until:
            end = min(_ceil(start + span, window.step), until)
            yield from self._read_window(window, start, end, is_known=cursor is not None and start < cursor)
            cursor = max(cursor or end, end)
            unlogged = min(unlogged or start, start)
            if self._is_news(self._through(cursor)):
                self._state["cursor"] = cursor.isoformat()
                yield self._log("complete", window=(unlogged, end), complete_through=self._through(cursor))
                unlogged = None
            start = end
            if self._pages <= PAGES_OF_A_SMALL_WINDOW:
                span = min(span * 2, longest)
            elif self._pages > PAGES_OF_A_LARGE_WINDOW:
                span = max(span / 2, window.step)
            if self._fetch.budget <= 0 and start < until:
                self._fetch.unfinished.add(self._key)
                return
        if is_deep and self._has_logged:
            self._state["late_read_at"] = now.isoformat()
            self._state.pop("is_late_read_due", None)
        yield from self._moved_back(window, oldest, until, longest)

    def _moved_back(self, window: Window, oldest: datetime, until: datetime, longest: timedelta) -> Iterator[Any]:
        """What a start_date asks for that is now earlier than it was."""
        wanted, began = self._connection.start_date, self._instant("began_at")
        if wanted is not None and began is not None and wanted < began:
            self._stops_at_known = False
            yield from self._backfill(window, (wanted, began), oldest, until, longest)
        if wanted is not None and self._key not in self._fetch.unfinished:
            self._state["began_at"] = wanted.isoformat()

    def _backfill(
        self, window: Window, span: tuple[datetime, datetime], oldest: datetime, until: datetime, longest: timedelta
    ) -> Iterator[Any]:
        """Reads a span again, a load for each window: killed, it goes on with the window that it was at."""
        wanted = [bound.isoformat() for bound in span]
        done = self._state.get("backfill", [])
        start, until = span[0], min(span[1], until)
        if done[:2] == wanted:
            start = datetime.fromisoformat(done[2])
        elif start < oldest:
            yield self._log("gap", window=(start, min(oldest, until)), error="older than the vendor keeps events")
        start = max(_floor(start, window.step), oldest)
        longest = longest if "{end}" in repr(window.params) else until - start
        while start < until:
            end = min(_ceil(start + longest, window.step), until)
            yield from self._read_window(window, start, end, is_known=True)
            self._state["backfill"] = [*wanted, end.isoformat()]
            yield self._log("complete", window=(start, end), complete_through=self._complete_through())
            start = end
            if start < until:
                self._fetch.unfinished.add(self._key)
                return
        self._state.pop("backfill", None)

    def _start(self, window: Window, cursor: datetime | None, until: datetime) -> tuple[datetime, bool]:
        """Where to begin, and whether that covers everything that may rarely be late."""
        lateness = self._stream.lateness
        if cursor is None:
            return self._connection.start_date or self._fetch.now - window.retention, True
        if window.is_by_arrival:
            return cursor, True
        last = self._instant("late_read_at")
        is_due = last is None or "is_late_read_due" in self._state
        is_deep = is_due or abs(self._fetch.now - (last or cursor)) >= lateness.rare / 12
        earliest = self._connection.start_date or datetime.min.replace(tzinfo=UTC)
        if not window.params:
            return max(self._fetch.now - window.retention, earliest), is_deep
        # what has appeared since everything late was last read can be as late as can be at that time, not now
        seen = min(cursor, until, last or cursor) if is_deep else min(cursor, until)
        overlap = lateness.rare if is_deep else min(lateness.usual, lateness.rare)
        return max(seen - overlap, earliest), is_deep

    def _read_window(self, window: Window, start: datetime, end: datetime, *, is_known: bool) -> Iterator[Any]:
        self._window, self._counts, self._pages, self._records = (start, end), [0, 0], 0, [0, 0]
        if self._known_rejects is not None:  # identical ones of one window are as many as there are
            chunks = [chunk for hashes in self._rejects for chunk in hashes.chunks]
            self._known_rejects, self._rejects = pa.concat_arrays([self._known_rejects, *chunks]), []
        known = None
        if is_known:
            beyond = window.step + timedelta(hours=1)  # more than any margin of a request
            asked_from, asked_to = _floor(start, window.step) - beyond, _ceil(end, window.step) + beyond
            known = self._fetch.landing.known_events(self._stream, self._connection.connection_id, asked_from, asked_to)
        self._typer.new_window(start, end, known)
        zone = self._connection.time_zone
        bounds = {"start": _bound(start, window, zone, is_end=False), "end": _bound(end, window, zone, is_end=True)}
        yield from self._requests(_filled(window.params, bounds))
        read, bad = self._records
        if bad >= MANY_REJECTS and bad > read / 2:
            # nobody who is in them would be seen, and be idle
            raise FetchError(
                f"{bad} of {read} records of {start} to {end} cannot be read (see rejected_records): they are not as"
                " the connector expects them"
            )

    def failed(self, error: str) -> Iterator[Any]:
        """The pages that did not come may lie behind some that did."""
        self._state["is_late_read_due"] = True
        yield from super().failed(error)

    def _reject(self, rows: pa.Table) -> Iterator[Any]:
        self._records[1] += pc.count_distinct(rows["record_hash"]).as_py()
        yield from super()._reject(rows)

    def _complete_through(self) -> datetime | None:
        return self._instant("logged_through")

    def _through(self, cursor: datetime) -> datetime:
        """Up to when a stream that was read up to `cursor` is expected to be complete."""
        read_at = self._instant("late_read_at") if self._stops_at_known else None
        return min(cursor, (read_at or self._fetch.now) - self._stream.lateness.usual)


class _ListingReader(_ApiReader):
    """Reads a listing, which is there as a whole or not at all."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._listed: list[pa.Table] = []
        self._ids: list[pa.ChunkedArray] = []
        self._has_nameless = False  # a record whose id cannot be read: it may be anybody's, so nobody is gone

    def _new(self) -> Iterator[Any]:
        """New and changed records, and a tombstone for each that a complete listing no longer has."""
        known = self._fetch.landing.known_records(self._stream, self._connection.connection_id)
        self._typer.new_window(None, None, known)
        yield from self._requests({})
        rows = self._merged_listing(is_complete=True)
        if known is not None and not self._has_nameless:
            seen = pa.chunked_array([chunk for ids in self._ids for chunk in ids.chunks], pa.string())
            gone = known.filter(pc.invert(pc.is_in(known["id"], value_set=seen)))
            rows = pa.concat_tables([rows, self._tombstones(gone)])
        yield from self._landed(rows)
        if self._is_news(self._fetch.now):
            self._state["listed_at"] = self._fetch.now.isoformat()
            yield self._log("complete", complete_through=self._fetch.now)

    def _merged_listing(self, *, is_complete: bool) -> pa.Table:
        rows = pa.concat_tables([landing_schema(self._stream).empty_table(), *self._listed])
        position = rows.schema.get_field_index("is_complete_listing")
        return rows.set_column(
            position, rows.schema.field(position), pa.array([is_complete] * rows.num_rows, pa.bool_())
        )

    def _tombstones(self, gone: pa.Table) -> pa.Table:
        constants = {
            "connection_id": self._connection.connection_id,
            "org_id": self._connection.org_id,
            "is_gone": True,
            "is_complete_listing": True,
            "fetched_at": self._fetch.now.replace(tzinfo=None),
        }
        schema = landing_schema(self._stream)
        columns = [
            gone["id"] if f.name == "record_id" else pa.array([constants.get(f.name)] * gone.num_rows, f.type)
            for f in schema
        ]
        return pa.table(columns, schema=schema)

    def failed(self, error: str) -> Iterator[Any]:
        """Those who were listed are; of the others nobody is gone."""
        if self._listed:
            yield from self._landed(self._merged_listing(is_complete=False))
        yield from super().failed(error)

    def _accept(self, rows: pa.Table) -> Iterator[Any]:
        self._listed.append(rows)
        self._ids.append(self._typer.ids)
        self._has_nameless |= self._typer.has_nameless
        yield from ()

    def _complete_through(self) -> datetime | None:
        return self._instant("listed_at")


def _paginator(make: Callable[[], BasePaginator]) -> BasePaginator:
    return copy.deepcopy(_made(make))


@cache
def _made(make: Callable[[], BasePaginator]) -> BasePaginator:
    """Kept as a pattern: to parse a paginator's paths takes longer than a page."""
    return make()


class _Names(dict[str, str]):
    """What a path may name: the fields given, then the connection's settings; what is missing is a ConnectionsError."""

    def __init__(self, connection: Connection, fields: Mapping[str, str]) -> None:
        super().__init__(fields)
        self._connection = connection

    def __missing__(self, name: str) -> str:
        return str(self._connection.setting(name))


def _filled(template: Any, bounds: Mapping[str, Any]) -> Any:
    """`template` with the bounds in place of `{start}` and `{end}`; a value that is only a bound keeps its type."""
    if isinstance(template, Mapping):
        return {name: _filled(value, bounds) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [_filled(value, bounds) for value in template]
    if not isinstance(template, str):
        return template
    for name, value in bounds.items():
        if template == f"{{{name}}}":
            return value
        template = template.replace(f"{{{name}}}", str(value))
    return template


def _margin(window: Window, zone: ZoneInfo) -> timedelta:
    """An hour is there twice when clocks go back: bounds without a zone ask for both, and repeats are dropped."""
    return timedelta(hours=1) if window.format == "naive" and zone.key != "UTC" else timedelta()


def _bound(instant: datetime, window: Window, zone: ZoneInfo, *, is_end: bool) -> str | int:
    """A bound in the vendor's format, widened to its step; at an inclusive end the last step before it."""
    widened = _ceil(instant, window.step) if is_end else _floor(instant, window.step)
    if window.start_is_exclusive and not is_end:
        widened -= window.step
    if is_end and window.end_is_inclusive and window.step >= timedelta(days=1):
        widened -= window.step
    if window.format == "date":
        return widened.date().isoformat()
    if window.format == "epoch_s":
        return int(widened.timestamp())
    if window.format == "epoch_ms":
        return round(widened.timestamp() * 1000)
    if window.format == "naive":
        margin = _margin(window, zone)
        return (widened + margin if is_end else widened - margin).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    precision = "milliseconds" if window.format == "iso_ms" else "seconds"
    return widened.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _floor(instant: datetime, step: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return instant - (instant - epoch) % step


def _ceil(instant: datetime, step: timedelta) -> datetime:
    floor = _floor(instant, step)
    return floor if floor == instant else floor + step


def _dig(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document
