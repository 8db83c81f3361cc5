"""Speaks to a vendor: one session that obeys its limits, and pages whose records stay as they came.

Built on dlt's RESTClient, authentication and paginators. Added is what those leave out: reset headers that are not
`Retry-After`, a token refused in the middle of a listing, next links that never end, and pages that are split into
raw records without parsing them into Python objects.
"""

from __future__ import annotations

import copy
import csv
import email.utils
import io
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit, urlunsplit

import msgspec
import requests
from dlt.common import jsonpath
from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration
from dlt.sources.helpers.rest_client.client import RESTClient
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from ingestion.connector import Connector, RateLimit

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

ATTEMPTS = 6  # with 0.5 s doubled each time and jitter: about 17 s, longer than a vendor's restart of one node
MOST_REPEATS = 3  # of a page in a row; a vendor that does not know the parameter sends its first page for ever
MOST_EMPTY_PAGES = 100  # in a row; filters leave some, a vendor whose links lead nowhere sends them for ever
LONGEST_WAIT = 900.0  # seconds; the longest reset seen in a vendor's documentation is 15 minutes
LONGEST_ANSWER = 900.0  # seconds that the bytes of one answer may take
LONGEST_POLL = 30.0  # seconds between two looks at whether an answer is there
CHUNK = 256 * 1024  # bytes of a page read at once
TIMEOUT = (10.0, 120.0)  # seconds to connect, seconds between bytes

