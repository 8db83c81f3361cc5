"""Event files: formats, deliveries that misbehave, damage, and what is complete; in a folder and on S3.

GCS has the same library under it and no server here to be tried against.
"""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion import extract, files, records
from ingestion.connections import Connection
from ingestion.connectors import connectors
from ingestion.extract import Extracted
from ingestion.publish import Status
from ingestion.status import streams
from ingestion.terminal import print_status
from tests.support import NOW, Answer, Lake, Request, vendor

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEYS = {"access_key_id": "a-key-of-acme", "secret_access_key": "a-secret-key-of-acme"}


def event(number: int, **more: Any) -> dict[str, Any]:
    at = NOW - DAY + number * timedelta(seconds=1)
    common = {"email": f"user{number}@acme.example", "app_name": "Notion", "action": "login"}
    return {"id": str(number), "occurred_at": at.isoformat(), **common, **more}


def lines(written: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in written)


def events(first: int, last: int) -> bytes:
    return lines([event(n) for n in range(first, last + 1)])


def zstd(content: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return compressed


def parquet(rows: Sequence[Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink, **options)
    return sink.getvalue()


class Place(Protocol):
    """Where files are delivered to. `now` is when an extraction may begin that finds them settled."""

    settings: dict[str, Any]

    @property
    def now(self) -> datetime: ...

    def put(self, name: str, content: bytes, at: datetime = ...) -> None: ...

    def path(self, name: str) -> str: ...


@dataclass
class Folder:
    folder: Path
    now = NOW

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.settings = {"url": str(self.folder)}

    def put(self, name: str, content: bytes, at: datetime = NOW - HOUR) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at.timestamp(), at.timestamp()))

    def path(self, name: str) -> str:
        return str(self.folder / name)


@dataclass
class Bucket:
    """A prefix of an S3 bucket; the time of an object is the server's."""

    client: Any
    endpoint_url: str
    name: str

    def __post_init__(self) -> None:
        self.client.create_bucket(Bucket=self.name)
        self.client.put_object(Bucket=self.name, Key="elsewhere/other.json", Body=b"not ours")
        self.settings = {"url": f"s3://{self.name}/events/", "endpoint_url": self.endpoint_url, "region": "us-east-1"}

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=10)

    def put(self, name: str, content: bytes, at: datetime = NOW) -> None:
        self.client.put_object(Bucket=self.name, Key=f"events/{name}", Body=content)

    def path(self, name: str) -> str:
        return f"{self.name}/events/{name}"


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, str]]:
    import boto3  # here and below: what is killed imports this file, and has no use for these
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url, login = f"http://{host}:{port}", {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    yield boto3.client("s3", "us-east-1", endpoint_url=url, **login), url
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "delivered")


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Folder(tmp_path / "delivered")
    client, url = request.getfixturevalue("s3")
    return Bucket(client, url, f"bucket-{len(client.list_buckets()['Buckets'])}")


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    for name, value in KEYS.items():
        monkeypatch.setenv(f"CONNECTIONS__ACME_FILES__{name.upper()}", value)
    return Lake(tmp_path)


def read(lake: Lake, place: Place, now: datetime | None = None, **settings: Any) -> Extracted:
    connection = Connection("acme-files", "acme", "files", settings={**place.settings, **settings})
    return lake.extract(connectors()["files"], connection, now or place.now)


def landed(lake: Lake) -> list[str]:
    """Ids of all rows, those that are there twice included."""
    rows = lake.query("select event_id from landing_files.events order by len(event_id), 1")
    return [event_id.removeprefix("events:acme-files:") for (event_id,) in rows]


def ids(first: int, last: int) -> list[str]:
    return [str(n) for n in range(first, last + 1)]


def outcomes(lake: Lake) -> list[tuple[Any, ...]]:
    name = "regexp_extract(path, '[^/]*$')"
    return lake.query(
        f"select {name}, outcome, row_count, rejected_count, error from landing_files.files order by fetched_at, 1"
    )


def loaded(*names: str, rows: int = 1) -> list[tuple[Any, ...]]:
    return [(name, "loaded", rows, 0, None) for name in names]


# ---- formats


