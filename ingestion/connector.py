"""What a connector is: declarations of a vendor's streams, from which everything else follows.

A connector says where its streams are, how they are paged, how time is asked for, how late its events come, what
identifies a record and which columns staging needs. `fetch.py` reads by that, `http.py` speaks to the vendor,
`records.py` types what comes back, `loads.py` gives it to dlt. A vendor's file in `connectors/` holds declarations
first and code only where the vendor is odd.

Times are UTC throughout; windows are half open, `[start, end)`, whatever the vendor's own bounds are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urljoin

import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONResponseCursorPaginator,
    SinglePagePaginator,
)
from requests.auth import AuthBase

from ingestion.connections import Connection

ColumnType = Literal["text", "bigint", "double", "bool", "timestamp"]
TimeFormat = Literal["iso", "naive", "epoch_s", "epoch_ms", "epoch_us"]


@dataclass(frozen=True)
class Column:
    """A typed column of a landing table.

    `path` is a JSON path into `of`: the record, one element of an exploded record, or the record's parent.
    `sql`, where no path will do, is a DuckDB expression over `payload` (and `item`) that yields text.
    A time in the format `naive` has no zone and is meant in the connection's own (setting `time_zone`, else UTC).
    """

    name: str
    path: str = ""
    type: ColumnType = "text"
    format: TimeFormat = "iso"
    of: Literal["record", "item", "parent"] = "record"
    sql: str = ""


@dataclass(frozen=True)
class Key:
    """What identifies a record.

    `native`: the vendor's own id, from one path or several. `content_hash`: the vendor has none; a hash of the named
    paths plus an ordinal among equals, so that two records that are really identical both count. An explicit list of
    paths rather than the whole record: a field that the vendor adds later must not make old events look new.
    `aggregate_key`: as native, for a row that stands for many and changes; a part that is absent is a value too.
    A path `item $.x` is one of the exploded element; without such a path, the element's place in its list is a part.
    """

    paths: tuple[str, ...]
    kind: Literal["native", "content_hash", "aggregate_key"] = "native"


@dataclass(frozen=True)
class Window:
    """How a stream is asked for a span of time.

    `params` are the request's parameters with `{start}` and `{end}` in them. `step` is the finest step the vendor can
    tell apart (a day for date-only filters): requests are widened to whole steps, and repeats are dropped. `longest`
    is the longest span of one request, `retention` how far back the vendor can be asked at all.

    Not every vendor can be asked for a span. Without `{end}` in `params`, one request reads from the start until now.
    With no `params`, each request reads all that the vendor still has: where that comes newest first, reading stops at
    a page with nothing new, and every `rare / 12` it goes on to the end.
    `start_is_exclusive` asks one step earlier; set it too where the vendor does not say. `is_by_arrival`: the vendor
    filters by when it recorded an event, so that none turns up behind the cursor, and nothing is read twice.
    """

    params: Mapping[str, Any]
    format: Literal["iso_ms", "iso_s", "epoch_s", "epoch_ms", "date", "naive"] = "iso_s"
    step: timedelta = timedelta(seconds=1)
    start_is_exclusive: bool = False
    end_is_inclusive: bool = False
    is_by_arrival: bool = False
    longest: timedelta = timedelta(days=30)
    retention: timedelta = timedelta(days=365)


@dataclass(frozen=True)
class Lateness:
    """How late events become visible at the vendor.

    Nothing younger than `delay` is asked for. `usual` is re-read at every run, and what is older counts as complete.
    `rare` is how late an event can still be: re-read whenever the last such re-read is older than `rare / 12`.
    """

    delay: timedelta = timedelta()
    usual: timedelta = timedelta(hours=1)
    rare: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Parent:
    """A listing whose every record is the start of a stream's request: `path` of the stream may name its `fields`.

    `is_windowed`: the window's parameters go to the listing and not to the requests that start from its records.
    """

    path: str
    fields: Mapping[str, str]
    records: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    paginator: Callable[[], BasePaginator] = SinglePagePaginator
    is_windowed: bool = False


@dataclass(frozen=True)
class Stream:
    """One endpoint of a vendor and the landing table it fills."""

    name: str
    kind: Literal["events", "accounts"]
    path: str
    key: Key
    columns: tuple[Column, ...]
    records: str = ""  # dotted path of the records in a page, a list or a map; empty: the page is the list
    csv: tuple[str, ...] = ()  # pages are CSV, a record per line; columns that the header must have
    names: str = ""  # where records are lists of values: JSON path, in the first page, of what each of them is called
    occurred_at: Column | None = None  # events only
    window: Window | None = None  # events only
    lateness: Lateness = Lateness()
    paginator: Callable[[], BasePaginator] = SinglePagePaginator
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    params_if: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # setting -> what it makes of `params`
    settings: Mapping[str, str] = field(default_factory=dict)  # parameter -> name of the connection's setting
    # the same of settings that a connection may do without; of a list, the request once for each of its entries, which
    # key and columns have as a parent's field, empty where there is none
    options: Mapping[str, str] = field(default_factory=dict)
    ends_on_empty_page: bool = False  # for vendors whose next link never disappears
    explode: str = ""  # JSON path of a list in the record; a row per element
    may_be_empty: bool = False  # a record without elements is no row, where otherwise it is rejected
    parent: Parent | None = None
    variants: tuple[Mapping[str, Any], ...] = ({},)  # the request once for each of these further parameters
    for_each: str = ""  # a setting that holds a list: the request once per entry, `{item}` in the path
    needs: str = ""  # a setting without which the connection has no such stream: what not every customer has
    unless: str = ""  # a setting with which it has none: what another stream then stands for
    total: str = ""  # dotted path of the vendor's own count: an empty page with a count is a failure, not silence
    base_url: str = ""  # where it differs from the connector's
    order: Literal["newest_first", "oldest_first", "unsorted"] = "unsorted"


@dataclass(frozen=True)
class RateLimit:
    """How a vendor says "slow down", and when to come back.

    `reset` names the header; `reset_format` says what it holds: seconds from now, an epoch second or a date.
    `markers` are words in the body of a 400 or 403 that mean a rate limit rather than a refusal. `pause`, in seconds,
    is for a vendor that names no time: how long its limit is known to last.
    """

    statuses: tuple[int, ...] = (429,)
    reset: str = "Retry-After"
    reset_format: Literal["seconds", "epoch", "date"] = "seconds"
    markers: tuple[str, ...] = ()
    pause: float = 0.0


@dataclass(frozen=True)
class Connector:
    """A vendor. `auth` makes the authentication of a connection, whose token requests must use the session given.

    One whose token expires has `obtain_token`, and says in `header` where the token goes if not into Authorization.
    One that signs requests has `sign(request)`, called for each attempt, when the request has its final address.
    """

    name: str
    base_url: str
    auth: Callable[[Connection, requests.Session], AuthBase]
    streams: tuple[Stream, ...]
    rate_limit: RateLimit = RateLimit()
    headers: Mapping[str, str] = field(default_factory=dict)
    error_field: str = ""  # a field of a 200 page; the call failed if it is false, "FAIL" or a list of errors
    later: str = ""  # a field of a 202 answer: the address at which what takes its time will be


class HeaderAuth(AuthBase):
    """Credentials in headers of the vendor's own. They are its attributes, where secrets to hide are looked for."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        vars(self).update(headers)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the headers."""
        request.headers.update(vars(self))
        return request


