"""The vendors' own example answers, over HTTP through the four connectors, to what the product reads.

Where the pages come from is in tests/fixtures/README.md. They tell of the 13th of August 2024 in New York.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.flow_support import FIXTURES, NewSite, Site, run
from tests.support import Answer, Request, vendor

NOW = datetime(2024, 8, 15, 12, tzinfo=UTC)
THE_DAY = date(2024, 8, 13)
# Path -> where its pages are; the parameter that leads to the next page; the parameter that begins the window.
ROUTES = {
    "/v2/report/activities": ("zoom/activities", "next_page_token", "from"),
    "/v2/users": ("zoom/users", "next_page_token", None),
    "/api/v1/logs": ("okta/system_log", "after", "since"),
    "/api/v1/users": ("okta/users", "after", None),
    "/api/v1/apps": ("okta/apps", "after", None),
    "/api/v1/apps/0oajiqIRNXPPJBNZMGYL/users": ("okta/app_users", "after", None),
    "/admin/reports/v1/activity/users/all/applications/login": ("google_workspace/login", "pageToken", "startTime"),
    "/admin/reports/v1/activity/users/all/applications/saml": ("google_workspace/saml", "pageToken", "startTime"),
    "/admin/reports/v1/activity/users/all/applications/token": ("google_workspace/token", "pageToken", "startTime"),
    "/admin/directory/v1/users": ("google_workspace/users", "pageToken", None),
    "/apps/licensing/v1/product/Google-Apps/users": ("google_workspace/licenses", "pageToken", None),
    "/audit/v1/logs": ("slack/audit_logs", "cursor", "oldest"),
    "/api/users.list": ("slack/users", "cursor", None),
    "/api/team.billableInfo": ("slack/billable_info", "cursor", None),
}
PEOPLE = {
    "alice": "alice.smith@example.com",
    "egon": "egon@ghostbusters.example.com",
    "glinda": "glenda@south.oz.coven",
    "john": "john.doe@example.com",
}


def answer(request: Request) -> Answer:
    if request.path in ("/oauth/token", "/token"):
        return Answer({"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600})
    fixture, cursor, start = ROUTES[request.path]
    pages: list[Any] = json.loads((FIXTURES / f"{fixture}.json").read_text(encoding="utf-8"))
    if start and request.query[start] not in ("2024-08-13", "2024-08-13T00:00:00.000Z", "1723507200"):
        return Answer({} if isinstance(pages[0], dict) else [])  # a window of another day
    if request.query.get("status") == "inactive":
        return Answer({"users": []})
    token = request.query.get(cursor, "0")
    number = int(token) if token.isdigit() else 1  # no example has more than two pages; Okta's links are numbered
    headers = {}
    if isinstance(pages[0], list) and number + 1 < len(pages):
        query = urlencode({**request.query, cursor: number + 1})
        headers["Link"] = f'<https://acme.okta.com{request.path}?{query}>; rel="next"'
    return Answer(pages[number], headers=headers)


@pytest.fixture(scope="module")
def site(new_site: NewSite) -> Site:
    """A place where the examples were read and published."""
    site = new_site()
    site.fill_product({"acme": "America/New_York"}, PEOPLE)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secrets = {
        "ZOOM__CLIENT_ID": "an-id",
        "ZOOM__CLIENT_SECRET": "a-secret",
        "OKTA__API_TOKEN": "a-token",
        "GOOGLE_WORKSPACE__CLIENT_EMAIL": "reader@acme.iam.gserviceaccount.com",
        "GOOGLE_WORKSPACE__PRIVATE_KEY": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
        "SLACK__TOKEN": "a-token",
    }
    settings: dict[str, dict[str, Any]] = {
        "zoom": {"account_id": "an-account"},
        "google_workspace": {
            "subject": "admin@example.com",
            "customer_id": "C03az79cb",
            "product_ids": ["Google-Apps"],
        },
    }
    with vendor(answer) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in secrets.items():
            environment.setenv(f"CONNECTIONS__ACME_{name}", value)
        connections = site.write_connections(
            *(
                {
                    "connector": connector,
                    "base_url": server.url,
                    "start_date": THE_DAY.isoformat(),
                    "settings": settings.get(connector, {}),
                }
                for connector in ("zoom", "okta", "google_workspace", "slack")
            )
        )
        with site.flow(None, NOW, connections=connections) as flow:
            summary = run(flow)
    assert summary.extracted is not None
    assert summary.extracted.failures == {}
    return site


@pytest.mark.parametrize(
    ("connector", "stream", "records"),
    [
        ("okta", "system_log", ""),
        ("okta", "users", ""),
        ("okta", "app_users", ""),
        ("slack", "users", "members"),
        ("slack", "audit_logs", "entries"),
        ("zoom", "users", "users"),
        ("zoom", "activities", "activity_logs"),
        ("google_workspace", "login", "items"),
        ("google_workspace", "saml", "items"),
        ("google_workspace", "token", "items"),
        ("google_workspace", "users", "users"),
        ("google_workspace", "licenses", "items"),
    ],
)
def test_an_example_lands_as_it_came(site: Site, connector: str, stream: str, records: str) -> None:
    pages = json.loads((FIXTURES / connector / f"{stream}.json").read_text(encoding="utf-8"))
    sent = {canonical(record) for page in pages for record in (page[records] if records else page)}
    landed = {
        canonical(json.loads(payload)) for (payload,) in site.query(f"select payload from landing_{connector}.{stream}")
    }
    assert landed == sent
    assert sent


def canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True)


def test_the_product_shows_who_used_what(site: Site) -> None:
    columns = ("last_used_date", "active_days_30", "active_day_rate_30", "usage_band", "sources")
    users = {
        key[1:]: tuple(row[name] for name in columns)
        for key, row in site.published()["user_app_usage"].items()
        if row["usage_known"] and row["as_of_date"] == date(2024, 8, 14)
    }
    # Where the vendor says since when there is an account, one day of 30; where it does not, one of the two known.
    since_long, since_then = (THE_DAY, 1, 1 / 30, "low"), (THE_DAY, 1, 1 / 2, "low")
    never = (None, 0, 0.0, "not_used")
    assert users == {
        ("alice", "okta"): (*never, "okta"),
        ("alice", "aws_iam_identity_center"): (*since_then, "okta"),
        ("alice", "google_workspace"): (*since_long, "google_workspace"),
        ("alice", "dropbox"): (*since_then, "google_workspace"),
        ("alice", "zoom"): (*never, "zoom"),
        # the same event twice, the second time with more in it
        ("john", "okta"): (*since_then, "okta"),
        # a wrong password, a refused launch, a grant without use
        ("john", "google_workspace"): (*never, "google_workspace"),
        ("john", "dropbox"): (*never, "google_workspace"),
        ("john", "notion"): (*never, "google_workspace"),
        # an activity of somebody whom no listing has, without any of the optional fields
        ("john", "zoom"): (*since_then, "zoom"),
        # 01:15 UTC of the 14th is the 13th in New York
        ("egon", "zoom"): (*since_long, "zoom"),
        ("glinda", "zoom"): (*since_long, "zoom"),
        ("glinda", "slack"): (*never, "slack"),
        # whom the product does not know
        ("account:slack:W012A3CDE", "slack"): (*since_then, "slack"),
        ("account:okta:00u1dnq5S0CfjlkpABCD", "salesforce"): (*never, "okta"),
    }


def test_the_product_shows_how_many_used_what(site: Site) -> None:
    days = {key[1:]: row for key, row in site.published()["app_usage_daily"].items()}
    shown = {app: (row["dau"], row["event_count"]) for (app, day), row in days.items() if day == THE_DAY}
    assert shown == {
        "aws_iam_identity_center": (1, 1),
        "dropbox": (1, 1),
        "google_workspace": (1, 1),
        "notion": (0, 0),
        "okta": (1, 1),
        "salesforce": (0, 0),
        "slack": (0, 0),  # the only one who logged in is not known as a person
        "zoom": (3, 4),  # two equal sign-ins in one second are two
    }
    assert {row["dau"] for (_, day), row in days.items() if day > THE_DAY} == {0}
    assert {row["data_complete_ratio"] for row in days.values()} == {1.0}
