"""What vendors' own answers become: two pages of them over HTTP, behind the vendor's way to authenticate, land typed.

Written out vendor by vendor, where test_connector_cases.py has a table: signatures, sessions, reports, errors and all.
The pages are in tests/fixtures, whose README says where they come from.
"""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ingestion.connections import Connection
from ingestion.connectors import connectors
from tests.models_support import Warehouse
from tests.support import NOW, Answer, Lake, Request, vendor

FIXTURES = Path(__file__).parent / "fixtures"
TOKEN = Answer({"access_token": "a-fresh-token", "token_type": "Bearer", "expires_in": 3600})

Answers = Mapping[str, Answer | list[Answer]]
Asked = dict[str, list[Request]]
Read = Callable[..., Asked]


def pages(name: str, stream: str) -> list[Answer]:
    """The pages of a stream, in order."""
    return [Answer(page) for page in json.loads((FIXTURES / name / f"{stream}.json").read_text())]


def csv(name: str, stream: str) -> list[Answer]:
    """A stream's only page, as CSV."""
    return [Answer((FIXTURES / name / f"{stream}.csv").read_bytes(), headers={"Content-Type": "text/csv"})]


class Script:
    """Answers each path with its pages in turn, each once, and keeps what it was asked.

    A key is a path, or `path#word` for the requests to it that have the word in their query or body. One answer that
    is no list is given as often as it is asked for: the same token to every stream.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked: Asked = {key: [] for key in answers}

    def __call__(self, request: Request) -> Answer:
        sent = json.dumps(request.pairs) + request.body.decode()
        for key, answers in self._answers.items():
            path, _, word = key.partition("#")
            if path != request.path or word not in sent:
                continue
            self.asked[key].append(request)
            if isinstance(answers, Answer):
                return answers
            number = len(self.asked[key])
            return answers[number - 1] if number <= len(answers) else Answer({"error": "no such page"}, 410)
        return Answer({"error": "no such path"}, 404)


@dataclass(frozen=True)
class Case:
    """A vendor's answers, by what is asked, and what a connection to it is given."""

    answers: Answers
    settings: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


def _streams(name: str, paths: Mapping[str, str]) -> dict[str, Answer | list[Answer]]:
    return {path: pages(name, stream) for path, stream in paths.items()}


def _linked(path: str, answers: list[Answer]) -> list[Answer]:
    """The first of two pages points to the second in its Link header."""
    answers[0].headers = {"Link": f'<https://webexapis.com{path}?cursor=b>; rel="next"'}
    return answers


KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE_KEY = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
GRAPH_REPORT = "/v1.0/reports/getOffice365ActiveUserDetail(period='D180')"
SOQL = "/services/data/v60.0/query"
SECURITY_AUDIT = "/v1/admin/securityAudit/events"
TABLEAU_USERS = "/api/3.19/sites/6b7179ba-b82b-4f0f-91ed-812074ac5da6/users"
ADOBE_USERS = "/v2/usermanagement/users/A495E53@AdobeOrg"
AIRTABLE_ACCOUNT = "/v0/meta/enterpriseAccounts/ent00000000000000"
STATEMENTS = "/api/v2/statements"
RESULT = f"{STATEMENTS}/01b5a2e4-0000-0123-0000-000000000001"
CLIENT = {"client_id": "an-app", "client_secret": "s3cret"}

VENDORS = {
    "microsoft365": Case(
        {
            "/acme-tenant/oauth2/v2.0/token": TOKEN,
            "/v1.0/auditLogs/signIns": pages("microsoft365", "sign_ins"),
            "/v1.0/users#signInActivity": pages("microsoft365", "users"),
            "/v1.0/users#assignedLicenses": pages("microsoft365", "licenses"),
            "/v1.0/subscribedSkus": pages("microsoft365", "subscribed_skus"),
            GRAPH_REPORT: [Answer(b"", 302, {"Location": "/reports-cdn/detail.csv?sig=abc"})],
            "/reports-cdn/detail.csv": csv("microsoft365", "active_users"),
        },
        {"tenant_id": "acme-tenant"},
        CLIENT,
    ),
    "duo": Case(
        _streams("duo", {"/admin/v2/logs/authentication": "authentication", "/admin/v1/users": "users"}),
        {},
        {"integration_key": "DIXXXXXXXXXXXXXXXXXX", "secret_key": "not-really-a-secret"},
    ),
    "salesforce": Case(
        {
            "/services/oauth2/token": TOKEN,
            f"{SOQL}#FROM LoginHistory": pages("salesforce", "login_history")[:1],
            f"{SOQL}/01g5j00000AbCdE-2000": pages("salesforce", "login_history")[1:],
            f"{SOQL}#FROM EventLogFile": pages("salesforce", "event_log_files"),
            f"{SOQL}#FROM User": pages("salesforce", "users"),
            "/services/data/v60.0/sobjects/EventLogFile/0AT5j000002LqEGGA0/LogFile": csv("salesforce", "event_log"),
        },
        {"event_log_files": True},
        CLIENT,
    ),
    "hubspot": Case(
        _streams(
            "hubspot",
            {
                "/account-info/v3/activity/login": "logins",
                "/account-info/v3/activity/audit-logs": "audit_logs",
                "/settings/v3/users/": "users",
            },
        ),
        {"audit_logs": True},
        {"token": "pat-na1-0000"},
    ),
    "zendesk": Case(
        _streams("zendesk", {"/api/v2/audit_logs.json": "audit_logs", "/api/v2/users.json": "users"}),
        {"email": "admin@acme.com"},
        {"api_token": "a-zendesk-token"},
    ),
    "intercom": Case(
        _streams("intercom", {"/admins/activity_logs": "activity_logs", "/admins": "admins"}),
        {},
        {"token": "an-intercom-token"},
    ),
    "figma": Case(_streams("figma", {"/v1/activity_logs": "activity_logs"}), {}, {"token": "a-figma-token"}),
    "miro": Case(
        _streams("miro", {"/v2/audit/logs": "audit_logs", "/v2/orgs/3074457345821141000/members": "members"}),
        {"org_id": "3074457345821141000"},
        {"token": "a-miro-token"},
    ),
    "docusign": Case(
        {
            "/oauth/token": TOKEN,
            **_streams(
                "docusign",
                {
                    "/api/v2.0/datasets/monitor/stream": "monitor",
                    "/Management/v2/organizations/o-1/users": "users",
                },
            ),
        },
        {"user_id": "u-1", "organization_id": "o-1", "account_id": "a-1", "monitor": True},
        {"integration_key": "an-integration", "private_key": PRIVATE_KEY},
    ),
    "airtable": Case(
        {
            f"{AIRTABLE_ACCOUNT}/auditLogEvents": pages("airtable", "audit_log_events"),
            AIRTABLE_ACCOUNT: pages("airtable", "users")[:1],
            f"{AIRTABLE_ACCOUNT}/users": pages("airtable", "users")[1:],
        },
        {"enterprise_account_id": "ent00000000000000"},
        {"token": "a-pat"},
    ),
    "monday": Case(
        _streams("monday", {"/audit-api/get-logs": "audit_logs", "/v2": "users"}),
        {"account": "acme"},
        {"audit_token": "an-audit-token", "api_token": "an-api-token"},
    ),
    "smartsheet": Case(
        _streams("smartsheet", {"/2.0/events": "events", "/2.0/users": "users"}),
        {"event_reporting": True},
        {"token": "a-smartsheet-token"},
    ),
    "webex": Case(
        {
            "/v1/access_token": TOKEN,
            SECURITY_AUDIT: _linked(SECURITY_AUDIT, pages("webex", "security_audit")),
            **_streams(
                "webex",
                {"/v1/adminAudit/events": "admin_audit", "/v1/people": "people", "/v1/licenses": "licenses"},
            ),
        },
        {"org_id": "o-1", "security_audit": True},
        {"client_id": "an-app", "client_secret": "a-secret", "refresh_token": "a-refresh-token"},
    ),
    "slack": Case(
        _streams(
            "slack",
            {
                "/api/team.accessLogs": "access_logs",
                "/api/users.list": "users",
                "/api/team.billableInfo": "billable_info",
            },
        ),
        {"access_logs": True},
        {"token": "xoxp-0000"},
    ),
    "openai": Case(
        _streams(
            "openai",
            {
                "/v1/organization/audit_logs": "audit_logs",
                "/v1/organization/usage/completions": "usage_completions",
                "/v1/organization/users": "users",
            },
        ),
        {},
        {"admin_key": "sk-admin-0000"},
    ),
    "tableau": Case(
        {"/api/3.19/auth/signin": pages("tableau", "sign_in"), TABLEAU_USERS: pages("tableau", "users")},
        {"site": "Samples"},
        {"token_name": "reader", "token_secret": "a-tableau-secret"},
    ),
    "adobe": Case(
        {
            "/ims/token/v3": TOKEN,
            f"{ADOBE_USERS}/0": pages("adobe", "users")[:1],
            f"{ADOBE_USERS}/1": pages("adobe", "users")[1:],
        },
        {"organization_id": "A495E53@AdobeOrg"},
        CLIENT,
    ),
    "launchdarkly": Case(
        _streams("launchdarkly", {"/api/v2/auditlog": "audit_log", "/api/v2/members": "members"}),
        {},
        {"token": "api-0000"},
    ),
    "snowflake": Case(
        {
            f"{STATEMENTS}#LOGIN_HISTORY": pages("snowflake", "login_history")[1:2],
            RESULT: pages("snowflake", "login_history")[2:],
            f"{STATEMENTS}#ACCOUNT_USAGE.USERS": pages("snowflake", "users"),
        },
        {"account": "acme-prod.eu-west-1", "user": "reader", "role": "AUDITOR", "warehouse": "TINY"},
        {"private_key": PRIVATE_KEY},
    ),
    "lastpass": Case(
        _streams("lastpass", {"/enterpriseapi.php#reporting": "events", "/enterpriseapi.php#getuserdata": "users"}),
        {"time_zone": "UTC"},
        {"cid": "8771312", "provhash": "a-provisioning-hash"},
    ),
}


