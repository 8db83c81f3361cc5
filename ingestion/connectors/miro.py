"""Miro: audit log and members with licence and last activity, both of the Enterprise plan.

An access token of a company administrator with `auditlogs:read` and `organizations:read`; the setting `org_id`.
How the API behaves:
- the audit log goes 90 days back; both bounds are required and not said to be inclusive; oldest first unless asked;
- an empty cursor ends a listing. The member listing takes the id of the last member as its cursor;
- `lastActivityAt` is any activity, not a log-in, and empty for who never came;
- how a rate limit is announced is not described here.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="cursor", cursor_param="cursor")


CONNECTOR = Connector(
    name="miro",
    base_url="https://api.miro.com",
    auth=_auth,
    streams=(
        Stream(
            name="audit_logs",
            kind="events",
            path="/v2/audit/logs",
            records="data",
            paginator=_pages,
            ends_on_empty_page=True,
            params={"limit": 100, "sorting": "ASC"},
            order="oldest_first",
            window=Window(
                params={"createdAfter": "{start}", "createdBefore": "{end}"},
                format="iso_ms",
                start_is_exclusive=True,
                retention=timedelta(days=90),
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.createdAt", "timestamp"),
            columns=(
                Column("event", "$.event"),
                Column("category", "$.category"),
                Column("actor_type", "$.createdBy.type"),
                Column("actor_id", "$.createdBy.id"),
                Column("actor_name", "$.createdBy.name"),
                Column("actor_email", "$.createdBy.email"),
                Column("ip_address", "$.context.ip"),
            ),
        ),
        Stream(
            name="members",
            kind="accounts",
            path="/v2/orgs/{org_id}/members",
            records="data",
            paginator=_pages,
            params={"limit": 100},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("role", "$.role"),
                Column("license", "$.license"),
                Column("is_active", "$.active", "bool"),
                Column("license_assigned_at", "$.licenseAssignedAt", "timestamp"),
                Column("last_activity_at", "$.lastActivityAt", "timestamp"),
            ),
        ),
    ),
)
