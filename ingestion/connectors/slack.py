"""Slack: audit logs of Enterprise Grid, users, who is billed.

A user token with `auditlogs:read`, `users:read` and `admin`.
How the API behaves:
- `oldest` and `latest` are whole seconds and both inclusive; logs come newest first, up to 9,999 a page;
- the cursor must be sent with the same `oldest`, or paging runs past the lower bound;
- the Web API answers 200 with `ok: false` when a call failed;
- `team.billableInfo` is a map from user id to a flag;
- a 429 carries `Retry-After`.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window

_WEB_API = "https://slack.com"


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="response_metadata.next_cursor", cursor_param="cursor")


CONNECTOR = Connector(
    name="slack",
    base_url="https://api.slack.com",
    auth=_auth,
    error_field="ok",
    streams=(
        Stream(
            name="audit_logs",
            kind="events",
            path="/audit/v1/logs",
            records="entries",
            paginator=_pages,
            params={"limit": 9999},
            order="newest_first",
            window=Window(
                params={"oldest": "{start}", "latest": "{end}"},
                format="epoch_s",
                end_is_inclusive=True,
                retention=timedelta(days=365),
            ),
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.date_create", "timestamp", "epoch_s"),
            columns=(
                Column("action", "$.action"),
                Column("actor_type", "$.actor.type"),
                Column("actor_id", "$.actor.user.id"),
                Column("actor_email", "$.actor.user.email"),
                Column("actor_name", "$.actor.user.name"),
                Column("entity_type", "$.entity.type"),
                Column("ip_address", "$.context.ip_address"),
                Column("user_agent", "$.context.ua"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            base_url=_WEB_API,
            path="/api/users.list",
            records="members",
            paginator=_pages,
            params={"limit": 200},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.profile.email"),
                Column("display_name", "$.real_name"),
                Column("is_deleted", "$.deleted", "bool"),
                Column("is_bot", "$.is_bot", "bool"),
                Column("is_restricted", "$.is_restricted", "bool"),
                Column("is_ultra_restricted", "$.is_ultra_restricted", "bool"),
                Column("updated_at", "$.updated", "timestamp", "epoch_s"),
            ),
        ),
        Stream(
            name="billable_info",
            kind="accounts",
            base_url=_WEB_API,
            path="/api/team.billableInfo",
            records="billable_info",
            paginator=_pages,
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("is_billing_active", "$.value.billing_active", "bool"),
            ),
        ),
    ),
)