def _extract(lake: Lake, environment: pytest.MonkeyPatch, name: str, **changes: Any) -> Asked:
    """Extract a connection whose windows begin half a day ago; what the vendor was asked."""
    case = replace(VENDORS[name], **changes)
    for secret, value in case.secrets.items():
        environment.setenv(f"CONNECTIONS__ACME__{secret.upper()}", value)
    script = Script(case.answers)
    with vendor(script) as server:
        connection = Connection("acme", "acme", name, server.url, NOW - timedelta(hours=12), case.settings)
        report = lake.extract(connectors()[name], connection)
    assert not report.failures
    assert not lake.slept, "a request was refused at first"
    lists = {key: len(answers) for key, answers in case.answers.items() if isinstance(answers, list)}
    assert {key: len(script.asked[key]) for key in lists} == lists, "each page once"
    tables = lake.query(f"select table_name from information_schema.tables where table_schema = 'landing_{name}'")
    if ("rejected_records",) in tables:
        assert lake.query(f"select stream, reason from landing_{name}.rejected_records") == []
    return script.asked


@dataclass
class Whole:
    """A warehouse that every vendor is extracted into, once, when the first test asks for it."""

    lake: Lake
    _asked: dict[str, Asked] = field(default_factory=dict)

    def asked(self, name: str) -> Asked:
        if name not in self._asked:
            with pytest.MonkeyPatch.context() as environment:
                self._asked[name] = _extract(self.lake, environment, name)
        return self._asked[name]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.lake.query(sql)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(Lake(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Read:
    return partial(_extract, lake, monkeypatch)


def _bearers(asked: Asked, *paths: str) -> set[str]:
    return {request.headers.get("Authorization", "none") for path in paths for request in asked[path]}


def test_microsoft365(whole: Whole) -> None:
    report, token = GRAPH_REPORT, "/acme-tenant/oauth2/v2.0/token"
    asked = whole.asked("microsoft365")
    assert parse_qs(asked[token][0].body.decode()) == {
        "client_id": ["an-app"],
        "client_secret": ["s3cret"],
        "grant_type": ["client_credentials"],
        "scope": ["https://graph.microsoft.com/.default"],
    }
    assert _bearers(asked, "/v1.0/auditLogs/signIns", "/v1.0/subscribedSkus", report) == {"Bearer a-fresh-token"}
    first, second = asked["/v1.0/auditLogs/signIns"]
    assert (
        first.query["$filter"] == "createdDateTime ge 2026-01-31T00:00:00Z and createdDateTime lt 2026-01-31T11:59:00Z"
    )
    assert second.query["$skiptoken"] == "9177f2e3532fcd4c4d225f68f7b9bdf7_1"
    landed = "select occurred_at, app_name, error_code, is_interactive from landing_microsoft365.sign_ins order by 1"
    assert whole.query(landed) == [
        (datetime(2026, 1, 31, 8), "Salesforce", 50126, True),
        (datetime(2026, 1, 31, 9, 15, 41, 619583), "Graph explorer", 0, True),
    ]
    landed = "select email, is_enabled, last_successful_login_at, last_login_attempt_at from landing_microsoft365.users"
    assert whole.query(f"{landed} where user_type = 'Member'") == [
        ("AdeleV@contoso.com", True, datetime(2026, 1, 30, 9, 15, 41), datetime(2026, 1, 31, 8))
    ]
    assert whole.query("select sku_id from landing_microsoft365.licenses") == [
        ("05e9a617-0261-4cee-bb44-138d3ef5d965",)
    ]
    landed = "select sku_name, consumed_units, enabled_units from landing_microsoft365.subscribed_skus"
    assert whole.query(landed) == [("SPE_E3", 14, 25)]
    landed = "select user_principal_name, has_teams_license, teams_active_on, onedrive_active_on, is_deleted"
    assert whole.query(f"{landed} from landing_microsoft365.active_users") == [
        ("AdeleV@contoso.com", True, datetime(2026, 1, 27), None, False)
    ]


def test_of_a_tenant_without_entra_p1_the_sign_ins_are_not_asked_for(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are refused, as is the last one of each user."""
    for name, secret in CLIENT.items():
        monkeypatch.setenv(f"CONNECTIONS__ACME__{name.upper()}", secret)
    refused = Answer({"error": {"code": "Authentication_RequestFromNonPremiumTenantOrB2CTenant"}}, 403)
    user = {"id": "u-1", "userPrincipalName": "adelev@contoso.com", "accountEnabled": True}

    def answer(request: Request) -> Answer:
        if request.path.endswith("/token"):
            return TOKEN
        if "getOffice365" in request.path:
            return csv("microsoft365", "active_users")[0]
        wanted = "auditLogs" in request.path or "signInActivity" in request.query.get("$select", "")
        return refused if wanted else Answer({"value": [user] if "mail" in request.query.get("$select", "") else []})

    with vendor(answer) as server:
        settings: dict[str, Any] = {"tenant_id": "t"}
        connection = Connection("acme", "acme", "microsoft365", server.url, NOW - timedelta(hours=1), settings)
        assert set(lake.extract(connectors()["microsoft365"], connection).failures) == {
            ("acme", "sign_ins"),
            ("acme", "users"),
        }
        settings["without_sign_ins"] = True
        assert not lake.extract(connectors()["microsoft365"], connection, NOW + timedelta(hours=1)).failures
    assert lake.query("select account_id, is_enabled from landing_microsoft365.users") == [("u-1", True)]


def test_an_error_page_instead_of_a_csv_report_empties_no_listing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__CLIENT_ID", "an-app")
    monkeypatch.setenv("CONNECTIONS__ACME__CLIENT_SECRET", "s3cret")
    good = csv("microsoft365", "active_users")[0]
    report = [good, Answer(b"<html>sign in again</html>")]

    def answer(request: Request) -> Answer:
        if request.path.endswith("/token"):
            return TOKEN
        return report.pop(0) if "getOffice365" in request.path else Answer({"value": []})

    with vendor(answer) as server:
        connection = Connection("acme", "acme", "microsoft365", server.url, NOW, {"tenant_id": "t"})
        for hours in (0, 1):
            extracted = lake.extract(connectors()["microsoft365"], connection, NOW + timedelta(hours=hours))
    assert "no CSV with the column" in extracted.failures["acme", "active_users"]
    assert lake.query("select is_gone from landing_microsoft365.active_users") == [(False,)]


def test_duo(whole: Whole) -> None:
    log = "/admin/v2/logs/authentication"
    asked = whole.asked("duo")
    assert [request.query.get("next_offset") for request in asked[log]] == [
        None,
        "1769849780351,0f6b1f5e-0000-4000-8000-000000000001",
    ]
    assert asked[log][0].query["maxtime"] == str(int((NOW - timedelta(minutes=2)).timestamp() * 1000))
    for request in (*asked[log], *asked["/admin/v1/users"]):
        query = "&".join(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in sorted(request.pairs))
        lines = (request.headers["Date"], "GET", request.headers["Host"], request.path, query)
        signature = hmac.new(b"not-really-a-secret", "\n".join(lines).encode(), hashlib.sha1).hexdigest()
        user, _, signed = b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
        assert (user, signed) == ("DIXXXXXXXXXXXXXXXXXX", signature)
        assert (
            abs(email.utils.parsedate_to_datetime(request.headers["Date"]).timestamp() - datetime.now().timestamp())
            < 60
        )
    assert whole.query(
        "select event_id, occurred_at, result, email, app_name from landing_duo.authentication order by 2"
    ) == [
        (
            "authentication:acme:0f6b1f5e-0000-4000-8000-000000000001",
            datetime(2026, 1, 31, 8, 56, 20, 351346),
            "success",
            "rivera@example.org",
            "Microsoft Azure Active Directory",
        ),
        (
            "authentication:acme:0f6b1f5e-0000-4000-8000-000000000002",
            datetime(2026, 1, 31, 9, 19, 34, 702203),
            "denied",
            "rivera@example.org",
            "Acme portal",
        ),
    ]
    assert whole.query("select user_name, status, last_login_at from landing_duo.users order by 1") == [
        ("jlee", "disabled", None),
        ("rivera", "active", datetime(2026, 1, 31, 8, 56, 20)),
    ]


def test_a_request_that_is_tried_again_is_signed_anew_and_waits_as_long_as_the_limit_lasts(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__INTEGRATION_KEY", "DIXXXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("CONNECTIONS__ACME__SECRET_KEY", "not-really-a-secret")
    dates = iter(f"Sat, 31 Jan 2026 12:00:{second:02} GMT" for second in range(60))
    monkeypatch.setattr("ingestion.connectors.duo.formatdate", lambda: next(dates))
    log = [Answer({"stat": "FAIL", "code": 42901}, 429), pages("duo", "authentication")[1]]

    def answer(request: Request) -> Answer:
        return log.pop(0) if "logs" in request.path else Answer({"stat": "OK", "response": []})

    with vendor(answer) as server:
        connection = Connection("acme", "acme", "duo", server.url, NOW - timedelta(hours=12))
        assert not lake.extract(connectors()["duo"], connection).failures
        signed = [request.headers["Authorization"] for request in server.requests if "logs" in request.path]
    assert len(set(signed)) == 2
    assert lake.slept == [pytest.approx(30, abs=1)]


def test_salesforce(whole: Whole) -> None:
    query = SOQL
    asked = whole.asked("salesforce")
    assert _bearers(asked, f"{query}#FROM User", f"{query}/01g5j00000AbCdE-2000") == {"Bearer a-fresh-token"}
    soql = asked[f"{query}#FROM LoginHistory"][0].query["q"]
    assert "LoginTime >= 2026-01-31T00:00:00Z AND LoginTime < 2026-01-31T11:59:00Z" in soql
    soql = asked[f"{query}#FROM EventLogFile"][0].query["q"]
    assert "CreatedDate >= 2026-01-31T00:00:00Z AND CreatedDate < 2026-01-31T11:50:00Z" in soql
    assert "EventType IN ('LightningPageView', 'Logout', 'Report', 'URI')" in soql
    assert whole.query("select occurred_at, user_id, status from landing_salesforce.login_history order by 1") == [
        (datetime(2026, 1, 31, 9), "0055j000000utlPAAQ", "Success"),
        (datetime(2026, 1, 31, 9, 5), "0055j000000utlPAAQ", "Invalid Password"),
    ]
    landed = (
        "select count(distinct event_id), min(occurred_at), min(event_type), min(uri) from landing_salesforce.event_log"
    )
    assert whole.query(landed) == [(2, datetime(2026, 1, 30, 2), "URI", "/home/home.jsp")]
    landed = "select user_name, license_name, is_active, last_login_at from landing_salesforce.users order by 1"
    assert whole.query(landed) == [
        ("autoproc@00d5j000000utlp", None, True, None),
        ("left@example.org", "Salesforce", False, None),
        ("user@example.org", "Salesforce", True, datetime(2026, 1, 31, 9)),
    ]


def test_event_files_are_asked_by_arrival_each_once_although_their_events_are_older(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__CLIENT_ID", "an-app")
    monkeypatch.setenv("CONNECTIONS__ACME__CLIENT_SECRET", "s3cret")
    spans: list[tuple[str, ...]] = []

    def answer(request: Request) -> Answer:
        if request.path.endswith("/token"):
            return TOKEN
        if "FROM EventLogFile" in request.query["q"]:
            words = request.query["q"].split()
            spans.append(tuple(words[words.index(sign) + 1] for sign in (">=", "<")))
        return Answer({"totalSize": 0, "done": True, "records": []})

    with vendor(answer) as server:
        start = NOW - timedelta(hours=12)
        connection = Connection("acme", "acme", "salesforce", server.url, start, {"event_log_files": True})
        for minutes in (0, 60, 180):
            assert not lake.extract(connectors()["salesforce"], connection, NOW + timedelta(minutes=minutes)).failures
    assert spans == [
        ("2026-01-31T00:00:00Z", "2026-01-31T11:50:00Z"),
        ("2026-01-31T11:50:00Z", "2026-01-31T12:50:00Z"),
        ("2026-01-31T12:50:00Z", "2026-01-31T14:50:00Z"),
    ]


def test_hubspot(whole: Whole) -> None:
    logins, audit = "/account-info/v3/activity/login", "/account-info/v3/activity/audit-logs"
    asked = whole.asked("hubspot")
    assert _bearers(asked, logins, audit, "/settings/v3/users/") == {"Bearer pat-na1-0000"}
    assert [request.query for request in asked[logins]] == [{"limit": "200"}, {"limit": "200", "after": "MTAwMA"}]
    assert asked[audit][0].query["occurredAfter"] == "2026-01-30T23:59:59.000Z"
    assert whole.query("select occurred_at, email, is_success from landing_hubspot.logins order by 1") == [
        (datetime(2026, 1, 30, 19, 36, 24, 303000), "person3@testdomain.com", False),
        (datetime(2026, 1, 31, 9, 36, 24, 303000), "person3@testdomain.com", True),
    ]
    assert whole.query("select action, category, user_id, email from landing_hubspot.audit_logs") == [
        ("UPDATE", "PIPELINE", "89274502", "mark.scout@lumonindustries.com")
    ]
    assert whole.query("select account_id, display_name from landing_hubspot.users") == [("876", "Per Son")]


class LogIns:
    """A vendor of log-ins that cannot be asked by time, in pages of two."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.asked = 0
        self.refuse_from = 99

    def __call__(self, request: Request) -> Answer:
        if not request.path.endswith("/login"):
            return Answer({"results": []})
        self.asked += 1
        first = int(request.query.get("after", 0))
        if first >= self.refuse_from:
            return Answer({"category": "RATE"}, 404)
        those = [
            {"id": str(n), "loginAt": (NOW - timedelta(days=5) + timedelta(minutes=n)).isoformat(), "email": "a@b.c"}
            for n in self.ids[first : first + 2]
        ]
        following = {"next": {"after": str(first + 2)}} if first + 2 < len(self.ids) else {}
        return Answer({"results": those, "paging": following})


def _log_in_ids(lake: Lake) -> list[int]:
    return sorted(int(i.rsplit(":")[-1]) for (i,) in lake.query("select event_id from landing_hubspot.logins"))


def test_a_listing_without_time_is_read_up_to_what_is_known_and_in_full_every_two_hours(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__TOKEN", "pat")
    app = LogIns([8, 7, 6, 5, 4, 3, 2, 1])
    with vendor(app) as server:
        connection = Connection("acme", "acme", "hubspot", server.url)

        def extract(minutes: int) -> int:
            before = app.asked
            lake.extract(connectors()["hubspot"], connection, NOW + timedelta(minutes=minutes))
            return app.asked - before

        assert extract(0) == 4
        app.ids = [9, *app.ids]
        assert extract(5) == 2, "one page with news, one without"
        app.ids = [*app.ids, 0]  # out of order: where nothing new was expected
        assert extract(10) == 1
        assert 0 not in _log_in_ids(lake)
        assert extract(130) == 5
    assert _log_in_ids(lake) == list(range(10))


def test_pages_that_failed_behind_one_that_came_are_read_at_the_next_run(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__TOKEN", "pat")
    app = LogIns([2, 1])
    with vendor(app) as server:
        connection = Connection("acme", "acme", "hubspot", server.url)
        lake.extract(connectors()["hubspot"], connection)
        app.ids, app.refuse_from = [8, 7, 6, 5, 4, 3, 2, 1], 2
        assert lake.extract(connectors()["hubspot"], connection, NOW + timedelta(minutes=5)).failures
        app.refuse_from = 99
        assert not lake.extract(connectors()["hubspot"], connection, NOW + timedelta(minutes=10)).failures
    assert _log_in_ids(lake) == list(range(1, 9))


def test_zendesk(whole: Whole) -> None:
    log, users = "/api/v2/audit_logs.json", "/api/v2/users.json"
    asked = whole.asked("zendesk")
    basic = b64encode(b"admin@acme.com/token:a-zendesk-token").decode()
    assert _bearers(asked, log, users) == {f"Basic {basic}"}
    bounds = [value for name, value in asked[log][0].pairs if name == "filter[created_at][]"]
    assert bounds == ["2026-01-30T23:59:59Z", "2026-01-31T11:59:00Z"]
    assert asked[log][1].query["page[after]"] == "eyJvIjoiaWQifQ=="
    assert [value for name, value in asked[users][0].pairs if name == "role[]"] == ["agent", "admin"]
    assert whole.query(
        "select action, actor_id, actor_name, occurred_at from landing_zendesk.audit_logs order by 1"
    ) == [
        ("login", "1234", "Sam Agent", datetime(2026, 1, 31, 8, 34, 46)),
        ("update", "-1", "Zendesk", datetime(2026, 1, 31, 8, 34, 46)),
    ]
    assert whole.query("select email, role, role_type, last_login_at from landing_zendesk.users order by 1") == [
        ("lu@example.org", "agent", 1, None),
        ("sam@example.org", "agent", 0, datetime(2026, 1, 31, 8, 34, 46)),
    ]


@pytest.mark.parametrize("form", ["parameters", "address"])
def test_intercom(lake: Lake, read: Read, form: str) -> None:
    log = "/admins/activity_logs"
    both = pages("intercom", "activity_logs")
    if form == "address":
        both[0].body["pages"]["next"] = f"https://api.intercom.io{log}?starting_after=WzE3MzQ1MzcyNTNd"
    asked = read("intercom", answers={**VENDORS["intercom"].answers, log: both})
    assert _bearers(asked, log, "/admins") == {"Bearer an-intercom-token"}
    assert asked[log][0].headers["Intercom-Version"] == "2.14"
    assert asked[log][0].query["created_at_after"] == str(int(NOW.timestamp()) - 12 * 3600 - 1)
    assert asked[log][1].query["starting_after"] == "WzE3MzQ1MzcyNTNd"
    landed = "select activity_type, actor_email, ip_address, occurred_at from landing_intercom.activity_logs order by 1"
    assert lake.query(landed) == [
        ("admin_login_success", "admin5@email.com", "127.0.0.1", datetime(2024, 12, 18, 15, 54, 13)),
        ("app_name_change", "admin5@email.com", "127.0.0.1", datetime(2024, 12, 18, 15, 54, 13)),
    ]
    assert lake.query("select email, has_inbox_seat from landing_intercom.admins") == [("admin7@email.com", True)]


def test_figma(whole: Whole) -> None:
    log = "/v1/activity_logs"
    asked = whole.asked("figma")
    assert _bearers(asked, log) == {"Bearer a-figma-token"}
    assert "cursor" not in asked[log][1].query, "the description knows no such parameter"
    assert asked[log][1].query["start_time"] == "1769849999"
    landed = "select distinct event_id, action, actor_email, actor_name, occurred_at from landing_figma.activity_logs"
    assert whole.query(f"{landed} order by 1") == [
        ("activity_logs:acme:a1", "fig_file_view", "ada@example.org", "Ada", datetime(2026, 1, 31, 9)),
        ("activity_logs:acme:a2", "user_update", None, "SCIM Provider", datetime(2026, 1, 31, 9, 0, 1)),
    ]


def test_miro(whole: Whole) -> None:
    log, members = "/v2/audit/logs", "/v2/orgs/3074457345821141000/members"
    asked = whole.asked("miro")
    assert _bearers(asked, log, members) == {"Bearer a-miro-token"}
    assert asked[log][0].query["createdAfter"] == "2026-01-30T23:59:59.000Z"
    assert asked[log][1].query["cursor"] == "2023-09-01T09:30:10.840687Z#1234567890123456789-DDB"
    assert asked[members][1].query["cursor"] == "3074457345821140946"
    assert whole.query("select event, actor_email, occurred_at from landing_miro.audit_logs order by 3") == [
        ("sign_in_succeeded", "john.smith@miro.com", datetime(2023, 9, 1, 9, 30, 10, 840000)),
        ("sign_in_failed", "john.smith@miro.com", datetime(2023, 9, 1, 9, 31, 10, 840000)),
    ]
    landed = (
        "select email, license, is_active, license_assigned_at, last_activity_at from landing_miro.members order by 1"
    )
    assert whole.query(landed) == [
        ("guest@miro.com", "free_restricted", False, None, None),
        ("user@miro.com", "full", True, datetime(2025, 1, 1), datetime(2026, 1, 30, 10)),
    ]


def test_docusign(whole: Whole) -> None:
    stream, users = "/api/v2.0/datasets/monitor/stream", "/Management/v2/organizations/o-1/users"
    asked = whole.asked("docusign")
    sent = parse_qs(asked["/oauth/token"][0].body.decode())
    claims = jwt.decode(sent["assertion"][0], KEY.public_key(), ["RS256"], audience="account.docusign.com")
    assert (claims["iss"], claims["sub"]) == ("an-integration", "u-1")
    assert claims["scope"] == "signature impersonation user_read"
    assert _bearers(asked, stream, users) == {"Bearer a-fresh-token"}
    assert [request.query["cursor"] for request in asked[stream]] == ["2026-01-31T00:00:00Z", "638424_1", "638424_2"]
    assert asked[users][0].query["account_id"] == "a-1"
    assert whole.query("select occurred_at, object, action, result from landing_docusign.monitor order by 1") == [
        (datetime(2026, 1, 31, 9, 0, 0, 123000), "UserSession", "LoggedIn", "success"),
        (datetime(2026, 1, 31, 9, 1, 0, 123000), "UserSession", "LoginFailed", "failure"),
    ]
    assert whole.query(
        "select email, membership_status, plan_name, created_at from landing_docusign.users order by 1"
    ) == [
        ("lee@example.org", "closed", None, datetime(2024, 5, 1)),
        ("pat@example.org", "active", "Business Pro", datetime(2024, 5, 1)),
    ]


def test_airtable(whole: Whole) -> None:
    account = AIRTABLE_ACCOUNT
    log = f"{account}/auditLogEvents"
    asked = whole.asked("airtable")
    assert _bearers(asked, log, account, f"{account}/users") == {"Bearer a-pat"}
    assert asked[log][0].query["startTime"] == "2026-01-31T00:00:00Z"
    assert asked[log][1].query["next"] == "n2"
    assert asked[f"{account}/users"][0].pairs == [("id[]", "usrsOEchC9xuwRgKk")]
    landed = "select action, actor_type, actor_email, ip_address from landing_airtable.audit_log_events order by 1"
    assert whole.query(landed) == [
        ("createBase", "anonymousUser", None, "1.2.3.4"),
        ("loginUser", "user", "foo@bar.com", "1.2.3.4"),
    ]
    landed = "select email, state, is_managed, last_activity_at from landing_airtable.users"
    assert whole.query(landed) == [("baz@bar.com", "provisioned", True, datetime(2026, 1, 3, 12, 33, 12, 421000))]


def test_monday(whole: Whole) -> None:
    log = "/audit-api/get-logs"
    asked = whole.asked("monday")
    assert _bearers(asked, log) == {"Bearer an-audit-token"}
    assert _bearers(asked, "/v2") == {"an-api-token"}
    assert json.loads(asked[log][0].query["filters"]) == {
        "start_time": "2026-01-30T23:59:59Z",
        "end_time": "2026-01-31T11:59:00Z",
    }
    assert [request.query["page"] for request in asked[log]] == ["1", "2"]
    assert [json.loads(request.body)["variables"] for request in asked["/v2"]] == [{"page": 1}, {"page": 2}]
    landed = (
        "select event, user_id, user_name, count(distinct event_id) from landing_monday.audit_logs group by 1, 2, 3"
    )
    assert whole.query(f"{landed} order by 1") == [("failed-login", "777", "Mo Day", 1), ("login", "777", "Mo Day", 2)]
    assert whole.query("select email, is_enabled, is_guest, last_activity_at from landing_monday.users") == [
        ("mo@example.org", True, False, datetime(2026, 1, 31, 9))
    ]


@pytest.mark.parametrize(
    "answer", [{"errors": [{"message": "Not authorised"}]}, {"errors": [{"message": "x"}], "data": None}]
)
def test_a_query_that_failed_with_200_proves_nobody_gone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__AUDIT_TOKEN", "an-audit-token")
    monkeypatch.setenv("CONNECTIONS__ACME__API_TOKEN", "an-api-token")
    users = [*pages("monday", "users"), Answer(answer)]

    def reply(request: Request) -> Answer:
        return users.pop(0) if request.path == "/v2" else Answer({"data": [], "next_page": None})

    with vendor(reply) as server:
        connection = Connection("acme", "acme", "monday", server.url, NOW, {"account": "acme"})
        lake.extract(connectors()["monday"], connection)
        extracted = lake.extract(connectors()["monday"], connection, NOW + timedelta(hours=1))
    assert list(extracted.failures) == [("acme", "users")]
    assert lake.query("select is_gone from landing_monday.users") == [(False,)]


def test_smartsheet(whole: Whole) -> None:
    asked = whole.asked("smartsheet")
    assert _bearers(asked, "/2.0/events", "/2.0/users") == {"Bearer a-smartsheet-token"}
    assert [request.query for request in asked["/2.0/events"]] == [
        {"maxCount": "10000", "since": "2026-01-31T00:00:00Z", "to": "2026-01-31T12:00:00Z"},
        {"maxCount": "10000", "streamPosition": "XyzAb1234cdefghijklmnofpq"},
    ]
    assert [request.query["page"] for request in asked["/2.0/users"]] == ["1", "2"]
    assert whole.query("select event_type, email, source, occurred_at from landing_smartsheet.events order by 1") == [
        ("SHEET - LOAD", "john.doe@smartsheet.com", "WEB_APP", datetime(2026, 1, 29, 8, 28, 33)),
        ("USER - LOGIN", "john.doe@smartsheet.com", "API_INTEGRATED_APP", datetime(2026, 1, 29, 8, 28, 33)),
    ]
    assert whole.query("select email, status, is_licensed, last_login_at from landing_smartsheet.users order by 1") == [
        ("jane.roe@smartsheet.com", "PENDING", False, None),
        ("john.doe@smartsheet.com", "ACTIVE", True, datetime(2026, 1, 15, 18, 32, 47)),
    ]
    assert whole.query("select seat_type, seat_type_changed_at from landing_smartsheet.users order by email") == [
        ("GUEST", datetime(2026, 1, 10, 8)),
        ("MEMBER", datetime(2025, 6, 2, 9, 15, 0, 123456)),
    ]


def test_webex(whole: Whole) -> None:
    security = SECURITY_AUDIT
    asked = whole.asked("webex")
    assert parse_qs(asked["/v1/access_token"][0].body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["a-refresh-token"],
        "client_id": ["an-app"],
        "client_secret": ["a-secret"],
    }
    assert _bearers(asked, security, "/v1/people") == {"Bearer a-fresh-token"}
    assert asked[security][0].query == {
        "max": "1000",
        "orgId": "o-1",
        "startTime": "2026-01-30T23:59:59.000Z",
        "endTime": "2026-01-31T11:59:00.000Z",
    }
    assert asked["/v1/adminAudit/events"][0].query["from"] == "2026-01-30T23:59:59.000Z"
    assert asked[security][1].query == {"cursor": "b"}
    seen = "select distinct actor_email, ip_address, occurred_at from landing_webex.security_audit"
    assert whole.query(seen) == [("joe@example.com", "128.107.241.191", datetime(2019, 1, 2, 16, 58, 36, 845000))]
    landed = "select event_category, event_status, authentication_method from landing_webex.security_audit"
    assert whole.query(f"{landed} order by 1, 2, 3") == [
        ("LOGINS", "FAILURE", "Password"),
        ("LOGINS", "SUCCESS", "Non-Interactive"),
        ("LOGINS", "SUCCESS", "Password"),
        ("LOGOUT", None, None),
    ]
    assert whole.query("select event_category from landing_webex.admin_audit") == [("USERS",)]
    landed = "select email, license_ids, is_login_enabled, last_activity_at from landing_webex.people"
    assert whole.query(landed) == [
        ("joe@example.com", '["Y2lzY29zcGFyazovL3VzL0xJQ0VOU0UvMQ"]', True, datetime(2026, 1, 18, 14, 26, 16, 28000))
    ]
    landed = "select license_name, total_units, consumed_units from landing_webex.licenses"
    assert whole.query(landed) == [("Webex Meetings", 42, 8)]


def test_slack_without_enterprise_grid(whole: Whole) -> None:
    asked = whole.asked("slack")
    first, second = asked["/api/team.accessLogs"]
    assert (first.query, second.query["cursor"]) == ({"limit": "999"}, "dXNlcjpVMDYxTkZUVDI=")
    assert _bearers(asked, "/api/team.accessLogs") == {"Bearer xoxp-0000"}
    landed = "select user_id, user_name, ip_address, access_count, epoch(first_access_at), epoch(occurred_at)"
    assert whole.query(f"{landed} from landing_slack.access_logs order by 1") == [
        ("U12345", "white_rabbit", "127.0.0.1", 1, 1422922493, 1422922493),
        ("U45678", "alice", "127.0.0.1", 1, 1422922864, 1422922864),
    ]


def test_slack_lists_the_users_of_each_workspace_that_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is in two workspaces, and switched off in one, stays so; no `team_id` asks for the token's own."""
    members = {"T1": ["U1", "U2"], "T2": ["U2", "U3"], None: ["U0"]}

    def answer(request: Request) -> Answer:
        team = request.query.get("team_id")
        users = members[team]
        return Answer(
            {
                "ok": True,
                "logins": [],
                "members": [{"id": user, "deleted": team == "T2"} for user in users],
                "billable_info": {user: {"billing_active": team != "T2"} for user in users},
            }
        )

    with vendor(answer) as server:
        for name, teams in (("two", ["T1", "T2"]), ("one", "T2"), ("none", [])):
            monkeypatch.setenv(f"CONNECTIONS__{name.upper()}__TOKEN", "xoxp-0000")
            settings = {"team_id": teams, "access_logs": True}
            connection = Connection(name, "acme", "slack", server.url, NOW - timedelta(hours=1), settings)
            for hours in range(3):  # of which only the first has anything to tell
                assert not lake.extract(connectors()["slack"], connection, NOW + timedelta(hours=hours)).failures
        asked = {request.query.get("team_id") for request in server.requests if request.path.endswith("accessLogs")}
    assert asked == {"T1", "T2", None}
    states = [
        ("none", "", "U0", True),
        ("one", "T2", "U2", False),
        ("one", "T2", "U3", False),
        ("two", "T1", "U1", True),
        ("two", "T1", "U2", True),
        ("two", "T2", "U2", False),
        ("two", "T2", "U3", False),
    ]
    for table, is_on in (("users", "not is_deleted"), ("billable_info", "is_billing_active")):
        landed = f"select connection_id, workspace_id, account_id, {is_on} from landing_slack.{table} order by all"
        assert lake.query(landed) == states


def test_an_access_that_moves_on_is_one_more_and_takes_nothing_back(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of an address and client moves from Monday to Tuesday: whoever came on both days was there on both."""
    monkeypatch.setenv("CONNECTIONS__ACME__TOKEN", "xoxp-0000")
    row: dict[str, Any] = {"user_id": "U1", "username": "ann", "ip": None, "user_agent": "app", "date_first": 1.7e9}
    days = [NOW - timedelta(days=1), NOW]

    def answer(request: Request) -> Answer:
        if request.path == "/api/team.accessLogs":
            return Answer({"ok": True, "logins": [row]})
        return Answer({"ok": True, "members": [], "billable_info": {}})

    with vendor(answer) as server:
        connection = Connection("acme", "acme", "slack", server.url, None, {"access_logs": True})
        for number, day in enumerate(days, 1):
            row |= {"count": number, "date_last": int(day.timestamp())}
            for hours in (3, 4):
                assert not lake.extract(connectors()["slack"], connection, day + timedelta(hours=hours)).failures
    landed = "select occurred_at, access_count from landing_slack.access_logs order by 1"
    assert lake.query(landed) == [(day.replace(tzinfo=None), number) for number, day in enumerate(days, 1)]


def test_openai(whole: Whole) -> None:
    log, usage = "/v1/organization/audit_logs", "/v1/organization/usage/completions"
    asked = whole.asked("openai")
    assert _bearers(asked, log, usage, "/v1/organization/users") == {"Bearer sk-admin-0000"}
    midnight = int(datetime.fromisoformat("2026-01-31T00:00:00Z").timestamp())
    assert asked[log][0].query["effective_at[gte]"] == str(midnight)
    assert asked[log][1].query["after"] == "audit_log_yyy__20240101"
    assert asked[usage][0].query["start_time"] == str(midnight)
    assert asked[usage][0].query["end_time"] == str(midnight + 86400), "whole days: a bucket is one"
    assert asked[usage][1].query["page"] == "page_AAAAAGdGxdEiJdKOAAAAAGcqsYA="
    landed = (
        "select event_type, actor_type, api_key_type, actor_id, actor_email, occurred_at from landing_openai.audit_logs"
    )
    assert whole.query(f"{landed} order by 1") == [
        ("login.succeeded", "session", None, "user-xxx", "user@example.com", datetime(2024, 7, 12, 17, 9, 50)),
        ("project.archived", "api_key", "user", "user-xxx", "user@example.com", datetime(2024, 7, 31, 21, 30, 46)),
    ]
    landed = (
        "select event_id, user_id, request_count, occurred_at, window_ended_at from landing_openai.usage_completions"
    )
    assert whole.query(f"{landed} order by 1") == [
        ("usage_completions:acme:1730419200/", None, 2, datetime(2024, 11, 1), datetime(2024, 11, 2)),
        ("usage_completions:acme:1730419200/user-xxx", "user-xxx", 5, datetime(2024, 11, 1), datetime(2024, 11, 2)),
    ]
    assert whole.query("select email, added_at, api_key_last_used_at from landing_openai.users") == [
        ("user@example.com", datetime(2024, 3, 26, 16, 45, 33), datetime(2026, 1, 31, 9))
    ]


def test_tableau(whole: Whole) -> None:
    users = TABLEAU_USERS
    sign_in = "/api/3.19/auth/signin"
    asked = whole.asked("tableau")
    assert json.loads(asked[sign_in][0].body) == {
        "credentials": {
            "personalAccessTokenName": "reader",
            "personalAccessTokenSecret": "a-tableau-secret",
            "site": {"contentUrl": "Samples"},
        }
    }
    assert {request.headers["X-Tableau-Auth"] for request in asked[users]} == {"eIX6mvFsqyansa4KqEI1UwOpS8ggRs2l"}
    assert {request.headers["Accept"] for request in asked[users]} == {"application/json"}
    assert [request.query["pageNumber"] for request in asked[users]] == ["1", "2"]
    assert {request.query["fields"] for request in asked[users]} == {"_all_"}
    assert whole.query("select email, site_role, last_login_at from landing_tableau.users order by 1") == [
        ("idle@example.com", "Unlicensed", None),
        ("jane.smith@example.com", "Explorer", datetime(2026, 1, 15, 9, 22, 18)),
    ]


def test_a_zoom_invitation_which_has_no_id_hides_nobody_who_is_gone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"CONNECTIONS__ACME__{name}", "a-zoom-secret")
    listed = {
        "active": [{"id": "u1", "email": "ann@acme.com", "type": 2}, {"id": "u2", "email": "bo@acme.com", "type": 2}],
        "pending": [{"email": "cy@acme.com", "type": 2}],
    }

    def answer(request: Request) -> Answer:
        if request.path == "/oauth/token":
            return Answer({"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600})
        if request.path == "/v2/users":
            return Answer({"users": listed.get(request.query["status"], []), "next_page_token": ""})
        return Answer({"activity_logs": [], "next_page_token": ""})

    with vendor(answer) as server:
        connection = Connection("acme", "acme", "zoom", server.url, NOW, {"account_id": "a"})
        for now in (NOW, NOW + timedelta(hours=1)):
            assert not lake.extract(connectors()["zoom"], connection, now).failures
            listed["active"] = listed["active"][:1]
    assert lake.query("select record_id, is_gone from landing_zoom.users order by fetched_at, 1") == [
        ("u1", False),
        ("u2", False),
        ("u2", True),
    ]


def test_a_session_that_ends_between_two_pages_is_opened_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__TOKEN_NAME", "reader")
    monkeypatch.setenv("CONNECTIONS__ACME__TOKEN_SECRET", "a-tableau-secret")
    sessions = iter(("first-session", "second-session"))

    def answer(request: Request) -> Answer:
        if request.path.endswith("/signin"):
            (signed_in,) = pages("tableau", "sign_in")
            signed_in.body["credentials"]["token"] = next(sessions)
            return signed_in
        page = int(request.query["pageNumber"])
        if page == 2 and request.headers["X-Tableau-Auth"] == "first-session":
            return Answer({"error": {"code": "401002"}}, 401)
        return pages("tableau", "users")[page - 1]

    with vendor(answer) as server:
        connection = Connection("acme", "acme", "tableau", server.url, NOW, {"site": ""})
        assert not lake.extract(connectors()["tableau"], connection).failures
    assert lake.query("select count(*) from landing_tableau.users") == [(2,)]


def test_adobe(whole: Whole) -> None:
    users = ADOBE_USERS
    asked = whole.asked("adobe")
    assert parse_qs(asked["/ims/token/v3"][0].body.decode())["scope"] == ["openid,AdobeID,user_management_sdk"]
    assert _bearers(asked, f"{users}/0", f"{users}/1") == {"Bearer a-fresh-token"}
    assert asked[f"{users}/1"][0].headers["X-Api-Key"] == "an-app"
    assert whole.query("select record_id, status, display_name, groups from landing_adobe.users order by 1") == [
        ("federatedID/jane@example.com", "active", "Jane Doe", '["Creative Cloud 1","_admin_Support"]'),
        ("federatedID/psmith@example.com", "active", "", None),
    ]


def test_launchdarkly(whole: Whole) -> None:
    log, members = "/api/v2/auditlog", "/api/v2/members"
    asked = whole.asked("launchdarkly")
    assert _bearers(asked, log, members) == {"api-0000"}
    midnight = int(datetime.fromisoformat("2026-01-31T00:00:00Z").timestamp())
    assert asked[log][0].query["after"] == str(midnight * 1000 - 1000), "the bound is exclusive"
    assert asked[log][1].query["before"] == "1769850000415"
    landed = (
        "select action, kind, member_email, member_name, occurred_at from landing_launchdarkly.audit_log order by 1"
    )
    assert whole.query(landed) == [
        ("deactivateScimMember", "segment", None, None, datetime(2026, 1, 31, 6, 13, 20, 734000)),
        ("updateIncluded", "segment", "kim@example.org", "Kim Park", datetime(2026, 1, 31, 9, 0, 0, 415000)),
    ]
    landed = "select email, role, is_pending, created_at, last_seen_at from landing_launchdarkly.members"
    assert whole.query(landed) == [
        ("kim@example.org", "reader", False, datetime(2021, 8, 3, 14, 40), datetime(2026, 1, 31, 9))
    ]


def test_snowflake(whole: Whole) -> None:
    asked = whole.asked("snowflake")
    (first,), (second,) = asked[f"{STATEMENTS}#LOGIN_HISTORY"], asked[RESULT]
    statement = json.loads(first.body)
    assert (statement["role"], statement["warehouse"]) == ("AUDITOR", "TINY")
    assert [bound["value"] for bound in statement["bindings"].values()] == [
        "2026-01-31T00:00:00Z",
        "2026-01-31T11:59:00Z",
    ]
    assert (second.method, second.query, second.body) == ("GET", {"partition": "1"}, b"")
    public = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    for request in (first, second):
        assert request.headers["X-Snowflake-Authorization-Token-Type"] == "KEYPAIR_JWT"
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, KEY.public_key(), ["RS256"])
        assert claims["sub"] == "ACME-PROD.READER"
        assert claims["iss"] == f"ACME-PROD.READER.SHA256:{b64encode(hashlib.sha256(public).digest()).decode()}"
        assert 0 < claims["exp"] - claims["iat"] <= 3600
    landed = "select event_id, occurred_at, user_name, is_success, error_message from landing_snowflake.login_history"
    assert whole.query(f"{landed} order by 2") == [
        (
            "login_history:acme:4875001",
            datetime(2026, 1, 31, 8, 0, 0, 351000),
            "JANE.ROE@EXAMPLE.ORG",
            "YES",
            None,
        ),
        ("login_history:acme:4875002", datetime(2026, 1, 31, 9), "LOADER", "NO", "JWT_TOKEN_INVALID"),
    ]
    landed = "select record_id, user_id, is_disabled, created_at, last_login_at from landing_snowflake.users order by 1"
    assert whole.query(landed) == [
        ("JANE.ROE@EXAMPLE.ORG", "17", False, datetime(2025, 1, 1), datetime(2026, 1, 31, 8, 0, 0, 351000)),
        ("LOADER", "18", True, datetime(2025, 1, 1), None),
    ]


def test_a_statement_that_takes_its_time_is_asked_after_and_runs_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__PRIVATE_KEY", PRIVATE_KEY)
    begun, first, second = pages("snowflake", "login_history")
    begun.status = 202
    case = VENDORS["snowflake"]
    script = Script({**case.answers, f"{STATEMENTS}#LOGIN_HISTORY": [begun], RESULT: [begun, begun, first, second]})
    with vendor(script) as server:
        connection = Connection("acme", "acme", "snowflake", server.url, NOW - timedelta(hours=12), case.settings)
        assert not lake.extract(connectors()["snowflake"], connection).failures
    assert [request.query for request in script.asked[RESULT]] == [{}, {}, {}, {"partition": "1"}]
    assert {(request.method, request.body) for request in script.asked[RESULT]} == {("GET", b"")}
    assert lake.slept == [1, 2, 4]
    assert lake.query("select count(*) from landing_snowflake.login_history") == [(2,)]


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 0), ("Europe/Berlin", 1)])
def test_lastpass(lake: Lake, read: Read, zone: str, hours: int) -> None:
    api = "/enterpriseapi.php"
    asked = read("lastpass", settings={"time_zone": zone})
    first, second = (json.loads(request.body) for request in asked[f"{api}#reporting"])
    to = {0: "2026-01-31 11:59:00", 1: "2026-01-31 13:59:00"}[hours]  # an hour wider: clocks go back
    assert first == {
        "cid": "8771312",
        "provhash": "a-provisioning-hash",
        "cmd": "reporting",
        "data": {"from": "2026-01-30 23:59:59", "to": to, "user": "allusers"},
    }
    assert second == first | {"data": first["data"] | {"next": 1769766711000000}}
    assert [json.loads(request.body)["data"]["pageindex"] for request in asked[f"{api}#getuserdata"]] == [0, 1]
    at = datetime(2026, 1, 30, 9, 51, 51) - timedelta(hours=hours)
    landed = "select occurred_at, action, email, count(distinct event_id) from landing_lastpass.events group by 1, 2, 3"
    assert lake.query(f"{landed} order by 1") == [
        (at, "Log in", "ines@example.org", 1),
        (at + timedelta(seconds=5), "Failed Login Attempt", "ines@example.org", 2),
    ]
    landed = "select account_id, email, is_disabled, last_login_at from landing_lastpass.users"
    assert lake.query(landed) == [
        ("101", "ines@example.org", False, datetime(2026, 1, 29, 11, 45, 5) - timedelta(hours=hours))
    ]


def test_a_refused_account_with_200_is_a_failure_that_hides_its_credentials(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__CID", "8771312")
    monkeypatch.setenv("CONNECTIONS__ACME__PROVHASH", "a-provisioning-hash")
    with vendor(lambda request: Answer({"status": "FAIL", "error": "no a-provisioning-hash"})) as server:
        settings = {"time_zone": "America/New_York"}
        connection = Connection("acme", "acme", "lastpass", server.url, NOW - timedelta(hours=12), settings)
        failures = lake.extract(connectors()["lastpass"], connection).failures
    assert set(failures) == {("acme", "events"), ("acme", "users")}
    assert "a-provisioning-hash" not in str(failures)


def test_a_time_zone_that_does_not_exist_is_a_failure_of_its_connection_only(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__ACME__CID", "8771312")
    monkeypatch.setenv("CONNECTIONS__ACME__PROVHASH", "a-provisioning-hash")
    with vendor(lambda request: Answer({"status": "OK", "data": {}, "Users": {}})) as server:
        settings = {"time_zone": "Europe/Nowhere"}
        connection = Connection("acme", "acme", "lastpass", server.url, NOW - timedelta(hours=12), settings)
        failures = lake.extract(connectors()["lastpass"], connection).failures
    assert "time_zone 'Europe/Nowhere'" in failures["acme", "events"]


# ---- staged: the two common shapes


EVENTS: Mapping[str, list[tuple[Any, ...]]] = {
    "slack": [
        ("access_logs", None, "Slack", "direct", "access", "Logon", "success"),
        ("access_logs", None, "Slack", "direct", "access", "Logon", "success"),
    ],
    "microsoft365": [
        ("sign_ins", "adelev@contoso.com", "Graph explorer", "sso", "interactive", "Logon", "success"),
        ("sign_ins", "adelev@contoso.com", "Salesforce", "sso", "interactive", "Logon", "failure"),
    ],
    "duo": [
        ("authentication", "rivera@example.org", "Acme portal", "sso", "authentication", "Logon", "failure"),
        (
            "authentication",
            "rivera@example.org",
            "Microsoft Azure Active Directory",
            "sso",
            "authentication",
            "Logon",
            "success",
        ),
    ],
    "salesforce": [
        ("event_log", None, "Salesforce", "direct", "URI", "Read", "unknown"),
        ("event_log", None, "Salesforce", "direct", "URI", "Read", "unknown"),
        ("login_history", None, "Salesforce", "direct", "Application", "Logon", "failure"),
        ("login_history", None, "Salesforce", "direct", "Application", "Logon", "success"),
    ],
    "hubspot": [
        ("audit_logs", "mark.scout@lumonindustries.com", "HubSpot", "direct", "PIPELINE UPDATE", "Unknown", "unknown"),
        ("logins", "person3@testdomain.com", "HubSpot", "direct", "login", "Logon", "failure"),
        ("logins", "person3@testdomain.com", "HubSpot", "direct", "login", "Logon", "success"),
    ],
    "zendesk": [
        ("audit_logs", None, "Zendesk", "direct", "login", "Logon", "unknown"),
        ("audit_logs", None, "Zendesk", "direct", "update", "Unknown", "unknown"),
    ],
    "intercom": [
        ("activity_logs", "admin5@email.com", "Intercom", "direct", "admin_login_success", "Logon", "success"),
        ("activity_logs", "admin5@email.com", "Intercom", "direct", "app_name_change", "Unknown", "unknown"),
    ],
    "figma": [
        ("activity_logs", "ada@example.org", "Figma", "direct", "fig_file_view", "Preview", "unknown"),
        ("activity_logs", None, "Figma", "direct", "user_update", "Unknown", "unknown"),
    ],
    "miro": [
        ("audit_logs", "john.smith@miro.com", "Miro", "direct", "sign_in_failed", "Logon", "failure"),
        ("audit_logs", "john.smith@miro.com", "Miro", "direct", "sign_in_succeeded", "Logon", "success"),
    ],
    "docusign": [
        ("monitor", None, "DocuSign", "direct", "LoggedIn", "Unknown", "success"),
        ("monitor", None, "DocuSign", "direct", "LoginFailed", "Unknown", "failure"),
    ],
    "airtable": [
        ("audit_log_events", "foo@bar.com", "Airtable", "direct", "loginUser", "Logon", "unknown"),
        ("audit_log_events", None, "Airtable", "direct", "createBase", "Create", "unknown"),
    ],
    "monday": [
        ("audit_logs", None, "monday.com", "direct", "failed-login", "Logon", "failure"),
        ("audit_logs", None, "monday.com", "direct", "login", "Logon", "success"),
        ("audit_logs", None, "monday.com", "direct", "login", "Logon", "success"),
    ],
    "smartsheet": [
        ("events", "john.doe@smartsheet.com", "Smartsheet", "direct", "SHEET - LOAD", "Read", "unknown"),
        (
            "events",
            "john.doe@smartsheet.com",
            "Smartsheet",
            "direct",
            "USER - LOGIN by a program",
            "Unknown",
            "unknown",
        ),
    ],
    "webex": [
        ("admin_audit", "joe@example.com", "Webex", "direct", "USERS", "Unknown", "unknown"),
        ("security_audit", "joe@example.com", "Webex", "direct", "LOGINS", "Logon", "failure"),
        ("security_audit", "joe@example.com", "Webex", "direct", "LOGINS", "Logon", "success"),
        ("security_audit", "joe@example.com", "Webex", "direct", "LOGINS non-interactive", "Unknown", "success"),
        ("security_audit", "joe@example.com", "Webex", "direct", "LOGOUT", "Unknown", "unknown"),
    ],
    "openai": [
        ("audit_logs", "user@example.com", "OpenAI Platform", "direct", "login.succeeded", "Logon", "success"),
        ("audit_logs", "user@example.com", "OpenAI Platform", "direct", "project.archived", "Unknown", "unknown"),
        ("usage_completions", None, "OpenAI Platform", "usage_report", "completions", "Create", "unknown"),
        ("usage_completions", None, "OpenAI Platform", "usage_report", "completions", "Create", "unknown"),
    ],
    "launchdarkly": [
        ("audit_log", "kim@example.org", "LaunchDarkly", "direct", "updateIncluded", "Update", "unknown"),
        ("audit_log", None, "LaunchDarkly", "direct", "deactivateScimMember", "Update", "unknown"),
    ],
    "snowflake": [
        ("login_history", "jane.roe@example.org", "Snowflake", "direct", "LOGIN", "Logon", "success"),
        ("login_history", None, "Snowflake", "direct", "LOGIN", "Logon", "failure"),
    ],
    "lastpass": [
        ("events", "ines@example.org", "LastPass", "direct", "Failed Login Attempt", "Logon", "failure"),
        ("events", "ines@example.org", "LastPass", "direct", "Failed Login Attempt", "Logon", "failure"),
        ("events", "ines@example.org", "LastPass", "direct", "Log in", "Logon", "success"),
    ],
}
# e-mail, app, status, kind, licence, last activity, what that means
ACCOUNTS: Mapping[str, list[tuple[Any, ...]]] = {
    "microsoft365": [
        (
            "adelev@contoso.com",
            "Microsoft 365",
            "active",
            "unknown",
            "SPE_E3",
            datetime(2026, 1, 30, 9, 15, 41),
            "successful_login",
        ),
        (
            "adelev@contoso.com",
            "Microsoft 365",
            "active",
            "unknown",
            None,
            datetime(2026, 1, 30, 9, 15, 41),
            "successful_login",
        ),
        (
            "adelev@contoso.com",
            "Microsoft Teams",
            "active",
            "unknown",
            None,
            datetime(2026, 1, 27),
            "report_date",
        ),
        ("adelev@contoso.com", "Outlook", "active", "unknown", None, datetime(2026, 1, 28), "report_date"),
        (
            "guest_gmail.com#ext#@contoso.com",
            "Microsoft 365",
            "suspended",
            "external",
            None,
            None,
            "successful_login",
        ),
    ],
    "duo": [
        (
            "rivera@example.org",
            "Duo Security",
            "active",
            "unknown",
            None,
            datetime(2026, 1, 31, 8, 56, 20),
            "successful_login",
        ),
        (None, "Duo Security", "suspended", "unknown", None, None, "successful_login"),
    ],
    "salesforce": [
        ("autoproc@00d5j000000utlp", "Salesforce", "active", "service", None, None, "successful_login"),
        ("left@example.org", "Salesforce", "suspended", "human", None, None, "successful_login"),
        (
            "user@example.org",
            "Salesforce",
            "active",
            "human",
            "Salesforce",
            datetime(2026, 1, 31, 9),
            "successful_login",
        ),
    ],
    "hubspot": [("person3@testdomain.com", "HubSpot", "unknown", "unknown", None, None, None)],
    "zendesk": [
        ("lu@example.org", "Zendesk", "active", "unknown", "Light agent", None, "any_activity"),
        (
            "sam@example.org",
            "Zendesk",
            "active",
            "unknown",
            "Agent",
            datetime(2026, 1, 31, 8, 34, 46),
            "any_activity",
        ),
    ],
    "intercom": [("admin7@email.com", "Intercom", "active", "unknown", "Inbox seat", None, None)],
    "miro": [
        ("guest@miro.com", "Miro", "suspended", "external", "free_restricted", None, "any_activity"),
        ("user@miro.com", "Miro", "active", "unknown", "full", datetime(2026, 1, 30, 10), "any_activity"),
    ],
    "docusign": [
        ("lee@example.org", "DocuSign", "deprovisioned", "unknown", None, None, None),
        ("pat@example.org", "DocuSign", "active", "unknown", "Business Pro", None, None),
    ],
    "airtable": [
        (
            "baz@bar.com",
            "Airtable",
            "active",
            "unknown",
            None,
            datetime(2026, 1, 3, 12, 33, 12, 421000),
            "any_activity",
        )
    ],
    "monday": [
        ("mo@example.org", "monday.com", "active", "unknown", "Member", datetime(2026, 1, 31, 9), "any_activity")
    ],
    "smartsheet": [
        ("jane.roe@smartsheet.com", "Smartsheet", "invited", "external", None, None, "successful_login"),
        (
            "john.doe@smartsheet.com",
            "Smartsheet",
            "active",
            "unknown",
            "Licensed",
            datetime(2026, 1, 15, 18, 32, 47),
            "successful_login",
        ),
    ],
    "webex": [
        (
            "joe@example.com",
            "Webex",
            "active",
            "human",
            "Webex Meetings",
            datetime(2026, 1, 18, 14, 26, 16, 28000),
            "any_activity",
        ),
        (
            "joe@example.com",
            "Webex",
            "active",
            "human",
            None,
            datetime(2026, 1, 18, 14, 26, 16, 28000),
            "any_activity",
        ),
    ],
    "openai": [
        (
            "user@example.com",
            "OpenAI Platform",
            "active",
            "unknown",
            None,
            datetime(2026, 1, 31, 9),
            "any_activity",
        )
    ],
    "tableau": [
        ("idle@example.com", "Tableau Cloud", "suspended", "unknown", None, None, "successful_login"),
        (
            "jane.smith@example.com",
            "Tableau Cloud",
            "active",
            "unknown",
            "Explorer",
            datetime(2026, 1, 15, 9, 22, 18),
            "successful_login",
        ),
    ],
    "adobe": [
        ("jane@example.com", "Adobe Creative Cloud", "active", "unknown", None, None, None),
        ("psmith@example.com", "Adobe Creative Cloud", "active", "unknown", None, None, None),
    ],
    "launchdarkly": [
        ("kim@example.org", "LaunchDarkly", "active", "unknown", None, datetime(2026, 1, 31, 9), "any_activity")
    ],
    "snowflake": [
        (
            "jane.roe@example.org",
            "Snowflake",
            "active",
            "human",
            None,
            datetime(2026, 1, 31, 8, 0, 0, 351000),
            "successful_login",
        ),
        (None, "Snowflake", "suspended", "service", None, None, "successful_login"),
    ],
    "lastpass": [
        (
            "ines@example.org",
            "LastPass",
            "active",
            "unknown",
            None,
            datetime(2026, 1, 29, 11, 45, 5),
            "successful_login",
        )
    ],
}


@pytest.fixture(scope="module")
def staged(whole: Whole) -> Iterator[Warehouse]:
    """A warehouse with all of these vendors extracted and staged."""
    for name in VENDORS:
        whole.asked(name)
    with pytest.MonkeyPatch.context() as environment:
        for name in ("APP_USAGE_HOME", "DBT_TARGET"):
            environment.setenv(name, "")  # put back afterwards
        warehouse = Warehouse(whole.lake.folder)
        folders = [f"path:models/staging/{name}" for name in VENDORS]
        warehouse.build("--select", *folders, "+int_events")
        yield warehouse


@pytest.mark.parametrize("name", EVENTS)
def test_events_are_staged_in_the_common_shape(staged: Warehouse, name: str) -> None:
    columns = "stream, user_email, app_name, source_kind, event_code, activity, status"
    events = f"analytics_intermediate.int_events where connector = '{name}'"
    rows = staged.query(f"select {columns} from {events} order by all nulls last")
    assert rows == EVENTS[name]


@pytest.mark.parametrize("name", ACCOUNTS)
def test_accounts_are_staged_with_what_their_last_activity_means(staged: Warehouse, name: str) -> None:
    columns = "user_email, app_name, account_status, account_kind, license_name, last_activity_at, last_activity_basis"
    rows = staged.query(f"select {columns} from analytics_staging.stg_{name}__accounts order by all nulls last")
    assert rows == ACCOUNTS[name]


def test_every_vendor_states_in_the_fetch_log_how_complete_it_is(staged: Warehouse) -> None:
    rows = staged.query("select connector, count(distinct stream) from analytics_staging.stg_fetches group by 1")
    assert dict(rows) == {
        name: sum(stream.unless not in case.settings for stream in connectors()[name].streams)
        for name, case in VENDORS.items()
    }


def test_usage_by_day_is_an_aggregate_on_its_own_date(staged: Warehouse) -> None:
    columns = "account_id, event_id_kind, event_count, occurred_on, window_started_at, window_ended_at, actor_kind"
    rows = staged.query(
        f"select {columns} from analytics_staging.stg_openai__events where stream = 'usage_completions' order by 3"
    )
    window = (date(2024, 11, 1), datetime(2024, 11, 1), datetime(2024, 11, 2))
    assert rows == [
        (None, "aggregate_key", 2, *window, "service"),
        ("user-xxx", "aggregate_key", 5, *window, "user"),
    ]