def test_a_file_is_what_is_in_it_whatever_its_name(lake: Lake, place: Place) -> None:
    place.put("plain.json", events(1, 2))
    place.put("2026/01/31/members.gz", gzip.compress(events(3, 3)) + gzip.compress(events(4, 4)))
    place.put("no-extension", zstd(events(5, 6)))
    place.put("table.json", parquet([event(7), event(8)]))
    place.put("windows.log", b"\xef\xbb\xbf" + events(9, 10).replace(b"\n", b"\r\n\r\n").rstrip())
    place.put("firehose", events(11, 13).replace(b"\n", b""))
    place.put("empty", b"")
    place.put("_SUCCESS", b"not a file of events")
    place.put("_temporary/0/part.json", events(90, 91))
    place.put(".part.json.swp", events(92, 93))
    assert not read(lake, place).failures
    assert landed(lake) == ids(1, 13)
    assert {row[1:] for row in outcomes(lake)} == {("loaded", n, 0, None) for n in (0, 2, 3)}
    columns = "connection_id, org_id, event_id_kind, occurred_at, email, app_name, action"
    assert set(lake.query(f"select {columns} from landing_files.events")) == {
        ("acme-files", "acme", "native", datetime(2026, 1, 30, 12, 0, n), f"user{n}@acme.example", "Notion", "login")
        for n in range(1, 14)
    }


def test_parquet_of_every_type_lands_as_json(lake: Lake, folder: Folder) -> None:
    at = NOW - DAY
    rows = [{**event(n), "occurred_at": at, "n": n, "ratio": ratio} for n, ratio in enumerate([0.5, float("nan")], 1)]
    nested = {"actor": {"tags": ["a", None], "seen_at": at.replace(tzinfo=None)}, "raw": b"\x01", "no": None}
    folder.put("typed.parquet", parquet([{**row, **nested} for row in rows], row_group_size=1, compression="zstd"))
    read(lake, folder)
    payloads = lake.query("select payload->'ratio', payload->'actor', occurred_at from landing_files.events order by 1")
    actor = '{"tags":["a",null],"seen_at":"2026-01-30 12:00:00"}'
    assert payloads == [("0.5", actor, at.replace(tzinfo=None)), ("null", actor, at.replace(tzinfo=None))]


def test_columns_values_and_times_are_where_the_connection_says(lake: Lake, folder: Folder) -> None:
    record = {
        "meta": {"uid": "x1", "ts": 1_769_774_400_123},
        "who": {"mail.address": "Ada@acme.example"},
        "kind": "run",
    }
    folder.put("a.json", lines([record, {**record, "meta": {"uid": "x2", "ts": 1_769_774_401_000}, "app": "Other"}]))
    mapping = {
        "columns": {
            "id": "$.meta.uid",
            "occurred_at": "$.meta.ts",
            "email": '$.who."mail.address"',
            "action": "$.kind",
            "app_name": "$.app",
            "outcome": "",
        },
        "values": {"app_name": "Ada's app", "source_kind": "sso"},
        "time_format": "epoch_ms",
    }
    assert not read(lake, folder, **mapping).failures
    columns = "event_id, occurred_at, email, action, app_name, source_kind, outcome"
    at = datetime(2026, 1, 30, 12)
    assert lake.query(f"select {columns} from landing_files.events order by 1") == [
        ("events:acme-files:x1", at.replace(microsecond=123_000), "Ada@acme.example", "run", "Ada's app", "sso", None),
        ("events:acme-files:x2", at.replace(second=1), "Ada@acme.example", "run", "Other", "sso", None),
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"columns": {"mail": "$.mail"}}, "no column mail; there are id, occurred_at, account_id"),
        ({"columns": {"email": "$.a') or ('"}}, "is no JSON path such as $.actor.email"),
        ({"values": {"source_kind": "guess"}}, "source_kind is one of direct, sso"),
        ({"time_format": "unix"}, "time_format 'unix' is none of iso, naive"),
        ({"time_zone": "Mars"}, "is no zone such as Europe/Berlin"),
        ({"ur": "x"}, "no setting 'ur'; there are url"),
        ({"complete_from": "soon"}, "complete_from 'soon' is no date"),
        ({"url": "ftp://host/folder"}, "is no place of files"),
        ({"url": "/nowhere/at/all"}, "cannot list /nowhere/at/all"),
    ],
)
def test_a_connection_that_is_set_up_wrongly_fails_alone_and_says_how(
    lake: Lake, folder: Folder, settings: dict[str, Any], said: str
) -> None:
    folder.put("a.json", events(1, 1))
    good = Connection("acme-good", "acme", "files", settings=folder.settings)
    bad = Connection("acme-files", "acme", "files", settings={**folder.settings, **settings})
    report = lake.extract(connectors()["files"], [bad, good])
    [(failed, error)] = report.failures.items()
    assert failed == ("acme-files", "events:files")
    assert said in error
    assert lake.query("select event_id from landing_files.events") == [("events:acme-good:1",)]
    assert lake.query("select error from landing_files.fetch_log where outcome = 'failed'") == [(error,)]


