"""A vendor made from a connector's declaration alone, that behaves as badly as vendors do.

It knows dlt's paginators, the declared window, retention and order, and issues tokens to whoever asks for one. What a
declaration cannot tell is in `oddities.py`, by name.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    HeaderCursorPaginator,
    HeaderLinkPaginator,
    JSONLinkPaginator,
    JSONResponseCursorPaginator,
    PageNumberPaginator,
    RangePaginator,
    SinglePagePaginator,
)

from ingestion.connections import Connection
from ingestion.connector import Connector, LoneCursorPaginator, Parent, Stream, Window
from tests.conformance.oddities import ODDITIES, PAGE, TIME_ZONE, Oddity
from tests.conformance.records import RecordMaker, is_map
from tests.support import Answer, Request, VendorServer, vendor

PATIENCE = 400  # requests; whoever asks more often does not stop by itself
LINK = "page_token"  # the parameter in the addresses of following pages
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Fact:
    """Something the vendor has a record of. Bytes are sent as they are."""

    record: Any
    at: datetime
    place: int = 0
    appears_at: datetime = BEGINNING
    is_stray: bool = False  # comes once a run, whatever time was asked for


@dataclass(frozen=True)
class Link:
    """What a page token remembers."""

    listing: Listing
    place: int
    rows: list[Any]
    position: int
    bounds: tuple[datetime | None, datetime | None]
    follows_gap: bool


@dataclass(frozen=True)
class Ask:
    """A request of a page, understood."""

    number: int  # among the requests of pages of this run, from 1
    listing: str
    start: datetime | None
    end: datetime | None
    is_first: bool
    request: Request


class Settings(Mapping[str, Any]):
    """The settings of a connection: whatever a connector asks for is there."""

    def __init__(self, connector: Connector) -> None:
        self._lists = {stream.for_each for stream in connector.streams if stream.for_each}

    def __getitem__(self, name: str) -> Any:
        if name == "time_zone":
            return TIME_ZONE.key
        if name == "files":
            return {}  # no event files beside the API
        return ["one", "two"] if name in self._lists else f"a-setting-{name}"

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def small_pages(connector: Connector) -> Connector:
    """The connector with offsets that count in pages of the kit's size, and all of its streams."""

    streams = [
        replace(
            stream,
            unless="",
            params_if={},
            paginator=_shrunk(stream.paginator),
            parent=stream.parent and replace(stream.parent, paginator=_shrunk(stream.parent.paginator)),
        )
        for stream in connector.streams
    ]
    return replace(connector, streams=tuple(streams))


@cache
def _shrunk(make: Callable[[], BasePaginator]) -> Callable[[], BasePaginator]:
    made = make()
    for name in ("limit", "value_step"):
        if getattr(made, name, 1) > 1:
            setattr(made, name, PAGE)
    return lambda: copy.deepcopy(made)  # which is quicker than to parse its paths again


