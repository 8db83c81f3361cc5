"""Windows, cursors, lateness and failures, on one small connector against a vendor that misbehaves on purpose."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event, Timer
from threading import enumerate as threads
from typing import Any
from unittest import mock

import dlt
import duckdb
import psycopg2
import pyarrow as pa
import pytest
from dlt.common.storages import load_package
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.sources.helpers.rest_client.auth import APIKeyAuth
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

from ingestion import extract, fetch, loads
from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Parent, Stream, Window
from ingestion.connectors.product import make_missing_tables
from ingestion.extract import ExtractError, Stragglers
from ingestion.postgres import PrivatePostgres
from ingestion.status import streams
from tests.publish_support import wait_until
from tests.support import NOW, Answer, Lake, Request, VendorServer, vendor

PAGE = 3


def _connector(**changes: Any) -> Connector:
    events = Stream(
        name="events",
        kind="events",
        path="/events",
        records="items",
        paginator=lambda: JSONResponseCursorPaginator(cursor_path="next", cursor_param="cursor"),
        window=Window({"from": "{start}", "to": "{end}"}, "iso_s", retention=timedelta(days=30)),
        lateness=Lateness(delay=timedelta(minutes=5), usual=timedelta(hours=1), rare=timedelta(days=1)),
        key=changes.pop("key", Key(("$.id",))),
        occurred_at=Column("occurred_at", "$.at", "timestamp"),
        columns=(Column("who", "$.who"), Column("size", "$.size", "bigint")),
        total="total",
    )
    users = Stream(
        name="users",
        kind="accounts",
        path="/users",
        records="items",
        paginator=lambda: JSONResponseCursorPaginator(cursor_path="next", cursor_param="cursor"),
        key=Key(("$.id",)),
        columns=(Column("email", "$.email"),),
    )
    streams = {"events": (events,), "users": (users,), "both": (events, users)}[changes.pop("streams", "events")]
    return Connector(
        name="acme_app",
        base_url="https://api.example.com",
        auth=lambda connection, session: APIKeyAuth(name="X-Key", api_key="a-secret-key-of-acme"),
        streams=streams,
        **changes,
    )


class App:
    """The vendor: serves `events` newest first and `users`, in pages of three."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.users: list[Any] = []
        self.before_page: Any = lambda number: None
        self.pages = 0

    def __call__(self, request: Request) -> Answer:
        self.pages += 1
        interruption = self.before_page(self.pages)
        if interruption is not None:
            return interruption  # type: ignore[no-any-return]
        if request.path == "/users":
            records = self.users
        else:
            asked = [e for e in self.events if request.query["from"] <= str(e.get("at")) < request.query["to"]]
            records = sorted(asked, key=lambda e: str(e["at"]), reverse=True)
        first = int(request.query.get("cursor", 0))
        following = first + PAGE if first + PAGE < len(records) else None
        return Answer({"items": records[first : first + PAGE], "next": following})


