"""Vendors' own example answers, served over HTTP: what is sent, what lands, and what staging makes of it.

A connector is a case, where a table says all there is to say of the exchange; test_connector_scripts.py has the others.
Beside the pages, `tests/fixtures/<connector>/<stream>.json` in the order in which they are served, is what must come of
them: `expected.json` has the rows of the landing tables and of the staging models, without what is NULL.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from ingestion.connections import Connection
from ingestion.connector import Stream
from ingestion.connectors import connectors
from tests.models_support import Warehouse
from tests.support import NOW, Answer, Lake, Request, vendor

FIXTURES = Path(__file__).parent / "fixtures"
START = NOW - timedelta(days=1)  # one window: the examples are answered whatever is asked for

Number = Callable[[Request], int]
"""Which page a request is for."""


def fixture(connector: str, name: str) -> Any:
    return json.loads((FIXTURES / connector / f"{name}.json").read_text(encoding="utf-8"))


def body(request: Request) -> dict[str, Any]:
    """The body of a request, JSON or a form."""
    if request.headers.get("Content-Type", "").startswith("application/json"):
        document: dict[str, Any] = json.loads(request.body)
        return document
    return dict(parse_qsl(request.body.decode()))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class Case:
    """One connector: which page answers which request, and what a connection of it needs."""

    name: str
    routes: Mapping[str, tuple[str, Number]]  # path -> stream, page
    secrets: tuple[str, ...]
    authorization: Mapping[str, str]  # headers of every request for data
    settings: Mapping[str, Any] = field(default_factory=dict)
    token_path: str = ""
    headers: Callable[[str, int], dict[str, str]] = lambda path, page: {}

    def answer(self, request: Request) -> Answer:
        if request.path == self.token_path:
            return Answer({"access_token": "the-token", "expires_in": 3600, "token_type": "Bearer"})
        if request.path not in self.routes:
            return Answer({"error": "no_such_path"}, 404)
        stream, number = self.routes[request.path]
        served, page = fixture(self.name, stream), number(request)
        return Answer(served[page], headers=self.headers(request.path, page))

    def connection(self, url: str) -> Connection:
        return Connection(f"acme-{self.name}", "acme", self.name, url, START, self.settings)


def only(request: Request) -> int:
    return 0


def by_query(name: str, *values: str) -> Number:
    """The page whose value of the parameter is at its place in `values`; without the parameter the first."""
    return lambda request: values.index(request.query[name]) + 1 if name in request.query else 0


def by_cursor(*cursors: str) -> Number:
    return lambda request: cursors.index(body(request)["cursor"]) + 1 if "cursor" in body(request) else 0


def by_number(name: str, first: int, step: int = 1) -> Number:
    return lambda request: (int(request.query[name]) - first) // step


def linked(*paths: str) -> Callable[[str, int], dict[str, str]]:
    """Link headers: of each path's first page, to `page=2`."""
    return lambda path, page: (
        {"Link": f'<https://api.example.com{path}?page=2>; rel="next"'} if page == 0 and path in paths else {}
    )


_BEARER = {"Authorization": "Bearer the-token"}
_DROPBOX_CURSOR = "ZtkX9_EHj3x7PMkVuFIhwKYXEpwpLwyxp9vMKomUhllil9q7eWiAu"
_DATADOG_CURSOR = "eyJzdGFydEF0IjoiQVFBQUFYS2tMS3pPbm40NGV3QUFBQUJCV0V0clRFdDZVbG8zY3pCRmNsbHJiVmxDWlEifQ=="
_ENVIRONMENT = "5d2c8a52-8d38-4d8a-9c3b-2f1f2b6f7a01"
_ORGANISATION = "9f1c2f6e-1a77-4a3b-8c55-0d6d3d2f7e10"
_GITLAB = (
    "/api/v4/groups/60/audit_events",
    "/api/v4/groups/60/billable_members",
    "/api/v4/audit_events",
    "/api/v4/users",
)
_JUMPCLOUD_AFTER = [1576181718000, "DZrPyW8BNsa9iKWoOm7h"]