class Listing:
    """What the vendor lists at one path: a stream's records, or the parents of a stream."""

    def __init__(self, connector: Connector, stream: Stream, settings: Settings, parent: Parent | None = None) -> None:
        source: Any = parent or stream
        self.name = f"{stream.name} (parents)" if parent else stream.name
        self.stream = stream
        self.parent = parent
        self.oddity = Oddity() if parent else ODDITIES.get(f"{connector.name}.{stream.name}", Oddity())
        self.maker = RecordMaker(stream, self.oddity.more)
        self.records: str = source.records
        self.total = "" if parent else stream.total
        self.method = "GET" if parent else stream.method
        self.paginator: BasePaginator = source.paginator()
        self.never_ends = not parent and stream.ends_on_empty_page
        self.facts: list[Fact] = []
        is_windowed = bool(stream.parent and stream.parent.is_windowed)
        self.window = stream.window if is_windowed == bool(parent) else None
        fixed = dict(source.params)
        if not parent:
            fixed |= {name: settings[setting] for name, setting in stream.settings.items()}
        own = [self._page_parameter(), *self.oddity.varies]
        self._fixed = {name: value for name, value in _flat(fixed) if name not in own}
        self.places: list[dict[str, Any]] = []
        if parent:
            self.places = [{"fields": {}, "variant": {}}]
        elif not is_windowed:
            above: list[dict[str, str]] = [{}]
            if stream.for_each:
                above = [{"item": item} for item in settings[stream.for_each]]
            elif stream.parent:
                above = [{name: f"{name}-{n}" for name in stream.parent.fields} for n in (0, 1)]
            self.places = [{"fields": fields, "variant": v} for fields in above for v in stream.variants]
        base = stream.base_url or connector.base_url
        address = urlsplit(base.split("{")[0] + "/" + source.path.lstrip("/") if "{" in base else base + source.path)
        own_names = {name for place in self.places for name in place["fields"]} or set(
            getattr(stream.parent, "fields", ())
        )
        self._path = re.compile(self.oddity.path or _pattern(address.path, settings, own_names))
        self._query = dict(parse_qsl(address.query))
        self._next_path = getattr(self.paginator, "_path", "")

    def add(
        self,
        at: datetime,
        *,
        appears_at: datetime | None = None,
        place: int | None = None,
        number: int | None = None,
        alike: bool = False,
    ) -> Fact:
        """A new record. An event shows when the declared delay is over, or at `appears_at`."""
        number = len(self.facts) if number is None else number
        stream = self.stream
        if place is None and stream.parent and stream.parent.is_windowed:
            place = len(self.places)  # a file of its own, that arrives with it
            fields = {name: f"{name}-{place}" for name in stream.parent.fields}
            self.places.append({"fields": fields, "variant": {}})
        elif place is None:
            place = number % len(self.places)
        shows = at + stream.lateness.delay if stream.kind == "events" else BEGINNING
        fact = Fact(self.maker.record(number, at, alike=alike), at, place, appears_at or shows)
        self.facts.append(fact)
        return fact

    @property
    def is_served(self) -> bool:
        """Whether following pages are asked for in a way of the connector's own, without a token."""
        return self.oddity.serve is not None

    def matches(self, request: Request) -> bool:
        """Whether a request is about this listing."""
        if request.method != self.method:
            return False
        if self._next_path and request.path == self._next_path:
            return True
        if self._path.fullmatch(request.path) is None:
            return False
        is_bare = isinstance(self.paginator, LoneCursorPaginator) and is_continued(request)
        if self.window and not is_bare and not is_continued(request) and bounds(self.window, request) is None:
            return False
        return is_bare or _is_sent(self._fixed, request)

    def place(self, request: Request) -> int | None:
        """Which of its places a first request is about."""
        match = self._path.fullmatch(request.path)
        named = match.groupdict() if match else {}
        for number, place in enumerate(self.places):
            fields = {name: quote(value, safe="") for name, value in place["fields"].items()}
            query = {name: value.format_map(place["fields"]) for name, value in self._query.items()}
            if named.items() <= fields.items() and _is_sent({**query, **place["variant"]}, request):
                return number
        return None

    def _page_parameter(self) -> str:
        names = ("cursor_body_path", "param_body_path", "cursor_param", "param_name")
        return next((getattr(self.paginator, name) for name in names if getattr(self.paginator, name, None)), "")

    def position(self, request: Request) -> int | str | None:
        """Where a request goes on: a place in the listing, a page token, or nowhere for a first one."""
        paginator = self.paginator
        if self.oddity.read:
            return self.oddity.read(request)
        if self.is_served or isinstance(paginator, SinglePagePaginator):
            return None
        if isinstance(paginator, RangePaginator):
            values = sent(request, self._page_parameter())
            index = int(values[0]) if values else paginator.initial_value
            is_page = isinstance(paginator, PageNumberPaginator)
            return (index - paginator.initial_value) * PAGE if is_page else index
        is_cursor = isinstance(paginator, JSONResponseCursorPaginator | HeaderCursorPaginator)
        values = sent(request, self._page_parameter() if is_cursor else LINK)
        return values[0] if values and values[0].startswith("page-") else None

    @property
    def takes_empty_pages(self) -> bool:
        """Whether an empty page in the middle can be told from the end, by what is declared."""
        ends = getattr(self.paginator, "stop_after_empty_page", False) or self.oddity.ends_on_short_page
        return not (ends or self.is_served or isinstance(self.paginator, RangePaginator | SinglePagePaginator))


