"""Which organisation's which app is read, and with which credentials.

Connections are listed in a TOML file (`.dlt/connections.toml` unless told otherwise) that holds nothing secret.
Secrets come from dlt's providers alone: the secret `client_secret` of the connection `acme-zoom` is
`connections.acme_zoom.client_secret`, for instance the environment variable
`CONNECTIONS__ACME_ZOOM__CLIENT_SECRET` or a line of `.dlt/secrets.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dlt
from dlt.common.configuration.exceptions import ConfigFieldMissingException

_FIELDS = {"connection_id", "org_id", "connector", "base_url", "start_date", "ended_on", "settings"}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ConnectionsError(Exception):
    """The list of connections is unusable; the message names the place and the remedy."""


@dataclass(frozen=True)
class Connection:
    """One organisation's account at one vendor. `connection_id` is part of every event id: never change it."""

    connection_id: str
    org_id: str
    connector: str
    base_url: str | None = None
    start_date: datetime | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    ended_on: datetime | None = None

    def has_ended(self, now: datetime) -> bool:
        """Whether the connection was taken away for good: its vendor is asked no more."""
        return self.ended_on is not None and self.ended_on <= now

    def setting(self, name: str) -> Any:
        """The value of a setting that the connector needs; a ConnectionsError that names it if it is absent."""
        if name not in self.settings:
            raise ConnectionsError(
                f"connection {self.connection_id!r} has no setting {name!r}: add it under [connections.settings]"
            )
        return self.settings[name]

    @property
    def time_zone(self) -> ZoneInfo:
        """The zone in which the vendor writes times without one: the setting `time_zone`, UTC unless given."""
        name = self.settings.get("time_zone", "UTC")
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, TypeError) as error:
            raise ConnectionsError(
                f"connection {self.connection_id!r}: the setting time_zone {name!r} is no zone such as Europe/Berlin"
            ) from error

    def secret(self, name: str) -> str:
        """The value of a secret, asked of dlt's providers now and kept nowhere."""
        section = self._section
        try:
            return str(dlt.secrets[f"connections.{section}.{name}"])
        except (KeyError, ConfigFieldMissingException) as error:
            variable = f"{self.variables}{name.upper()}"
            raise ConnectionsError(
                f"connection {self.connection_id!r} has no secret {name!r}: set {variable} "
                f"or connections.{section}.{name} in .dlt/secrets.toml"
            ) from error

    @property
    def variables(self) -> str:
        """What the environment variables of its secrets begin with; other ids may lead to the same."""
        return f"CONNECTIONS__{self._section}__".upper()

    @property
    def _section(self) -> str:
        return re.sub(r"[^A-Za-z0-9]", "_", self.connection_id)


def read_connections(path: Path, connectors: Collection[str]) -> list[Connection]:
    """The connections in a TOML file, checked. Raises ConnectionsError for the first thing that is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConnectionsError(f"cannot read the connections file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConnectionsError(f"{path} is not valid TOML: {error}") from error
    if unknown := document.keys() - {"connections"}:
        raise ConnectionsError(
            f"{path}: unknown {', '.join(sorted(unknown))}: write each connection as a [[connections]] table"
        )
    entries = document.get("connections", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConnectionsError(f"{path}: write each connection as a [[connections]] table")
    if not entries:
        raise ConnectionsError(
            f"{path} lists no connection: write each as a [[connections]] table with connection_id, org_id and "
            "connector; `app-usage connectors` lists the connectors"
        )
    connections = [_connection(entry, f"{path}, connection {n}", connectors) for n, entry in enumerate(entries, 1)]
    seen: dict[str, str] = {}
    for connection in connections:
        own, other = connection.connection_id, seen.get(connection.variables)
        if other == own:
            raise ConnectionsError(f"{path}: connection_id {own!r} is there twice")
        if other is not None:
            raise ConnectionsError(
                f"{path}: the connections {other!r} and {own!r} would share their secrets, {connection.variables}…: "
                "choose an id that differs in letters or digits"
            )
        seen[connection.variables] = own
    return connections


def _connection(entry: dict[str, Any], where: str, connectors: Collection[str]) -> Connection:
    for name in ("connection_id", "org_id", "connector"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise ConnectionsError(f"{where}: {name} is missing or no text")
    if not _ID.fullmatch(entry["connection_id"]):
        raise ConnectionsError(
            f"{where}: connection_id {entry['connection_id']!r} may hold letters, digits, '.', '_' and '-'"
        )
    if entry["connector"] not in connectors:
        known = ", ".join(sorted(connectors))
        raise ConnectionsError(f"{where}: no connector {entry['connector']!r}; there are {known}")
    if not isinstance(entry.get("settings", {}), dict):
        raise ConnectionsError(f"{where}: settings is no table: write its settings under [connections.settings]")
    if not isinstance(entry.get("base_url", ""), str):
        raise ConnectionsError(f"{where}: base_url is no text")
    if (base_url := entry.get("base_url")) and not _is_address(base_url):
        raise ConnectionsError(f"{where}: base_url is no http:// or https:// with a host")
    if unknown := set(entry) - _FIELDS:
        raise ConnectionsError(
            f"{where}: unknown {', '.join(sorted(unknown))}; what is not secret goes under [connections.settings], "
            "secrets into .dlt/secrets.toml or the environment"
        )
    start_date, ended_on = (_instant(entry, name, where) for name in ("start_date", "ended_on"))
    if start_date is not None and ended_on is not None and ended_on < start_date:
        raise ConnectionsError(f"{where}: ended_on {entry['ended_on']} is before start_date {entry['start_date']}")
    return Connection(
        connection_id=entry["connection_id"],
        org_id=entry["org_id"],
        connector=entry["connector"],
        base_url=entry.get("base_url"),
        start_date=start_date,
        settings=entry.get("settings", {}),
        ended_on=ended_on,
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket too many
        return False


def _instant(entry: Mapping[str, Any], name: str, where: str) -> datetime | None:
    value = entry.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime):
            raise TypeError
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, TypeError) as error:
        raise ConnectionsError(f"{where}: {name} {value!r} is no date such as 2025-10-01") from error