@configspec
class RefreshToken(OAuth2ClientCredentials):
    """Access tokens for a refresh token that lasts, or lives longer each time it is used."""

    refresh_token: str = ""

    def build_access_token_request(self) -> dict[str, Any]:
        """The token request of OAuth 2.0, with the application's credentials in its body."""
        grant = {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
        return {"data": {**grant, "client_id": self.client_id, "client_secret": self.client_secret}}


class LoneCursorPaginator(JSONResponseCursorPaginator):
    """For vendors that take a cursor without the parameters that led to it, some of them at another path.

    `keep` are parameters that go along all the same. A cursor without `has_more` is followed until it repeats: a vendor
    that leaves the flag out must not end a listing early.
    """

    def __init__(
        self, *, cursor: str = "cursor", has_more: str = "", path: str = "", keep: tuple[str, ...] = ()
    ) -> None:
        super().__init__(cursor_path=cursor, cursor_param="cursor")
        self._has_more, self._path, self._keep = has_more, path, keep

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Take the cursor of a page, unless the page says that it is the last."""
        super().update_state(response, data)
        if self._has_more and response.json().get(self._has_more) is False:
            self._has_next_page = False

    def update_request(self, request: requests.Request) -> None:
        """Make the request for the page that the cursor points to."""
        sent = (request.json if request.method == "POST" else request.params) or {}
        following = {name: sent[name] for name in self._keep} | {"cursor": self._next_reference}
        request.url = urljoin(request.url, self._path) if self._path else request.url
        if request.method == "POST":
            request.json = following
        else:
            request.params = following


def where_equal(source: str, field_: str, value: str, take: str) -> str:
    """SQL for `take` of the first element of the list `source` whose `field_` equals `value`.

    `source` is `payload` or `item` followed by a JSON path, for instance `payload $.target`.
    """
    document, path = source.split(" ", 1)
    elements = f"json_extract({document}, '{path}[*]')"
    matching = f"list_filter({elements}, lambda e: json_extract_string(e, '$.{field_}') = '{value}')"
    return f"json_extract_string({matching}[1], '$.{take}')"