@dataclass
class ModelVendor:
    """The server of one connector. Change its attributes to make it misbehave."""

    connector: Connector
    now: datetime
    listings: list[Listing] = field(default_factory=list)
    before_page: Callable[[Ask], Answer | None] = lambda ask: None
    is_newest_first: bool | None = None  # None: as declared
    empty_page_at: int | None = None  # an empty page, once, where a listing has got so far
    endless: str = ""  # repeats_the_link | new_links_to_nothing | ignores_the_link
    claims: int | None = None  # a count that comes with empty lists only
    not_yet: int = 0  # how often an answer takes its time
    asks: list[Ask] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # what a strict vendor would have refused
    tokens: int = 0  # given out so far
    odd_token: Answer | None = None  # in answer to a token request
    is_revoked: bool = False  # a fixed credential; a token is renewed
    _valid: set[str] = field(default_factory=set)
    _links: dict[str, Link] = field(default_factory=dict)
    _strays_shown: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        settings = Settings(self.connector)
        for stream in self.connector.streams:
            self.listings.append(Listing(self.connector, stream, settings))
            if stream.parent:
                self.listings.append(Listing(self.connector, stream, settings, stream.parent))

    @contextmanager
    def serve(self) -> Iterator[VendorServer]:
        """On localhost."""
        with ExitStack() as stack:
            for name, value in (patch for listing in self.listings for patch in listing.oddity.patch.items()):
                stack.enter_context(mock.patch(name, value))
            yield stack.enter_context(vendor(self.answer))

    def begin(self) -> None:
        """A run begins: what was counted is counted anew."""
        self.asks.clear()
        self._strays_shown.clear()

    def of(self, stream: Stream) -> Listing:
        """The listing of a stream."""
        return next(listing for listing in self.listings if listing.name == stream.name)

    def answer(self, request: Request) -> Answer:
        """What the vendor says to a request."""
        for listing in self.listings:
            request = listing.oddity.asked(request)
        matching = [listing for listing in self.listings if listing.matches(request)]
        return self._listed(matching[0], request) if matching else self._token(request)

    # ---- who is asking

    def _token(self, request: Request) -> Answer:
        if request.method != "POST":
            self.complaints.append(f"asked for {request.method} {request.path}, which is not declared")
            return Answer({"error": "not_found"}, 404)
        self.tokens += 1
        if self.odd_token:
            return self.odd_token
        token = f"token-{self.tokens}-"
        self._valid.add(token)
        oddity = ODDITIES.get(self.connector.name)
        if oddity and oddity.token:
            return Answer(oddity.token(token))
        return Answer({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def _is_welcome(self, request: Request) -> bool:
        shown = " ".join(request.headers.values())
        return any(token in shown for token in self._valid) if self.tokens else not self.is_revoked

    def expire(self) -> None:
        """Every token that was given out, and the credential of a connection that has none, is refused from now on."""
        self._valid.clear()
        self.is_revoked = True

    # ---- pages

    def _listed(self, listing: Listing, request: Request) -> Answer:
        position = listing.position(request)
        link = self._links.get(position) if isinstance(position, str) else None
        asked = (bounds(listing.window, request) if listing.window else None) or (None, None)
        if link is not None:
            if asked not in ((None, None), link.bounds):
                self.complaints.append("followed a page token with other bounds than it was made for")
            asked = link.bounds
        ask = Ask(len(self.asks) + 1, listing.name, *asked, not position, request)
        self.asks.append(ask)
        if ask.number > PATIENCE:
            return Answer({"error": "enough"}, 404)
        interruption = self.before_page(ask)
        if interruption is not None:
            return interruption
        if not self._is_welcome(request):
            return Answer({"error": "token_expired"}, 401)
        if self.not_yet and listing.oddity.result:
            self.not_yet -= 1
            return Answer({self.connector.later: listing.oddity.result(request)}, 202)
        if listing.window and ask.is_first and (refusal := self._refusal(listing.window, *asked)):
            self.complaints.append(refusal)
            return Answer({"error": refusal}, 400)
        if isinstance(position, str) and link is None:
            return Answer({"error": "unknown_page_token"}, 400)
        place = link.place if link else listing.place(request)
        if place is None:
            return Answer({"error": "not_found"}, 404)
        rows = link.rows if link else self._rows(listing, place, asked)
        return self._page(listing, request, place, rows, link.position if link else int(position or 0), asked)

    def _refusal(self, window: Window, start: datetime | None, end: datetime | None) -> str:
        if start is not None and start < self.now - window.retention:
            return f"asked for {start}, which is more than the vendor keeps"
        inclusive = window.step if window.end_is_inclusive and window.step >= timedelta(days=1) else timedelta()
        if start is not None and end is not None and end + inclusive - start > window.longest:
            return f"asked for {end + inclusive - start} at once, a longer span than allowed"
        return ""

    def _rows(self, listing: Listing, place: int, asked: tuple[datetime | None, datetime | None]) -> list[Any]:
        stream, window = listing.stream, listing.window
        if listing.parent:
            return self._parents(listing, asked)
        visible = [fact for fact in listing.facts if fact.place == place and fact.appears_at <= self.now]
        if stream.kind == "accounts":
            return [fact.record for fact in visible]
        if window:
            kept = self.now - window.retention
            wanted = [f for f in visible if f.at >= kept and _is_within(f.at, asked, window)]
            strays = [f for f in visible if f.is_stray and f not in wanted and id(f) not in self._strays_shown]
            self._strays_shown.update(id(f) for f in visible if f.is_stray)
            visible = [*wanted, *strays]
        newest_first = stream.order == "newest_first" if self.is_newest_first is None else self.is_newest_first
        visible.sort(key=lambda fact: fact.at, reverse=newest_first)
        if stream.order == "unsorted" and self.is_newest_first is None:
            random.Random(len(visible)).shuffle(visible)  # noqa: S311 (any order will do, but always the same)
        return [fact.record for fact in visible]

    def _parents(self, listing: Listing, asked: tuple[datetime | None, datetime | None]) -> list[Any]:
        """The parents there are; those that are asked by time have the time of their arrival."""
        assert listing.parent is not None
        children = self.of(listing.stream)
        found = []
        for number, place in enumerate(children.places):
            facts = [fact for fact in children.facts if fact.place == number and fact.appears_at <= self.now]
            if listing.window:
                arrivals = [fact.appears_at - listing.stream.lateness.delay for fact in facts]
                if not any(f.is_stray for f in facts) and not any(
                    _is_within(arrival, asked, listing.window) for arrival in arrivals
                ):
                    continue
            record: dict[str, Any] = {}
            for name, path in listing.parent.fields.items():
                put_dotted(record, path, place["fields"][name])
            found.append(record)
        return found

    def _page(
        self, listing: Listing, request: Request, place: int, rows: list[Any], position: int, asked: Any
    ) -> Answer:
        headers: dict[str, str] = {}
        envelope: dict[str, Any] = {}
        if listing.oddity.serve:
            many = rows[:PAGE] * 2000 if self.endless and listing.oddity.is_numbered else rows
            page = listing.oddity.serve(many, request, envelope, headers)
            return self._answer(listing, page, envelope, headers, len(many))
        if isinstance(listing.paginator, SinglePagePaginator):
            return self._answer(listing, rows, envelope, headers, len(rows))
        page, following = rows[position : position + PAGE], position + PAGE
        if self.empty_page_at == position and listing.takes_empty_pages and not self._is_gap_over(request):
            page, following = [], position
        has_more = following < len(rows) or bool(self.endless)
        if self.endless == "ignores_the_link":
            page, following = rows[:PAGE], 0
        elif self.endless == "repeats_the_link" and following >= len(rows):
            following = position
        elif not has_more and listing.never_ends:
            following, has_more = (following if page else position), True
        token = ""
        if has_more and not isinstance(listing.paginator, RangePaginator):
            token = self._link(Link(listing, place, rows, following, asked, follows_gap=not page and bool(rows)))
        self._write_next(listing, request, envelope, headers, token, len(rows), has_more=has_more)
        return self._answer(listing, page, envelope, headers, len(rows))

    def _is_gap_over(self, request: Request) -> bool:
        return any(
            token in f"{request.query} {request.body!r}" for token, link in self._links.items() if link.follows_gap
        )

    def _link(self, link: Link) -> str:
        if self.endless == "repeats_the_link" or (link.listing.never_ends and link.position >= len(link.rows)):
            for token, known in self._links.items():
                if known == link:
                    return token
        token = f"page-{len(self._links) + 1}-"
        self._links[token] = link
        return token

    def _write_next(
        self,
        listing: Listing,
        request: Request,
        envelope: dict[str, Any],
        headers: dict[str, str],
        token: str,
        total: int,
        *,
        has_more: bool,
    ) -> None:
        paginator = listing.paginator
        query = [(name, value) for name, value in request.pairs if name != LINK]
        address = f"https://vendor.example.com{request.path}?{urlencode([*query, (LINK, token)])}"
        if listing.oddity.write:
            listing.oddity.write(token, envelope, headers)
        elif isinstance(paginator, HeaderLinkPaginator):
            headers |= {"Link": f'<{address}>; rel="{paginator.links_next_key}"'} if token else {}
        elif isinstance(paginator, HeaderCursorPaginator):
            headers |= {paginator.cursor_key: token} if token else {}
        elif isinstance(paginator, JSONLinkPaginator):
            _write(paginator.next_url_path, envelope, address if token else None)
        elif isinstance(paginator, JSONResponseCursorPaginator):
            more = getattr(paginator, "_has_more", "")
            _write(paginator.cursor_path, envelope, token or ("page-0-" if more else None))
            if more:
                put_dotted(envelope, more, has_more)
        elif not isinstance(paginator, RangePaginator):
            raise TypeError(f"the kit cannot page as {type(paginator).__name__} does: name it in oddities.py")
        if isinstance(paginator, RangePaginator) and paginator.total_path:
            pages = -(-total // PAGE) if isinstance(paginator, PageNumberPaginator) else total
            _write(paginator.total_path, envelope, 10**6 if self.endless else pages)
        if path := getattr(paginator, "has_more_path", None):
            _write(path, envelope, has_more)

    def _answer(
        self, listing: Listing, page: list[Any], envelope: dict[str, Any], headers: dict[str, str], total: int
    ) -> Answer:
        if self.claims is not None and not listing.parent:
            page, total = [], self.claims
        if listing.total:
            put_dotted(envelope, listing.total, total)
        if self.connector.error_field and self.connector.error_field != "errors" and listing.records:
            envelope.setdefault(self.connector.error_field, True)
        if listing.stream.csv and not listing.parent:
            return Answer(csv_page(listing.stream, page), headers={"Content-Type": "text/csv", **headers})
        return Answer(json_page(listing, page, envelope), headers=headers)


def json_page(listing: Listing, page: list[Any], envelope: Any) -> bytes:
    """A page as it goes over the wire: the records where they are declared to be, raw ones as they are."""
    if not listing.parent and is_map(listing.stream):
        entries = []
        for number, record in enumerate(page):
            is_raw = isinstance(record, bytes)
            name = f"raw-{number}" if is_raw else record.get("id", f"Event{number + 1}")
            value = record if is_raw else json.dumps(record["value"]).encode()
            entries.append(json.dumps(name).encode() + b": " + value)
        records = b"{" + b", ".join(entries) + b"}"
    else:
        raw = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in page]
        records = b"[" + b", ".join(raw) + b"]"
    if not listing.records:
        return records
    put_dotted(envelope, listing.records, "the records")
    return json.dumps(envelope).encode().replace(b'"the records"', records, 1)


def csv_page(stream: Stream, page: list[Any]) -> bytes:
    names = list(
        dict.fromkeys([*stream.csv, *(name for record in page if isinstance(record, dict) for name in record)])
    )
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    for record in page:
        if isinstance(record, bytes):
            text.write(record.decode(errors="surrogateescape") + "\r\n")
        else:
            writer.writerow(record)
    return b"\xef\xbb\xbf" + text.getvalue().encode(errors="surrogateescape")


def connection(connector: Connector, url: str, start_date: datetime | None) -> Connection:
    """A connection of the connector to the model vendor at `url`."""
    return Connection("acme-1", "acme", connector.name, url, start_date, Settings(connector))


def is_continued(request: Request) -> bool:
    """Whether a request holds a page token."""
    return re.search(r"page-\d+-", f"{request.query} {request.body!r}") is not None


def sent(request: Request, name: str) -> list[str]:
    """The values of a parameter, in the query or in a JSON body (there the name may be a dotted path)."""
    values = [value for key, value in request.pairs if key == name]
    if not values and request.body[:1] == b"{":
        value: Any = json.loads(request.body)
        for step in [name] if name in value else name.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        values = [] if value is None else [_text(v) for v in _many(value)]
    return values


def bounds(window: Window, request: Request) -> tuple[datetime | None, datetime | None] | None:
    """The span that a request asks for, read back from the declared parameters; None if it has others."""
    found: dict[str, datetime] = {}
    for name, template in _flat(window.params):
        for value, part in zip(sent(request, name), _many(template), strict=False):
            pattern = re.escape(str(part)).replace(r"\{start\}", "(?P<start>.+?)").replace(r"\{end\}", "(?P<end>.+?)")
            match = re.fullmatch(pattern, value)
            if match is None:
                return None
            for bound, text in match.groupdict().items():
                if not text.startswith("page-"):
                    found[bound] = _instant(text, window)
    return found.get("start"), found.get("end")


def _instant(text: str, window: Window) -> datetime:
    """A bound as it was sent: ISO, a date, a naive time, or an epoch in seconds or milliseconds."""
    if re.fullmatch(r"\d+", text):
        return datetime.fromtimestamp(int(text) / (1 if len(text) <= 11 else 1_000), UTC)
    parsed = datetime.fromisoformat(text)
    zone = TIME_ZONE if window.format == "naive" else UTC
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)).astimezone(UTC)