_LIST = "$"  # the page itself is the list of records; dlt guesses where the selector is empty
_CSV = "csv:"  # before the columns that a CSV page must have
_FAILED = (b"false", b'"FAIL"')
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]|[^\s"{}\[\],]+', re.DOTALL)  # a string, a bracket, the rest

# what paginators and authentications raise at an answer that lacks, or has differently, what they look for
_UNEXPECTED = (
    ValueError, TypeError, LookupError, AttributeError, RecursionError, msgspec.MsgspecError, requests.RequestException,
)  # fmt: skip

Sleep = Callable[[float], None]


class FetchError(Exception):
    """A vendor could not be read. The message names the request and the vendor's answer, never a secret."""


class _BusyError(Exception):
    """The vendor asks for a pause or fails for the moment: worth another try."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Unreadable(bytes):
    """A record that is no good JSON though its neighbours are: half a character, a control byte, 10,000 levels."""


Record = bytes  # one record's JSON


class Page(requests.Response):
    """A response whose records stay raw bytes: `json()` is the page without them, which is all that paging needs."""

    def split(self, path: str) -> tuple[dict[str, Any], list[Record]]:
        """The page without its records, and the records under the dotted `path` ('' is a page that is a list).

        Should a record be no good JSON, its neighbours are told apart from it by the brackets alone.
        """
        try:
            return self._split(path, _elements, _members)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            try:
                return self._split(path, _elements_by_brackets, _members_by_brackets)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                kind = self.headers.get("Content-Type", "no content type")
                raise FetchError(
                    f"{_name(self.request)} answered no such JSON as expected ({kind}): {error}"
                ) from error

    def _split(
        self,
        path: str,
        elements: Callable[[Any], list[Record]],
        members: Callable[[Any], dict[str, Any]],
    ) -> tuple[dict[str, Any], list[Record]]:
        if not path:
            return {}, elements(self.content)
        envelope = members(self.content)
        *outer, last = path.split(".")
        level = envelope
        for name in outer:
            level = members(level.get(name, b"{}"))
        raw = level.pop(last, None)
        if raw is None and (error := next((name for name in ("error", "errors") if envelope.get(name)), None)):
            raise FetchError(f"{_name(self.request)} answered 200 with {error!r} in place of {path!r}")
        records = _records(raw, elements, members)
        rest = {name: msgspec.json.decode(value) for name, value in envelope.items() if name not in outer[:1]}
        if outer:
            rest[outer[0]] = {name: msgspec.json.decode(value) for name, value in level.items()}
        return rest, records

    def lines(self, columns: Iterable[str]) -> list[Record]:
        """The records of a CSV page, which must have `columns`: an error page must not look like an empty list."""
        try:
            # a field that is too long is found in its record; what is no UTF-8 spoils its own line only
            csv.field_size_limit(max(csv.field_size_limit(), len(self.content) + 1))  # the process's, dbt's too
            text = self.content.decode("utf-8-sig", errors="surrogateescape")
            reader = csv.DictReader(io.StringIO(text, newline=""), restkey="_more")
            if missing := set(columns) - set(reader.fieldnames or ()):
                raise FetchError(f"{_name(self.request)} answered no CSV with the column {min(missing)!r}")
            return [_line(line) for line in reader]
        except csv.Error as error:
            raise FetchError(f"{_name(self.request)} answered no such CSV as expected: {error}") from error

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        """A page is read whole: in pieces of 10 KB, as requests does it, to read takes as long as to parse."""
        self.raw.stream = self._arriving  # type: ignore[method-assign]
        return super().iter_content(CHUNK, decode_unicode)

    def _arriving(self, size: int, decode_content: bool) -> Iterator[bytes]:
        """Pieces as they come: while bytes drip, none of a given size is ever whole, and no limit is looked at."""
        until = time.monotonic() + LONGEST_ANSWER
        try:
            while piece := self.raw.read1(size, decode_content):
                yield piece
                if time.monotonic() > until:
                    self.close()
                    raise FetchError(f"{_name(self.request)} was still answering after {LONGEST_ANSWER:.0f} seconds")
        finally:
            del self.raw.stream  # a page that holds itself stays until garbage is collected

    def json(self, **kwargs: Any) -> Any:
        """What `split` left over when the page was read; the whole document before that."""
        envelope = getattr(self, "envelope", None)
        return msgspec.json.decode(self.content) if envelope is None else envelope


class _Adapter(HTTPAdapter):
    def build_response(self, req: requests.PreparedRequest, resp: Any) -> Page:
        response = super().build_response(req, resp)
        response.__class__ = Page
        return cast(Page, response)


class VendorSession(requests.Session):
    """A session of one connection: rewrites the host, waits as the vendor asks, retries what may pass.

    429 and the vendor's own forms of it are obeyed; 5xx and cut connections are retried with exponential backoff and
    jitter; a 401 renews an expiring token once. Everything else is final and raises FetchError.
    """

    def __init__(self, rate_limit: RateLimit, base_url: str | None = None, sleep: Sleep = time.sleep) -> None:
        super().__init__()
        self.trust_env = False  # a proxy or .netrc of the machine is no part of a connection
        self.mount("https://", _Adapter())
        self.mount("http://", _Adapter())
        self.token_auth: Any = None
        self.sign: Callable[[requests.PreparedRequest], None] | None = None
        self._rate_limit = rate_limit
        self._base = urlsplit(base_url) if base_url else None
        self.sleep = sleep

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send until it is answered or hopeless."""
        if self._base is not None and request.url is not None:
            request.url = urlunsplit(urlsplit(request.url)._replace(scheme=self._base.scheme, netloc=self._base.netloc))
        kwargs["timeout"] = TIMEOUT
        retrying = Retrying(
            retry=retry_if_exception_type(
                (_BusyError, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
            ),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(self._attempt, request, **kwargs)
        except _BusyError as error:
            raise FetchError(f"{error}, after {ATTEMPTS} tries") from error
        except requests.RequestException as error:
            raise FetchError(f"{_name(request)}: {type(error).__name__}, after {ATTEMPTS} tries") from error

    def _attempt(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if self.sign is not None:
            self.sign(request)
        response = super().send(request, **kwargs)
        if response.status_code == 401 and self._renew_token(request):
            response = super().send(request, **kwargs)
        status, name = response.status_code, _name(request)
        if status < 400:
            return response
        limited = status in self._rate_limit.statuses or (
            status in (400, 403) and any(marker in response.text for marker in self._rate_limit.markers)
        )
        if limited:
            raise _BusyError(f"{name} answered {status}, rate limit", self._pause(response))
        if status >= 500:
            raise _BusyError(f"{name} answered {status}")
        raise FetchError(f"{name} answered {status}{_excerpt(response)}")

    def _renew_token(self, request: requests.PreparedRequest) -> bool:
        """A fresh token into the request, where the connection has one that expires. Not for the token request."""
        auth = self.token_auth
        header = getattr(auth, "header", "Authorization")
        token = str(request.headers.get(header, ""))
        if auth is None or not token or (header == "Authorization" and not token.startswith("Bearer ")):
            return False
        auth.obtain_token()
        auth(request)
        return True

    def _pause(self, response: requests.Response) -> float | None:
        value = response.headers.get(self._rate_limit.reset)
        if value is None:
            return self._rate_limit.pause or None
        seconds = _seconds_until(value, self._rate_limit.reset_format, response.headers.get("Date", ""))
        return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)


class PageClient(RESTClient):
    """dlt's REST client for one connection, over pages that keep their records raw."""

    def __init__(self, connector: Connector, session: VendorSession, auth: AuthBase) -> None:
        super().__init__(
            base_url=connector.base_url,
            headers=dict(connector.headers),
            auth=cast(Any, auth),
            session=session,
            config=RuntimeConfiguration(),  # an error's body may hold a secret: never shown, whatever the settings
        )
        session.token_auth = auth if hasattr(auth, "obtain_token") else None
        session.sign = getattr(auth, "sign", None)
        self._error_field, self._later = connector.error_field, connector.later
        self._sleep = session.sleep

    def _send_request(self, request: requests.Request, **kwargs: Any) -> requests.Response:
        """dlt sends here. What takes its time (202) is asked for, where the answer says, until it is there."""
        response = super()._send_request(request, **kwargs)
        waited, pause = 0.0, 1.0
        while self._later and response.status_code == 202:
            if waited >= LONGEST_WAIT:
                raise FetchError(f"{_name(response.request)} was not ready after {waited:.0f} seconds")
            self._sleep(pause)
            waited, pause = waited + pause, min(2 * pause, LONGEST_POLL)
            look = copy.copy(request)
            look.method, look.params, look.json = "GET", {}, None
            look.url = urljoin(request.url, msgspec.json.decode(response.content)[self._later])
            response = super()._send_request(look, **kwargs)
        return response

    def extract_response(self, response: requests.Response, data_selector: Any) -> list[Any]:
        """dlt asks for a page's records here; `data_selector` is the stream's dotted path."""
        if not isinstance(response, Page):
            raise TypeError("the session of a PageClient answers with pages")
        if self._error_field:
            try:
                status = _members(response.content)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                status = {}  # a list, or none of the vendor's own pages, which is found out below
            value = bytes(status.get(self._error_field, b"true"))
            if value in _FAILED or value.startswith(b"[{"):
                reason = bytes(status.get("error", b"unknown")).decode(errors="replace")[:200]
                raise FetchError(f"{_name(response.request)} answered that it failed: {reason}")
        if data_selector.startswith(_CSV):
            response.envelope = {}  # type: ignore[attr-defined]
            return response.lines(data_selector.removeprefix(_CSV).split(","))
        response.envelope, records = response.split("" if data_selector == _LIST else data_selector)  # type: ignore[attr-defined]
        return records

    def _log_request(self, *args: Any) -> None:
        """dlt words a line for its log at each request, shown or not."""

    def pages(
        self,
        path: str,
        *,
        records: str,
        paginator: BasePaginator,
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        ends_on_empty_page: bool = False,
        csv_columns: tuple[str, ...] = (),
        names: str = "",
    ) -> Iterator[tuple[list[Record], dict[str, Any]]]:
        """Every page once: its raw records and the rest of it.

        Ends where the paginator ends; at the second empty page in a row where the vendor's next link never
        disappears (one may be a page that was filtered empty). A next request that repeats an earlier one raises
        FetchError, unless it came with an empty page: then the vendor has no more. So does a page that comes
        again and again, or empty ones without end. Records that are lists get the `names` of the first page.
        """
        known: list[str] = []
        asked: set[str] = set()
        empty = repeats = 0
        ends: list[bytes] = []
        held: list[tuple[list[Record], dict[str, Any]]] = []  # should it be the end of it, they are no new events
        sent = copy.deepcopy(dict(params or {}))  # paginators write into it
        body = {"json": sent} if method == "POST" else {"params": sent}
        for page in self._followed(
            path,
            method=method,
            paginator=paginator,
            data_selector=_CSV + ",".join(csv_columns) if csv_columns else records or _LIST,
            hooks={"response": []},
            **body,
        ):
            empty = 0 if page else empty + 1
            before, ends = ends, [bytes(record) for record in (*page[:1], *page[-1:])]
            repeats = repeats + 1 if page and ends == before else 0
            if empty > MOST_EMPTY_PAGES or repeats > MOST_REPEATS:
                raise FetchError(f"{method} {path} repeats a page: its paging does not end")
            is_last = not page.paginator.has_next_page or (ends_on_empty_page and empty == 2)
            found, envelope = list(page), page.response.json()
            if names and found:
                known = known or jsonpath.find_values(names, envelope)
                if not known:
                    raise FetchError(f"{method} {path} answered lists and no names of what is in them")
                found = _named(found, known)
            held.append((found, envelope))
            if not repeats or is_last:
                yield from held
                held.clear()
            if is_last:
                return
            following = repr((page.request.url, page.request.params, page.request.json))
            if following in asked:
                if page:
                    raise FetchError(f"{method} {path} repeats a page link: its paging does not end")
                return
            asked.add(following)

    def _followed(self, path: str, **request: Any) -> Iterator[Any]:
        """dlt's pages; what its paginators, a connector's own or an authentication cannot work with, as FetchError."""
        try:
            yield from self.paginate(path, **request)
        except _UNEXPECTED as e:
            name = f"{request['method']} {path}"
            raise FetchError(f"{name}: a page or a token is not as expected ({type(e).__name__})") from e


def _records(
    raw: Any,
    elements: Callable[[Any], list[Record]],
    members: Callable[[Any], dict[str, Any]],
) -> list[Record]:
    """The raw records of a list; of a map, one record per entry: `{"id": key, "value": value}`."""
    text = b"null" if raw is None else bytes(raw)
    if text == b"null":
        return []
    if not text.startswith(b"{"):
        return elements(text)
    return [
        (Unreadable if isinstance(value, Unreadable) else bytes)(
            b'{"id":' + msgspec.json.encode(key) + b',"value":' + bytes(value) + b"}"
        )
        for key, value in members(text).items()
    ]


def _named(records: list[Record], names: list[str]) -> list[Record]:
    """Lists of values as objects. One that is no list of as many values as there are names is Unreadable."""
    keys = [msgspec.json.encode(name) + b": " for name in names]

    def named(record: Record) -> Record:
        is_bad = isinstance(record, Unreadable)
        try:
            values = _elements_by_brackets(record) if is_bad else _elements(record)
        except (msgspec.DecodeError, UnicodeDecodeError):
            values = []
        if len(values) != len(keys):
            return Unreadable(record)
        return (Unreadable if is_bad else bytes)(b"{" + b", ".join(map(bytes.__add__, keys, values)) + b"}")

    return [named(record) for record in records]


def _elements(document: bytes) -> list[Record]:
    return [bytes(raw) for raw in msgspec.json.decode(document, type=list[msgspec.Raw])]


def _members(document: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(document, type=dict[str, msgspec.Raw])


def _elements_by_brackets(document: bytes) -> list[Record]:
    return [checked(part) for part in _parts(document, b"[")]


def _members_by_brackets(document: bytes | msgspec.Raw) -> dict[str, Record]:
    members: dict[str, Record] = {}
    for part in _parts(bytes(document), b"{"):
        name = _TOKEN.match(part)
        if name is None:
            raise msgspec.DecodeError("a member without a name")
        key = msgspec.json.decode(name.group(), type=str)
        members[key] = checked(part[name.end() :].lstrip().removeprefix(b":").strip())
    return members


def _line(line: Mapping[str, Any]) -> Record:
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:
        return Unreadable(repr(line).encode())


def checked(part: bytes) -> Record:
    """The record, as Unreadable if it is no good JSON."""
    try:
        msgspec.json.decode(part)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Unreadable(part)
    return part


def _parts(document: bytes, bracket: bytes) -> list[bytes]:
    """What lies between the commas of a list or an object, whatever it is."""
    parts, depth, start = [], 0, 0
    tokens = _TOKEN.finditer(document)
    for token in tokens:
        mark = token.group()
        if depth == 0 and mark != bracket:
            break
        if mark in b"{[":
            depth += 1
            start = start if depth > 1 else token.end()
        elif mark in b"}]":
            depth -= 1
        if depth == 0 or (depth == 1 and mark == b","):
            parts.append(document[start : token.start()].strip())
            start = token.end()
        if depth == 0 and next(tokens, None) is None:
            return [part for part in parts if part]
    raise msgspec.DecodeError("brackets that do not match")


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    backoff = wait_exponential_jitter(multiplier=0.5, max=30, jitter=0.5)(state)
    if isinstance(error, _BusyError) and error.wait is not None:
        return max(error.wait + 0.05 * state.attempt_number, backoff)  # "at once", over and over, is no answer
    return backoff


def _seconds_until(value: str, form: str, date: str) -> float | None:
    try:
        here = email.utils.parsedate_to_datetime(date) if date else datetime.now(UTC)
        if form == "date" or not re.fullmatch(r"-?[0-9.]+", value):
            return (_date(value) - here).total_seconds()
        return float(value) - here.timestamp() if form == "epoch" else float(value)
    except (ValueError, TypeError):
        return None


def _date(value: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        parsed = email.utils.parsedate_to_datetime(value)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


@cache
def private_key(pem: str) -> RSAPrivateKey:
    """Reading a key takes 40 ms, in which OpenSSL proves that it is one; tokens, if not requests, need it repeatedly.

    Raises ValueError for text that is no key.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return cast("RSAPrivateKey", load_pem_private_key(pem.encode(), password=None))


def _name(request: requests.PreparedRequest) -> str:
    """Method and path: the query, the headers and the body may hold secrets and are left out."""
    return f"{request.method} {urlsplit(request.url or '').path}"


def _excerpt(response: requests.Response) -> str:
    """The vendor's error code, if it is a plain word; free text might repeat a credential."""
    words = re.findall(
        r'"(?:error|errorCode|code|reason|errcode)"\s*:\s*"?([A-Za-z0-9_. -]{1,60})"?', response.text[:4000]
    )
    return f" ({words[0]})" if words else ""


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of the secrets, for whatever ends in a table or a log."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text
