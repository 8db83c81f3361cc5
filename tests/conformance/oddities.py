"""What a declaration cannot tell about a vendor: by `connector.stream`, and by `connector` alone for its token.

A stream needs an entry here only if its connector has a paginator of its own, or columns whose SQL hides their paths.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.support import Request

PAGE = 3  # records
TIME_ZONE = ZoneInfo("America/New_York")  # of vendors that write times without one


@dataclass(frozen=True)
class Oddity:
    """One stream's. `serve` takes the records that match a request and gives a page; it fills envelope and headers."""

    more: Mapping[str, Any] = field(default_factory=dict)  # JSON paths that no column shows, and their values
    patch: Mapping[str, Any] = field(default_factory=dict)  # page sizes that are constants of the connector's module
    serve: Callable[[list[Any], Request, dict[str, Any], dict[str, str]], list[Any]] | None = None
    read: Callable[[Request], str | None] | None = None  # the page token in a request
    write: Callable[[str, dict[str, Any], dict[str, str]], None] | None = None  # a page token, if any, into an answer
    token: Callable[[str], Any] | None = None  # the answer to a token request
    path: str = ""  # in place of the declared one, as a pattern
    varies: tuple[str, ...] = ()  # declared parameters that following requests change
    ends_on_short_page: bool = False
    is_numbered: bool = False  # further pages are asked for by number
    result: Callable[[Request], str] | None = None  # the address at which the result of a request will be
    asked: Callable[[Request], Request] = replace  # of a request to that address, the one that it has the result of


def _adobe(rows: list[Any], request: Request, envelope: dict[str, Any], headers: dict[str, str]) -> list[Any]:
    number = int(request.path.rsplit("/", 1)[1])
    envelope["lastPage"] = (number + 1) * PAGE >= len(rows)
    return rows[number * PAGE :][:PAGE]


def _airtable(rows: list[Any], request: Request, envelope: dict[str, Any], headers: dict[str, str]) -> list[Any]:
    by_id = {record["id"] if isinstance(record, dict) else f"odd-{n}": record for n, record in enumerate(rows)}
    if not request.path.endswith("/users"):
        envelope["userIds"] = list(by_id)
        return []
    return [by_id[value] for name, value in request.pairs if name == "id[]"]


def _auth0(time: str, default: str) -> Callable[..., list[Any]]:
    """A search: 9 records at most, by time; a further one is asked from where the last one stopped."""

    def serve(rows: list[Any], request: Request, envelope: dict[str, Any], headers: dict[str, str]) -> list[Any]:
        lower = dict(request.pairs)["q"].split("[", 1)[1].split(" TO ", 1)[0]
        begin = datetime.fromisoformat(lower)
        begin = begin.replace(tzinfo=begin.tzinfo or UTC)

        def at(record: Any) -> datetime:
            text = json.dumps(record) if isinstance(record, dict) else record.decode(errors="replace")
            moment = re.search(rf'"{time}": "([^"]+)"', text)
            try:
                parsed = datetime.fromisoformat(moment[1] if moment else default)
            except ValueError:
                parsed = datetime.fromisoformat(default)
            return parsed.replace(tzinfo=parsed.tzinfo or UTC)

        found = sorted((record for record in rows if at(record) >= begin or at(record).year < 2001), key=at)
        first = int(dict(request.pairs)["page"]) * PAGE
        return found[:9][first : first + PAGE]

    return serve


def _figma(rows: list[Any], request: Request, envelope: dict[str, Any], headers: dict[str, str]) -> list[Any]:
    envelope.setdefault("meta", {})["next_page"] = len(rows) > PAGE
    return rows[:PAGE]


def _tableau(rows: list[Any], request: Request, envelope: dict[str, Any], headers: dict[str, str]) -> list[Any]:
    number = int(request.query["pageNumber"])
    numbers = {"pageNumber": number, "pageSize": PAGE, "totalAvailable": len(rows)}
    envelope["pagination"] = {name: str(value) for name, value in numbers.items()}
    return rows[(number - 1) * PAGE :][:PAGE]