CASES = {
    case.name: case
    for case in (
        Case(
            "auth0",
            {"/api/v2/logs": ("logs", only), "/api/v2/users": ("users", only)},
            secrets=("client_id", "client_secret"),
            authorization=_BEARER,
            settings={"domain": "acme.eu.auth0.com"},
            token_path="/oauth/token",  # noqa: S106 (an address)
        ),
        Case(
            "onelogin",
            {
                "/api/1/events": ("events", by_query("after_cursor", "MTAwMQ==")),
                "/api/2/users": ("users", by_number("page", 1)),
            },
            secrets=("client_id", "client_secret"),
            authorization=_BEARER,
            token_path="/auth/oauth2/v2/token",  # noqa: S106 (an address)
        ),
        Case(
            "jumpcloud",
            {
                "/insights/directory/v1/events": ("events", lambda request: int("search_after" in body(request))),
                "/api/systemusers": ("systemusers", by_number("skip", 0, 100)),
            },
            secrets=("api_key",),
            authorization={"x-api-key": "secret-api_key", "x-org-id": "5a2af2a8"},
            settings={"org_id": "5a2af2a8"},
            headers=lambda path, page: {
                "X-Result-Count": "1",
                "X-Limit": "1" if page == 0 else "1000",
                "X-Search_after": json.dumps(_JUMPCLOUD_AFTER),
            },
        ),
        Case(
            "pingone",
            {
                f"/v1/environments/{_ENVIRONMENT}/activities": ("activities", by_query("cursor", "eyJuIjoxfQ")),
                f"/v1/environments/{_ENVIRONMENT}/users": ("users", by_query("cursor", "eyJwIjoxfQ")),
            },
            secrets=("client_id", "client_secret"),
            authorization=_BEARER,
            settings={"region": "eu", "environment_id": _ENVIRONMENT},
            token_path=f"/{_ENVIRONMENT}/as/token",
        ),
        Case(
            "asana",
            {
                "/api/1.0/workspaces/1234/audit_log_events": (
                    "audit_log_events",
                    by_query("offset", "eyJ0eXAiOJiKV1iQLCJhbGciOiJIUzI1NiJ9", "b2Zmc2V0LW9mLXRoZS1lbmQ"),
                ),
                "/api/1.0/users": ("users", by_query("offset", "bmV4dA")),
            },
            secrets=("token",),
            authorization={"Authorization": "Bearer secret-token"},
            settings={"workspace_gid": "1234"},
        ),
        Case(
            "atlassian",
            {
                f"/admin/v1/orgs/{_ORGANISATION}/events-stream": ("events", by_query("cursor", "page-2")),
                f"/admin/v1/orgs/{_ORGANISATION}/users": ("users", by_query("cursor", "Sxjs3ks")),
            },
            secrets=("api_key",),
            authorization={"Authorization": "Bearer secret-api_key"},
            settings={"org_id": _ORGANISATION},
        ),
        Case(
            "github",
            {
                "/enterprises/octo/audit-log": ("audit_log", by_query("page", "2")),
                "/enterprises/octo/consumed-licenses": ("consumed_licenses", by_query("page", "2")),
                "/orgs/octo-org/copilot/billing/seats": ("copilot_seats", only),
            },
            secrets=("token",),
            authorization={"Authorization": "Bearer secret-token", "Accept": "application/vnd.github+json"},
            settings={"enterprise": "octo", "copilot_organizations": ["octo-org"]},
            headers=linked("/enterprises/octo/audit-log", "/enterprises/octo/consumed-licenses"),
        ),
        Case(
            "gitlab",
            dict(
                zip(
                    _GITLAB,
                    (
                        (stream, by_query("page", "2"))
                        for stream in ("audit_events", "billable_members", "audit_events", "users")
                    ),
                    strict=True,
                )
            ),
            secrets=("token",),
            authorization={"Authorization": "Bearer secret-token"},
            settings={"group_ids": [60], "is_instance": True},
            headers=linked(*_GITLAB),
        ),
        Case(
            "dropbox",
            {
                "/2/team_log/get_events": ("team_events", only),
                "/2/team_log/get_events/continue": ("team_events", by_cursor(_DROPBOX_CURSOR, _DROPBOX_CURSOR + "2")),
                "/2/team/members/list_v2": ("members", only),
                "/2/team/members/list/continue_v2": ("members", by_cursor(_DROPBOX_CURSOR)),
            },
            secrets=("app_key", "app_secret", "refresh_token"),
            authorization=_BEARER,
            token_path="/oauth2/token",  # noqa: S106 (an address)
        ),
        Case(
            "box",
            {
                "/2.0/events": ("events", by_query("stream_position", "1152922976252290886", "1152922976252290887")),
                "/2.0/users": ("users", by_query("marker", "JV9IRGZmieiBasejOG9yDCRNgd2ymoZIbjsxbJMjIs3kioVii")),
            },
            secrets=("client_id", "client_secret"),
            authorization=_BEARER,
            settings={"enterprise_id": 11446498},
            token_path="/oauth2/token",  # noqa: S106 (an address)
        ),
        Case(
            "onepassword",
            {
                "/api/v2/signinattempts": ("sign_in_attempts", by_cursor("c1", "c2")),
                "/api/v2/itemusages": ("item_usages", only),
                "/api/v2/auditevents": ("audit_events", only),
            },
            secrets=("token",),
            authorization={"Authorization": "Bearer secret-token"},
        ),
        Case(
            "bitwarden",
            {
                "/public/events": ("events", by_query("continuationToken", "more")),
                "/public/members": ("members", only),
            },
            secrets=("client_id", "client_secret"),
            authorization=_BEARER,
            settings={"server": "bitwarden.com"},
            token_path="/connect/token",  # noqa: S106 (an address)
        ),
        Case(
            "datadog",
            {
                "/api/v2/audit/events": ("audit_events", by_query("page[cursor]", _DATADOG_CURSOR)),
                "/api/v2/users": ("users", by_number("page[number]", 0)),
                "/api/v2/seats/users": ("seats", by_query("page[cursor]", "n2")),
            },
            secrets=("api_key", "application_key"),
            authorization={"DD-API-KEY": "secret-api_key", "DD-APPLICATION-KEY": "secret-application_key"},
            settings={"seat_products": ["incident_management"]},
        ),
        Case(
            "pagerduty",
            {
                "/audit/records": ("audit_records", by_query("cursor", "bmV4dA==")),
                "/users": ("users", by_number("offset", 0, 100)),
                "/license_allocations": ("license_allocations", by_number("offset", 0, 100)),
            },
            secrets=("api_key",),
            authorization={
                "Authorization": "Token token=secret-api_key",
                "Accept": "application/vnd.pagerduty+json;version=2",
            },
        ),
    )
}