def test_a_bucket_that_is_not_there_is_a_failure_and_an_empty_prefix_is_none(
    lake: Lake, s3: tuple[Any, str], tmp_path: Path
) -> None:
    bucket = Bucket(*s3, "nearly-empty")
    assert not read(lake, bucket).failures
    missing = {**bucket.settings, "url": "s3://never-made/events/"}
    connection = Connection("acme-files", "acme", "files", settings=missing)
    [error] = lake.extract(connectors()["files"], connection).failures.values()
    assert "never-made" in error
    assert KEYS["secret_access_key"] not in error


# ---- deliveries that misbehave


def test_a_file_is_loaded_once_however_often_and_under_whatever_name_it_comes(lake: Lake, place: Place) -> None:
    place.put("a.gz", gzip.compress(events(1, 3), mtime=0), NOW - 3 * HOUR)
    place.put("copy-of-a.gz", gzip.compress(events(1, 3), mtime=0), NOW - 2 * HOUR)
    now = place.now
    read(lake, place, now)
    assert sorted(row[1:3] for row in outcomes(lake)) == [("loaded", 3), ("repeated", 0)]
    read(lake, place, now + HOUR)
    assert len(outcomes(lake)) == 2
    place.put("a.gz", gzip.compress(events(1, 3), mtime=0), NOW - HOUR)  # again, under the same name
    place.put("third.gz", gzip.compress(events(1, 3), mtime=0))
    read(lake, place, now + 2 * HOUR)
    assert landed(lake) == ids(1, 3)


def test_a_file_that_lists_late_is_loaded_though_its_name_and_time_are_older(lake: Lake, folder: Folder) -> None:
    folder.put("2026-01-31.json", events(3, 4), NOW - HOUR)
    read(lake, folder)
    folder.put("2026-01-29.json", events(1, 2), NOW - 2 * DAY)
    read(lake, folder, NOW + HOUR)
    assert landed(lake) == ids(1, 4)


@pytest.mark.parametrize("mapping", [{}, {"columns": {"id": ""}}], ids=["with ids", "without ids"])
def test_the_events_of_a_file_that_grows_keep_their_keys(lake: Lake, place: Place, mapping: dict[str, Any]) -> None:
    twin = event(2)
    first = lines([event(1), twin, twin] if mapping else [event(1), event(2)])
    now = place.now
    place.put("growing.json", first, NOW - 2 * HOUR)
    read(lake, place, now, **mapping)
    before = set(landed(lake))
    place.put("growing.json", first + lines([twin] if mapping else [event(3)]), NOW - HOUR)
    read(lake, place, now + HOUR, **mapping)
    assert before < set(landed(lake))
    assert len(set(landed(lake))) == len(before) + 1


def test_equal_records_without_ids_count_twice_in_a_file_and_once_when_delivered_again(
    lake: Lake, folder: Folder
) -> None:
    click = {"occurred_at": "2026-01-30T10:00:00Z", "email": "ada@acme.example", "action": "click"}
    folder.put("a.json", lines([click, click, {**click, "action": "scroll"}]), NOW - 2 * HOUR)
    folder.put("rolled-up.json", lines([click, {**click, "action": "close"}, click]), NOW - HOUR)
    read(lake, folder, columns={"id": ""})
    counted = "select action, count(distinct event_id) from landing_files.events group by 1 order by 1"
    assert lake.query(counted) == [("click", 2), ("close", 1), ("scroll", 1)]
    assert lake.query("select distinct event_id_kind from landing_files.events") == [("content_hash",)]


def test_a_file_that_changes_within_the_second_it_was_read_in_is_read_again(lake: Lake, folder: Folder) -> None:
    folder.put("a.json", events(1, 1), NOW)
    read(lake, folder)
    folder.put("a.json", events(2, 2), NOW)  # same size, same time
    read(lake, folder, NOW + HOUR)
    read(lake, folder, NOW + 2 * HOUR)
    assert landed(lake) == ids(1, 2)
    assert outcomes(lake) == loaded("a.json", "a.json")


# ---- damage


