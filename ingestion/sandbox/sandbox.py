"""The sandbox as a whole: a world, its vendors' APIs over HTTP, the truth behind them, and the product's tables."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingestion.sandbox.product import Row, fill_product, product_rows
from ingestion.sandbox.server import Hook, Server
from ingestion.sandbox.vendor import Connection, Vendor
from ingestion.sandbox.vendors import vendor_classes
from ingestion.sandbox.world import Options, OptionsError, World, instant, millis


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """Something that somebody did and that the vendor shows by now. Once each, whatever the vendor repeats.

    `event_id`: the vendor's own, None where it gives none. `person_id`: the employee to whom HR's e-mails and aliases
    lead; `actual_person_id`: who it really was. `account_email`: as the vendor writes it. `app_id`: the used app's slug
    in the catalogue, `app_name`: the vendor's name for it. `address`: the client's, if the vendor shows it.
    """

    org_id: str
    connection_id: str
    connector: str
    stream: str
    event_id: str | None
    person_id: str | None
    actual_person_id: str
    account_id: str
    account_email: str | None
    account_kind: str
    app_id: str
    app_name: str
    occurred_at: datetime
    visible_at: datetime
    event_code: str
    is_activity: bool
    status: str
    source_kind: str
    address: str | None


@dataclass(frozen=True, slots=True)
class TrueAccount:
    """An account that a vendor's listing has now: of the vendor's own app, or of one that it gives access to."""

    org_id: str
    connection_id: str
    connector: str
    app_id: str
    account_id: str
    account_email: str | None
    account_name: str
    account_kind: str
    person_id: str | None
    actual_person_id: str
    is_suspended: bool
    license_name: str | None
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class Truth:
    """All that is true at `now`: plain rows to count by."""

    now: datetime
    events: list[TrueEvent]
    accounts: list[TrueAccount]
    product: dict[str, list[Row]]

    def to_jsonl(self) -> Iterator[str]:
        """A JSON object a row, without line ends; `row` says of which kind: event, account, or the product's table."""
        for event in self.events:
            yield _json({"row": "event", **asdict(event)})
        for account in self.accounts:
            yield _json({"row": "account", **asdict(account)})
        for table, rows in self.product.items():
            for row in rows:
                yield _json({"row": table, **row})