# what the first request of a window from START, a minute before NOW at the end, must ask
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "auth0": (
        "/api/v2/logs",
        {
            "q": "date:[2026-01-30T12:00:00.000Z TO 2026-01-31T11:59:00.000Z]",
            "sort": "date:1",
            "per_page": "100",
            "page": "0",
        },
    ),
    "onelogin": (
        "/api/1/events",
        {"since": "2026-01-30T11:59:59.999Z", "until": "2026-01-31T11:59:00.000Z", "limit": "50"},
    ),
    "jumpcloud": (
        "/insights/directory/v1/events",
        {
            "service": ["directory", "sso", "password_manager"],
            "start_time": "2026-01-30T11:59:59.999Z",
            "end_time": "2026-01-31T11:59:00.000Z",
            "limit": 1000,
            "sort": "ASC",
        },
    ),
    "pingone": (
        f"/v1/environments/{_ENVIRONMENT}/activities",
        {
            "filter": 'recordedAt gt "2026-01-30T11:59:59.999Z" AND recordedAt lt "2026-01-31T11:59:00.000Z"',
            "limit": "500",
        },
    ),
    "asana": (
        "/api/1.0/workspaces/1234/audit_log_events",
        {"start_at": "2026-01-30T12:00:00.000Z", "end_at": "2026-01-31T11:59:00.000Z", "limit": "100"},
    ),
    "atlassian": (
        f"/admin/v1/orgs/{_ORGANISATION}/events-stream",
        {"from": "1769774399000", "to": "1769860740000", "sortOrder": "asc", "limit": "200"},
    ),
    "github": (
        "/enterprises/octo/audit-log",
        {
            "phrase": "created:2026-01-30T11:59:59Z..2026-01-31T11:59:00Z",
            "include": "all",
            "order": "asc",
            "per_page": "100",
        },
    ),
    "gitlab": (
        "/api/v4/groups/60/audit_events",
        {
            "created_after": "2026-01-30T12:00:00Z",
            "created_before": "2026-01-31T11:59:00Z",
            "pagination": "keyset",
            "per_page": "100",
        },
    ),
    "dropbox": (
        "/2/team_log/get_events",
        {"limit": 1000, "time": {"start_time": "2026-01-30T11:59:59Z", "end_time": "2026-01-31T11:59:00Z"}},
    ),
    "box": (
        "/2.0/events",
        {
            "stream_type": "admin_logs",
            "created_after": "2026-01-30T11:59:59Z",
            "created_before": "2026-01-31T11:59:00Z",
            "limit": "500",
        },
    ),
    "onepassword": (
        "/api/v2/signinattempts",
        {"limit": 1000, "start_time": "2026-01-30T11:59:59Z", "end_time": "2026-01-31T11:59:00Z"},
    ),
    "bitwarden": ("/public/events", {"start": "2026-01-30T11:59:59.999Z", "end": "2026-01-31T11:58:00.000Z"}),
    "datadog": (
        "/api/v2/audit/events",
        {
            "filter[from]": "2026-01-30T11:59:59.999Z",
            "filter[to]": "2026-01-31T11:59:00.000Z",
            "sort": "timestamp",
            "page[limit]": "1000",
        },
    ),
    "pagerduty": (
        "/audit/records",
        {"since": "2026-01-30T11:59:59.999Z", "until": "2026-01-31T11:59:00.000Z", "limit": "100"},
    ),
}

