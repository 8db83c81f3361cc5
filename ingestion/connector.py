"""What a connector is: declarations of a vendor's streams, from which everything else follows.

A connector says where its streams are, how they are paged, how time is asked for, how late its events come, what
identifies a record and which columns staging needs. `fetch.py` turns that into dlt resources, `http.py` speaks to the
vendor, `records.py` types what comes back. A vendor's file in `connectors/` holds declarations first and code only
where the vendor is odd.

Times are UTC throughout; windows are half open, `[start, end)`, whatever the vendor's own bounds are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator, SinglePagePaginator
from requests.auth import AuthBase

from ingestion.connections import Connection

ColumnType = Literal["text", "bigint", "double", "bool", "timestamp"]
TimeFormat = Literal["iso", "epoch_s", "epoch_ms", "epoch_us"]


@dataclass(frozen=True)
class Column:
    """A typed column of a landing table.

    `path` is a JSON path into `of`: the record, one element of an exploded record, or the record's parent.
    `sql`, where no path will do, is a DuckDB expression over `payload` (and `item`) that yields text.
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
    `aggregate_key`: as native, for a row that stands for many and changes.
    """

    paths: tuple[str, ...]
    kind: Literal["native", "content_hash", "aggregate_key"] = "native"


@dataclass(frozen=True)
class Window:
    """How a stream is asked for a span of time.

    `params` are the request's parameters with `{start}` and `{end}` in them. `step` is the finest step the vendor can
    tell apart (a day for date-only filters): requests are widened to whole steps, and repeats are dropped. `longest`
    is the longest span of one request, `retention` how far back the vendor can be asked at all.
    """

    params: Mapping[str, Any]
    format: Literal["iso_ms", "iso_s", "epoch_s", "epoch_ms", "date"]
    step: timedelta = timedelta(seconds=1)
    end_is_inclusive: bool = False
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
    """A listing whose every record is the start of a stream's request: `path` of the stream may name its `fields`."""

    path: str
    fields: Mapping[str, str]
    records: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    paginator: Callable[[], BasePaginator] = SinglePagePaginator


@dataclass(frozen=True)
class Stream:
    """One endpoint of a vendor and the landing table it fills."""

    name: str
    kind: Literal["events", "accounts"]
    path: str
    key: Key
    columns: tuple[Column, ...]
    records: str = ""  # dotted path of the records in a page, a list or a map; empty: the page is the list
    occurred_at: Column | None = None  # events only
    window: Window | None = None  # events only
    lateness: Lateness = Lateness()
    paginator: Callable[[], BasePaginator] = SinglePagePaginator
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)  # parameter -> name of the connection's setting
    ends_on_empty_page: bool = False  # for vendors whose next link never disappears
    explode: str = ""  # JSON path of a list in the record; a row per element
    parent: Parent | None = None
    variants: tuple[Mapping[str, Any], ...] = ({},)  # the request once for each of these further parameters
    for_each: str = ""  # a setting that holds a list: the request once per entry, `{item}` in the path
    total: str = ""  # dotted path of the vendor's own count: an empty page with a count is a failure, not silence
    base_url: str = ""  # where it differs from the connector's
    order: Literal["newest_first", "oldest_first", "unsorted"] = "unsorted"


@dataclass(frozen=True)
class RateLimit:
    """How a vendor says "slow down", and when to come back.

    `reset` names the header; `reset_format` says what it holds: seconds from now, an epoch second or a date.
    `markers` are words in the body of a 400 or 403 that mean a rate limit rather than a refusal.
    """

    statuses: tuple[int, ...] = (429,)
    reset: str = "Retry-After"
    reset_format: Literal["seconds", "epoch", "date"] = "seconds"
    markers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Connector:
    """A vendor. `auth` makes the authentication of a connection, whose token requests must use the session given."""

    name: str
    base_url: str
    auth: Callable[[Connection, requests.Session], AuthBase]
    streams: tuple[Stream, ...]
    rate_limit: RateLimit = RateLimit()
    headers: Mapping[str, str] = field(default_factory=dict)
    error_field: str = ""  # a boolean of a 200 page that says whether the call worked, such as Slack's `ok`


def where_equal(source: str, field_: str, value: str, take: str) -> str:
    """SQL for `take` of the first element of the list `source` whose `field_` equals `value`.

    `source` is `payload` or `item` followed by a JSON path, for instance `payload $.target`.
    """
    document, path = source.split(" ", 1)
    elements = f"json_extract({document}, '{path}[*]')"
    matching = f"list_filter({elements}, lambda e: json_extract_string(e, '$.{field_}') = '{value}')"
    return f"json_extract_string({matching}[1], '$.{take}')"
