"""Okta: the System Log, users, and who is assigned to which app. The log also sees the use of every app behind Okta.

An API token (`SSWS`) of a read-only administrator.
How the API behaves:
- `since` and `until` bound `published`; pages of up to 1,000, oldest first, by a Link header. The next link is always
  there: reading ends at an empty page or a link that repeats;
- the app of a single sign-on is the target of type `AppInstance`;
- a 429 says in `X-Rate-Limit-Reset`, an epoch second, when to come back; there is no Retry-After;
- the user listing leaves deprovisioned users out unless every status is named.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import APIKeyAuth
from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import (
    Column,
    Connector,
    Key,
    Lateness,
    Parent,
    RateLimit,
    Stream,
    Window,
    where_equal,
)

_STATUSES = (
    "STAGED", "PROVISIONED", "ACTIVE", "RECOVERY", "PASSWORD_EXPIRED", "LOCKED_OUT", "SUSPENDED", "DEPROVISIONED",
)  # fmt: skip


def _auth(connection: Connection, session: requests.Session) -> APIKeyAuth:
    return APIKeyAuth(name="Authorization", api_key=f"SSWS {connection.secret('api_token')}")


CONNECTOR = Connector(
    name="okta",
    base_url="https://example.okta.com",
    auth=_auth,
    rate_limit=RateLimit(reset="X-Rate-Limit-Reset", reset_format="epoch"),
    streams=(
        Stream(
            name="system_log",
            kind="events",
            path="/api/v1/logs",
            paginator=HeaderLinkPaginator,
            ends_on_empty_page=True,
            params={"limit": 1000, "sortOrder": "ASCENDING"},
            order="oldest_first",
            window=Window(
                params={"since": "{start}", "until": "{end}"},
                format="iso_ms",
                longest=timedelta(days=30),
                retention=timedelta(days=180),  # Okta keeps less; asking for more costs an empty page
            ),
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.uuid",)),
            occurred_at=Column("occurred_at", "$.published", "timestamp"),
            columns=(
                Column("event_type", "$.eventType"),
                Column("actor_id", "$.actor.id"),
                Column("actor_type", "$.actor.type"),
                Column("actor_email", "$.actor.alternateId"),
                Column("actor_name", "$.actor.displayName"),
                Column("outcome", "$.outcome.result"),
                Column("ip_address", "$.client.ipAddress"),
                Column("user_agent", "$.client.userAgent.rawUserAgent"),
                Column("app_name", sql=where_equal("payload $.target", "type", "AppInstance", "displayName")),
                Column("app_id", sql=where_equal("payload $.target", "type", "AppInstance", "id")),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/api/v1/users",
            paginator=HeaderLinkPaginator,
            params={"limit": 200, "filter": " or ".join(f'status eq "{status}"' for status in _STATUSES)},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.profile.email"),
                Column("login", "$.profile.login"),
                Column(
                    "display_name",
                    sql="concat_ws(' ', payload->>'$.profile.firstName', payload->>'$.profile.lastName')",
                ),
                Column("status", "$.status"),
                Column("created_at", "$.created", "timestamp"),
                Column("last_login_at", "$.lastLogin", "timestamp"),
            ),
        ),
        Stream(
            name="app_users",
            kind="accounts",
            path="/api/v1/apps/{app_id}/users",
            parent=Parent(
                path="/api/v1/apps",
                fields={"app_id": "id", "app_name": "label"},
                params={"limit": 200, "filter": 'status eq "ACTIVE"'},
                paginator=HeaderLinkPaginator,
            ),
            paginator=HeaderLinkPaginator,
            params={"limit": 500},
            key=Key(("app_id", "$.id")),
            columns=(
                Column("app_id", "app_id", of="parent"),
                Column("app_name", "app_name", of="parent"),
                Column("account_id", "$.id"),
                Column("user_name", "$.credentials.userName"),
                Column("email", "$.profile.email"),
                Column("status", "$.status"),
                Column("assigned_at", "$.created", "timestamp"),
            ),
        ),
    ),
)