# the token request of a connector that has one: a header of it, its body
TOKEN_REQUESTS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "auth0": (
        None,
        {
            "grant_type": "client_credentials",
            "client_id": "secret-client_id",
            "client_secret": "secret-client_secret",
            "audience": "https://acme.eu.auth0.com/api/v2/",
        },
    ),
    "onelogin": (
        "client_id:secret-client_id, client_secret:secret-client_secret",
        {"grant_type": "client_credentials"},
    ),
    "pingone": (basic("secret-client_id", "secret-client_secret"), {"grant_type": "client_credentials"}),
    "dropbox": (
        None,
        {
            "grant_type": "refresh_token",
            "refresh_token": "secret-refresh_token",
            "client_id": "secret-app_key",
            "client_secret": "secret-app_secret",
        },
    ),
    "box": (
        None,
        {
            "grant_type": "client_credentials",
            "client_id": "secret-client_id",
            "client_secret": "secret-client_secret",
            "box_subject_type": "enterprise",
            "box_subject_id": "11446498",
        },
    ),
    "bitwarden": (
        None,
        {
            "grant_type": "client_credentials",
            "client_id": "secret-client_id",
            "client_secret": "secret-client_secret",
            "scope": "api.organization",
        },
    ),
}


_EVENT = "event_code, account_id, user_email, actor_kind, app_name, source_kind, activity, status, logged_at"
_ACCOUNT = """app_name, account_id, user_email, user_name, account_status, account_kind, license_name,
    license_assigned_at, last_activity_at, last_activity_basis"""


_SECRETS = {
    f"CONNECTIONS__ACME_{case.name}__{secret}".upper(): f"secret-{secret}"
    for case in CASES.values()
    for secret in case.secrets
}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in _SECRETS.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def extracted(case: Case, lake: Lake, now: datetime = NOW) -> list[Request]:
    """Extract from the case's vendor; the requests that it saw. Every stream must have come in whole."""
    with vendor(case.answer) as server:
        report = lake.extract(connectors()[case.name], case.connection(server.url), now)
    assert not report.failures
    return server.requests


def asked(request: Request) -> dict[str, Any]:
    return body(request) if request.method == "POST" else request.query


def rows(result: list[tuple[Any, ...]], columns: str) -> list[dict[str, Any]]:
    """Rows as objects without NULLs, instants as text: the form of `expected.json`."""
    names = [name.strip() for name in columns.split(",")]
    return [
        {
            name: str(value) if isinstance(value, datetime) else value
            for name, value in zip(names, row, strict=True)
            if value is not None
        }
        for row in result
    ]


def landed(lake: Lake, name: str, stream: Stream) -> list[dict[str, Any]]:
    head = ["event_id", "event_id_kind", "occurred_at"] if stream.kind == "events" else ["record_id"]
    columns = ", ".join([*head, *(column.name for column in stream.columns)])
    return rows(lake.query(f"select {columns} from landing_{name}.{stream.name} order by all"), columns)


