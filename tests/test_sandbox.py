"""The sandbox against readers of its own: plain HTTP, no connector, so that neither can hide the other's mistake."""

from __future__ import annotations

import json
import os
import socket
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
import psycopg2
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner

from ingestion.cli import app
from ingestion.connectors.product import OPTIONAL, ProductError, read_tables
from ingestion.postgres import PrivatePostgres
from ingestion.sandbox import Options, Response, Sandbox, TrueEvent, Truth
from ingestion.sandbox.product import FILLED, MARK, NOT_OURS, product_rows
from ingestion.sandbox.vendors import vendor_classes
from tests.support import NOW

SMALL = Options(people=10, days=40, start=date(2025, 12, 22))
SCOPES = ("admin.reports.audit.readonly", "admin.directory.user.readonly", "apps.licensing")
RARE = {"okta": timedelta(days=1), "slack": timedelta(days=1)}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SMALL, NOW) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def truth(sandbox: Sandbox) -> Truth:
    return sandbox.truth()


# ---- a reader


def ask(method: str, url: str, **arguments: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # to look for proxies takes longer than to ask
        return session.request(method, url, timeout=10, **arguments)


@cache
def loaded(pem: str) -> rsa.RSAPrivateKey:
    """A key of the sandbox; to check it takes longer than to sign."""
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def get(url: str, **arguments: Any) -> requests.Response:
    """A GET that asks again, as often as vendors fail at first."""
    for _ in range(3):
        response = ask("GET", url, **arguments)
        is_limited = response.status_code == 429 or "rateLimitExceeded" in response.text
        if response.status_code < 500 and not is_limited:
            return response
    return response


class Reader:
    """Reads one connection as its vendor's description says."""

    def __init__(self, sandbox: Sandbox, connection_id: str, scopes: tuple[str, ...] = SCOPES) -> None:
        self.sandbox = sandbox
        (self.connection,) = (c for c in sandbox.connections() if c["connection_id"] == connection_id)
        self.url: str = self.connection["base_url"]
        self.settings: dict[str, Any] = self.connection["settings"]
        prefix = f"CONNECTIONS__{connection_id.replace('-', '_').upper()}__"
        secrets = sandbox.secrets()
        self.secrets = {n.removeprefix(prefix).lower(): v for n, v in secrets.items() if n.startswith(prefix)}
        self.headers = {"Authorization": getattr(self, f"_{self.connection['connector']}_token")(scopes)}

    def get(self, path: str, **query: Any) -> requests.Response:
        return get(self.url + path, params=query, headers=self.headers)

    def pages(self, stream: str, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        return getattr(self, f"_{stream}")(low, high, size)

    def _zoom_token(self, scopes: tuple[str, ...]) -> str:
        response = ask(
            "POST",
            f"{self.url}/oauth/token",
            params={"grant_type": "account_credentials", "account_id": self.settings["account_id"]},
            auth=(self.secrets["client_id"], self.secrets["client_secret"]),
        )
        return f"Bearer {response.json()['access_token']}"

    def _okta_token(self, scopes: tuple[str, ...]) -> str:
        return f"SSWS {self.secrets['api_token']}"

    def _slack_token(self, scopes: tuple[str, ...]) -> str:
        return f"Bearer {self.secrets['token']}"

    def _google_workspace_token(self, scopes: tuple[str, ...]) -> str:
        return f"Bearer {self.grant(scopes).json()['access_token']}"

    def grant(self, scopes: tuple[str, ...], **claims: Any) -> requests.Response:
        now = int(time.time())
        assertion = {
            "iss": self.secrets["client_email"],
            "sub": self.settings["subject"],
            "scope": " ".join(f"https://www.googleapis.com/auth/{scope}" for scope in scopes),
            "aud": "https://oauth2.googleapis.com/token",
            "iat": now,
            "exp": now + 3600,
            **claims,
        }
        signed_with = assertion.pop("key", None) or loaded(self.secrets["private_key"])
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": jwt.encode(assertion, signed_with, algorithm="RS256"),
        }
        return ask("POST", f"{self.url}/token", data=form)

    def _activities(self, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        last = high.date()
        while last >= low.date():
            first = max(low.date(), last - timedelta(days=30))
            token: str | None = None
            while token != "":
                query = {"from": first.isoformat(), "to": last.isoformat(), "page_size": min(size, 300)}
                body = self.get(
                    "/v2/report/activities", **query, **({"next_page_token": token} if token else {})
                ).json()
                yield body["activity_logs"]
                token = body["next_page_token"]
            last = first - timedelta(days=1)

    def _system_log(self, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        response = self.get("/api/v1/logs", since=_z(low), until=_z(high), limit=min(size, 1000))
        yield response.json()
        while "next" in response.links:
            response = get(response.links["next"]["url"], headers=self.headers)
            yield response.json()

    def _google(self, stream: str, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        query: dict[str, Any] = {"startTime": _z(low), "endTime": _z(high), "maxResults": min(size, 1000)}
        while True:
            body = self.get(f"/admin/reports/v1/activity/users/all/applications/{stream}", **query).json()
            yield body.get("items", [])
            if "nextPageToken" not in body:
                return
            query["pageToken"] = body["nextPageToken"]

    def _login(self, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        return self._google("login", low, high, size)

    def _saml(self, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        return self._google("saml", low, high, size)

    def _token(self, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        return self._google("token", low, high, size)

    def _audit_logs(self, low: datetime, high: datetime, size: int) -> Iterator[list[Any]]:
        query = {"oldest": int(low.timestamp()), "latest": int(high.timestamp()), "limit": size}
        while True:
            body = self.get("/audit/v1/logs", **query).json()
            yield body["entries"]
            cursor = body["response_metadata"]["next_cursor"]
            if not cursor:
                return
            query["cursor"] = cursor


@dataclass(frozen=True)
class Found:
    """An event as a reader makes it out: where, what, when, and the vendor's own id if there is one."""

    connection_id: str
    stream: str
    event_id: str | None
    account: str
    event_code: str
    app_name: str
    occurred_at: datetime


def _z(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def made_out(connection_id: str, stream: str, record: Any) -> Iterator[Found]:
    """The events of a record; none if it is malformed."""
    if not isinstance(record, dict):
        return
    if stream == "activities":
        if at := _moment(record["time"]):
            yield Found(connection_id, stream, None, record["email"], record["type"], "Zoom", at)
    elif stream == "system_log":
        if at := _moment(record["published"]):
            names = [t["displayName"] for t in record["target"] or [] if t["type"] == "AppInstance"]
            name = names[0] if record["eventType"] == "user.authentication.sso" else "Okta"
            yield Found(connection_id, stream, record["uuid"], record["actor"]["id"], record["eventType"], name, at)
    elif stream == "audit_logs":
        if isinstance(record["date_create"], int):
            at = datetime.fromtimestamp(record["date_create"], UTC)
            yield Found(
                connection_id, stream, record["id"], record["actor"]["user"]["id"], record["action"], "Slack", at
            )
    elif at := _moment(record["id"]["time"]):
        for index, event in enumerate(record["events"]):
            values = {p["name"]: p.get("value") for p in event["parameters"]}
            name = values.get("application_name") or values.get("app_name") or "Google Workspace"
            event_id = f"{record['id']['time']}/{record['id']['uniqueQualifier']}/{index}"
            account = record["actor"]["profileId"]
            yield Found(connection_id, stream, event_id, account, event["name"], name, at)


def as_found(event: TrueEvent) -> Found:
    account = event.account_email if event.connector == "zoom" else event.account_id
    return Found(
        event.connection_id,
        event.stream,
        event.event_id,
        account or "",
        event.event_code,
        event.app_name,
        event.occurred_at,
    )


def streams(sandbox: Sandbox) -> list[tuple[str, str]]:
    classes = vendor_classes()
    return [(c["connection_id"], stream) for c in sandbox.connections() for stream in classes[c["connector"]].streams]


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, below those that the kernel hands out by itself."""
    for first in range(20_000 + os.getpid() % 1000 * 10, 32_000, 10):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise RuntimeError("no free ports")


def vendor_of(sandbox: Sandbox, connection_id: str) -> str:
    return next(c["connector"] for c in sandbox.connections() if c["connection_id"] == connection_id)


def read(sandbox: Sandbox, connection_id: str, stream: str, low: datetime, high: datetime, size: int = 70) -> list[Any]:
    reader = Reader(sandbox, connection_id)
    return [record for page in reader.pages(stream, low, high, size) for record in page]


def start_of(sandbox: Sandbox) -> datetime:
    return datetime.combine(sandbox.start, datetime.min.time(), UTC)


# ---- what is served is what is true


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("size", [37, 9000])
def test_a_careful_reader_finds_exactly_the_truth(seed: int, size: int) -> None:
    with Sandbox(replace(SMALL, seed=seed, people=8), NOW) as sandbox:
        found: Counter[Found] = Counter()
        for connection_id, stream in streams(sandbox):
            records = read(sandbox, connection_id, stream, start_of(sandbox), NOW, size)
            events = Counter(e for record in records for e in made_out(connection_id, stream, record))
            # What has an id is one event however often it is listed; what has none happened as often as it is listed.
            found += Counter(set(events)) if stream != "activities" else events
        assert found == Counter(map(as_found, sandbox.truth().events))


def test_listings_are_the_true_accounts(sandbox: Sandbox, truth: Truth) -> None:
    listed: set[tuple[str, str]] = set()
    for connection in sandbox.connections():
        reader, name = Reader(sandbox, connection["connection_id"]), connection["connection_id"]
        match connection["connector"]:
            case "zoom":
                for status in ("active", "inactive", "pending"):
                    token: str | None = None
                    while token != "":
                        page = {"page_size": 7, **({"next_page_token": token} if token else {})}
                        body = reader.get("/v2/users", status=status, **page).json()
                        listed |= {(name, user["id"]) for user in body["users"]}
                        token = body["next_page_token"]
            case "okta":
                every = " or ".join(f'status eq "{s}"' for s in ("ACTIVE", "PROVISIONED", "SUSPENDED", "DEPROVISIONED"))
                response = reader.get("/api/v1/users", filter=every, limit=7)
                while True:
                    listed |= {(name, user["id"]) for user in response.json()}
                    if "next" not in response.links:
                        break
                    response = get(response.links["next"]["url"], headers=reader.headers)
            case "google_workspace":
                query: dict[str, Any] = {"customer": "my_customer", "maxResults": 7}
                while query:
                    body = reader.get("/admin/directory/v1/users", **query).json()
                    listed |= {(name, user["id"]) for user in body["users"]}
                    query = {**query, "pageToken": body["nextPageToken"]} if "nextPageToken" in body else {}
            case "slack":
                query = {"limit": 7}
                while query:
                    body = reader.get("/api/users.list", **query).json()
                    listed |= {(name, member["id"]) for member in body["members"]}
                    cursor = body["response_metadata"]["next_cursor"]
                    query = {"limit": 7, "cursor": cursor} if cursor else {}
    assert listed == {(account.connection_id, account.account_id) for account in truth.accounts}


@pytest.mark.parametrize("stream", ["activities", "login", "saml", "token", "audit_logs"])
def test_newest_first_over_all_pages(sandbox: Sandbox, stream: str) -> None:
    connection_id = next(name for name, its in streams(sandbox) if its == stream)
    records = read(sandbox, connection_id, stream, NOW - timedelta(days=20), NOW, 23)
    times = [event.occurred_at for record in records for event in made_out(connection_id, stream, record)]
    assert len(times) > 46
    assert all(later >= earlier for later, earlier in pairwise(times))


def test_okta_is_oldest_first_unless_asked(sandbox: Sandbox) -> None:
    records = read(sandbox, "acme-okta", "system_log", NOW - timedelta(days=9), NOW, 23)
    times = [event.occurred_at for record in records for event in made_out("acme-okta", "system_log", record)]
    assert times == sorted(times)
    assert len(times) > 46
    newest = Reader(sandbox, "acme-okta").get(
        "/api/v1/logs", since=_z(NOW - timedelta(days=9)), until=_z(NOW), sortOrder="DESCENDING"
    )
    published = [record["published"] for record in newest.json() if isinstance(record, dict)]
    assert published == sorted(published, reverse=True)


@pytest.mark.parametrize("stream", ["system_log", "login", "audit_logs"])
def test_both_bounds_of_a_window_are_inclusive(sandbox: Sandbox, stream: str, truth: Truth) -> None:
    events = sorted((e for e in truth.events if e.stream == stream), key=lambda e: e.occurred_at)
    event = events[len(events) // 2]
    records = read(sandbox, event.connection_id, stream, event.occurred_at, event.occurred_at)
    assert as_found(event) in {f for record in records for f in made_out(event.connection_id, stream, record)}


def test_zooms_days_are_whole_days_in_utc(sandbox: Sandbox, truth: Truth) -> None:
    day = datetime(2026, 1, 20, tzinfo=UTC)
    body = Reader(sandbox, "acme-zoom").get(
        "/v2/report/activities", **{"from": "2026-01-20", "to": "2026-01-20", "page_size": 300}
    )
    found = Counter(f for record in body.json()["activity_logs"] for f in made_out("acme-zoom", "activities", record))
    true = (e for e in truth.events if e.connection_id == "acme-zoom")
    assert found == Counter(as_found(e) for e in true if day <= e.occurred_at < day + timedelta(days=1))


# ---- hostile, and the same every time


def test_a_late_event_is_hidden_until_it_is_visible() -> None:
    with Sandbox(SMALL, NOW) as sandbox:
        late = [e for e in sandbox.truth().events if e.visible_at - e.occurred_at > timedelta(hours=6)]
        assert {e.connector for e in late} == {"zoom", "okta", "google_workspace", "slack"}
        for event in {e.connector: e for e in late}.values():
            around = event.occurred_at - timedelta(minutes=1), event.occurred_at + timedelta(minutes=1)
            shown = []
            for moment in (event.visible_at - timedelta(seconds=1), event.visible_at):
                sandbox.move(moment)
                records = read(sandbox, event.connection_id, event.stream, *around)
                found = (f for record in records for f in made_out(event.connection_id, event.stream, record))
                shown.append(as_found(event) in set(found))
            assert shown == [False, True]


def test_no_event_is_later_than_its_vendor_ever_is(sandbox: Sandbox, truth: Truth) -> None:
    for event in truth.events:
        lateness = event.visible_at - event.occurred_at
        assert timedelta(0) <= lateness < RARE.get(event.connector, timedelta(days=3))


def test_events_with_an_id_are_repeated_and_those_without_happen_twice(sandbox: Sandbox) -> None:
    listed: dict[str, Counter[str | None]] = {}
    for connection_id, stream in streams(sandbox):
        if stream != "activities":
            records = read(sandbox, connection_id, stream, start_of(sandbox), NOW, 40)
            ids = (f.event_id for record in records for f in made_out(connection_id, stream, record))
            listed.setdefault(vendor_of(sandbox, connection_id), Counter()).update(ids)
    assert {vendor: max(ids.values()) > 1 for vendor, ids in listed.items()} == {
        "okta": True,
        "google_workspace": True,
        "slack": True,
    }
    identical = Counter(
        json.dumps(record, sort_keys=True)
        for connection in ("acme-zoom", "globex-zoom", "initech-zoom")
        for record in read(sandbox, connection, "activities", start_of(sandbox), NOW)
    )
    assert max(identical.values()) > 1


def test_empty_pages_malformed_records_and_crowded_seconds_occur(sandbox: Sandbox) -> None:
    empty, malformed, seconds = 0, 0, Counter()
    for connection_id, stream in streams(sandbox):
        pages = list(Reader(sandbox, connection_id).pages(stream, start_of(sandbox), NOW, 20))
        empty += sum(not page for page in pages[:-1])
        for record in (record for page in pages for record in page):
            found = list(made_out(connection_id, stream, record))
            malformed += not found
            seconds.update((f.connection_id, f.occurred_at.replace(microsecond=0)) for f in found)
    assert empty > 0
    assert 0 < malformed < 40
    assert max(seconds.values()) > 3


def test_people_work_around_midnight_and_through_the_night_the_clocks_change() -> None:
    options = replace(SMALL, start=date(2025, 10, 1), people=40)
    events = Sandbox(options, datetime(2025, 11, 10, tzinfo=UTC)).truth().events
    berlin = [e.occurred_at for e in events if e.org_id == "globex"]
    # 26 October 2025 has an hour from 2 to 3 twice in Berlin: 00:00 and 01:00 UTC.
    hours = Counter(at.hour for at in berlin if at.date() == date(2025, 10, 26))
    assert hours[0] + hours[1] > 0
    midnight = datetime(2025, 10, 8, 22, tzinfo=UTC)
    near = [min(abs(at - midnight - timedelta(days=n)) for n in range(12)) for at in berlin]
    assert sum(distance < timedelta(minutes=10) for distance in near) > 20


def test_history_is_the_same_whatever_now_is_and_however_it_is_reached() -> None:
    once = Sandbox(SMALL, NOW).truth().events
    stepwise = Sandbox(SMALL, NOW - timedelta(days=20))
    seen: set[TrueEvent] = set()
    for day in range(20, -1, -1):
        stepwise.move(NOW - timedelta(days=day))
        events = stepwise.truth().events
        assert seen <= set(events)
        seen = set(events)
    assert stepwise.truth().events == once
    later = Sandbox(SMALL, NOW + timedelta(days=30)).truth(NOW)
    assert later.events == once


def test_another_org_changes_no_other() -> None:
    few, more = Sandbox(replace(SMALL, orgs=2), NOW).truth(), Sandbox(replace(SMALL, orgs=6), NOW).truth()
    ours = {"acme", "globex"}
    assert few.events == [e for e in more.events if e.org_id in ours]
    assert few.accounts == [a for a in more.accounts if a.org_id in ours]
    assert {e.org_id for e in more.events} > ours


def test_flags_make_more_of_everything(truth: Truth) -> None:
    base = len(truth.events)
    assert len(Sandbox(replace(SMALL, events=4), NOW).truth().events) > 2.5 * base
    assert len(Sandbox(replace(SMALL, people=30), NOW).truth().events) > 2 * base
    assert len(Sandbox(replace(SMALL, start=date(2025, 10, 1)), NOW).truth().events) > 2 * base


def test_the_world_has_the_hard_cases() -> None:
    truth = Sandbox(Options(), NOW).truth()
    assert 20_000 < len(truth.events) < 90_000
    assert {e.account_kind for e in truth.events} == {"employee", "service", "shared", "lent", "external", "system"}
    left = {row["person_id"]: row["left_on"] for row in truth.product["employees"] if row["left_on"]}
    assert any(
        e.person_id in left and e.occurred_at.date() > left[e.person_id] + timedelta(days=1) for e in truth.events
    )
    assert any(a.actual_person_id in left and not a.is_suspended for a in truth.accounts)
    emails = {a.account_email or "" for a in truth.accounts}
    assert any("+" in email for email in emails)
    assert any(email != email.lower() for email in emails)
    assert any(a.account_kind == "employee" and a.person_id is None for a in truth.accounts)
    assert any(row["on_leave_from"] for row in truth.product["employees"])
    used = {(e.account_id) for e in truth.events}
    assert any(a.connector == "zoom" and a.account_id not in used and not a.is_suspended for a in truth.accounts)
    by_source = {
        (e.org_id, e.person_id, e.occurred_at.date())
        for e in truth.events
        if e.app_id == "zoom" and e.source_kind == "sso"
    }
    assert any(
        e.connector == "zoom" and (e.org_id, e.person_id, e.occurred_at.date()) in by_source for e in truth.events
    )


# ---- each vendor's traps


def test_slack_pages_run_past_the_lower_bound_without_it(sandbox: Sandbox) -> None:
    reader = Reader(sandbox, "acme-slack")
    oldest = int((NOW - timedelta(days=3)).timestamp())
    body = reader.get("/audit/v1/logs", oldest=oldest, limit=20).json()
    below = []
    while body["response_metadata"]["next_cursor"]:
        body = reader.get("/audit/v1/logs", limit=20, cursor=body["response_metadata"]["next_cursor"]).json()
        below += [
            e
            for e in body["entries"]
            if isinstance(e, dict) and isinstance(e["date_create"], int) and e["date_create"] < oldest
        ]
    assert below


def test_oktas_next_link_never_ends_without_until(sandbox: Sandbox, truth: Truth) -> None:
    reader = Reader(sandbox, "acme-okta")
    response = reader.get("/api/v1/logs", since=_z(NOW - timedelta(hours=30)), limit=1000)
    stored = [f.event_id for record in response.json() for f in made_out("acme-okta", "system_log", record)]
    for _ in range(3):
        response = get(response.links["next"]["url"], headers=reader.headers)
        assert "next" in response.links
    assert response.json() == []
    # A polling query goes by the time of storing, so it has what occurred before `since` and came late.
    true = [e for e in truth.events if e.connection_id == "acme-okta"]
    assert set(stored) == {e.event_id for e in true if e.visible_at >= NOW - timedelta(hours=30)}


def test_okta_leaves_out_deprovisioned_users_unless_asked() -> None:
    with Sandbox(replace(SMALL, people=40), NOW) as sandbox:
        reader = Reader(sandbox, "acme-okta")
        assert "DEPROVISIONED" not in {user["status"] for user in reader.get("/api/v1/users").json()}
        asked = reader.get("/api/v1/users", search='status eq "DEPROVISIONED"').json()
        suspended = [a for a in sandbox.truth().accounts if a.connection_id == "acme-okta" and a.is_suspended]
        assert {user["id"] for user in asked} == {a.account_id for a in suspended} != set()


def test_oktas_apps_have_their_users(sandbox: Sandbox, truth: Truth) -> None:
    reader = Reader(sandbox, "acme-okta")
    apps = {app["label"]: app["id"] for app in reader.get("/api/v1/apps", limit=200).json()}
    used = {e.app_name for e in truth.events if e.connection_id == "acme-okta" and e.source_kind == "sso"}
    assert used <= set(apps)
    users = reader.get(f"/api/v1/apps/{apps['Zoom']}/users", limit=500).json()
    assert all(user["credentials"]["userName"] for user in users)
    assert reader.get("/api/v1/apps/0oanone/users").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-01-01", "to": "2026-02-01"},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"from": "2026-01-01"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02"},
        {"from": "2026-01-01", "to": "2026-01-02", "page_size": 301},
        {"from": "2026-01-01", "to": "2026-01-02", "next_page_token": "made up"},
    ],
)
def test_zoom_refuses_what_it_does_not_allow(sandbox: Sandbox, query: dict[str, Any]) -> None:
    response = Reader(sandbox, "acme-zoom").get("/v2/report/activities", **query)
    assert (response.status_code, response.json()["code"]) == (400, 300)


def test_zooms_tokens_expire() -> None:
    clock = [1_000_000.0]
    with Sandbox(replace(SMALL, calm=True), NOW, wall=lambda: clock[0]) as sandbox:
        reader = Reader(sandbox, "acme-zoom")
        query = {"from": "2026-01-01", "to": "2026-01-31", "page_size": 10}
        token = reader.get("/v2/report/activities", **query).json()["next_page_token"]
        assert token
        other = {**query, "from": "2026-01-02", "next_page_token": token}
        assert reader.get("/v2/report/activities", **other).status_code == 400
        clock[0] += 901
        late = reader.get("/v2/report/activities", **query, next_page_token=token)
        assert (late.status_code, late.json()["message"]) == (400, "The next page token is invalid or expired.")
        clock[0] += 3600
        assert reader.get("/v2/report/activities", **query).status_code == 401
        assert Reader(sandbox, "acme-zoom").get("/v2/report/activities", **query).status_code == 200


def test_google_gives_no_token_to_a_stranger(sandbox: Sandbox) -> None:
    reader = Reader(sandbox, "acme-google-workspace")
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert reader.grant(SCOPES, key=stranger).json()["error"] == "invalid_grant"
    assert reader.grant(SCOPES, exp=int(time.time()) + 86_400).json()["error"] == "invalid_grant"
    assert reader.grant(SCOPES, sub="nobody@acme.example").json()["error"] == "unauthorized_client"
    assert reader.grant(("admin.directory.user",)).json()["error"] == "unauthorized_client"


def test_google_opens_to_a_scope_only_what_is_its(sandbox: Sandbox, truth: Truth) -> None:
    reader = Reader(sandbox, "acme-google-workspace", scopes=("apps.licensing",))
    assert reader.get("/admin/directory/v1/users", customer="my_customer").status_code == 403
    customer = {"customerId": reader.settings["customer_id"]}
    rows = reader.get("/apps/licensing/v1/product/Google-Apps/users", **customer).json()["items"]
    licensed = [a for a in truth.accounts if a.connection_id == "acme-google-workspace" and a.license_name]
    assert {(row["userId"], row["skuName"]) for row in rows} == {(a.account_email, a.license_name) for a in licensed}


def test_google_serves_180_days() -> None:
    options = replace(SMALL, start=NOW.date() - timedelta(days=200), people=4)
    with Sandbox(options, NOW) as sandbox:
        records = read(sandbox, "acme-google-workspace", "login", start_of(sandbox), NOW, 1000)
        times = [f.occurred_at for record in records for f in made_out("acme-google-workspace", "login", record)]
        assert NOW - timedelta(days=181) < min(times) < NOW - timedelta(days=170)


@pytest.mark.parametrize("connector", ["zoom", "okta", "google_workspace", "slack"])
def test_each_vendor_says_too_many_in_its_own_way_and_only_once(sandbox: Sandbox, connector: str) -> None:
    paths: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
        "zoom": ("/v2/users", lambda n: {"page_size": n % 300 + 1, "status": ("active", "inactive")[n > 299]}),
        "okta": ("/api/v1/users", lambda n: {"limit": n}),
        "google_workspace": ("/admin/directory/v1/users", lambda n: {"customer": "my_customer", "maxResults": n}),
        "slack": ("/api/users.list", lambda n: {"limit": n}),
    }
    reader = Reader(sandbox, f"acme-{connector.replace('_', '-')}")
    path, query = paths[connector]
    failures: list[requests.Response] = []
    for n in range(1, 400):
        response = ask("GET", reader.url + path, params=query(n), headers=reader.headers)
        if response.status_code != 200:
            failures.append(response)
            again = ask("GET", reader.url + path, params=query(n), headers=reader.headers)
            assert again.status_code == 200
    assert {response.status_code // 100 for response in failures} == {4, 5}
    limited = [response for response in failures if response.status_code < 500]
    for response in limited:
        match connector:
            case "zoom" | "slack":
                assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
            case "okta":
                assert response.status_code == 429
                assert "Retry-After" not in response.headers
                said_at = parsedate_to_datetime(response.headers["Date"]).timestamp()
                assert 0 <= int(response.headers["X-Rate-Limit-Reset"]) - said_at <= 2
            case "google_workspace":
                assert response.status_code in (403, 429)
                assert response.json()["error"]["errors"][0]["reason"] == "rateLimitExceeded"
                assert "Retry-After" not in response.headers


# ---- faults and control


def test_a_revoked_connection_is_refused_for_ever_in_the_vendors_form() -> None:
    faults = {f"acme-{name}": "revoked" for name in ("zoom", "okta", "slack", "google-workspace")}
    with Sandbox(replace(SMALL, faults=faults, calm=True), NOW) as sandbox:
        zoom = Reader(sandbox, "acme-zoom").get("/v2/users")
        assert (zoom.status_code, zoom.json()["code"]) == (401, 124)
        okta = Reader(sandbox, "acme-okta").get("/api/v1/users")
        assert (okta.status_code, okta.json()["errorCode"]) == (401, "E0000011")
        slack = Reader(sandbox, "acme-slack")
        assert slack.get("/audit/v1/logs").status_code == 401
        web = slack.get("/api/users.list")
        assert (web.status_code, web.json()) == (200, {"ok": False, "error": "invalid_auth"})
        with pytest.raises(KeyError):
            Reader(sandbox, "acme-google-workspace")
        assert Reader(sandbox, "globex-okta").get("/api/v1/users").status_code == 200


def test_a_broken_connection_can_be_mended() -> None:
    with Sandbox(replace(SMALL, faults={"acme-okta": "broken"}, calm=True), NOW) as sandbox:
        reader = Reader(sandbox, "acme-okta")
        assert [reader.get("/api/v1/logs").status_code for _ in range(3)] == [500] * 3
        sandbox.set_fault("acme-okta", None)
        assert reader.get("/api/v1/logs").status_code == 200
        with pytest.raises(ValueError, match="no connection acme-nothing"):
            sandbox.set_fault("acme-nothing", "broken")


def test_malformed_records_are_no_part_of_the_truth() -> None:
    plain = Sandbox(SMALL, NOW).truth().events
    with Sandbox(replace(SMALL, faults={"acme-zoom": "malformed"}), NOW) as sandbox:
        assert sandbox.truth().events == plain
        records = read(sandbox, "acme-zoom", "activities", start_of(sandbox), NOW)
        assert sum(not list(made_out("acme-zoom", "activities", record)) for record in records) > 20


def test_a_hook_may_answer_in_the_vendors_place() -> None:
    asked: list[tuple[int, str]] = []

    def hook(number: int, path: str) -> Response | None:
        asked.append((number, path))
        return Response(418, b"{}") if number == 2 else None

    with Sandbox(replace(SMALL, calm=True), NOW, on_request=hook) as sandbox:
        reader = Reader(sandbox, "acme-okta")
        assert [reader.get("/api/v1/apps").status_code for _ in range(3)] == [200, 418, 200]
        assert asked == [(n, "/api/v1/apps") for n in (1, 2, 3)]
        assert sandbox.requests == 3


def test_it_stops_at_once_and_cuts_what_is_open() -> None:
    with Sandbox(replace(SMALL, calm=True), NOW) as sandbox:
        reader = Reader(sandbox, "acme-okta")
        session = requests.Session()
        session.get(f"{reader.url}/api/v1/apps", headers=reader.headers, timeout=10)
        began = time.perf_counter()
    assert time.perf_counter() - began < 1
    with pytest.raises(requests.ConnectionError):
        session.get(f"{reader.url}/api/v1/apps", headers=reader.headers, timeout=10)


def test_files_written_once_lead_to_a_later_process(tmp_path: Path) -> None:
    port = free_ports(len(vendor_classes()))
    with Sandbox(SMALL, NOW, port=port) as sandbox:
        sandbox.write_files(tmp_path)
        written = sandbox.connections()
    assert (tmp_path / "secrets.toml").stat().st_mode & 0o777 == 0o600
    assert tomllib.loads((tmp_path / "connections.toml").read_text())["connections"] == written
    secrets = tomllib.loads((tmp_path / "secrets.toml").read_text())["connections"]
    with Sandbox(SMALL, NOW + timedelta(days=1), port=port) as sandbox:
        assert sandbox.connections() == written
        flat = {f"CONNECTIONS__{c}__{n}".upper(): v for c, names in secrets.items() for n, v in names.items()}
        assert sandbox.secrets() == flat


def test_no_secret_is_in_a_connection(sandbox: Sandbox) -> None:
    text = json.dumps(sandbox.connections())
    assert not [name for name, value in sandbox.secrets().items() if value in text]


def test_truth_can_be_written_a_line_a_row(sandbox: Sandbox, truth: Truth) -> None:
    rows = [json.loads(line) for line in truth.to_jsonl()]
    kinds = Counter(row["row"] for row in rows)
    assert kinds["event"] == len(truth.events)
    assert kinds["employees"] == len(truth.product["employees"])


# ---- the product database


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgres]:
    private = PrivatePostgres(tmp_path_factory.mktemp("postgres"))
    private.start()
    yield private
    private.stop()
    private.remove()


def rows_of(url: str, table: str, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"select {', '.join(columns)} from public.{table}")
            return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    finally:
        connection.close()


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_the_products_tables_are_filled_and_follow_now(postgres: PrivatePostgres) -> None:
    url = postgres.url("follows")
    sandbox = Sandbox(Options(), NOW)
    leavers = []
    for moment in (NOW, NOW + timedelta(days=60)):
        sandbox.move(moment)
        assert set(sandbox.fill_product(url).values()) == {FILLED}
        wanted = product_rows(sandbox.world, moment)
        for table, rows in wanted.items():
            assert sorted(map(repr, rows_of(url, table, rows[0]))) == sorted(map(repr, rows))
        leavers.append(sum(row["left_on"] is not None for row in wanted["employees"]))
    assert leavers[1] > leavers[0]


def test_a_second_filling_writes_nothing(postgres: PrivatePostgres) -> None:
    url = postgres.url("twice")
    Sandbox(Options(), NOW).fill_product(url)
    rows = "select ctid::text from orgs union all select ctid::text from employees"
    before = execute(url, rows)
    Sandbox(Options(), NOW).fill_product(url)
    assert execute(url, rows) == before


def test_a_table_that_the_sandbox_did_not_make_is_left_alone(postgres: PrivatePostgres) -> None:
    url = postgres.url("foreign")
    execute(url, "create table employees (name text); insert into employees values ('Real Person')")
    execute(url, "create table app_states (state text); comment on table app_states is 'ours'")
    execute(url, "create view app_contracts as select 1 as one")
    done = Sandbox(Options(), NOW).fill_product(url)
    assert {table for table, what in done.items() if what == NOT_OURS} == {"employees", "app_states", "app_contracts"}
    assert execute(url, "select * from employees") == [("Real Person",)]
    assert execute(url, "select count(*) from app_states") == [(0,)]
    assert execute(url, "select obj_description('orgs'::regclass)") == [(MARK,)]


def test_the_sandbox_shows_nothing_to_a_product_that_has_customers(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = postgres.url("real")
    execute(url, "create table orgs (org_id text); insert into orgs values ('a real customer')")
    monkeypatch.setenv("APP_USAGE_HOME", str(tmp_path / "home"))
    refused = CliRunner().invoke(app, ["run"], env={"PRODUCT_DB_URL": url, "COLUMNS": "200"})
    assert refused.exit_code == 2, refused.output
    assert "has customers of its own" in refused.stderr
    assert execute(url, "select relname from pg_class where relnamespace = 'public'::regnamespace") == [("orgs",)]
    assert execute(url, "select to_regnamespace('app_usage')") == [(None,)]


def test_what_the_sandbox_made_up_is_not_published_beside_what_is_so(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "read_from").write_text("the sandbox")
    file = tmp_path / "connections.toml"
    file.write_text('[[connections]]\nconnection_id = "acme-zoom"\norg_id = "acme"\nconnector = "zoom"\n')
    monkeypatch.setenv("APP_USAGE_HOME", str(tmp_path))
    told = {"PRODUCT_DB_URL": postgres.url("beside"), "COLUMNS": "500"}
    refused = CliRunner().invoke(app, ["run", "--connections", str(file)], env=told)
    assert refused.exit_code == 2, refused.output
    assert "was read from the sandbox" in " ".join(refused.stderr.split())


def test_odd_dates_and_amounts_of_the_product_are_read_as_what_they_say(postgres: PrivatePostgres) -> None:
    url = postgres.url("odd")
    Sandbox(Options(), NOW).fill_product(url)
    execute(
        url,
        "delete from app_contracts; alter table app_contracts alter annual_price type numeric,"
        " alter license_name type varchar(80);"
        "insert into app_contracts"
        " (org_id, app_id, license_name, purchased, annual_price, currency, starts_on, ends_on)"
        " values ('acme', 'zoom', 'A', 1, 99.999, 'USD', '-infinity', 'infinity'),"
        " ('acme', 'zoom', 'B', 1, 'NaN', 'USD', '2026-01-01', '2026-12-31')",
    )
    contracts = read_tables(url)["app_contracts"].to_pylist()
    assert [(row["starts_on"], row["ends_on"], row["annual_price"]) for row in contracts] == [
        (None, None, Decimal("100.00")),
        (date(2026, 1, 1), date(2026, 12, 31), None),
    ]
    execute(url, "update app_contracts set annual_price = 1e12")
    with pytest.raises(ProductError, match="app_contracts"):
        read_tables(url)


def test_what_a_product_need_not_have_is_read_as_nothing_until_it_is_there(postgres: PrivatePostgres) -> None:
    url = postgres.url("extras")
    Sandbox(Options(), NOW).fill_product(url)
    tables = read_tables(url)
    assert tables["exchange_rates"].num_rows == 0
    for table, columns in OPTIONAL.items():
        assert all(tables[table][name].null_count == tables[table].num_rows for name in columns)

    Sandbox(Options(extras=True), NOW).fill_product(url)
    tables = read_tables(url)
    wanted = product_rows(Sandbox(Options(extras=True), NOW).world, NOW)
    for table in ("app_contracts", "exchange_rates"):
        rows = [{name: row[name] for name in wanted[table][0]} for row in tables[table].to_pylist()]
        assert sorted(map(repr, rows)) == sorted(map(repr, wanted[table]))

    execute(url, "alter table employees drop column email")
    with pytest.raises(ProductError, match=r"column .email. does not exist.* the tables orgs,.*usage_settings in"):
        read_tables(url)
