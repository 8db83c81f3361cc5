"""Google Workspace: log-ins, SAML and OAuth activity from the Reports API, users, licences.

A service account with domain-wide delegation, acting as an administrator (`subject`), read-only scopes below.
How the API behaves:
- activities come newest first, which can't be chosen, in pages of up to 1,000 by `nextPageToken`, 180 days back;
- one activity holds one event or several: a row each, whose key is the activity's time, its unique qualifier and the
  event's place in it;
- the app is a parameter: `application_name` of a SAML log-in, `app_name` of an OAuth token event;
- events lag by minutes to hours, in rare cases by days;
- a rate limit is a 429 or a 403 that says `rateLimitExceeded`, `userRateLimitExceeded` or `quotaExceeded`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import OAuthJWTAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window, where_equal
from ingestion.http import private_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_SCOPES = [
    "https://www.googleapis.com/auth/admin.reports.audit.readonly",
    "https://www.googleapis.com/auth/admin.directory.user.readonly",
    "https://www.googleapis.com/auth/apps.licensing",
]


@configspec
class DelegatedServiceAccount(OAuthJWTAuth):
    """A signed assertion that names the administrator on whose behalf the service account reads."""

    subject: str = ""

    def create_jwt_payload(self) -> dict[str, str | int]:
        """dlt's payload with Google's subject."""
        return {**super().create_jwt_payload(), "sub": self.subject}

    def load_private_key(self) -> RSAPrivateKey:
        """As dlt does, but once."""
        return private_key(self.private_key)


def _auth(connection: Connection, session: requests.Session) -> DelegatedServiceAccount:
    return DelegatedServiceAccount(
        client_id=connection.secret("client_email"),
        private_key=connection.secret("private_key"),
        subject=connection.setting("subject"),
        auth_endpoint="https://oauth2.googleapis.com/token",
        scopes=_SCOPES,
        session=session,
    )


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="nextPageToken", cursor_param="pageToken")


def _activities(application: str, *columns: Column) -> Stream:
    return Stream(
        name=application,
        kind="events",
        path=f"/admin/reports/v1/activity/users/all/applications/{application}",
        records="items",
        explode="$.events",
        paginator=_pages,
        params={"maxResults": 1000},
        order="newest_first",
        window=Window(
            params={"startTime": "{start}", "endTime": "{end}"},
            format="iso_ms",
            retention=timedelta(days=180),
        ),
        lateness=Lateness(usual=timedelta(hours=6), rare=timedelta(days=3)),
        key=Key(("$.id.time", "$.id.uniqueQualifier")),
        occurred_at=Column("occurred_at", "$.id.time", "timestamp"),
        columns=(
            Column("event_name", "$.name", of="item"),
            Column("event_type", "$.type", of="item"),
            Column("actor_id", "$.actor.profileId"),
            Column("actor_email", "$.actor.email"),
            Column("ip_address", "$.ipAddress"),
            *columns,
        ),
    )


def _parameter(column: str, name: str) -> Column:
    return Column(column, sql=where_equal("item $.parameters", "name", name, "value"))


CONNECTOR = Connector(
    name="google_workspace",
    base_url="https://admin.googleapis.com",
    auth=_auth,
    rate_limit=RateLimit(markers=("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded")),
    streams=(
        _activities("login", _parameter("failure_type", "login_failure_type")),
        _activities("saml", _parameter("app_name", "application_name"), _parameter("failure_type", "failure_type")),
        _activities("token", _parameter("app_name", "app_name"), _parameter("client_id", "client_id")),
        Stream(
            name="users",
            kind="accounts",
            path="/admin/directory/v1/users",
            records="users",
            paginator=_pages,
            params={"maxResults": 500},
            settings={"customer": "customer_id"},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.primaryEmail"),
                Column("display_name", "$.name.fullName"),
                Column("is_suspended", "$.suspended", "bool"),
                Column("is_archived", "$.archived", "bool"),
                Column("is_admin", "$.isAdmin", "bool"),
                Column("created_at", "$.creationTime", "timestamp"),
                Column("last_login_at", "$.lastLoginTime", "timestamp"),
            ),
        ),
        Stream(
            name="licenses",
            kind="accounts",
            base_url="https://licensing.googleapis.com",
            path="/apps/licensing/v1/product/{item}/users",
            for_each="product_ids",
            records="items",
            paginator=_pages,
            params={"maxResults": 1000},
            settings={"customerId": "customer_id"},
            key=Key(("$.userId", "$.skuId")),
            columns=(
                Column("account_email", "$.userId"),
                Column("product_id", "$.productId"),
                Column("sku_id", "$.skuId"),
                Column("sku_name", "$.skuName"),
                Column("product_name", "$.productName"),
            ),
        ),
    ),
)