def _event(number: int, at: datetime, **more: Any) -> dict[str, Any]:
    return {"id": str(number), "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "who": f"user{number}", "size": number, **more}


def _connection(url: str, **more: Any) -> Connection:
    return Connection("acme-app", "acme", "acme_app", url, datetime(2026, 1, 25, tzinfo=UTC), **more)


def _ids(lake: Lake) -> list[str]:
    return [row[0] for row in lake.query("select event_id from landing_acme_app.events order by 1")]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_every_page_of_every_window_lands_once(lake: Lake) -> None:
    app = App()
    app.events = [_event(n, NOW - timedelta(hours=7 * n)) for n in range(1, 20)]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        lake.extract(_connector(), _connection(server.url))
    assert _ids(lake) == sorted(f"events:acme-app:{n}" for n in range(1, 20))


def test_a_connection_whose_vendor_is_slow_keeps_nobody_elses_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its own connector and of the next land while it waits for a page; then it goes on from that page."""
    monkeypatch.setattr(loads, "PATIENCE", 0.1)
    monkeypatch.setattr(extract, "PARALLEL_CONNECTORS", 1)
    quick, slow, is_answered = App(), App(), Event()
    quick.events = [_event(n, NOW - timedelta(hours=n)) for n in range(1, 5)]
    slow.events = [_event(n, NOW - timedelta(hours=8 * n)) for n in range(1, 18)]
    slow.before_page = lambda number: None if number != 4 or is_answered.wait(60) else Answer(status=500)
    known = {"acme_app": _connector(), "other_app": replace(_connector(), name="other_app")}
    landed = "select connection_id, count(*) from landing_{}.events join landing_{}._dlt_loads"
    landed += " on _dlt_load_id = load_id where connection_id <> 'acme-slow' group by 1"
    watching = duckdb.connect(str(lake.folder / "warehouse.duckdb"))  # open before and after all others
    with vendor(quick) as one, vendor(slow) as other, watching, ThreadPoolExecutor(1) as pool:
        there = [
            _connection(one.url),
            replace(_connection(other.url), connection_id="acme-slow"),
            replace(_connection(one.url), connection_id="other", connector="other_app"),
        ]
        run = pool.submit(extract.extract, lake.warehouse, there, known, now=NOW, sleep=lake.slept.append)
        try:
            found = partial(map, lambda name: _rows_if_any(watching, landed.format(name, name)), known)
            wait_until(lambda: all(found()) or run.done(), seconds=600)
            assert not run.done(), "the rows were committed only when the slow vendor had answered"
            assert list(found()) == [[("acme-app", 4)], [("other", 4)]]
        finally:
            is_answered.set()
        assert run.result().failures == {}
    assert lake.query("select count(*) from landing_acme_app.events where connection_id = 'acme-slow'") == [(17,)]
    assert len({(r.query["from"], r.query.get("cursor")) for r in other.requests}) == len(other.requests)


@contextmanager
def _a_pause(app: App, before_page: int) -> Iterator[tuple[Event, Callable[[float], object]]]:
    """The vendor wants one of ten minutes; they are over when the event is set."""
    is_over = Event()
    wanted = Answer({}, status=429, headers={"Retry-After": "600"})
    app.before_page = lambda number: wanted if number == before_page else None
    try:
        yield is_over, lambda seconds: is_over.wait(60) if seconds > 60 else None
    finally:
        is_over.set()


def _slow(url: str) -> Connection:
    return replace(_connection(url), connection_id="acme-slow")


SLOW = ("acme-slow", "events")


@pytest.fixture
def quick_and_slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[App, App, list[Connection], VendorServer]]:
    monkeypatch.setattr(extract, "PATIENCE", 0.1)
    monkeypatch.setattr(loads, "PATIENCE", 0.1)
    quick, slow = App(), App()
    quick.events = [_event(n, NOW - timedelta(hours=n)) for n in range(1, 5)]
    slow.events = [_event(n, NOW - timedelta(hours=8 * n)) for n in range(1, 18)]
    with vendor(quick) as one, vendor(slow) as other:
        yield quick, slow, [_slow(other.url), _connection(one.url)], other


QuickAndSlow = tuple[App, App, list[Connection], VendorServer]
PER_CONNECTION = """
    select connection_id, count(*), count(distinct event_id) from landing_acme_app.events group by 1 order by 1
    """


def test_a_run_ends_without_a_vendor_that_wants_a_long_pause_and_the_next_takes_what_it_tells(
    lake: Lake, quick_and_slow: QuickAndSlow
) -> None:
    """Meanwhile the others are read again; the straggler goes on with the page that it was at, and with no other."""
    quick, slow, there, server = quick_and_slow
    stragglers = Stragglers()
    with _a_pause(slow, before_page=4) as (is_over, sleep):
        report = lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
        assert (report.failures, report.stragglers) == ({}, [SLOW])
        assert lake.query(PER_CONNECTION)[0] == ("acme-app", 4, 4)
        quick.events.append(_event(9, NOW + timedelta(minutes=1)))
        report = lake.extract(_connector(), there, NOW + timedelta(hours=1), sleep=sleep, stragglers=stragglers)
        assert (report.failures, report.stragglers) == ({}, [SLOW])
        assert lake.query(PER_CONNECTION)[0] == ("acme-app", 5, 5)
        before = len(server.requests)
        is_over.set()
        stragglers.wait(60)
        report = lake.extract(_connector(), there, NOW + timedelta(hours=2), sleep=sleep, stragglers=stragglers)
    assert (report.failures, report.stragglers, stragglers.keys) == ({}, [], [])
    assert lake.query(PER_CONNECTION) == [("acme-app", 5, 5), ("acme-slow", 17, 17)]
    assert before == 4, "who was asked to pause paused"
    asked = Counter((request.query["from"], request.query.get("cursor")) for request in server.requests)
    assert sorted(asked.values())[-2:] == [1, 2], "the page that was refused, and no other, was asked for again"


@pytest.mark.stress
def test_a_backlog_is_read_by_run_after_run_and_every_run_ends(
    lake: Lake, quick_and_slow: QuickAndSlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, there, _ = quick_and_slow
    monkeypatch.setattr(extract, "READ_FOR", 0.0)
    monkeypatch.setattr(extract, "LOAD_EVENTS", 4)
    window = Window({"from": "{start}", "to": "{end}"}, "iso_s", longest=timedelta(days=1))
    connector = replace(_connector(), streams=(replace(_connector().streams[0], window=window),))
    stragglers, landed = Stragglers(), list[int]()
    while not landed or stragglers.keys:
        lake.extract(connector, there, NOW + timedelta(minutes=len(landed)), stragglers=stragglers)
        stragglers.wait(60)
        landed.append(len(_ids(lake)))
        assert len(landed) < 60
    assert landed == sorted(landed)
    assert len(set(landed)) > 2, "all came with one run"
    assert lake.query(PER_CONNECTION) == [("acme-app", 4, 4), ("acme-slow", 17, 17)]


def test_a_load_ends_with_the_time_for_reading_though_its_only_stream_pauses(
    lake: Lake, quick_and_slow: QuickAndSlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, slow, (there, _), _ = quick_and_slow
    monkeypatch.setattr(extract, "READ_FOR", 0.5)
    stragglers = Stragglers()
    with _a_pause(slow, before_page=4) as (is_over, sleep):
        assert lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers).stragglers == [SLOW]
        assert 0 < len(_ids(lake)) < 17
        is_over.set()
        while stragglers.keys:
            lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
    assert len(_ids(lake)) == 17


def test_stragglers_keep_no_other_stream_of_their_connector_from_being_read(
    lake: Lake, quick_and_slow: QuickAndSlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, slow, there, _ = quick_and_slow
    monkeypatch.setattr(extract, "PARALLEL_STREAMS", 1)
    stragglers = Stragglers()
    with _a_pause(slow, before_page=1) as (_, sleep):
        for _ in range(2):
            report = lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
        assert report.stragglers == [SLOW]
        assert lake.query(PER_CONNECTION) == [("acme-app", 4, 4)]
        stragglers.drop()


def test_the_status_of_a_stream_is_how_its_newest_fetch_ended_and_not_how_it_began(
    lake: Lake, quick_and_slow: QuickAndSlow
) -> None:
    """And not what a load tells that was cut off."""
    _, slow, (there, _), _ = quick_and_slow
    slow.users = [{"id": "1", "email": "u1"}]
    stragglers = Stragglers()
    with _a_pause(slow, before_page=1) as (is_over, sleep):
        lake.extract(_connector(streams="users"), there, sleep=sleep, stragglers=stragglers)
        assert [stream.outcome for stream in streams(lake.warehouse)] == ["reading"]
        is_over.set()
        stragglers.wait(60)
        lake.extract(_connector(streams="users"), there, sleep=sleep, stragglers=stragglers)
    lake.query(
        "insert into landing_acme_app.fetch_log select * replace ('9' as _dlt_load_id, 'failed' as outcome,"
        " fetched_at + interval 1 hour as fetched_at) from landing_acme_app.fetch_log limit 1"
    )
    assert [stream.outcome for stream in streams(lake.warehouse)] == ["complete"]


def test_a_straggler_leaves_the_warehouse_alone_between_two_runs(
    lake: Lake, quick_and_slow: QuickAndSlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has to ask it asks the next run's: which of the bad records of a window have been rejected before."""
    _, slow, there, _ = quick_and_slow
    asks, ask = Event(), extract._Landing.known_rejects
    monkeypatch.setattr(extract._Landing, "known_rejects", lambda *what: asks.set() or ask(*what))
    slow.events.append({**_event(99, NOW - timedelta(days=4)), "size": "huge"})
    stragglers = Stragglers()
    with _a_pause(slow, before_page=2) as (is_over, sleep):
        lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
        is_over.set()
        assert asks.wait(60)
        with duckdb.connect(str(lake.folder / "warehouse.duckdb"), config={"threads": 1}) as alone:
            alone.execute("create table nobody_else_has_the_file (it integer)")
        report = lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
    assert (report.failures, report.stragglers) == ({}, [])
    assert lake.query(PER_CONNECTION) == [("acme-app", 4, 4), ("acme-slow", 17, 17)]
    assert lake.query("select count(*) from landing_acme_app.rejected_records") == [(1,)]


@pytest.mark.parametrize("waits_for", ["vendor", "warehouse"])
def test_stragglers_that_are_dropped_end_at_once_and_are_read_again_from_their_cursor(
    waits_for: str, lake: Lake, quick_and_slow: QuickAndSlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, slow, there, _ = quick_and_slow
    asks, ask = Event(), extract._Landing.known_rejects
    monkeypatch.setattr(extract._Landing, "known_rejects", lambda *what: asks.set() or ask(*what))
    slow.events.append({**_event(99, NOW - timedelta(days=4)), "size": "huge"})
    stragglers = Stragglers()
    with _a_pause(slow, before_page=2) as (is_over, sleep):
        lake.extract(_connector(), there, sleep=sleep if waits_for == "warehouse" else None, stragglers=stragglers)
        if waits_for == "warehouse":
            is_over.set()
            assert asks.wait(60)
        assert any(thread.name.startswith("acme_app") for thread in threads())
        stragglers.drop()
        wait_until(lambda: not any(thread.name.startswith("acme_app") for thread in threads()), seconds=30)
    report = lake.extract(_connector(), there, stragglers=stragglers)
    assert (report.failures, report.stragglers) == ({}, [])
    assert lake.query(PER_CONNECTION) == [("acme-app", 4, 4), ("acme-slow", 17, 17)]


def test_a_listing_that_is_dropped_asks_for_no_page_more(
    lake: Lake, quick_and_slow: QuickAndSlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a listing is one step, a process that ends would wait for all of it."""
    _, slow, (there, _), server = quick_and_slow
    monkeypatch.setattr(extract, "READ_FOR", 0.0)
    slow.users = [{"id": str(n), "email": f"u{n}"} for n in range(300)]
    is_dropped = Event()
    slow.before_page = lambda number: None if number < 4 or is_dropped.wait(60) else Answer(status=500)
    stragglers = Stragglers()
    lake.extract(_connector(streams="users"), there, sleep=None, stragglers=stragglers)
    assert stragglers.keys == [("acme-slow", "users")]
    stragglers.drop()
    is_dropped.set()
    wait_until(lambda: not any(thread.name.startswith("acme_app") for thread in threads()), seconds=30)
    assert len(server.requests) <= 5


def test_a_straggler_that_asks_something_of_the_warehouse_is_waited_for_no_longer(
    lake: Lake, quick_and_slow: QuickAndSlow
) -> None:
    _, slow, there, _ = quick_and_slow
    slow.events.append({**_event(99, NOW - timedelta(days=4)), "size": "huge"})
    stragglers = Stragglers()
    with _a_pause(slow, before_page=2) as (is_over, sleep):
        lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
        is_over.set()
        began = time.monotonic()
        stragglers.wait(60)
        assert time.monotonic() - began < 30
        stragglers.drop()


def test_what_a_load_lost_that_failed_is_read_again_by_the_run_after_it(
    lake: Lake, quick_and_slow: QuickAndSlow
) -> None:
    _, slow, there, _ = quick_and_slow
    stragglers = Stragglers()
    with _a_pause(slow, before_page=4) as (is_over, sleep):
        fails = mock.patch.object(extract, "_load_pending", side_effect=ExtractError("no space left"))
        with fails, pytest.raises(ExtractError, match="no space left"):
            lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
        assert stragglers.keys == []
        is_over.set()
        wanted, again = slow.before_page(4), slow.pages + 2
        slow.before_page = lambda number: wanted if number == again else None  # a pause that nobody has dropped
        report = lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
    assert (report.failures, report.stragglers) == ({}, [])
    assert lake.query(PER_CONNECTION) == [("acme-app", 4, 4), ("acme-slow", 17, 17)]


def test_a_straggler_that_fails_between_two_runs_is_a_failure_of_the_second(
    lake: Lake, quick_and_slow: QuickAndSlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With which its row of the fetch log lands, too."""
    _, slow, there, _ = quick_and_slow
    monkeypatch.setattr(extract, "READ_FOR", 0.0)
    stragglers, load = Stragglers(), extract._load_pending
    failed = "select connection_id from landing_acme_app.fetch_log where outcome = 'failed'"
    with _a_pause(slow, before_page=1) as (is_over, sleep):
        first = slow.before_page
        slow.before_page = lambda number: first(number) or Answer(status=403)

        def load_while_it_fails(pipeline: dlt.Pipeline) -> None:
            is_over.set()
            wait_until(lambda: SLOW in stragglers.of(_connector(), None).outcomes)
            load(pipeline)

        with mock.patch.object(extract, "_load_pending", load_while_it_fails):
            report = lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
        assert (report.failures, SLOW in report.stragglers, lake.query(failed)) == ({}, True, [])
        monkeypatch.setattr(extract, "READ_FOR", 60.0)
        report = lake.extract(_connector(), there, sleep=sleep, stragglers=stragglers)
    assert (set(report.failures), report.stragglers, lake.query(failed)) == ({SLOW}, [], [("acme-slow",)])


def test_an_interrupt_ends_the_pauses_of_vendors_and_begins_no_other_connector(lake: Lake) -> None:
    """In a process of its own, for here another thread than the main one may be told."""
    busy, waiting = App(), App()
    waiting.events = [_event(1, NOW - timedelta(hours=1))]
    with vendor(busy) as one, vendor(waiting) as other:
        child = multiprocessing.get_context("fork").Process(target=_extract_two, args=(lake, one.url, other.url))

        def interrupt(number: int) -> Answer:
            Timer(0.5, os.kill, (child.pid, signal.SIGINT)).start()
            return Answer({}, status=429, headers={"Retry-After": "600"})

        busy.before_page = interrupt
        child.start()
        child.join(60)
        assert child.exitcode == 130
        assert (len(one.requests), len(other.requests)) == (1, 0)


def _extract_two(lake: Lake, *urls: str) -> None:
    """One after the other."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    extract.PARALLEL_CONNECTORS, loads.PATIENCE, extract.PATIENCE = 1, 60.0, 60.0
    known = {name: replace(_connector(), name=name) for name in ("acme_app", "other_app")}
    there = [replace(_connection(url), connector=name) for url, name in zip(urls, known, strict=True)]
    try:
        extract.extract(lake.warehouse, there, known, now=NOW)
    except KeyboardInterrupt:
        os._exit(130)


def _rows_if_any(warehouse: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    try:
        return warehouse.execute(sql).fetchall()
    except duckdb.CatalogException:
        return []


def test_an_event_that_appears_late_is_picked_up_at_the_next_deep_read(lake: Lake) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(hours=30))]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        app.events.append(_event(2, NOW - timedelta(hours=20)))
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(hours=3))
    assert _ids(lake) == ["events:acme-app:1", "events:acme-app:2"]


def test_an_event_late_within_the_usual_lag_is_picked_up_at_the_very_next_run(lake: Lake) -> None:
    app = App()
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        app.events.append(_event(2, NOW - timedelta(minutes=50)))
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(minutes=5))
    assert _ids(lake) == ["events:acme-app:2"]


def test_nothing_younger_than_the_vendors_delay_is_asked_for(lake: Lake) -> None:
    with vendor(App()) as server:
        lake.extract(_connector(), _connection(server.url))
        assert max(request.query["to"] for request in server.requests) == "2026-01-31T11:55:00Z"


def test_re_reading_a_window_lands_nothing_twice_but_a_corrected_event_lands_again(lake: Lake) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(hours=2)), _event(2, NOW - timedelta(hours=2))]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        app.events[1]["size"] = 99
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(hours=3))
    assert lake.query("select event_id, size from landing_acme_app.events order by 1, 2") == [
        ("events:acme-app:1", 1),
        ("events:acme-app:2", 2),
        ("events:acme-app:2", 99),
    ]


def test_identical_records_without_an_id_are_both_kept_and_stay_two_when_read_again(lake: Lake) -> None:
    app = App()
    same = {"at": "2026-01-31T09:00:00Z", "who": "bob"}
    app.events = [same, dict(same), {**same, "who": "eve"}]
    connector = _connector(key=Key(("$.at", "$.who"), "content_hash"))
    with vendor(app) as server:
        lake.extract(connector, _connection(server.url))
        app.events[0]["added_by_the_vendor_later"] = True
        lake.extract(connector, _connection(server.url), NOW + timedelta(hours=3))
    counted = "select who, count(distinct event_id) from landing_acme_app.events group by 1 order by 1"
    assert lake.query(counted) == [("bob", 2), ("eve", 1)]


def _extract_until_killed(folder: Path, url: str) -> None:
    Lake(folder).extract(_connector(), _connection(url))


def test_a_crash_between_two_pages_loses_no_event_although_the_newest_came_first(lake: Lake) -> None:
    app = App()
    app.events = [_event(n, NOW - timedelta(minutes=10 * n)) for n in range(1, 12)]
    with vendor(app) as server:
        child = multiprocessing.get_context("spawn").Process(
            target=_extract_until_killed, args=(lake.folder, server.url)
        )

        def kill_between_pages(number: int) -> None:
            if child.pid and app.pages and server.requests[-1].query.get("cursor") == "6":
                os.kill(child.pid, signal.SIGKILL)

        app.before_page = kill_between_pages
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        app.before_page = lambda number: None
        lake.extract(_connector(), _connection(server.url))
    assert len(_ids(lake)) == len(set(_ids(lake))) == 11


def test_a_record_that_cannot_be_typed_is_rejected_once_and_its_neighbours_land(lake: Lake) -> None:
    app = App()
    at = NOW - timedelta(hours=2)
    app.events = [_event(1, at), {**_event(2, at), "size": "huge"}, {**_event(3, at), "id": None}, _event(4, at)]
    with vendor(app) as server:
        report = lake.extract(_connector(), _connection(server.url))
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(hours=3))
    assert not report.failures
    assert _ids(lake) == ["events:acme-app:1", "events:acme-app:4"]
    rejected = "select reason, payload->>'$.who' from landing_acme_app.rejected_records order by 1"
    assert lake.query(rejected) == [("no id", "user3"), ("size is no bigint: huge", "user2")]


def test_a_record_that_every_window_of_a_run_has_is_rejected_once(lake: Lake) -> None:
    undated = {"id": "7", "at": None, "who": "user7", "size": 7}
    [stream] = _connector().streams
    assert stream.window
    short = replace(_connector(), streams=(replace(stream, window=replace(stream.window, longest=timedelta(days=1))),))
    with vendor(lambda request: Answer({"items": [undated, undated], "next": None})) as server:
        lake.extract(short, _connection(server.url))
        assert len(server.requests) > 2
    assert lake.query("select reason from landing_acme_app.rejected_records") == 2 * [("no occurred_at",)]


def test_a_refused_connection_is_recorded_without_its_key_and_the_others_go_on(lake: Lake) -> None:
    app, refused = App(), App()
    app.events = [_event(1, NOW - timedelta(hours=2))]
    refused.before_page = lambda number: Answer({"error": "invalid_auth", "echo": "a-secret-key-of-acme"}, status=403)
    with vendor(app) as server, vendor(refused) as broken:
        other = Connection("bad-app", "bad", "acme_app", broken.url, datetime(2026, 1, 25, tzinfo=UTC))
        report = lake.extract(_connector(), [other, _connection(server.url)])
        assert len(broken.requests) == 1, "a 403 is final and must not be retried"
    assert report.failures.keys() == {("bad-app", "events")}
    assert _ids(lake) == ["events:acme-app:1"]
    assert lake.query("select error, complete_through from landing_acme_app.fetch_log where outcome = 'failed'") == [
        ("GET /events answered 403 (invalid_auth)", None)
    ]


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (42, "connection 'bad-app': the setting groups 42 is no list: write groups = [42]"),
        ("42", "connection 'bad-app': the setting groups '42' is no list: write groups = ['42']"),
        (
            ["cut.pem"],
            "connection 'bad-app': a secret or setting is not as acme_app writes it (ValueError); "
            "`app-usage connectors acme_app` tells how each looks",
        ),
    ],
)
def test_a_connection_with_a_setting_or_secret_of_another_form_stops_nobody_else(
    lake: Lake, listed: Any, reason: str
) -> None:
    def auth(connection: Connection, session: Any) -> Any:
        if connection.settings["groups"] == ["cut.pem"]:
            raise ValueError("could not read a-secret-key-of-acme")
        return _connector().auth(connection, session)

    stream = replace(_connector().streams[0], path="/groups/{item}", for_each="groups", needs="groups")
    connector, app = replace(_connector(), auth=auth, streams=(stream,)), App()
    app.events = [_event(1, NOW - timedelta(hours=2))]
    with vendor(app) as server:
        good = _connection(server.url, settings={"groups": ["7"]})
        bad = replace(good, connection_id="bad-app", settings={"groups": listed})
        off = replace(good, connection_id="off", settings={"groups": False})
        report = lake.extract(connector, [bad, good, off])
        assert {request.path for request in server.requests} == {"/groups/7"}
    assert report.failures == {("bad-app", "events"): reason}
    assert _ids(lake) == ["events:acme-app:1"]
    assert lake.query("select error from landing_acme_app.fetch_log where outcome = 'failed'") == [(reason,)]


def test_a_failure_after_successes_states_how_far_the_stream_was_complete(lake: Lake) -> None:
    app = App()
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        app.before_page = lambda number: Answer({}, status=404)
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(days=2))
    through = "select complete_through from landing_acme_app.fetch_log where outcome = 'failed'"
    assert lake.query(through) == [(datetime(2026, 1, 31, 11),)]  # what was usual to be late then is not asked for yet


def test_a_gap_longer_than_the_vendors_retention_is_recorded_and_not_silent(lake: Lake) -> None:
    with vendor(App()) as server:
        lake.extract(_connector(), _connection(server.url))
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(days=40))
    gap = "select window_start, window_end from landing_acme_app.fetch_log where outcome = 'gap'"
    assert lake.query(gap) == [(datetime(2026, 1, 31, 11, 55), datetime(2026, 2, 10, 12))]


def test_an_empty_answer_that_counts_records_is_a_failure_and_not_silence(lake: Lake) -> None:
    with vendor(lambda request: Answer({"items": [], "total": 112})) as server:
        report = lake.extract(_connector(), _connection(server.url))
    assert "counts 112" in report.failures["acme-app", "events"]


@pytest.mark.parametrize(
    "body", [b"<html>maintenance</html>", b"", b'{"items": [{"id"', b"[" * 100_000, b'{"items": 7}', b"\x00\xff"]
)
def test_a_page_that_is_no_such_json_fails_the_window_with_the_reason(lake: Lake, body: bytes) -> None:
    with vendor(lambda request: Answer(body)) as server:
        report = lake.extract(_connector(), _connection(server.url))
    assert "answered no such JSON as expected" in report.failures["acme-app", "events"]


def test_a_next_link_that_repeats_ends_in_a_failure_and_not_in_an_endless_loop(lake: Lake) -> None:
    page = {"items": [_event(1, NOW - timedelta(days=1))], "next": "same"}
    with vendor(lambda request: Answer(page)) as server:
        report = lake.extract(_connector(), _connection(server.url))
        assert len(server.requests) < 5
    assert "does not end" in report.failures["acme-app", "events"]


def test_a_listing_lands_only_changes_and_a_tombstone_for_what_is_gone(lake: Lake) -> None:
    app = App()
    app.users = [{"id": n, "email": f"{n}@acme.com"} for n in range(5)]
    with vendor(app) as server:
        lake.extract(_connector(streams="users"), _connection(server.url))
        app.users = [{"id": 0, "email": "new@acme.com"}, *app.users[1:4]]
        lake.extract(_connector(streams="users"), _connection(server.url), NOW + timedelta(hours=1))
        lake.extract(_connector(streams="users"), _connection(server.url), NOW + timedelta(hours=2))
    later = (
        "select record_id, email, is_gone from landing_acme_app.users where fetched_at > '2026-01-31 12:00' order by 1"
    )
    assert lake.query(later) == [("0", "new@acme.com", False), ("4", None, True)]


def test_a_listing_that_breaks_off_proves_nobody_gone(lake: Lake) -> None:
    app = App()
    app.users = [{"id": n, "email": f"{n}@acme.com"} for n in range(5)]
    with vendor(app) as server:
        lake.extract(_connector(streams="users"), _connection(server.url))
        app.users[0]["email"] = "new@acme.com"
        app.before_page = lambda number: Answer({}, status=404) if server.requests[-1].query.get("cursor") else None
        report = lake.extract(_connector(streams="users"), _connection(server.url), NOW + timedelta(hours=1))
    assert report.failures.keys() == {("acme-app", "users")}
    later = (
        "select record_id, is_gone, is_complete_listing from landing_acme_app.users"
        " where fetched_at > '2026-01-31 12:00'"
    )
    assert lake.query(later) == [("0", False, False)]


@pytest.mark.parametrize("outage", [Answer({}, status=503), Answer({"items": []}, cut=True)])
def test_a_passing_outage_is_retried_with_growing_pauses_and_loses_nothing(lake: Lake, outage: Answer) -> None:
    app = App()
    app.events = [_event(n, NOW - timedelta(hours=n)) for n in range(1, 8)]
    app.before_page = lambda number: outage if number in (2, 3, 4) else None
    with vendor(app) as server:
        report = lake.extract(_connector(), _connection(server.url))
    assert not report.failures
    assert len(_ids(lake)) == 7
    assert lake.slept == sorted(lake.slept)
    assert len(lake.slept) == 3


def test_a_start_date_that_is_moved_back_brings_what_was_before(lake: Lake) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(days=3)), _event(2, NOW - timedelta(days=9)), _event(3, NOW)]
    asked: list[str] = []
    with vendor(app) as server:
        first = _connection(server.url)
        earlier = replace(first, start_date=NOW - timedelta(days=12))
        for hours, there in enumerate((first, first, earlier, earlier), 1):
            before = len(server.requests)
            lake.extract(_connector(), there, NOW + timedelta(hours=hours))
            asked.append(min(request.query["from"] for request in server.requests[before:]))
    assert _ids(lake) == [f"events:acme-app:{number}" for number in (1, 2, 3)]
    assert [start[:10] for start in asked] == ["2026-01-25", "2026-01-31", "2026-01-19", "2026-01-31"]
    spans = "select min(window_start), max(window_end) from landing_acme_app.fetch_log where outcome = 'complete'"
    assert lake.query(spans)[0][0] == datetime(2026, 1, 19, 12)


def test_a_start_date_that_is_moved_back_before_all_was_read_brings_what_was_before(lake: Lake) -> None:
    app = App()
    app.events = [_event(n, NOW - timedelta(days=12 - n / 2)) for n in range(24)]
    app.before_page = lambda number: Answer(status=400) if number > 3 else None
    with vendor(app) as server:
        there = _connection(server.url)
        assert lake.extract(_connector(), there).failures
        assert 0 < len(_ids(lake)) < 12
        app.before_page = lambda number: None
        lake.extract(_connector(), replace(there, start_date=NOW - timedelta(days=13)), NOW + timedelta(hours=1))
    assert len(_ids(lake)) == 24


def test_a_log_has_its_own_columns_and_none_of_the_streams(lake: Lake) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(hours=3)), {**_event(2, NOW - timedelta(hours=3)), "size": "2 kB"}]
    app.users = [{"id": "1", "email": "ada@acme.com"}]
    with vendor(app) as server:
        lake.extract(_connector(streams="both"), _connection(server.url))
    columns = dict(
        lake.query(
            "select table_name, list(column_name) from information_schema.columns"
            " where table_name in ('fetch_log', 'rejected_records') group by 1"
        )
    )
    assert set(columns["fetch_log"]) == {*fetch.FETCH_LOG.names, "_dlt_load_id"}
    about = {"connection_id", "org_id", "stream", "window_start", "window_end", "fetched_at"}
    about |= {"reason", "payload", "parent", "record_hash"}
    assert set(columns["rejected_records"]) == {*about, "_dlt_load_id"}


def test_a_lost_working_folder_is_restored_from_the_warehouse(lake: Lake) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(days=3))]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        (lake.folder / "pipelines").rename(lake.folder / "lost")
        before = len(server.requests)
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(minutes=5))
        assert min(request.query["from"] for request in server.requests[before:]) > "2026-01-30T10"
    assert _ids(lake) == ["events:acme-app:1"]


def test_a_warehouse_that_comes_back_from_a_backup_is_read_on_from_where_it_was(lake: Lake) -> None:
    app, file = App(), lake.folder / "warehouse.duckdb"
    app.events = [_event(n, NOW - timedelta(days=4 - n)) for n in range(3)]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url), NOW - timedelta(days=3, hours=12))
        backup = file.read_bytes()
        lake.extract(_connector(), _connection(server.url))
        file.write_bytes(backup)
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(minutes=20))
    assert _ids(lake) == ["events:acme-app:0", "events:acme-app:1", "events:acme-app:2"]


@pytest.mark.parametrize("damage", [slice(0, 4096), slice(3 * 4096, None)])
def test_a_damaged_warehouse_is_told_with_what_to_do(lake: Lake, damage: slice) -> None:
    app, file = App(), lake.folder / "warehouse.duckdb"
    app.events = [_event(1, NOW - timedelta(days=1))]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        content = bytearray(file.read_bytes())
        content[damage] = bytes(len(content[damage]))
        file.write_bytes(content)
        with pytest.raises(ExtractError, match=r"^the warehouse's file is damaged: .*Put a backup in its place"):
            lake.extract(_connector(), _connection(server.url))


def test_a_clock_that_is_set_back_makes_no_older_cursor_the_newest(lake: Lake) -> None:
    """A load's id is its time."""
    app = App()
    clock = load_package.increasing_precise_time
    late = mock.patch.object(load_package, "increasing_precise_time", side_effect=lambda: clock() - 3600)
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        with late:
            for hour in range(1, 4):
                before = len(server.requests)
                lake.extract(_connector(), _connection(server.url), NOW + timedelta(hours=hour))
    assert {r.query["from"][:13] for r in server.requests[before:]} == {"2026-01-31T12"}
    assert lake.query("select count(*) from landing_acme_app._dlt_pipeline_state") == [(1,)]


def test_neither_what_has_landed_nor_how_far_it_was_read_before_is_kept_for_ever(lake: Lake) -> None:
    app = App()
    with vendor(app) as server:
        for hour in range(3):
            app.events.append(_event(hour, NOW + timedelta(hours=hour, minutes=-30)))
            lake.extract(_connector(), _connection(server.url), NOW + timedelta(hours=hour))
    assert len(_ids(lake)) == 3
    assert list((lake.folder / "pipelines" / "acme_app" / "load").glob("*/*")) == []
    assert lake.query("select count(*) from landing_acme_app._dlt_loads") == [(3,)]
    assert lake.query("select count(*) from landing_acme_app._dlt_pipeline_state") == [(1,)]


def test_a_column_that_an_upgrade_brings_is_there_at_once_and_filled_for_all_who_are_listed(lake: Lake) -> None:
    app = App()
    app.users = [{"id": str(n), "email": f"u{n}@acme.com", "title": f"title {n}"} for n in range(2)]
    before = _connector(streams="users")
    [users] = before.streams
    after = replace(before, streams=(replace(users, columns=(*users.columns, Column("title", "$.title"))),))
    with vendor(app) as server:
        lake.extract(before, _connection(server.url))
        app.before_page = lambda number: Answer(status=403)
        lake.extract(after, _connection(server.url), NOW + timedelta(hours=1))
        assert lake.query("select title from landing_acme_app.users") == [(None,), (None,)]
        app.before_page = lambda number: None
        for hours in (2, 3):
            lake.extract(after, _connection(server.url), NOW + timedelta(hours=hours))
    assert lake.query("select title from landing_acme_app.users where title is not null order by 1") == [
        ("title 0",),
        ("title 1",),
    ]


def test_a_format_that_the_connector_does_not_know_is_a_failure_and_not_a_day_without_events(lake: Lake) -> None:
    app = App()
    app.events = [_event(n, NOW - timedelta(hours=30)) for n in range(30)]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url), NOW - timedelta(days=1))
        app.events = [{**_event(n, NOW - timedelta(hours=4)), "size": "2 kB"} for n in range(30, 50)]
        report = lake.extract(_connector(), _connection(server.url))
        assert "20 of 20 records" in report.failures["acme-app", "events"]
        assert lake.query("select count(*) from landing_acme_app.rejected_records") == [(20,)]
        app.events += [_event(n, NOW - timedelta(hours=4)) for n in range(50, 80)]
        assert not lake.extract(_connector(), _connection(server.url), NOW + timedelta(hours=1)).failures
    last = "select complete_through from landing_acme_app.fetch_log order by fetched_at, outcome desc"
    assert [through for (through,) in lake.query(last)][-2] < datetime(2026, 1, 30, 12)


def test_a_connection_is_one_customers_for_ever(lake: Lake) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(hours=2))]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        app.events.append(_event(2, NOW + timedelta(minutes=30)))
        moved = replace(_connection(server.url), org_id="globex")
        report = lake.extract(_connector(), moved, NOW + timedelta(hours=1))
        assert "needs a new connection_id" in report.failures["acme-app", "events"]
        assert not lake.extract(_connector(), _connection(server.url), NOW + timedelta(hours=2)).failures
    assert len(_ids(lake)) == 2
    for table in ("events", "fetch_log"):
        assert lake.query(f"select distinct org_id from landing_acme_app.{table}") == [("acme",)]