def _is_within(at: datetime, asked: tuple[datetime | None, datetime | None], window: Window) -> bool:
    """As strictly as the declaration allows: an inclusive bound means that instant, an inclusive date that day."""
    start, end = asked
    if start is not None and (at <= start if window.start_is_exclusive else at < start):
        return False
    if end is None:
        return True
    if not window.end_is_inclusive:
        return at < end
    return at < end + window.step if window.step >= timedelta(days=1) else at <= end


def _is_sent(wanted: Mapping[str, Any], request: Request) -> bool:
    return all(sent(request, name) == [_text(v) for v in _many(value)] for name, value in wanted.items())


def _flat(params: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: Any) -> str:
    return str(value)


def _pattern(template: str, settings: Settings, own_names: set[str]) -> str:
    pattern = ""
    for literal, name, _, _ in string.Formatter().parse(template):
        pattern += re.escape(literal)
        if name:
            pattern += f"(?P<{name}>[^/]+)" if name in own_names else re.escape(settings[name])
    return pattern


def put_dotted(document: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path."""
    *outer, last = path.split(".")
    for name in outer:
        document = document.setdefault(name, {})
    document[last] = value


def _write(path: Any, envelope: dict[str, Any], value: Any) -> None:
    jsonpath.compile_path(path).update_or_create(envelope, value)
