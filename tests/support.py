"""What several test files need: a scriptable vendor on localhost, and extraction into a DuckDB of the test's own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.client import responses
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
    is_over = threading.Event()

    def converse(connection: socket.socket) -> None:
        # by hand: the standard library's server takes longer to read the headers than all else takes
        with suppress(ConnectionError), connection, connection.makefile("rb") as received:
            while line := received.readline():
                method, target, _ = line.decode("latin-1").split()
                lines = iter(lambda: received.readline().decode("latin-1").strip(), "")
                headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = received.read(int(headers.get("Content-Length", 0)))
                url = urlsplit(target)
                pairs = parse_qsl(url.query, keep_blank_values=True)
                request = Request(method, url.path, dict(pairs), headers, body, pairs)
                seen.append(request)
                reply = answer(request)
                connection.sendall(_written(reply))
                if reply.cut:
                    return

    def accept() -> None:
        while not is_over.is_set():
            connection, _ = listener.accept()
            threading.Thread(target=converse, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield VendorServer(f"http://127.0.0.1:{listener.getsockname()[1]}", seen)
        finally:
            is_over.set()
            socket.create_connection(listener.getsockname()).close()  # wakes the thread that waits
            accepting.join()


def _written(reply: Answer) -> bytes:
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    headers = {
        "Date": formatdate(usegmt=True),
        "Content-Type": "application/json",
        **reply.headers,
        "Content-Length": str(len(body)),
    }
    lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + (body[: len(body) // 2] if reply.cut else body)


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
        mode = {"sleep": self.slept.append} | mode
        return extract(self.warehouse, group, {connector.name: connector}, now=now, **mode)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "warehouse.duckdb")) as connection:
            return connection.execute(sql).fetchall()
