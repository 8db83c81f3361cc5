"""What every vendor's API in the sandbox shares: a log of records, served in windows and pages by its own rules.

A vendor (one file in `vendors/`) says what a person's use of an app leaves in its log, what a record looks like, how
requests are authorised, answered and refused. This file keeps the log in order and makes it hostile, reproducibly:
records that appear late, records listed twice, pages that overlap or are empty, records that are malformed, requests
that fail once. What the log *means* (`Fact`) is the truth that tests count by.

Two clocks are at work. The data's clock is the run's `now`. What concerns the transport alone (expiry of tokens,
rate-limit resets, the Date header) goes by the real clock, as a client's HTTP library would.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import msgspec

from ingestion.sandbox.world import DAY, HOUR, App, Membership, Org, Use, World, fraction, instant, key, mix

# Records in memory per vendor, so that a world of any size is served from a bounded one.
_CACHED_RECORDS = 150_000
# Of each: one in so many.
_REPEATED, _OVERLAPPING, _EMPTY, _FAILING = 90, 6, 9, 25
_MALFORMED_RATE = 0.008
_BUSY_FOR = 600  # seconds that a connection with this fault is to wait


@dataclass(frozen=True, slots=True)
class Fact:
    """What an event means: the vendor's code, the app that was used, and whether it counts as activity."""

    event_code: str
    app_id: str
    app_name: str
    is_activity: bool
    status: str  # success, failure, unknown
    source_kind: str = "direct"  # direct, sso, oauth_grant


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the vendor has it, with who is behind it.

    `person_id`: the employee whom HR's e-mails and aliases lead to, None if they lead to nobody.
    `actual_person_id`: who it really is. Instants in milliseconds; None: not so far. `device`: 64 bits of which its
    client and address are made.
    """

    account_id: str
    email: str | None
    name: str
    kind: str
    person_id: str | None
    actual_person_id: str
    created_at: int
    device: int = 0
    closed_at: int | None = None
    deleted_at: int | None = None
    license_name: str | None = None
    membership: Membership | None = None

    def exists(self, now: int) -> bool:
        return self.created_at <= now and (self.deleted_at is None or now < self.deleted_at)

    def is_open(self, day: int) -> bool:
        return self.membership is not None and self.membership.is_open(day)

    def is_closed(self, now: int) -> bool:
        return self.closed_at is not None and self.closed_at <= now


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of a log. `target`: whom or what it was done to; `facts`: one for each event that it holds.

    `is_repeat`: the same record listed again; `damage`: 0, or the way in which it is malformed.
    """

    at: int
    visible_at: int
    actor: Account
    facts: tuple[Fact, ...]
    salt: int
    target: Any = None
    is_repeat: bool = False
    damage: int = 0


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long after it occurred a record can be served, in milliseconds: at once, usually, at the very worst."""

    quick: int
    usual: int
    rare: int

    def of(self, salt: int) -> int:
        draw = mix(salt ^ 0x1A7E)
        share, within = fraction(draw), fraction(mix(draw))
        if share < 0.8:
            return int(within * self.quick)
        if share < 0.985:
            return int(within * self.usual)
        # Short of the worst, so that a reader who looks back exactly that far is safe.
        return self.usual + int(within * 0.95 * (self.rare - self.usual))


@dataclass(frozen=True)
class Connection:
    """One org's account at a vendor."""

    connection_id: str
    org: Org
    connector: str
    key: int


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    url: str  # scheme, host and path as the client used them

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace")))


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - an answer, not an error of the sandbox
    """Leaves a handler with the vendor's own answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def json_response(content: object, status: int = 200, **headers: str) -> Response:
    """A JSON answer; underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, msgspec.json.encode(content), {"Content-Type": "application/json", **named})