@dataclass
class Whole:
    """A warehouse that every case is extracted into, once, when the first test asks for it."""

    lake: Lake
    _requests: dict[str, list[Request]] = field(default_factory=dict)

    def requests(self, name: str) -> list[Request]:
        if name not in self._requests:
            with pytest.MonkeyPatch.context() as environment:
                for variable, value in _SECRETS.items():
                    environment.setenv(variable, value)
                self._requests[name] = extracted(CASES[name], self.lake)
        return self._requests[name]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(Lake(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def again(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A copy of it, to read once more into."""
    for name in CASES:
        whole.requests(name)
    return Lake(shutil.copytree(whole.lake.folder, tmp_path_factory.mktemp("again") / "home"))


@pytest.mark.parametrize("name", CASES)
def test_what_a_vendor_serves_in_pages_lands_typed_and_whole(name: str, whole: Whole) -> None:
    assert whole.requests(name)
    found = {stream.name: landed(whole.lake, name, stream) for stream in connectors()[name].streams}
    assert found == fixture(name, "expected")["landed"]
    assert whole.lake.query(f"select sum(rejected_count) from landing_{name}.fetch_log") == [(0,)]


@pytest.mark.parametrize("name", CASES)
def test_every_request_carries_the_credentials_as_the_vendor_wants_them(name: str, whole: Whole) -> None:
    case = CASES[name]
    for request in whole.requests(name):
        if request.path == case.token_path:
            authorization, form = TOKEN_REQUESTS[name]
            assert (request.headers.get("Authorization"), body(request)) == (authorization, form)
        else:
            assert {header: request.headers.get(header) for header in case.authorization} == dict(case.authorization)


@pytest.mark.parametrize("name", CASES)
def test_a_window_is_asked_for_in_the_vendors_terms(name: str, whole: Whole) -> None:
    path, wanted = ASKED[name]
    [first, *_] = [request for request in whole.requests(name) if request.path == path]
    assert asked(first) == wanted


@pytest.mark.parametrize("name", CASES)
def test_an_unchanged_listing_lands_nothing_when_it_is_read_again(name: str, again: Lake) -> None:
    tables = [stream.name for stream in connectors()[name].streams if stream.kind == "accounts"]
    before = [again.query(f"select count(*) from landing_{name}.{table}") for table in tables]
    extracted(CASES[name], again, NOW + timedelta(hours=1))
    assert [again.query(f"select count(*) from landing_{name}.{table}") for table in tables] == before


@pytest.mark.parametrize(
    ("name", "path", "kept"),
    [
        ("dropbox", "/2/team_log/get_events/continue", set()),
        ("dropbox", "/2/team/members/list/continue_v2", set()),
        ("onepassword", "/api/v2/signinattempts", set()),
        ("atlassian", f"/admin/v1/orgs/{_ORGANISATION}/events-stream", {"limit"}),
    ],
)
def test_a_cursor_goes_without_the_bounds_that_led_to_it(name: str, path: str, kept: set[str], whole: Whole) -> None:
    following = [request for request in whole.requests(name) if request.path == path]
    following = [request for request in following if "cursor" in asked(request)]
    assert following
    assert all(asked(request).keys() == {"cursor", *kept} for request in following)


def test_an_empty_page_in_the_middle_does_not_end_a_dropbox_log(whole: Whole) -> None:
    assert whole.requests("dropbox")
    deleted = "select count(*) from landing_dropbox.team_events where event_type = 'file_delete'"
    assert whole.lake.query(deleted) == [(1,)]


def test_a_search_of_auth0_goes_on_beyond_its_first_thousand_results(lake: Lake) -> None:
    [[example, _]] = fixture("auth0", "logs")
    first = datetime(2026, 1, 30, 13)
    logs = []
    for number in range(2150):
        date = f"{(first + timedelta(seconds=number)).isoformat(timespec='milliseconds')}Z"
        logs.append({**example, "log_id": str(number), "date": date})

    def answer(request: Request) -> Answer:
        if request.path != "/api/v2/logs":
            return CASES["auth0"].answer(request)
        start, end = request.query["q"].removeprefix("date:[").removesuffix("]").split(" TO ")
        found = [log for log in logs if start <= log["date"] <= end]
        page = int(request.query["page"])
        assert page < 10, "only 1,000 results can be paged through"
        return Answer(found[page * 100 : page * 100 + 100])

    with vendor(answer) as server:
        report = lake.extract(connectors()["auth0"], CASES["auth0"].connection(server.url))
    assert not report.failures
    assert lake.query("select count(distinct event_id) from landing_auth0.logs") == [(2150,)]


def _box_events(hours: range) -> list[dict[str, Any]]:
    example = fixture("box", "events")[0]["entries"][0]
    start = datetime(2026, 1, 30, 12)
    return [
        {**example, "event_id": str(hour), "created_at": f"{(start + timedelta(hours=hour)).isoformat()}+00:00"}
        for hour in hours
    ]


def test_a_position_of_box_that_forgets_the_end_is_followed_no_further_than_one_page_behind_it(lake: Lake) -> None:
    log = _box_events(range(1, 200))  # on and on after the window

    def answer(request: Request) -> Answer:
        if request.path != "/2.0/events":
            return CASES["box"].answer(request)
        position = int(request.query.get("stream_position", 0))
        page = log[position : position + 10]
        return Answer({"chunk_size": len(page), "next_stream_position": str(position + len(page)), "entries": page})

    with vendor(answer) as server:
        report = lake.extract(connectors()["box"], CASES["box"].connection(server.url), NOW)
        assert len([request for request in server.requests if request.path == "/2.0/events"]) == 4
    assert not report.failures
    within = "select count(*) from landing_box.events where occurred_at <= '2026-01-31 11:59'"
    assert lake.query(within) == [(23,)]


@pytest.mark.parametrize(
    ("meta", "told"),
    [({"status": "timeout"}, "timed out"), ({"warnings": [{"code": "unknown_index"}]}, "warns of unknown_index")],
)
def test_a_datadog_query_that_read_a_part_is_a_failure_and_not_a_short_page(
    lake: Lake, meta: dict[str, Any], told: str
) -> None:
    def answer(request: Request) -> Answer:
        reply = CASES["datadog"].answer(request)
        if request.path == "/api/v2/audit/events":
            reply.body["meta"] |= meta
        return reply

    with vendor(answer) as server:
        report = lake.extract(connectors()["datadog"], CASES["datadog"].connection(server.url))
    assert report.failures.keys() == {("acme-datadog", "audit_events")}
    assert told in report.failures["acme-datadog", "audit_events"]


def test_a_stream_that_a_customer_does_not_have_is_not_asked_for(lake: Lake) -> None:
    case = CASES["github"]
    without = Case(**{**vars(case), "settings": {"enterprise": "octo"}})
    assert not [request for request in extracted(without, lake) if "copilot" in request.path]


def test_a_setting_that_a_path_needs_is_named_when_it_is_missing(lake: Lake) -> None:
    case = Case(**{**vars(CASES["github"]), "settings": {}})
    with vendor(case.answer) as server:
        report = lake.extract(connectors()["github"], case.connection(server.url))
        assert not server.requests
    assert "has no setting 'enterprise'" in report.failures["acme-github", "audit_log"]


@pytest.fixture(scope="module")
def staged(whole: Whole) -> Warehouse:
    """The staging models of all cases, built on what has landed."""
    for name in CASES:
        whole.requests(name)
    warehouse = Warehouse(whole.lake.folder)
    warehouse.build("--select", *(f"+path:models/staging/{name}" for name in CASES), "+int_events")
    return warehouse


def listed(staged: Warehouse, columns: str, relation: str) -> list[dict[str, Any]]:
    return rows(staged.query(f"select {columns} from {relation} order by all"), columns)


@pytest.mark.parametrize("name", CASES)
def test_staging_gives_events_in_the_common_shape(name: str, staged: Warehouse) -> None:
    events = f"analytics_intermediate.int_events where connector = '{name}'"
    assert listed(staged, _EVENT, events) == fixture(name, "expected")["events"]


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"onepassword"}))
def test_staging_gives_accounts_in_the_common_shape(name: str, staged: Warehouse) -> None:
    assert listed(staged, _ACCOUNT, f"analytics_staging.stg_{name}__accounts") == fixture(name, "expected")["accounts"]
