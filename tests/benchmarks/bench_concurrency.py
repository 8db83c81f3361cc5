"""Whether many connections wait for their vendors together, and whether a large one makes the others late.

    uv run python -m tests.benchmarks.bench_concurrency wait [--connections 50] [--latency 0.2]
    uv run python -m tests.benchmarks.bench_concurrency fair [--connections 500] [--connectors 10] [--times 100]

`wait`: what extraction takes, beside the physical limit: pages * latency / requests at the same time.
`fair`: when the rows of a connection are committed, with and without one that has `--times` the data of each other.

The vendors are one HTTP server in a process of its own, that answers every request after `--latency` seconds. Events
are spread over eight days and paged by 100.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import requests
from dlt.sources.helpers.rest_client.auth import APIKeyAuth
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Stream, Window
from ingestion.extract import PARALLEL_CONNECTORS, PARALLEL_STREAMS, extract
from tests.benchmarks.bench_connectors import cpu
from tests.support import Lake

PAGE = 100
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
START = NOW - timedelta(days=8)
BIG = "big"


def serve(latency: float, events: int, big: int, pipe: Pipe) -> None:
    """Vendors whose connections have so many events each, `big` the one of that name. The key says whose they are."""
    pages = itertools.count()

    class Server(ThreadingHTTPServer):
        request_queue_size = 1000

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            self._answer(str(next(pages)).encode() if self.path == "/asked" else self._page())

        def _page(self) -> bytes:
            next(pages)
            time.sleep(latency)
            whose, query = self.headers["X-Key"], parse_qs(self.path.partition("?")[2])
            apart = (NOW - START).total_seconds() / (big if whose == BIG else events)
            first, last = (
                math.ceil((int(query[bound][0]) - START.timestamp()) / apart) for bound in ("since", "until")
            )
            here = int(query.get("cursor", [first])[0])
            upto = min(here + PAGE, last)
            page = [
                {"id": f"{whose}-{n}", "at": START.timestamp() + n * apart, "who": f"user{n % 50}", "more": "x" * 400}
                for n in range(here, upto)
            ]
            return json.dumps({"items": page, "next": upto if upto < last else None}).encode()

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    pipe.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def vendors(latency: float, events: int, big: int) -> Iterator[str]:
    """Where they are."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(latency, events, big, there), daemon=True)
    server.start()
    there.close()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        server.terminate()


def connector(name: str) -> Connector:
    """One with a stream of events."""
    return Connector(
        name=name,
        base_url="https://api.example.com",
        auth=lambda connection, session: APIKeyAuth(name="X-Key", api_key=connection.connection_id),
        streams=(
            Stream(
                name="events",
                kind="events",
                path="/events",
                records="items",
                paginator=lambda: JSONResponseCursorPaginator(cursor_path="next", cursor_param="cursor"),
                window=Window({"since": "{start}", "until": "{end}"}, "epoch_s"),
                key=Key(("$.id",)),
                occurred_at=Column("occurred_at", "$.at", "timestamp", "epoch_s"),
                columns=(Column("who", "$.who"),),
            ),
        ),
    )


@dataclass(frozen=True)
class Run:
    """Seconds of an extraction, CPU-seconds, pages that were asked for, seconds until each connection's data was in."""

    seconds: float
    cpu: float
    pages: int
    committed: dict[str, float]


def run(url: str, connectors: int, names: list[str]) -> Run:
    """Extract connections, spread over connectors, into an empty warehouse."""
    made = {name: connector(name) for name in (f"vendor_{n}" for n in range(connectors))}
    listed = [Connection(name, name, f"vendor_{n % connectors}", url, START, {}) for n, name in enumerate(names)]
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        began, burnt, started = time.time(), cpu(), time.perf_counter()
        asked = pages(url)
        if failures := extract(lake.warehouse, listed, made, now=NOW).failures:
            raise SystemExit(str(failures))
        seconds, burnt = time.perf_counter() - started, cpu() - burnt
        committed = {
            connection: at - began
            for name in made
            for connection, at in lake.query(
                "select connection_id, epoch(max(inserted_at))"
                f" from landing_{name}.fetch_log join landing_{name}._dlt_loads on _dlt_load_id = load_id group by 1"
            )
        }
        return Run(seconds, burnt, pages(url) - asked - 1, committed)


def pages(url: str) -> int:
    """How many requests there were so far."""
    return int(requests.get(f"{url}/asked", timeout=10).content)


def wait(options: argparse.Namespace) -> None:
    """One connector, then as many as are read at the same time."""
    print(f"{'connectors':>10}{'pages':>8}{'at once':>9}{'limit s':>9}{'took s':>8}{'ratio':>7}{'CPU s':>7}")
    with vendors(options.latency, options.events, 1) as url:
        for connectors in (1, PARALLEL_CONNECTORS):
            names = [f"connection-{n}" for n in range(options.connections)]
            found = run(url, connectors, names)
            at_once = connectors * PARALLEL_STREAMS
            limit = found.pages * options.latency / at_once
            row = f"{connectors:>10}{found.pages:>8}{at_once:>9}{limit:>9.1f}{found.seconds:>8.1f}"
            print(f"{row}{found.seconds / limit:>7.2f}{found.cpu:>7.1f}", flush=True)


def fair(options: argparse.Namespace) -> None:
    """The same connections twice; the second time the first of them is large."""
    print(f"{'':14}{'pages':>7}{'took s':>8}{'CPU s':>7}{'others in: median':>19}{'last':>7}{'beside it':>11}")
    with vendors(options.latency, options.events, options.events * options.times) as url:
        for label, first in (("all alike", "connection-0"), ("one is large", BIG)):
            names = [first, *(f"connection-{n}" for n in range(1, options.connections))]
            found = run(url, options.connectors, names)
            others = {name: seconds for name, seconds in found.committed.items() if name != first}
            beside = [others[name] for name in names[options.connectors :: options.connectors]]
            row = f"{label:14}{found.pages:>7}{found.seconds:>8.1f}{found.cpu:>7.1f}"
            print(
                f"{row}{statistics.median(others.values()):>19.1f}{max(others.values()):>7.1f}{max(beside):>11.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("wait", "fair"))
    parser.add_argument("--connections", type=int)
    parser.add_argument("--connectors", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--events", type=int, default=1000, help="of a connection")
    parser.add_argument("--times", type=int, default=100)
    options = parser.parse_args()
    options.connections = options.connections or (50 if options.what == "wait" else 500)
    (wait if options.what == "wait" else fair)(options)


if __name__ == "__main__":
    main()
