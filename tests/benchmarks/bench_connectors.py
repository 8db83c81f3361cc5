"""How fast the events of every connector go from pages into DuckDB: parsed, keyed, typed, checked, loaded.

    uv run python -m tests.benchmarks.bench_connectors [--events 300000] [--only okta zoom.activities]

Each event stream is read through dlt as `app-usage extract` reads it, from one HTTP server on localhost in a process
of its own. Its records are made from its declaration alone, as those of the conformance kit are, and filled up to 550
bytes with what no column reads, as in bench_extract. Windows and paging are the same for all, 1,000 records a page:
what differs between vendors is the shape of a page, of a record and of its key.

Each stream has a fresh process with an empty warehouse. CPU is that process's, user and system: on a machine that
others use it tells more than the clock.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from dlt.sources.helpers.rest_client.auth import APIKeyAuth
from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Connector, Parent, Stream, Window
from ingestion.connectors import connectors
from tests.conformance.oddities import ODDITIES, TIME_ZONE, Oddity
from tests.conformance.records import ELEMENTS, RecordMaker, is_map, put, time_value
from tests.conformance.vendor import Listing, Settings, csv_page, json_page, put_dotted
from tests.support import Lake

PAGE = 1000
SIZE = 550  # bytes of a record
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
START = NOW - timedelta(hours=24)
NUMBER, MOMENT = 7_654_321, datetime(2026, 1, 31, 3, 21, 45, 678901, tzinfo=UTC)  # found again in a record's text


def declared(connector: Connector, stream: Stream, url: str) -> Connector:
    """The connector with this stream alone, whose records are as declared and whose requests are those of the bench."""
    alone = replace(
        stream,
        path="/events",
        base_url="",
        method="GET",
        params={},
        settings={},
        variants=({},),
        needs="",
        total="",
        paginator=HeaderLinkPaginator,
        window=Window({"since": "{start}", "until": "{end}"}),
        parent=stream.parent and Parent("/parents", stream.parent.fields),
    )
    key = APIKeyAuth(name="X-Key", api_key="benchmark")
    return replace(connector, base_url=url, auth=lambda connection, session: key, streams=(alone,))


def records_of(connector: Connector, stream: Stream) -> tuple[Any, Callable[[str, int], str]]:
    """A record, and what makes the text of the n-th out of its text: another key, another time."""
    maker = RecordMaker(stream, ODDITIES.get(f"{connector.name}.{stream.name}", Oddity()).more)
    places = max(len(maker.distinguishing) - 1, 0)  # the key's last part alone tells the records apart
    record = maker.record(NUMBER << places, MOMENT)
    if is_map(stream):
        record["id"] = f"Event{NUMBER}"
    missing = SIZE - len(json.dumps(record))
    detail = {f"field_{n}": f"value {n} that no column reads" for n in range(missing // 45)}
    put(record, "$.value.detail" if is_map(stream) else "$.detail", str(detail) if stream.csv else detail)
    times = {c.format: c for c in (stream.occurred_at, *stream.columns) if c is not None and c.type == "timestamp"}

    def text(template: str, n: int) -> str:
        made = template.replace(str(NUMBER), str(n))
        for column in times.values():
            at = START + timedelta(milliseconds=80 * n)
            made = made.replace(str(time_value(column, MOMENT)), str(time_value(column, at)))
        return made

    return record, text


def pages_of(connector: Connector, stream: Stream, records: int) -> list[bytes]:
    """Pages of so many records, as the vendor words them."""
    record, text = records_of(connector, stream)
    listing = Listing(connector, stream, Settings(connector))
    envelope = {connector.error_field: True} if connector.error_field not in ("", "errors") and stream.records else {}
    if stream.csv:
        page, separator = csv_page(stream, [record]).decode(), "\r\n"
        template = page.split(separator)[1]
    else:
        if stream.names:  # lists of values; what they are called is said beside them
            place, _, field = stream.names.partition("[*].")
            put_dotted(envelope, place, [{field: name} for name in record])
            record = list(record.values())
        page, separator = json_page(listing, [record], envelope).decode(), ", "
        template = json.dumps(record)
        if is_map(stream):
            template = f"{json.dumps(record['id'])}: {json.dumps(record['value'])}"
    before, after = page.split(template)
    return [
        (before + separator.join(text(template, n) for n in range(first, min(first + PAGE, records))) + after).encode()
        for first in range(0, records, PAGE)
    ]


def serve(name: str, records: int, pipe: Pipe) -> None:
    """The vendor: the stream's pages, each linked to the next, and the one record that they hang under."""
    connector, stream = stream_of(name)
    pages = pages_of(connector, stream, records)
    above: dict[str, Any] = {}
    for part, path in (stream.parent.fields if stream.parent else {}).items():
        put_dotted(above, path, f"{part}-0")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            number = int(query.partition("page=")[2] or 0)
            body = json.dumps([above]).encode() if path == "/parents" else pages[number]
            self.send_response(200)
            self.send_header("Content-Type", "text/csv" if stream.csv and path == "/events" else "application/json")
            self.send_header("Content-Length", str(len(body)))
            if path == "/events" and number + 1 < len(pages):
                self.send_header("Link", f'</events?page={number + 1}>; rel="next"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send((server.server_address[1], sum(map(len, pages)) / records))
    server.serve_forever()


def measure(name: str, port: int, pipe: Pipe) -> None:
    """Events that landed, seconds, CPU-seconds."""
    connector, stream = stream_of(name)
    url = f"http://127.0.0.1:{port}"
    settings = {"time_zone": TIME_ZONE.key, stream.for_each: ["one"]}
    there = Connection("bench", "bench", connector.name, url, START, settings)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        before, started = cpu(), time.perf_counter()
        failures = lake.extract(declared(connector, stream, url), there, NOW).failures
        seconds, burnt = time.perf_counter() - started, cpu() - before
        if failures:
            raise SystemExit(f"{name}: {failures}")
        ((rows,),) = lake.query(f"select count(distinct event_id) from landing_{connector.name}.{stream.name}")
    pipe.send((rows, seconds, burnt))


def cpu() -> float:
    """Seconds of this process so far, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def stream_of(name: str) -> tuple[Connector, Stream]:
    """By `connector.stream`."""
    connector = connectors()[name.split(".")[0]]
    return connector, next(stream for stream in connector.streams if f"{connector.name}.{stream.name}" == name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--only", nargs="*", default=[], help="connectors or connector.stream")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found: dict[str, float] = {}
    print(f"{'stream':34}{'bytes':>7}{'events/s':>10}{'CPU us/event':>14}", flush=True)
    for connector in connectors().values():
        for stream in connector.streams:
            name = f"{connector.name}.{stream.name}"
            if stream.kind != "events" or not stream.path:
                continue
            if options.only and not {name, connector.name} & set(options.only):
                continue
            records = options.events // (ELEMENTS if stream.explode else 1)
            (here, there), (mine, theirs) = context.Pipe(), context.Pipe()
            server = context.Process(target=serve, args=(name, records, there), daemon=True)
            server.start()
            there.close()  # so that nobody waits for one that died
            port, size = here.recv()
            child = context.Process(target=measure, args=(name, port, theirs))
            child.start()
            theirs.close()
            rows, seconds, burnt = mine.recv()
            child.join()
            server.terminate()
            if rows != options.events:
                raise SystemExit(f"{name}: {rows:,} of {options.events:,} events landed")
            found[name] = rows / seconds
            print(f"{name:34}{size:>7.0f}{found[name]:>10,.0f}{burnt / rows * 1e6:>14.1f}", flush=True)
    least = min(found, key=found.__getitem__)
    print(f"median {statistics.median(found.values()):,.0f} events/s; least {found[least]:,.0f}, {least}")


if __name__ == "__main__":
    main()
