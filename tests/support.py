"""What several test files need: a scriptable vendor on localhost, and extraction into a DuckDB of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import duckdb

from ingestion.config import duckdb_file
from ingestion.connections import Connection
from ingestion.connector import Connector
from ingestion.extract import Extracted, Warehouse, extract

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    pairs: list[tuple[str, str]]  # the query, where a name may be there more than once


@dataclass
class Answer:
    body: Any = None  # bytes go out as they are, everything else as JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # close the connection in the middle of the body


@dataclass
class VendorServer:
    url: str
    requests: list[Request]


@contextmanager
def vendor(answer: Callable[[Request], Answer]) -> Iterator[VendorServer]:
    """A server that answers each request with `answer(request)` and remembers the requests."""
    seen: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two packets

        def _handle(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            pairs = parse_qsl(url.query, keep_blank_values=True)
            request = Request(self.command, url.path, dict(pairs), dict(self.headers), self.rfile.read(length), pairs)
            seen.append(request)
            reply = answer(request)
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if reply.cut else body)
            if reply.cut:
                self.close_connection = True

        do_GET = do_POST = _handle

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield VendorServer(f"http://127.0.0.1:{server.server_address[1]}", seen)
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Lake:
    """A warehouse of one test: DuckDB and dlt's working folder."""

    folder: Path
    slept: list[float] = field(default_factory=list)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(duckdb_file(self.folder / "warehouse.duckdb"), self.folder / "pipelines")

    def extract(
        self, connector: Connector, connections: Connection | Sequence[Connection], now: datetime = NOW, **mode: Any
    ) -> Extracted:
        group = [connections] if isinstance(connections, Connection) else list(connections)
        return extract(self.warehouse, group, {connector.name: connector}, now=now, sleep=self.slept.append, **mode)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "warehouse.duckdb")) as connection:
            return connection.execute(sql).fetchall()