class Sandbox:
    """The vendors' APIs on localhost, from `with` to the end of its block.

    `now`: the data's clock, moved by `move`; None follows the real clock. `port`: the first of the vendors' ports, in
    alphabetical order; 0: any that are free. `on_request(n, path)`: called at each request, and may answer it. `wall`:
    the real clock, in epoch seconds, for tests that cannot wait for an expiry.
    """

    def __init__(
        self,
        options: Options | None = None,
        now: datetime | None = None,
        *,
        port: int = 0,
        on_request: Hook | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if now is not None and now.tzinfo is None:
            raise ValueError("now needs a time zone")
        self.options = options or Options()
        self._now = now
        self.world = World(self.options, self.now)
        self.vendors: dict[str, Vendor] = {
            connector: vendor(self.world, lambda: self.now, wall) for connector, vendor in vendor_classes().items()
        }
        known = {name for vendor in self.vendors.values() for name in vendor.connections}
        if unknown := set(self.options.faults) - known:
            raise OptionsError(f"no connection {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
        self._port = port
        self._on_request = on_request
        self._server: Server | None = None
        self._requests = 0

    @property
    def now(self) -> datetime:
        return self._now or datetime.now(UTC)

    @property
    def start(self) -> date:
        """The first day (UTC) of the history."""
        return self.world.start

    @property
    def requests(self) -> int:
        """How many requests have been made since it was last entered."""
        return self._server.requests if self._server else self._requests

    def __enter__(self) -> Self:
        self._server = Server(self.vendors, self._port, self.options.latency_ms, self._on_request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            self._server.stop()
            self._requests = self._server.requests
            self._server = None

    def move(self, now: datetime) -> None:
        """Sets the data's clock, forwards or back."""
        if now.tzinfo is None:
            raise ValueError("now needs a time zone")
        self._now = now

    def set_fault(self, connection_id: str, fault: str | None) -> None:
        """Breaks a connection (`revoked`, `broken`, `malformed`, `busy`) or mends it (None), from now on."""
        self._vendor_of(connection_id).set_fault(connection_id, fault)

    def connections(self) -> list[dict[str, Any]]:
        """The connections in the form of connections.toml. The sandbox must be serving."""
        if self._server is None:
            raise RuntimeError("the sandbox serves only inside its with block")
        return [
            {
                "connection_id": connection.connection_id,
                "org_id": connection.org.org_id,
                "connector": connection.connector,
                "base_url": self._server.url(connection.connector),
                "start_date": self.start.isoformat(),
                "settings": vendor.settings(connection),
            }
            for vendor, connection in self._connections()
        ]

    def secrets(self) -> dict[str, str]:
        """The connections' secrets as environment variables."""
        return {
            f"CONNECTIONS__{_section(connection)}__{name}".upper(): value
            for vendor, connection in self._connections()
            for name, value in vendor.secrets(connection).items()
        }

    def truth(self, now: datetime | None = None) -> Truth:
        """What is true now, or was or will be at another instant."""
        return Truth(
            now or self.now,
            list(self.events(now)),
            list(self._true_accounts(now)),
            product_rows(self.world, now or self.now),
        )

    def events(self, now: datetime | None = None) -> Iterator[TrueEvent]:
        """The true events one by one, for worlds that do not fit into memory."""
        until = millis(now or self.now)
        for vendor, connection in self._connections():
            org = connection.org
            for stream in vendor.streams:
                for day in range(org.day_of(self.world.start_at), org.day_of(until) + 1):
                    for record in vendor.day(connection, stream, day):
                        if record.is_repeat or record.damage or record.visible_at > until:
                            continue
                        actor = record.actor
                        for index, fact in enumerate(record.facts):
                            yield TrueEvent(
                                org.org_id,
                                connection.connection_id,
                                connection.connector,
                                stream,
                                vendor.event_id(record, index),
                                actor.person_id,
                                actor.actual_person_id,
                                actor.account_id,
                                actor.email,
                                actor.kind,
                                fact.app_id,
                                fact.app_name,
                                instant(record.at),
                                instant(record.visible_at),
                                fact.event_code,
                                fact.is_activity,
                                fact.status,
                                fact.source_kind,
                                vendor.address(record),
                            )

    def fill_product(self, url: str) -> dict[str, str]:
        """Fills the input tables that are absent or the sandbox's own. Returns table -> what was done."""
        return fill_product(url, self.world, self.now)

    def write_files(self, folder: Path) -> None:
        """Writes connections.toml and, readable by its owner alone, dlt's secrets.toml."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = []
        for each in self.connections():
            settings = each.pop("settings")
            tables.append("\n".join(["[[connections]]", *_toml(each), "[connections.settings]", *_toml(settings)]))
        (folder / "connections.toml").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
        sections = (
            "\n".join([f"[connections.{_section(connection)}]", *_toml(vendor.secrets(connection))])
            for vendor, connection in self._connections()
        )
        secrets = folder / "secrets.toml"
        secrets.touch(mode=0o600)
        secrets.chmod(0o600)
        secrets.write_text("\n\n".join(sections) + "\n", encoding="utf-8")

    def _true_accounts(self, now: datetime | None) -> Iterator[TrueAccount]:
        at = millis(now or self.now)
        for vendor, connection in self._connections():
            own = [(connection.connector, account) for account in vendor.accounts(connection) if account.exists(at)]
            given = [(app.app_id, account) for app, account, _ in vendor.assignments(connection, at)]
            for app_id, account in own + given:
                is_closed = account.is_closed(at)
                yield TrueAccount(
                    connection.org.org_id,
                    connection.connection_id,
                    connection.connector,
                    app_id,
                    account.account_id,
                    account.email,
                    account.name,
                    account.kind,
                    account.person_id,
                    account.actual_person_id,
                    is_closed,
                    account.license_name if app_id == connection.connector else None,
                    instant(account.created_at),
                    instant(account.closed_at) if is_closed and account.closed_at else None,
                )

    def _connections(self) -> Iterator[tuple[Vendor, Connection]]:
        for vendor in self.vendors.values():
            for connection in vendor.connections.values():
                yield vendor, connection

    def _vendor_of(self, connection_id: str) -> Vendor:
        for vendor, connection in self._connections():
            if connection.connection_id == connection_id:
                return vendor
        raise ValueError(f"no connection {connection_id}")


def serve(
    options: Options,
    now: datetime | None = None,
    *,
    port: int = 0,
    write: Path | None = None,
    ready: Callable[[Sandbox], None] = lambda sandbox: None,
    until: threading.Event | None = None,
) -> None:
    """Serves until it is interrupted or `until` is set; calls `ready` when it does.

    `write`: a folder for the connections.toml and secrets.toml that lead here; both stay valid for a later process with
    the same options and the same `port`.
    """
    with Sandbox(options, now, port=port) as sandbox:
        if write:
            sandbox.write_files(write)
        ready(sandbox)
        with contextlib.suppress(KeyboardInterrupt):
            (until or threading.Event()).wait()


def _section(connection: Connection) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", connection.connection_id)


def _toml(values: Mapping[str, Any]) -> list[str]:
    # A JSON string, number, boolean or list of them is the same in TOML.
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]


def _json(row: Mapping[str, Any]) -> str:
    return json.dumps(row, default=_text, ensure_ascii=False)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
