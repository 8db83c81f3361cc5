"""Event files: what others deliver into S3, GCS or a folder, as JSON lines or Parquet.

For apps that push their events, for shippers such as Firehose, Kafka Connect or Fluent Bit, and for history. Grant
`s3:ListBucket` and `s3:GetObject`, or `storage.objects.list` and `.get`. Without the secrets, which are optional, the
machine's own role is used. GCS goes through the same library as S3, and was not tried.

The setting `url` is a folder: `s3://bucket/prefix/`, `gs://bucket/prefix/`, `file:///folder/` or a plain path. Beside
it, `endpoint_url` and `region` say where S3 is, `anonymous` is for a public bucket. `columns` says where the common
event shape is in a record, as JSON paths; `""` is for what records do not have, and without an `id` a record is known
by all of its content. `values` holds what is the same in every record, for instance `app_name`. `time_format` is `iso`,
`naive` (in the setting `time_zone`) or `epoch_s`, `epoch_ms`, `epoch_us`. An `outcome` is a success as `success`,
`succeeded`, `successful`, `ok`, `allow`, `allowed` or `true`, and a failure as anything else. `complete_from` says
since when the files hold every event; otherwise that is so since the first one came. `lag_hours` (1) is how old an
event is at most when its file comes.

A connection of any vendor may have such a folder too, `[connections.settings.files.<stream>]` with the same settings:
its events are then also read from there, in the vendor's own form (`record` is the JSON path of the vendor's record,
where it is wrapped). Event ids are those of the API, so that history and the live log may overlap. How complete a
stream is, the API says; of such files only `complete_from` and `complete_to` do, given together.

How the files behave:
- what is in a file decides what it is, not its name: Parquet, or JSON lines, plain, gzip or zstd;
- Firehose writes records without a line feed in between: they are told apart all the same;
- they list late and out of order, and are delivered twice, under the same name or another: a file is known by its path
  and version, and by its content, and nothing is concluded from names or from the order of times;
- a file that is still being written changes its version and is read again; its events keep their keys;
- shippers deliver at least once: without ids, equal records count twice within one file, and once over several;
- damage comes with them: what is readable up to it lands, the file is noted in the table `files`, and is read again
  only as another version. Names with a part that begins with `.` or `_` are markers and work in progress.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import requests
from requests.auth import AuthBase

from ingestion.connections import Connection, ConnectionsError
from ingestion.connector import Column, Connector, Key, Lateness, Stream, TimeFormat

SOURCE_KINDS = ("direct", "sso", "usage_report", "oauth_grant")

_PATH = re.compile(r"""\$(\.([A-Za-z0-9_@-]+|"[^"'*]+")|\[[0-9]+\])*""")
_PLACE: Mapping[str, Any] = {
    "url": str,
    "endpoint_url": str,
    "region": str,
    "anonymous": bool,
    "lag_hours": int | float,
    "complete_from": str | date,
    "complete_to": str | date,
    "record": str,
}
_MAPPING: Mapping[str, Any] = {"columns": dict, "values": dict, "time_format": str, "time_zone": str}


def _auth(connection: Connection, session: requests.Session) -> AuthBase:
    """Nothing is asked over HTTP."""
    return AuthBase()


CONNECTOR = Connector(
    name="files",
    base_url="",
    auth=_auth,
    streams=(
        Stream(
            name="events",
            kind="events",
            path="",
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.occurred_at", "timestamp"),
            lateness=Lateness(usual=timedelta(hours=1), rare=timedelta(days=3)),
            columns=(
                Column("account_id", "$.account_id"),
                Column("email", "$.email"),
                Column("user_name", "$.user_name"),
                Column("actor_kind", "$.actor_kind"),
                Column("app_name", "$.app_name"),
                Column("source_kind", "$.source_kind"),
                Column("action", "$.action"),
                Column("outcome", "$.outcome"),
                Column("ip_address", "$.ip_address"),
                Column("user_agent", "$.user_agent"),
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Place:
    """Where files of a stream are, and what is known of them."""

    url: str
    endpoint_url: str | None
    region: str | None
    is_anonymous: bool
    access_key_id: str | None
    secret_access_key: str | None
    lag: timedelta
    complete_from: datetime | None
    complete_to: datetime | None
    record: str  # JSON path of the record in what a file holds; empty: it is the record


def place(connection: Connection, stream: Stream) -> Place:
    """Where a connection has the files of a stream. Raises ConnectionsError."""
    settings, where = _settings(connection, stream)
    if "url" not in settings:
        raise ConnectionsError(f"{where}: url is missing, the folder of the files such as s3://bucket/prefix/")
    record = settings.get("record", "")
    if record:
        _check_path(record, where)
    return Place(
        url=settings["url"],
        endpoint_url=settings.get("endpoint_url"),
        region=settings.get("region"),
        is_anonymous=settings.get("anonymous", False),
        access_key_id=_if_given(lambda: connection.secret("access_key_id")),
        secret_access_key=_if_given(lambda: connection.secret("secret_access_key")),
        lag=timedelta(hours=settings["lag_hours"]) if "lag_hours" in settings else stream.lateness.usual,
        complete_from=_instant(settings, "complete_from", where) or (None if stream.path else connection.start_date),
        complete_to=_instant(settings, "complete_to", where),
        record=record,
    )


def mapped(connection: Connection, stream: Stream) -> Stream:
    """The stream as the connection's files have it; a vendor's own stream as it is. Raises ConnectionsError."""
    settings, where = _settings(connection, stream)
    if stream.kind != "events" or any(c.of == "parent" for c in stream.columns) or stream.occurred_at is None:
        raise ConnectionsError(f"{where}: the stream {stream.name} cannot be read from files")
    if stream.path:
        return stream
    paths, values = settings.get("columns", {}), settings.get("values", {})
    names = {column.name for column in stream.columns}
    if unknown := (set(paths) - names - {"id", "occurred_at"}) | (set(values) - names):
        raise ConnectionsError(
            f"{where}: no column {', '.join(sorted(unknown))}; there are id, occurred_at, {', '.join(sorted(names))}"
        )
    for path in filter(None, paths.values()):
        _check_path(path, where)
    if values.get("source_kind", "direct") not in SOURCE_KINDS:
        raise ConnectionsError(f"{where}: source_kind is one of {', '.join(SOURCE_KINDS)}")
    form = settings.get("time_format", "iso")
    if form not in get_args(TimeFormat):
        raise ConnectionsError(f"{where}: time_format {form!r} is none of {', '.join(get_args(TimeFormat))}")
    usual = place(connection, stream).lag
    identity = paths.get("id", stream.key.paths[0])
    return replace(
        stream,
        key=Key((identity,)) if identity else Key(("$",), "content_hash"),
        occurred_at=replace(stream.occurred_at, path=paths.get("occurred_at", stream.occurred_at.path), format=form),
        lateness=Lateness(usual=usual, rare=max(usual, stream.lateness.rare)),
        columns=tuple(_column(c, paths.get(c.name, c.path), values.get(c.name)) for c in stream.columns),
    )


def _column(column: Column, path: str, value: Any) -> Column:
    if value is None and path:
        return replace(column, path=path)
    said = f"json_extract_string(payload, '{path}')" if path else "null"
    otherwise = "null" if value is None else "'" + str(value).replace("'", "''") + "'"
    return replace(column, path="", sql=f"coalesce({said}, cast({otherwise} as varchar))")


def _settings(connection: Connection, stream: Stream) -> tuple[Mapping[str, Any], str]:
    """What is set for the stream's files, and where: of the connection itself, or beside a vendor's own settings."""
    where = f"connection {connection.connection_id!r}"
    settings: Any = connection.settings
    known = {**_PLACE, **_MAPPING}
    if stream.path:
        where, known = f"{where}, files.{stream.name}", {**_PLACE}
        settings = settings["files"][stream.name]
        settings = {"url": settings} if isinstance(settings, str) else settings
        if not isinstance(settings, Mapping):
            raise ConnectionsError(f"{where}: neither a url nor a table of settings")
    for name, value in settings.items():
        if name not in known:
            raise ConnectionsError(f"{where}: no setting {name!r}; there are {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise ConnectionsError(f"{where}: the setting {name} is not as expected: {value!r}")
    return settings, where


def _check_path(path: Any, where: str) -> None:
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise ConnectionsError(f"{where}: {path!r} is no JSON path such as $.actor.email")


def _instant(settings: Mapping[str, Any], name: str, where: str) -> datetime | None:
    value = settings.get(name)
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ConnectionsError(f"{where}: {name} {value!r} is no date such as 2025-10-01") from error
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _if_given(secret: Callable[[], str]) -> str | None:
    try:
        return secret()
    except ConnectionsError:
        return None