def as_int(text: str, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default


def iso(at: int, timespec: str = "milliseconds") -> str:
    """RFC 3339 in UTC with a Z, as Okta, Google and Zoom write it."""
    return instant(at).isoformat(timespec=timespec).replace("+00:00", "Z")


def seal(content: object) -> str:
    """An opaque token of what a server needs to continue a listing."""
    return base64.urlsafe_b64encode(msgspec.json.encode(content)).decode().rstrip("=")


def unseal(token: str) -> Any:
    """What was sealed. Raises ValueError for anything else."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise ValueError("not a token of ours") from error


class Tokens:
    """Access tokens that a vendor has handed out, each good for a time on the real clock."""

    def __init__(self, lifetime_s: int, wall: Callable[[], float]) -> None:
        self._lifetime_s = lifetime_s
        self._wall = wall
        self._issued: dict[str, tuple[Connection, frozenset[str], float]] = {}

    def issue(self, connection: Connection, scopes: Iterable[str] = ()) -> str:
        # The tokens of a run differ from those of the next, as a restarted vendor's would.
        token = f"{secrets.token_hex(24)}"
        self._issued[token] = (connection, frozenset(scopes), self._wall() + self._lifetime_s)
        return token

    def grant(self, token: str) -> tuple[Connection, frozenset[str]] | None:
        """Whose token it is and what it opens; None for a stranger's or an expired one."""
        connection, scopes, until = self._issued.get(token, (None, frozenset(), 0.0))
        return (connection, scopes) if connection and self._wall() < until else None


Position = tuple[int, int]  # a local day, and the index in that day's records
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Page:
    """Records of a window, and where the next page begins: None at the end.

    `was_empty` goes into the next request's token: two empty pages never follow each other.
    """

    records: list[Record]
    next: Position | None
    was_empty: bool = False


class Vendor(ABC):
    """One vendor's API for all orgs that have it. Subclasses hold all that is the vendor's own."""

    connector: ClassVar[str]
    streams: ClassVar[tuple[str, ...]]
    lateness: ClassVar[Lateness]
    has_native_ids: ClassVar[bool] = True
    resolution: ClassVar[int] = 1  # milliseconds to which the vendor tells the time
    time_path: ClassVar[tuple[str, ...]]  # where a record says when it occurred

    def __init__(self, world: World, now: Clock, wall: Callable[[], float] = time.time) -> None:
        self.world = world
        self.now = now
        self.wall = wall
        self.faults = dict(world.options.faults)
        self.connections = {
            name: Connection(name, org, self.connector, key(org.key, self.connector))
            for org in world.orgs
            if self.connector in org.connectors
            for name in [f"{org.org_id}-{self.connector.replace('_', '-')}"]
        }
        self.tokens = Tokens(world.options.token_lifetime_s, wall)
        self._accounts: dict[str, list[Account]] = {}
        self._by_person: dict[str, dict[str, Account]] = {}
        self._days: OrderedDict[tuple[str, str, int], list[Record]] = OrderedDict()
        self._cached = 0
        self._failed: set[int] = set()
        self._lock = threading.RLock()

    # What a vendor's file provides.

    @abstractmethod
    def settings(self, connection: Connection) -> dict[str, Any]:
        """What connections.toml says about a connection, besides its ids."""

    @abstractmethod
    def secrets(self, connection: Connection) -> dict[str, str]:
        """A connection's secrets by name."""

    @abstractmethod
    def account(self, connection: Connection, membership: Membership) -> Account:
        """The account that a membership of the vendor's own app stands for."""

    @abstractmethod
    def happenings(self, connection: Connection, stream: str, day: int) -> Iterator[Record]:
        """What a local day leaves in a stream, in any order."""

    @abstractmethod
    def payload(self, connection: Connection, record: Record) -> dict[str, Any]:
        """A record in the vendor's words."""

    @abstractmethod
    def event_id(self, record: Record, index: int) -> str | None:
        """The vendor's own id of an event of a record, if it has any."""

    @abstractmethod
    def address(self, record: Record) -> str | None:
        """The client's address, if the record has it."""

    @abstractmethod
    def connection_of(self, request: Request) -> Connection:
        """Whose request it is. Raises Refused where the credential is nobody's, expired or not enough."""

    @abstractmethod
    def answer(self, connection: Connection, request: Request) -> Response:
        """The answer to an authorised request."""

    @abstractmethod
    def revoked(self, request: Request) -> Response:
        """The answer to credentials that were withdrawn."""

    @abstractmethod
    def busy(self, draw: int, pause: int = 1) -> Response:
        """One of the vendor's forms of "too many requests", for so many seconds where it says so."""

    @abstractmethod
    def broken(self, draw: int) -> Response:
        """One of the vendor's server errors."""

    # What they share.

    def handle(self, request: Request) -> Response:
        """The answer to any request: refused, failed for once, or true."""
        try:
            connection = self.connection_of(request)
            fault = self.faults.get(connection.connection_id)
            if fault == "broken":
                return self.broken(0)
            if fault == "revoked":
                return self.revoked(request)
            if fault == "busy" and request.method == "GET" and self._is_first(key(connection.key, "busy")):
                return self.busy(0, _BUSY_FOR)
            if request.method == "GET" and (draw := self._fails_once(connection, request)):
                return self.busy(draw >> 1) if draw % 2 else self.broken(draw >> 1)
            return self.answer(connection, request)
        except Refused as refused:
            return refused.response

    def accounts(self, connection: Connection) -> list[Account]:
        """All accounts that a connection ever has, in a fixed order."""
        with self._lock:
            if connection.connection_id not in self._accounts:
                members = connection.org.memberships(self.connector)
                self._accounts[connection.connection_id] = [self.account(connection, m) for m in members]
            return self._accounts[connection.connection_id]

    def open_account(
        self,
        connection: Connection,
        membership: Membership,
        account_id: str,
        license_name: str | None = None,
        deleted_after: int | None = None,
        email: str | None = None,
    ) -> Account:
        """The account of a membership, opened and closed in the office hours of its days."""
        person, org = membership.person, connection.org
        email = email or org.vendor_email(person, self.connector)
        known = org.employees_by_email.get(email.lower())
        closed = None if membership.closed_day is None else org.day_start(membership.closed_day) + 10 * HOUR
        return Account(
            account_id=account_id,
            email=email,
            name=person.name,
            kind=person.kind,
            person_id=known.person_id if known else None,
            actual_person_id=person.person_id,
            created_at=org.day_start(membership.first_day) + 9 * HOUR,
            device=key(account_id),
            closed_at=closed,
            deleted_at=closed + deleted_after if closed and deleted_after else None,
            license_name=license_name,
            membership=membership,
        )

    def accounts_by_person(self, connection: Connection) -> dict[str, Account]:
        with self._lock:
            if connection.connection_id not in self._by_person:
                found = {account.actual_person_id: account for account in self.accounts(connection)}
                self._by_person[connection.connection_id] = found
            return self._by_person[connection.connection_id]

    def assignments(
        self, connection: Connection, at: int, app_id: str | None = None
    ) -> Iterator[tuple[App, Account, Membership]]:
        """Who may use which app through this vendor, if it is an identity provider that lists that."""
        return iter(())

    def listing(self, connection: Connection) -> list[Account]:
        """The accounts that exist now."""
        now = self.now_ms()
        return [account for account in self.accounts(connection) if account.exists(now)]

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def uses(self, connection: Connection, app_id: str, day: int) -> Iterator[tuple[Account, Membership, list[Use]]]:
        """Who used an app on a local day and has an account here that is not closed."""
        accounts = self.accounts_by_person(connection)
        for membership, uses in connection.org.uses_on(app_id, day):
            account = accounts.get(membership.person.person_id)
            if account and account.is_open(day):
                yield self._where_used(connection, account, app_id, day), membership, uses

    def _where_used(self, connection: Connection, account: Account, app_id: str, day: int) -> Account:
        """The account as a day's log shows it: one that is lent, on the device of some colleague."""
        if account.kind != "lent":
            return account
        accounts = self.accounts_by_person(connection)
        users = (membership.person for membership, _ in connection.org.uses_on(app_id, day))
        devices = [accounts[p.person_id].device for p in users if p.kind == "employee" and p.person_id in accounts]
        return replace(account, device=devices[mix(account.device ^ day) % len(devices)]) if devices else account

    def used_at(self, use: Use) -> int:
        """When the vendor sees a use."""
        return use.at

    def last_use(self, account: Account) -> int | None:
        """When an account was last used before now, as far back as the world goes."""
        assert account.membership is not None
        membership, now = account.membership, self.now_ms()
        org = membership.person.org
        day = org.day_of(now)
        if membership.last_use_day is not None:
            day = min(day, membership.last_use_day)
        if membership.rate == 0:
            return None
        while day >= max(org.day_of(self.world.start_at), membership.first_day):
            end = org.day_start(day + 1) - 1
            uses = org.uses(membership, day) if membership.is_open(day) else []
            times = (min(self.used_at(use), end) for use in uses)
            if past := [at for at in times if self.world.start_at <= at <= now]:
                return max(past)
            day -= 1
        return None

    def record(self, at: int, actor: Account, facts: tuple[Fact, ...], salt: int, target: object = None) -> Record:
        """A record that occurred at an instant, to the vendor's resolution, and becomes visible in due time."""
        at -= at % self.resolution
        return Record(at, at + self.lateness.of(salt), actor, facts, salt, target)

    def day(self, connection: Connection, stream: str, day: int) -> list[Record]:
        """A local day's records by time, repeats and malformed ones among them, whether visible yet or not."""
        name = (connection.connection_id, stream, day)
        with self._lock:
            if name in self._days:
                self._days.move_to_end(name)
                return self._days[name]
        records = [r for r in self.happenings(connection, stream, day) if r.at >= self.world.start_at]
        records.extend(list(self._disturbances(connection, stream, day, records)))
        records.sort(key=lambda record: (record.at, record.salt, record.is_repeat))
        with self._lock:
            if name not in self._days:
                self._days[name] = records
                self._cached += len(records)
            while self._cached > _CACHED_RECORDS and len(self._days) > 1:
                self._cached -= len(self._days.popitem(last=False)[1])
        return records

    def page(
        self,
        connection: Connection,
        stream: str,
        low: int,
        high: int,
        size: int,
        *,
        at: Position | None = None,
        after_empty: bool = False,
        newest_first: bool = True,
    ) -> Page:
        """The visible records from `low` to `high`, both inclusive, from a position on."""
        taken: list[tuple[Position, Record]] = []
        for place, record in self._walk(connection, stream, low, high, newest_first, at):
            taken.append((place, record))
            if len(taken) > size:
                break
        if len(taken) <= size:
            return Page([record for _, record in taken], None)
        following = taken[size][0]
        if not self.world.options.calm:
            draw = mix(connection.key ^ mix(taken[0][0][0] * 1_000_003 + taken[0][0][1]))
            if at is not None and not after_empty and draw % _EMPTY == 0:
                return Page([], at, was_empty=True)
            if self.has_native_ids and size > 1 and (draw >> 20) % _OVERLAPPING == 0:
                following = taken[size - 1][0]
        return Page([record for _, record in taken[:size]], following)

    def _walk(
        self,
        connection: Connection,
        stream: str,
        low: int,
        high: int,
        newest_first: bool,
        at: Position | None,
    ) -> Iterator[tuple[Position, Record]]:
        now = self.now_ms()
        low, high = max(low, self.world.start_at), min(high, now)
        if low > high:
            return
        org = connection.org
        first, last = org.day_of(low), org.day_of(high)
        days: Iterable[int]
        if newest_first:
            days = range(min(last, at[0]) if at else last, first - 1, -1)
        else:
            days = range(max(first, at[0]) if at else first, last + 1)
        for day in days:
            records = self.day(connection, stream, day)
            begin = bisect_left(records, low, key=lambda r: r.at)
            end = bisect_right(records, high, key=lambda r: r.at)
            if at and at[0] == day:
                begin, end = (begin, min(end, at[1] + 1)) if newest_first else (max(begin, at[1]), end)
            indices = range(end - 1, begin - 1, -1) if newest_first else range(begin, end)
            for index in indices:
                if records[index].visible_at <= now:
                    yield (day, index), records[index]

    def render(self, connection: Connection, records: Iterable[Record]) -> list[Any]:
        """Records as the vendor lists them; a malformed one is no object, or has no time that can be read."""
        listed: list[Any] = []
        for record in records:
            if record.damage == 1:
                listed.append("upstream request timeout")
                continue
            payload = self.payload(connection, record)
            if record.damage:
                inner = payload
                for name in self.time_path[:-1]:
                    inner = inner[name]
                inner[self.time_path[-1]] = "0000-13-45T99:99:99Z" if record.damage == 2 else None
            listed.append(payload)
        return listed

    def _disturbances(self, connection: Connection, stream: str, day: int, records: list[Record]) -> Iterator[Record]:
        if self.world.options.calm or not records:
            return
        if self.has_native_ids:
            for record in records:
                draw = mix(record.salt ^ 0x2EA7)
                if draw % _REPEATED == 0:
                    # A re-delivery can come days after the first.
                    again = record.visible_at + (draw >> 32) % (5 * DAY) * ((draw >> 16) % 2)
                    yield replace(record, visible_at=again, is_repeat=True)
        draw = mix(key(connection.key, stream, day, "malformed"))
        always = self.faults.get(connection.connection_id) == "malformed"
        if always or fraction(draw) < _MALFORMED_RATE:
            model = records[draw % len(records)]
            yield replace(model, visible_at=model.at, salt=mix(draw) >> 1, damage=1 + (draw >> 40) % 3)

    def _fails_once(self, connection: Connection, request: Request) -> int:
        """A draw if this very request is one of those that fail the first time they are made, else 0."""
        if self.world.options.calm:
            return 0
        draw = key(connection.key, request.path, sorted(request.query.items()))
        return draw // _FAILING | 1 << 60 if draw % _FAILING == 0 and self._is_first(draw) else 0

    def _is_first(self, failure: int) -> bool:
        with self._lock:
            is_first = failure not in self._failed
            self._failed.add(failure)
        return is_first

    def set_fault(self, connection_id: str, fault: str | None) -> None:
        """Breaks or mends a connection from now on."""
        with self._lock:
            self.faults.pop(connection_id, None)
            if fault:
                self.faults[connection_id] = fault
            self._days.clear()
            self._cached = 0