def test_a_corrupt_file_is_noted_and_left_aside_while_the_rest_loads(lake: Lake, place: Place) -> None:
    place.put("1-good.json", events(1, 2), NOW - 9 * HOUR)
    place.put("2-torn.gz", gzip.compress(os.urandom(1000) + events(3, 4))[:-20], NOW - 8 * HOUR)
    place.put("3-torn.parquet", parquet([event(5)])[:-20], NOW - 7 * HOUR)
    place.put("4-garbled.zst", zstd(events(6, 9))[:6] + b"\xff" * 60, NOW - 6 * HOUR)
    place.put("5-page.html", b"<html>\n<h1>502 Bad Gateway</h1>\n</html>\n", NOW - 5 * HOUR)
    place.put("6-zeros", b"\0" * 5000, NOW - 4 * HOUR)
    place.put("7-list.json", json.dumps([event(1)]).encode(), NOW - 3 * HOUR)
    place.put("8-cut.json", events(10, 11) + b'{"id": "12", "occu', NOW - 2 * HOUR)
    place.put("9-good.json", events(13, 13), NOW - HOUR)
    now = place.now
    [failure] = read(lake, place, now).failures.values()
    assert failure.startswith("7 corrupt files, such as ")
    assert failure.endswith("8-cut.json: see the table files")
    assert landed(lake) == ["1", "2", "10", "11", "13"]
    reasons = {name: (outcome, count, error) for name, outcome, count, _, error in outcomes(lake)}
    assert {name for name, (outcome, *_) in reasons.items() if outcome == "loaded"} == {"1-good.json", "9-good.json"}
    assert reasons["2-torn.gz"] == ("corrupt", 0, "Truncated compressed stream")
    assert "magic bytes not found" in reasons["3-torn.parquet"][2]
    assert "ZSTD" in reasons["4-garbled.zst"][2]
    assert reasons["5-page.html"][2] == "neither JSON lines nor Parquet: it begins with b'<html>'"
    assert reasons["6-zeros"][2].startswith("it ends in the middle of a record, with b'\\x00")
    assert "neither JSON lines nor Parquet" in reasons["7-list.json"][2]
    cut = """it ends in the middle of a record, with b'{"id": "12", "occu'"""
    assert reasons["8-cut.json"] == ("corrupt", 2, cut)
    assert not read(lake, place, now + HOUR).failures, "which were told when they were found, and are in the status"
    assert len(outcomes(lake)) == 9, "nothing is tried again"
    place.put("2-torn.gz", gzip.compress(events(3, 4)), NOW)
    place.put("8-cut.json", events(10, 12), NOW)
    read(lake, place, now + 2 * HOUR)
    assert sorted(set(landed(lake)), key=int) == [*ids(1, 4), *ids(10, 13)]
    assert [row[:3] for row in outcomes(lake)[9:]] == [("2-torn.gz", "loaded", 2), ("8-cut.json", "loaded", 3)]


def test_what_is_before_a_damage_lands(lake: Lake, folder: Folder) -> None:
    noisy = [event(n, noise=os.urandom(20).hex()) for n in range(5_000)]
    folder.put("torn.gz", gzip.compress(lines(noisy))[:-1_000])
    folder.put("torn.zst", zstd(lines([{**each, "id": f"z{each['id']}"} for each in noisy]))[:-1_000])
    read(lake, folder)
    counts = {name: count for name, outcome, count, *_ in outcomes(lake) if outcome == "corrupt"}
    assert counts.keys() == {"torn.gz", "torn.zst"}
    assert all(3_000 < count < 5_000 for count in counts.values())
    rejects = "select 1 from information_schema.tables where table_name = 'rejected_records'"
    assert lake.query(rejects) == [], "half a record at the end is the file's damage"