@pytest.mark.parametrize("streams", ["events", "users"])
def test_on_postgres_a_second_connection_is_read_as_the_first_was(
    lake: Lake, product_server: PrivatePostgres, streams: str
) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(hours=2)), {**_event(2, NOW - timedelta(hours=2)), "size": "no\0number"}]
    app.users = [{"id": "1", "email": "a@acme.com"}]
    warehouse = extract.Warehouse(dlt.destinations.postgres(product_server.url(f"two_of_{streams}")), lake.folder)
    connector = _connector(streams=streams)
    with vendor(app) as server:
        first = _connection(server.url)
        second = replace(first, connection_id="globex-app", org_id="globex")
        for group in ([first], [first, second], [first, second]):
            report = extract.extract(warehouse, group, {"acme_app": connector}, now=NOW, sleep=lake.slept.append)
            assert not report.failures
    with warehouse.pipeline("acme_app").sql_client() as client:
        assert client.execute_sql(f"select org_id, count(*) from {streams} group by 1 order by 1") == [
            ("acme", 1),
            ("globex", 1),
        ]


def test_a_run_that_finds_nothing_new_loads_nothing_until_completeness_reaches_the_next_quarter_hour(
    lake: Lake,
) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(hours=2))]
    app.users = [{"id": 1, "email": "1@acme.com"}]
    loads = "select count(*) from landing_acme_app._dlt_loads"
    with vendor(app) as server:
        lake.extract(_connector(streams="both"), _connection(server.url))
        lake.extract(_connector(streams="both"), _connection(server.url), NOW + timedelta(minutes=5))
        assert lake.query(loads) == [(1,)]
        lake.extract(_connector(streams="both"), _connection(server.url), NOW + timedelta(minutes=20))
    assert lake.query(loads) == [(2,)]


