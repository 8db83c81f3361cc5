"""Slack: audit logs of Enterprise Grid or access logs of other paid plans, users, who is billed.

A user token with `auditlogs:read` (Enterprise Grid), `users:read`, `users:read.email` and `admin`. `access_logs = true`
in the settings reads the access logs in place of the audit logs. The token of a whole organisation needs `team_id`, the
workspace that is read, or a list of them.
How the API behaves:
- `oldest` and `latest` are whole seconds and both inclusive; logs come newest first, up to 9,999 a page;
- the cursor must be sent with the same `oldest`, or paging runs past the lower bound;
- the Web API answers 200 with `ok: false` when a call failed;
- an access log has a row per user, address and client, with its first and last access: `date_last` moves on, and what
  was in between is seen only by who reads often. The newest first access comes first, so that a row that moved may be
  anywhere, and all are read every two hours. Before the first read, only the last access of each row is known;
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
            unless="access_logs",
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
            name="access_logs",
            kind="events",
            base_url=_WEB_API,
            path="/api/team.accessLogs",
            needs="access_logs",
            records="logins",
            paginator=_pages,
            params={"limit": 999},  # 1,000 is too much for pages by cursor
            options={"team_id": "team_id"},
            order="newest_first",
            # how long a row is kept is not said
            window=Window(params={}, retention=timedelta(days=365)),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.user_id", "$.ip", "$.user_agent", "$.date_last"), "aggregate_key"),
            occurred_at=Column("occurred_at", "$.date_last", "timestamp", "epoch_s"),
            columns=(
                Column("user_id", "$.user_id"),
                Column("user_name", "$.username"),
                Column("ip_address", "$.ip"),
                Column("user_agent", "$.user_agent"),
                Column("first_access_at", "$.date_first", "timestamp", "epoch_s"),
                Column("access_count", "$.count", "bigint"),
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
            options={"team_id": "team_id"},
            key=Key(("team_id", "$.id")),  # who is in two workspaces may be switched off in one
            columns=(
                Column("workspace_id", "team_id", of="parent"),
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
            options={"team_id": "team_id"},
            key=Key(("team_id", "$.id")),
            columns=(
                Column("workspace_id", "team_id", of="parent"),
                Column("account_id", "$.id"),
                Column("is_billing_active", "$.value.billing_active", "bool"),
            ),
        ),
    ),
)