def test_a_bad_line_is_a_rejected_record_and_takes_no_neighbour_with_it(lake: Lake, folder: Folder) -> None:
    deep = b'{"id": "deep", "occurred_at": "2026-01-30T10:00:00Z", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    bad = {
        "html": b"<html><body>502 Bad Gateway</body></html>",
        "truncated": b'{"id": "t", "occurred_at": "2026-01-30T10:00:00Z", "email": "a',
        "larger than a block": lines([event(90, noise="x" * files.BLOCK)]).strip(),
        "raw NUL": b'{"id": "n", "occurred_at": "2026-01-30T10:00:00Z", "email": "a\0b"}',
        "escaped NUL": lines([event(91, user_agent="a\0b")]).strip(),
        "no UTF-8": b'{"id": "u", "occurred_at": "2026-01-30T10:00:00Z", "email": "\xff\xfe"}',
        "year 9999": lines([event(92, occurred_at="9999-12-31T23:59:59Z")]).strip(),
        "10,000 levels": deep,
        "no object": b"[1, 2]",
        "no id": lines([{"occurred_at": "2026-01-30T10:00:00Z"}]).strip(),
    }
    content = b"".join(events(n, n) + line + b"\n" for n, line in enumerate(bad.values(), 1)) + events(11, 11)
    folder.put("odd.json", content)
    folder.put("odd.gz", gzip.compress(content.replace(b"@acme", b"@other"), compresslevel=1))
    assert not read(lake, folder).failures
    assert landed(lake) == sorted(2 * ids(1, 11), key=int)
    assert [row[1:4] for row in outcomes(lake)] == 2 * [("loaded", 11, 10)]
    reasons = (
        "select reason, left(payload, 30) from landing_files.rejected_records where reason like '%odd.json' order by 1"
    )
    suffix = f", in {folder.path('odd.json')}"
    found = {(reason.removesuffix(suffix), payload) for reason, payload in lake.query(reasons)}
    assert {reason for reason, _ in found} == {
        "longer than 8388608 bytes",
        "NUL character in text",
        "no id",
        "not a JSON object",
        "not readable as JSON",
        "occurred_at is in the future",
    }
    unreadable = {payload[:7] for reason, payload in found if reason == "not readable as JSON"}
    assert unreadable == {line.decode(errors="replace")[:7] for line in (bad["html"], bad["truncated"])}


def test_rows_of_parquet_that_are_no_text_are_rejected_and_the_others_land(lake: Lake, folder: Folder) -> None:
    table = pa.Table.from_pylist([event(1), event(2, email="\u00ff\u00ff\u00ff\u00ff"), event(3)])
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    folder.put("latin.parquet", sink.getvalue().replace("\u00ff".encode(), b"\xff\xff"))
    read(lake, folder)
    assert landed(lake) == ["1", "3"]
    assert [row[1:4] for row in outcomes(lake)] == [("loaded", 2, 1)]


def test_what_was_rejected_lands_by_a_replay_once_the_connection_is_set_up_right(lake: Lake, folder: Folder) -> None:
    folder.put("a.json", lines([event(1), {**event(2), "occurred_at": "30.01.2026"}]))
    read(lake, folder, columns={"id": "$.uid"})
    assert [row[1:4] for row in outcomes(lake)] == [("loaded", 0, 2)]
    connection = Connection("acme-files", "acme", "files", settings=folder.settings)
    for _ in range(2):
        assert not lake.extract(connectors()["files"], connection, is_replay=True).failures
    assert landed(lake) == ["1"]


# ---- crashes and size


def _extract_until_killed(folder: Path, settings: dict[str, Any], now: datetime) -> None:
    bring, brought = files._bring, []

    def mortal(store: Any, file: Any) -> Any:
        brought.append(file)
        if len(brought) == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return bring(store, file)

    files._bring, extract.LOAD_EVENTS = mortal, 4
    connection = Connection("acme-files", "acme", "files", settings=settings)
    Lake(folder).extract(connectors()["files"], connection, now)


def test_a_run_that_is_killed_goes_on_with_the_files_that_no_load_had(lake: Lake, place: Place) -> None:
    for n in range(10):
        place.put(f"{n}.json", events(2 * n + 1, 2 * n + 2), NOW - 20 * HOUR + n * HOUR)
    now = place.now
    spawn = multiprocessing.get_context("spawn")
    child = spawn.Process(target=_extract_until_killed, args=(lake.folder, place.settings, now))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    before = landed(lake)
    assert 0 < len(before) < 20
    assert not read(lake, place, now + HOUR).failures
    assert landed(lake) == ids(1, 20)
    assert [row[1:3] for row in outcomes(lake)] == 10 * [("loaded", 2)]


def test_a_load_ends_between_files_when_it_is_large_enough(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "LOAD_EVENTS", 4)
    for n in range(6):
        folder.put(f"{n}.json", events(3 * n + 1, 3 * n + 3), NOW - 10 * HOUR + n * HOUR)
    read(lake, folder)
    assert landed(lake) == ids(1, 18)
    loads = "select count(distinct _dlt_load_id), count(*) from landing_files.files"
    assert lake.query(loads) == [(3, 6)]
    through = "select complete_through from landing_files.fetch_log order by _dlt_load_id"
    assert lake.query(through) == [(datetime(2026, 1, 31, hour),) for hour in (2, 4, 6)]