def test_a_listed_record_that_cannot_be_typed_is_not_taken_for_gone(lake: Lake) -> None:
    app = App()
    app.users = [{"id": 1, "email": "1@acme.com"}, {"id": 2, "email": "2@acme.com"}]
    with vendor(app) as server:
        lake.extract(_connector(streams="users"), _connection(server.url))
        app.users[1]["email"] = "nul\0@acme.com"
        lake.extract(_connector(streams="users"), _connection(server.url), NOW + timedelta(hours=1))
    assert lake.query("select count(*) from landing_acme_app.users where is_gone") == [(0,)]
    assert lake.query("select reason from landing_acme_app.rejected_records") == [("NUL character in text",)]


def test_a_window_without_news_leaves_no_hole_in_the_fetch_log(lake: Lake) -> None:
    app = App()
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        app.events = [_event(1, NOW + timedelta(days=2))]
        lake.extract(_connector(), _connection(server.url), NOW + timedelta(days=3))
    windows = lake.query("select window_start, window_end from landing_acme_app.fetch_log order by 1")
    assert all(start <= end for (_, end), (start, _) in itertools.pairwise(windows))


def test_two_identical_records_of_one_window_in_two_batches_are_both_kept(lake: Lake, monkeypatch: Any) -> None:
    monkeypatch.setattr(fetch, "BATCH_RECORDS", PAGE)
    app = App()
    at = NOW - timedelta(hours=2)
    app.events = [_event(n, at) for n in (1, 1, 1, 1, 1)]
    key = Key(("$.id", "$.at"), "content_hash")
    with vendor(app) as server:
        lake.extract(_connector(key=key), _connection(server.url))
        app.events.append(_event(1, at))
        lake.extract(_connector(key=key), _connection(server.url), NOW + timedelta(hours=3))
    assert len(_ids(lake)) == len(set(_ids(lake))) == 6