def _duo_read(request: Request) -> str | None:
    offset = request.query.get("next_offset")
    return offset.split(",")[0] if offset else None


def _duo_write(token: str, envelope: dict[str, Any], headers: dict[str, str]) -> None:
    envelope.setdefault("response", {})["metadata"] = {"next_offset": [token, "a-txid"] if token else None}


def _jumpcloud_read(request: Request) -> str | None:
    after = json.loads(request.body).get("search_after")
    return after[0] if after else None


def _jumpcloud_write(token: str, envelope: dict[str, Any], headers: dict[str, str]) -> None:
    headers["X-Limit"] = str(PAGE)
    if token:
        headers["X-Search_after"] = json.dumps([token, "7"])


def _snowflake_result(request: Request) -> str:
    return "/api/v2/statements/" + urlsafe_b64encode(request.body).decode()


def _snowflake_asked(request: Request) -> Request:
    path, _, handle = request.path.partition("statements/")
    statement = replace(request, method="POST", path=path + "statements", body=urlsafe_b64decode(handle))
    return statement if handle else request


def _snowflake(rows: list[Any], request: Request, envelope: dict[str, Any], headers: dict[str, str]) -> list[Any]:
    """Lists in place of objects; the names of what is in them come with the first partition alone."""
    split = [_split(row) for row in rows]
    names = list(dict.fromkeys(name for known, _ in split for name in known))
    number = int(request.query.get("partition", 0))
    if number == 0:
        partitions = [{"rowCount": PAGE} for _ in range(-(-len(rows) // PAGE) or 1)]
        envelope["resultSetMetaData"] = {"rowType": [{"name": name} for name in names], "partitionInfo": partitions}
        envelope["statementHandle"] = _snowflake_result(request).rpartition("/")[2]
    page = []
    for known, raw in split[number * PAGE :][:PAGE]:
        values = [json.dumps(known.get(name)).encode() for name in names]
        listed = b"[" + b", ".join(value if value != b'"the raw value"' else raw for value in values) + b"]"
        page.append(listed if known else raw)
    return page


def _split(row: Any) -> tuple[dict[str, Any], bytes]:
    """The fields of a record, and apart from them, of one that goes out as it is, the last value or all of it."""
    if isinstance(row, dict):
        return row, b""
    known, _, raw = row.partition(b', "more": ')
    return ({**json.loads(known + b"}"), "more": "the raw value"}, raw[:-1]) if raw else ({}, row)


_AUTH0 = {"ingestion.connectors.auth0.PAGE": PAGE, "ingestion.connectors.auth0.MOST": 3 * PAGE}

ODDITIES: Mapping[str, Oddity] = {
    "adobe.users": Oddity(serve=_adobe, is_numbered=True, path=r"/v2/usermanagement/users/[^/]+/\d+"),
    "airtable.users": Oddity(
        serve=_airtable,
        patch={"ingestion.connectors.airtable._IDS_AT_ONCE": PAGE},
        path=r"/v0/meta/enterpriseAccounts/[^/]+(/users)?",
    ),
    "auth0.logs": Oddity(serve=_auth0("date", "2000-01-01"), patch=_AUTH0, varies=("page",), ends_on_short_page=True),
    "auth0.users": Oddity(
        serve=_auth0("created_at", "2000-01-01"), patch=_AUTH0, varies=("page", "q"), ends_on_short_page=True
    ),
    "duo.authentication": Oddity(read=_duo_read, write=_duo_write),
    "figma.activity_logs": Oddity(serve=_figma),
    "jumpcloud.events": Oddity(read=_jumpcloud_read, write=_jumpcloud_write, ends_on_short_page=True),
    **{
        f"snowflake.{stream}": Oddity(
            serve=_snowflake, is_numbered=True, result=_snowflake_result, asked=_snowflake_asked
        )
        for stream in ("login_history", "users")
    },
    "tableau": Oddity(token=lambda token: {"credentials": {"token": token, "site": {"id": "a-site"}}}),
    "tableau.users": Oddity(
        serve=_tableau, path=r"/api/[^/]+/sites/a-site/users", varies=("pageNumber",), is_numbered=True
    ),
}