def test_a_damaged_file_of_an_earlier_load_of_the_run_is_told(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "LOAD_EVENTS", 4)
    for n in range(4):
        content = events(3 * n + 1, 3 * n + 3)
        folder.put(f"{n}.json", content if n else content + b'{"id": "cu', NOW - 10 * HOUR + n * HOUR)
    assert list(read(lake, folder).failures.values()) == [
        f"1 corrupt files, such as {folder.path('0.json')}: see the table files"
    ]
    assert lake.query("select count(distinct _dlt_load_id) from landing_files.files") == [(2,)]


def test_a_file_larger_than_memory_is_read_in_pieces(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of 1 kB, so that records lie across them; the longest record is longer than one."""
    monkeypatch.setattr(files, "BLOCK", 1_000)
    monkeypatch.setattr(files, "CHUNK", 100)
    monkeypatch.setattr(files, "IN_MEMORY", 1_000)
    monkeypatch.setattr(files, "LONGEST_RECORD", 5_000)
    monkeypatch.setattr(records, "LONGEST_RECORD", 5_000)
    monkeypatch.setattr(files, "LONGEST_LINE", 20_000)
    pieces: list[int] = []
    read_records = files._records

    def counted(batch: list[bytes]) -> Any:
        pieces.append(sum(map(len, batch)))
        return read_records(batch)

    monkeypatch.setattr(files, "_records", counted)
    endless = b'{"id": "endless", "noise": "' + b"x" * 1_000_000
    content = events(1, 300) + lines([event(301, noise="y" * 4_000)]) + endless + b'"}\n' + events(302, 600)
    folder.put("huge.gz", gzip.compress(content))
    folder.put("firehose", events(601, 1_200).replace(b"\n", b""))
    read(lake, folder)
    assert landed(lake) == ids(1, 1_200)
    assert max(pieces) < 25_000
    assert [row[1:4] for row in outcomes(lake)] == [("loaded", 600, 0), ("loaded", 600, 1)]


def test_a_file_that_cannot_be_had_holds_up_no_other_and_is_asked_for_again(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        folder.put(f"{n}.json", events(n, n), NOW - 10 * HOUR + n * HOUR)
    bring = files._bring

    def refused(store: Any, file: Any) -> Any:
        if file.path.endswith("1.json"):
            raise PermissionError("Access Denied")
        return bring(store, file)

    with monkeypatch.context() as patched:
        patched.setattr(files, "_bring", refused)
        for hours in (0, 1):  # at the second time, the later files are known
            [error] = read(lake, folder, NOW + hours * HOUR).failures.values()
            assert "1.json: Access Denied" in error
    assert landed(lake) == ["0", "2", "3"]
    through = "select distinct outcome, complete_through from landing_files.fetch_log"
    assert lake.query(through) == [("failed", datetime(2026, 1, 31, 1))], "as far as all files were read"
    assert not read(lake, folder, NOW + 2 * HOUR).failures
    assert landed(lake) == ids(0, 3)


# ---- how complete


def spans(lake: Lake) -> list[tuple[Any, ...]]:
    columns = "outcome, window_start, window_end, complete_through"
    return lake.query(f"select {columns} from landing_files.fetch_log order by fetched_at, window_start")


def at(hour: int) -> datetime:
    return datetime(2026, 1, 31, hour)


def test_what_is_complete_is_as_old_as_the_newest_file_and_its_lag(lake: Lake, folder: Folder) -> None:
    read(lake, folder)
    read(lake, folder, NOW + timedelta(minutes=5))
    assert spans(lake) == [("complete", None, None, None)], "no files, no completeness, and nothing to repeat"
    folder.put("a.json", events(1, 1), NOW - 6 * HOUR)
    folder.put("b.json", events(2, 2), NOW - 2 * HOUR)
    read(lake, folder, NOW + HOUR)
    assert spans(lake)[1:] == [("complete", at(5), at(9), at(9))]
    read(lake, folder, NOW + 2 * HOUR)
    assert len(spans(lake)) == 2, "time that goes by makes nothing complete"


def test_a_folder_that_has_ended_may_be_gone_and_goes_on_without_a_new_file(lake: Lake, folder: Folder) -> None:
    folder.put("a.json", events(1, 1), NOW - 6 * HOUR)
    connection = Connection("acme-files", "acme", "files", settings=folder.settings)
    read(lake, folder)
    there = folder.folder.rename(folder.folder.with_name("gone"))
    for hours in (1, 2):
        ended = replace(connection, ended_on=NOW)
        assert not lake.extract(connectors()["files"], ended, NOW + hours * HOUR).failures
    there.rename(folder.folder)
    read(lake, folder, NOW + 3 * HOUR)
    assert [outcome for outcome, *_ in spans(lake)] == ["complete", "ended", "complete"]


def test_how_old_events_come_and_since_when_all_are_there_can_be_told(lake: Lake, folder: Folder) -> None:
    folder.put("a.json", events(1, 1), NOW - 2 * HOUR)
    read(lake, folder, lag_hours=3, complete_from="2025-10-01")
    assert spans(lake) == [("complete", datetime(2025, 10, 1), at(7), at(7))]
    lag = "select expected_lag_seconds, restate_days from landing_files.fetch_log"
    assert lake.query(lag) == [(3 * 3600, 3)]


def test_a_corrupt_file_leaves_a_gap_until_it_is_replaced(lake: Lake, folder: Folder) -> None:
    folder.put("a.json", events(1, 1), NOW - 8 * HOUR)
    folder.put("b.json", events(2, 2), NOW - 6 * HOUR)
    folder.put("c.gz", gzip.compress(events(3, 3))[:-9], NOW - 5 * HOUR)
    folder.put("d.json", events(4, 4), NOW - 1 * HOUR)
    read(lake, folder)
    assert spans(lake) == [
        ("complete", at(3), at(5), at(10)),
        ("gap", at(5), at(7), at(10)),
        ("complete", at(7), at(10), at(10)),
    ]
    folder.put("c.gz", gzip.compress(events(3, 3)), NOW)
    read(lake, folder, NOW + HOUR)
    assert spans(lake)[3:] == [("complete", at(3), at(11), at(11))]


def test_the_status_tells_of_every_corrupt_file_and_why_records_were_rejected(
    lake: Lake, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 8):
        content = gzip.compress(events(number, number))
        folder.put(f"{number}.gz", content[:-9] if number > 1 else content, NOW - (9 - number) * HOUR)
    nameless = lines([{"occurred_at": "2026-01-30T10:00:00Z", "n": n} for n in range(2)])
    folder.put("odd.json", events(8, 8) + nameless + b"<html>\n" + events(9, 9), NOW - HOUR)
    assert len(read(lake, folder).failures) == 1
    [status] = streams(lake.warehouse)
    torn = [f"{folder.path(f'{number}.gz')} is corrupt" for number in range(2, 8)]
    assert status.errors == (*torn, f"6 corrupt files, such as {folder.path('7.gz')}: see the table files")
    assert (status.rejected, status.reason) == (3, f"no id, in {folder.path('odd.json')}")
    print_status([status], [], Status(None, None, None, (), {}), NOW)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("acme-files, events")]
    assert told == [
        *(f"acme-files, events: {error}" for error in torn[:5]),
        "acme-files, events: and 2 errors more, which `app-usage status --json` shows",
        f"acme-files, events, most rejected records: {status.reason}",
    ]


# ---- files of a vendor


def okta_event(number: int, at: datetime) -> dict[str, Any]:
    return {
        "uuid": f"okta-{number}",
        "published": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "eventType": "user.authentication.sso",
        "actor": {"id": f"u{number}", "type": "User", "alternateId": f"user{number}@acme.example"},
        "outcome": {"result": "SUCCESS"},
        "target": [{"type": "AppInstance", "id": "0oa1", "displayName": "Notion"}],
    }


@pytest.mark.parametrize("is_wrapped", [False, True], ids=["as they are", "wrapped"])
def test_a_vendors_events_in_files_and_in_its_api_are_the_same_events(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch, is_wrapped: bool
) -> None:
    history = [okta_event(n, NOW - timedelta(days=400) + n * HOUR) for n in range(5)]
    both = [okta_event(n, NOW - DAY + n * HOUR) for n in range(5, 9)]
    live = [okta_event(n, NOW - DAY + n * HOUR) for n in range(9, 12)]
    wrap = [{"source": "eventbridge", "detail": each} if is_wrapped else each for each in [*history, *both]]
    folder.put("okta.gz", gzip.compress(lines(wrap)))
    monkeypatch.setenv("CONNECTIONS__ACME_OKTA__TOKEN", "a-token-of-acme")
    monkeypatch.setenv("CONNECTIONS__ACME_OKTA__API_TOKEN", "a-token-of-acme")

    def answer(request: Request) -> Answer:
        if request.path != "/api/v1/logs":
            return Answer([])
        since, until = request.query["since"], request.query["until"]
        return Answer([each for each in [*both, *live] if since <= each["published"] < until])

    where = {"url": folder.settings["url"], "record": "$.detail"} if is_wrapped else folder.settings["url"]
    with vendor(answer) as server:
        settings = {"files": {"system_log": where}}
        connection = Connection("acme-okta", "acme", "okta", server.url, NOW - 30 * DAY, settings)
        for minutes in (0, 5):
            assert not lake.extract(connectors()["okta"], connection, NOW + timedelta(minutes=minutes)).failures
    columns = "event_type, actor_email, outcome, app_name"
    rows = lake.query(f"select distinct event_id, occurred_at, {columns} from landing_okta.system_log order by 2")
    assert rows == [
        (
            f"system_log:acme-okta:okta-{n}",
            datetime.fromisoformat(each["published"]).replace(tzinfo=None),
            "user.authentication.sso",
            f"user{n}@acme.example",
            "SUCCESS",
            "Notion",
        )
        for n, each in enumerate([*history, *both, *live])
    ]
    assert lake.query("select stream, outcome, row_count from landing_okta.files") == [("system_log", "loaded", 9)]
    windows = "select min(window_start) from landing_okta.fetch_log where stream = 'system_log'"
    assert lake.query(windows) == [((NOW - 30 * DAY).replace(tzinfo=None),)], "of files nobody says they are complete"


def test_history_counts_as_complete_when_the_connection_says_so(lake: Lake, folder: Folder) -> None:
    folder.put("history.json", lines([okta_event(1, NOW - 300 * DAY)]))
    told = {**folder.settings, "complete_from": "2025-01-01", "complete_to": "2025-10-01"}
    connection = Connection("acme-okta", "acme", "okta", "http://127.0.0.1:9", settings={"files": {"system_log": told}})
    failures = lake.extract(connectors()["okta"], connection).failures
    assert ("acme-okta", "system_log:files") not in failures
    assert ("acme-okta", "system_log") in failures, "the API was asked too"
    spans = "select window_start, window_end, complete_through from landing_okta.fetch_log where outcome = 'complete'"
    assert lake.query(spans) == [(datetime(2025, 1, 1), datetime(2025, 10, 1), datetime(2025, 10, 1))]


def test_files_of_a_stream_that_cannot_be_are_a_failure(lake: Lake, folder: Folder) -> None:
    beside = {"sytem_log": folder.settings["url"], "users": folder.settings["url"]}
    connection = Connection("acme-okta", "acme", "okta", "http://127.0.0.1:9", settings={"files": beside})
    failures = lake.extract(connectors()["okta"], connection).failures
    assert "no stream of okta" in failures["acme-okta", "sytem_log:files"]
    assert "the stream users cannot be read from files" in failures["acme-okta", "users:files"]


# ---- models


def test_events_of_files_are_staged_in_the_common_shape(
    lake: Lake, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {
        "account_id": "a1",
        "actor_kind": "Admin",
        "outcome": "Denied",
        "source_kind": "sso",
        "user_agent": "Firefox",
    }
    unnamed = {"id": "3", "occurred_at": "2026-01-30T10:00:00Z", "email": " no address "}
    folder.put("a.json", lines([event(1), {**event(2, action="logout"), **full}, unnamed]), NOW - 2 * HOUR)
    folder.put("b.json", lines([event(1, outcome="ok")]), NOW - HOUR)  # a corrected copy
    read(lake, folder)
    for name in ("APP_USAGE_HOME", "DBT_TARGET"):
        monkeypatch.setenv(name, "")  # put back afterwards
    from tests.models_support import Warehouse

    warehouse = Warehouse(lake.folder)
    warehouse.build("--select", "+int_events")
    columns = "account_id, user_email, actor_kind, app_name, source_kind, event_code, activity, status, user_agent"
    rows = warehouse.query(f"select {columns} from analytics_intermediate.int_events order by event_id")
    assert rows == [
        (None, "user1@acme.example", "unknown", "Notion", "direct", "login", "Logon", "success", None),
        ("a1", "user2@acme.example", "admin", "Notion", "sso", "logout", "Logoff", "failure", "Firefox"),
        (None, None, "unknown", "acme-files", "direct", None, "Unknown", "unknown", None),
    ]
    fetches = "select connector, stream, complete_through from analytics_staging.stg_fetches"
    assert warehouse.query(fetches) == [("files", "events", at(10))]