def test_the_same_text_under_two_parents_is_two_records_and_neither_is_gone(lake: Lake) -> None:
    listing = replace(
        _connector(streams="users").streams[0],
        path="/groups/{group}/users",
        parent=Parent("/groups", {"group": "id", "group_name": "id"}, "items"),  # one name begins like the other
        key=Key(("group_name", "$.id")),
    )
    connector = replace(_connector(), streams=(listing,))
    groups: dict[str, list[dict[str, Any]]] = {"a": [{"id": 1}], "b": [{"id": 1}]}

    def answer(request: Request) -> Answer:
        name = request.path.split("/")[2] if request.path.count("/") > 1 else ""
        return Answer({"items": groups[name] if name else [{"id": group} for group in groups]})

    with vendor(answer) as server:
        lake.extract(connector, _connection(server.url))
        groups["c"] = [{"id": 1}]
        lake.extract(connector, _connection(server.url), NOW + timedelta(hours=1))
    records = lake.query("select record_id, is_gone from landing_acme_app.users order by 1")
    assert records == [("a/1", False), ("b/1", False), ("c/1", False)]


SPAN = (NOW - timedelta(days=20), NOW - timedelta(days=10))


def test_a_backfill_brings_what_the_cursor_has_passed_and_doubles_nothing(lake: Lake) -> None:
    app = App()
    app.events = [_event(n, NOW - timedelta(days=n)) for n in (2, 11)]
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        app.events += [_event(n, NOW - timedelta(days=n)) for n in (5, 12, 15, 25)]
        for _ in range(2):
            lake.extract(_connector(), _connection(server.url), span=SPAN)
    assert _ids(lake) == [f"events:acme-app:{n}" for n in (11, 12, 15, 2)]
    covered = "select max(window_end) from landing_acme_app.fetch_log where window_start = timestamp '2026-01-11 12:00'"
    assert lake.query(covered) == [(SPAN[1].replace(tzinfo=None),)]


