"""How fast events go from a vendor's pages into DuckDB, beside what dlt does by itself and beside the bare minimum.

    uv run python -m tests.benchmarks.bench_extract [--events 1000000] [--runs 3]

Every way reads the same pages (1,000 events of about 550 bytes) from one HTTP server on localhost in a process of its
own, and lands the same columns, payload included:

- ours: a connector as declared, dlt, typed, keyed, checked, rejects apart, cursors, fetch log;
- rest_api: dlt's `rest_api` source with its defaults, on a tenth of the events;
- rest_api parquet: the same with `loader_file_format="parquet"`, on a tenth of the events;
- bare: download, parse, insert, and nothing else: no retry, no key, no check, no state.

Each run is a fresh process with an empty warehouse; peak memory is that process's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

PAGE = 1000
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
START = NOW - timedelta(hours=24)


def _page(number: int, pages: int) -> bytes:
    """One page of the vendor's log, in the shape of Okta's; all its events in one millisecond after the other."""
    first = START + timedelta(seconds=(number / pages) * 80_000)
    events = []
    for n in range(PAGE):
        serial = number * PAGE + n
        user = serial % 5000
        events.append(
            {
                "uuid": f"00000000-0000-4000-8000-{serial:012d}",
                "published": (first + timedelta(milliseconds=n)).isoformat(timespec="milliseconds")[:-6] + "Z",
                "eventType": "user.authentication.sso",
                "severity": "INFO",
                "displayMessage": "User single sign on to app",
                "actor": {
                    "id": f"00u{user:08d}",
                    "type": "User",
                    "alternateId": f"user{user}@example.com",
                    "displayName": f"User Number {user}",
                },
                "client": {"ipAddress": f"10.0.{user % 256}.{n % 256}", "userAgent": {"rawUserAgent": "Mozilla/5.0"}},
                "outcome": {"result": "SUCCESS", "reason": None},
                "target": [{"id": f"0oa{user % 40:08d}", "type": "AppInstance", "displayName": f"App {user % 40}"}],
                "transaction": {"type": "WEB", "id": f"tx{serial:012d}"},
            }
        )
    following = number + 1 if number + 1 < pages else None
    return json.dumps({"items": events, "next": following}, separators=(",", ":")).encode()


def _serve(pages: int, pipe: Pipe) -> None:
    bodies = [_page(number, pages) for number in range(pages)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            query = self.path.partition("?")[2]
            cursor = dict(pair.partition("=")[::2] for pair in query.split("&")).get("cursor", "0")
            body = bodies[int(cursor)]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send((server.server_address[1], sum(map(len, bodies)) / pages / PAGE))
    server.serve_forever()


@contextmanager
def _vendor(events: int) -> Iterator[tuple[str, float]]:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(events // PAGE, there), daemon=True)
    server.start()
    port, size = here.recv()
    try:
        yield f"http://127.0.0.1:{port}", size
    finally:
        server.terminate()


def ours(url: str, folder: Path, events: int) -> int:
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth
    from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

    from ingestion.connections import Connection
    from ingestion.connector import Column, Connector, Key, Stream, Window, where_equal
    from tests.support import Lake

    connector = Connector(
        name="bench",
        base_url=url,
        auth=lambda connection, session: APIKeyAuth(name="X-Key", api_key="benchmark"),
        streams=(
            Stream(
                name="events",
                kind="events",
                path="/events",
                records="items",
                paginator=lambda: JSONResponseCursorPaginator(cursor_path="next", cursor_param="cursor"),
                window=Window({"since": "{start}", "until": "{end}"}, "iso_ms", longest=timedelta(days=30)),
                key=Key(("$.uuid",)),
                occurred_at=Column("occurred_at", "$.published", "timestamp"),
                columns=(
                    Column("event_type", "$.eventType"),
                    Column("actor_id", "$.actor.id"),
                    Column("actor_email", "$.actor.alternateId"),
                    Column("actor_name", "$.actor.displayName"),
                    Column("outcome", "$.outcome.result"),
                    Column("ip_address", "$.client.ipAddress"),
                    Column("app_name", sql=where_equal("payload $.target", "type", "AppInstance", "displayName")),
                ),
            ),
        ),
    )
    lake = Lake(folder)
    lake.extract(connector, Connection("bench", "bench", "bench", url, START), NOW)
    return int(lake.query("select count(*) from landing_bench.events")[0][0])


def rest_api(url: str, folder: Path, events: int, file_format: Any = None) -> int:
    import dlt
    import duckdb
    from dlt.sources.rest_api import rest_api_source

    source = rest_api_source(
        {
            "client": {"base_url": url},
            "resources": [
                {
                    "name": "events",
                    "endpoint": {
                        "path": "/events",
                        "data_selector": "items",
                        "paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "cursor"},
                    },
                }
            ],
        }
    )
    path = str(folder / "warehouse.duckdb")
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.duckdb(path), dataset_name="landing", pipelines_dir=str(folder / "dlt")
    )
    pipeline.run(source, loader_file_format=file_format)
    with duckdb.connect(path) as connection:
        row = connection.execute("select count(*) from landing.events").fetchone()
    return int(row[0]) if row else 0


def rest_api_parquet(url: str, folder: Path, events: int) -> int:
    return rest_api(url, folder, events, "parquet")


def bare(url: str, folder: Path, events: int) -> int:
    """requests, pyarrow's JSON reader over the page's records, one insert a batch; as little as does the job."""
    import duckdb
    import msgspec
    import pyarrow as pa
    import requests

    session = requests.Session()
    connection = duckdb.connect(str(folder / "warehouse.duckdb"))
    connection.execute(
        "create table events (event_id varchar, occurred_at timestamp, event_type varchar, actor_id varchar,"
        " actor_email varchar, actor_name varchar, outcome varchar, ip_address varchar, app_name varchar, payload json)"
    )
    page = msgspec.json.Decoder(dict[str, msgspec.Raw])
    rows = msgspec.json.Decoder(list[msgspec.Raw])
    batch: list[bytes] = []
    cursor: int | None = 0
    while cursor is not None:
        body = page.decode(session.get(f"{url}/events?cursor={cursor}").content)
        batch += [bytes(record) for record in rows.decode(body["items"])]
        cursor = msgspec.json.decode(body["next"])
        if len(batch) >= 30_000 or cursor is None:
            connection.register("batch", pa.table({"payload": pa.array(batch, pa.string())}))
            connection.execute(
                """insert into events select v[1], cast(v[2] as timestamp), v[3], v[4], v[5], v[6], v[7], v[8], v[9],
                    payload from (select payload, json_extract_string(payload, ['$.uuid', '$.published', '$.eventType',
                    '$.actor.id', '$.actor.alternateId', '$.actor.displayName', '$.outcome.result',
                    '$.client.ipAddress', '$.target[0].displayName']) as v from batch)"""
            )
            connection.unregister("batch")
            batch = []
    row = connection.execute("select count(*) from events").fetchone()
    connection.close()
    return int(row[0]) if row else 0


WAYS = {
    "ours": (ours, 1.0),
    "rest_api": (rest_api, 0.1),
    "rest_api parquet": (rest_api_parquet, 0.1),
    "bare": (bare, 1.0),
}


def _timed(way: str, url: str, events: int, pipe: Pipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        rows = WAYS[way][0](url, Path(folder), events)
        seconds = time.perf_counter() - started
    pipe.send((rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    figures: dict[str, list[tuple[float, float]]] = {way: [] for way in options.ways}
    with _vendor(options.events) as (full, size), _vendor(options.events // 10) as (tenth, _):
        print(f"{options.events} events of {size:.0f} bytes, {options.runs} runs of each way in turn")
        for _run in range(options.runs):
            for way in options.ways:
                share = WAYS[way][1]
                events = int(options.events * share)
                here, there = context.Pipe()
                child = context.Process(target=_timed, args=(way, full if share == 1 else tenth, events, there))
                child.start()
                rows, seconds, peak = here.recv()
                child.join()
                if rows != events:
                    raise SystemExit(f"{way} landed {rows} of {events} events")
                figures[way].append((rows / seconds, peak))
    print(f"{'way':18}{'events/s, median':>18}{'of bare':>10}{'peak MB':>10}")
    medians = {way: statistics.median(rate for rate, _ in runs) for way, runs in figures.items()}
    for way, runs in figures.items():
        ratio = medians[way] / medians["bare"] if "bare" in medians else float("nan")
        print(f"{way:18}{medians[way]:>18,.0f}{ratio:>10.2f}{max(peak for _, peak in runs):>10,.0f}")


if __name__ == "__main__":
    main()