def test_a_killed_backfill_goes_on_with_the_window_that_it_was_at(lake: Lake) -> None:
    app = App()
    app.events = [_event(n, NOW - timedelta(days=10 + n)) for n in range(1, 10)]
    window = Window(
        {"from": "{start}", "to": "{end}"}, "iso_s", longest=timedelta(days=2), retention=timedelta(days=30)
    )
    connector = replace(_connector(), streams=(replace(_connector().streams[0], window=window),))

    def asked() -> list[str]:
        return [request.query["from"][:10] for request in server.requests]

    with vendor(app) as server:
        child = multiprocessing.get_context("fork").Process(
            target=lake.extract, args=(connector, _connection(server.url)), kwargs={"span": SPAN}
        )

        def kill_in_the_third_window(number: int) -> None:
            if child.pid and len(set(asked())) == 3:
                os.kill(child.pid, signal.SIGKILL)

        app.before_page = kill_in_the_third_window
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        app.before_page, before = lambda number: None, len(server.requests)
        lake.extract(connector, _connection(server.url), span=SPAN)
        assert asked()[before] == "2026-01-15", "the third window of two days, not the first"
    assert len(_ids(lake)) == len(set(_ids(lake))) == 9


def test_a_backlog_lands_in_loads_of_bounded_size(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what lies between the vendor and the warehouse does not grow with what is to be read."""
    monkeypatch.setattr(extract, "LOAD_EVENTS", 4)
    app = App()
    app.events = [_event(n, NOW - timedelta(hours=6 * n)) for n in range(1, 25)]  # four a day
    window = Window({"from": "{start}", "to": "{end}"}, "iso_s", longest=timedelta(days=1))
    connector = replace(_connector(), streams=(replace(_connector().streams[0], window=window),))
    with vendor(app) as server:
        lake.extract(connector, _connection(server.url))
    loads = lake.query("select count(*) from landing_acme_app.events group by _dlt_load_id")
    assert len(_ids(lake)) == 24
    assert len(loads) >= 4
    assert max(loads) <= (7,), "more than a window's over what a load may hold"


def test_a_backfill_of_what_the_vendor_no_longer_has_says_so(lake: Lake) -> None:
    with vendor(App()) as server:
        lake.extract(_connector(), _connection(server.url), span=(NOW - timedelta(days=60), NOW - timedelta(days=29)))
    gaps = "select window_start, error from landing_acme_app.fetch_log where outcome = 'gap'"
    assert lake.query(gaps) == [(datetime(2025, 12, 2, 12), "older than the vendor keeps events")]


def test_replayed_records_land_as_if_they_had_never_been_rejected(lake: Lake, tmp_path: Path) -> None:
    app = App()
    at = NOW - timedelta(hours=2)
    app.events = [_event(1, at), {**_event(2, at), "size": "2 kB"}, {**_event(3, at), "size": "huge"}, _event(4, at)]
    mended = replace(_connector().streams[0], columns=(Column("who", "$.who"), Column("size", "$.size")))
    with vendor(app) as server:
        lake.extract(_connector(), _connection(server.url))
        before = len(server.requests)
        only_kilobytes = Column("size", sql="nullif(replace(payload->>'$.size', ' kB', ''), '')", type="bigint")
        half_mended = replace(mended, columns=(Column("who", "$.who"), only_kilobytes))
        for _ in range(2):
            lake.extract(replace(_connector(), streams=(half_mended,)), _connection(server.url), is_replay=True)
        assert len(server.requests) == before, "a replay asks no vendor"
        never_failed = Lake(tmp_path / "never_failed")
        app.events = [event for event in app.events if event["size"] != "huge"]
        never_failed.extract(replace(_connector(), streams=(half_mended,)), _connection(server.url))
    rows = "select event_id, occurred_at, who, size, payload from landing_acme_app.events order by 1"
    assert lake.query(rows) == never_failed.query(rows)
    [status] = [stream for stream in streams(lake.warehouse) if stream.stream == "events"]
    assert status.rejected == 1


ENDED = NOW + timedelta(hours=6)
ENDS = "select stream, window_start from landing_acme_app.fetch_log where outcome = 'ended' order by fetched_at, 1"


def test_the_end_of_a_connection_lands_once_and_needs_no_vendor(lake: Lake) -> None:
    app = App()
    app.users = [{"id": 1, "email": "1@acme.com"}]
    connector = _connector(streams="both")
    without_secret = replace(connector, auth=lambda connection, session: connection.secret("that_is_gone"))
    with vendor(app) as server:
        ending = replace(_connection(server.url), ended_on=ENDED)
        never_read = replace(ending, connection_id="acme-never", org_id="initech")
        lake.extract(connector, ending)
        assert lake.query(ENDS) == []
        before = len(server.requests)
        for hours in (6, 30):
            report = lake.extract(without_secret, [ending, never_read], NOW + timedelta(hours=hours))
            assert (report.failures, dict(report.rows)) == ({}, {"acme_app": 0})
        assert len(server.requests) == before
    at = ENDED.replace(tzinfo=None)
    assert lake.query(ENDS) == [("events", at), ("users", at)]
    assert lake.query("select count(*) from landing_acme_app._dlt_loads") == [(2,)]
    assert {(s.stream, s.outcome, s.ended_on) for s in streams(lake.warehouse)} == {
        ("events", "ended", at),
        ("users", "ended", at),
    }


def test_an_end_that_is_moved_is_told_anew_and_of_a_stream_that_settings_leave_out_too(lake: Lake) -> None:
    connector = _connector()
    optional = replace(connector, streams=(replace(connector.streams[0], needs="audit"),))
    with vendor(App()) as server:
        lake.extract(optional, _connection(server.url, settings={"audit": True}))
        for number, end in enumerate((ENDED, ENDED + timedelta(hours=1), ENDED, ENDED)):
            ended = replace(_connection(server.url), ended_on=end)
            lake.extract(optional, ended, NOW + timedelta(days=1 + number))
    ends = [ENDED, ENDED + timedelta(hours=1), ENDED]
    assert lake.query(ENDS) == [("events", end.replace(tzinfo=None)) for end in ends]
    spans = "select distinct window_end - window_start from landing_acme_app.fetch_log where outcome = 'ended'"
    assert lake.query(spans) == [(timedelta.resolution,)], "spans that meet would be one, of the first end"


def test_a_connection_that_is_taken_up_again_is_read_on_from_where_it_was(lake: Lake) -> None:
    app = App()
    app.events = [_event(1, NOW - timedelta(hours=2))]
    app.users = [{"id": 1, "email": "1@acme.com"}]
    connector = _connector(streams="both")
    with vendor(app) as server:
        going_on = _connection(server.url)
        ended = replace(going_on, ended_on=ENDED)
        for connection, days in ((going_on, 0), (ended, 1), (going_on, 2)):
            lake.extract(connector, connection, NOW + timedelta(days=days))
            app.events.append(_event(10 + days, NOW + timedelta(hours=18)))
        outcomes = {(s.stream, s.outcome, s.ended_on) for s in streams(lake.warehouse)}
        assert outcomes == {("events", "complete", None), ("users", "complete", None)}
        lake.extract(connector, ended, NOW + timedelta(days=3))
    assert _ids(lake) == [f"events:acme-app:{n}" for n in (1, 10, 11)]
    assert len(lake.query(ENDS)) == 4


def test_what_lies_in_memory_under_a_null_is_no_change_of_the_products_tables() -> None:
    def table(days: list[int], text: str | None = None) -> pa.Table:
        first_is_valid = pa.py_buffer(b"\x01")
        dates = pa.Array.from_buffers(pa.date32(), 2, [first_is_valid, pa.array(days, pa.int32()).buffers()[1]])
        return pa.table({"left_on": dates, "email": pa.array([text, "a"])})

    assert extract._bytes(table([20000, 1])) == extract._bytes(table([20000, 2]))
    assert extract._bytes(table([20000, 1])) != extract._bytes(table([20001, 1]))
    assert extract._bytes(table([20000, 1])) != extract._bytes(table([20000, 1], ""))


@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
def test_a_table_of_the_product_may_be_empty_at_first_and_again(
    lake: Lake, product_server: PrivatePostgres, engine: str
) -> None:
    product_url, warehouse = product_server.url(f"emptied_{engine}"), lake.warehouse
    if engine == "postgres":
        warehouse = extract.Warehouse(dlt.destinations.postgres(product_server.url("emptied")), lake.folder)
    make_missing_tables(product_url)

    def landed() -> dict[str, int]:
        extract.extract_product(warehouse, product_url, extract.Extracted())
        found = {}
        for table in ("orgs", "exchange_rates"):
            with warehouse.pipeline("product").sql_client() as client, suppress(DatabaseUndefinedRelation):
                [(found[table],)] = client.execute_sql(f"select count(*) from {table}") or [()]
        return found

    def change(statement: str) -> None:
        with closing(psycopg2.connect(product_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement)

    change("insert into orgs (org_id) values ('acme')")
    assert landed() == {"orgs": 1, "exchange_rates": 0}
    change("insert into exchange_rates (currency) values ('EUR')")
    assert landed() == {"orgs": 1, "exchange_rates": 1}
    change("truncate orgs, exchange_rates")
    assert landed() == {"orgs": 0, "exchange_rates": 0}
