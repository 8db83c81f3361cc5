"""Asana: the organisation's audit log and its users.

A service account's token; the audit log needs Enterprise+, Legacy Enterprise or the compliance add-on. Setting:
`workspace_gid`, the organisation.
How the API behaves:
- `start_at` is inclusive and `end_at` exclusive; ascending, up to 100 a page, kept for 90 days;
- `next_page` never disappears once an event matched: reading ends at an empty page;
- an event that Asana itself, its support, or nobody known caused has no actor's e-mail;
- `context.api_authentication_method` tells a person's click from a service account's call;
- the user listing knows neither status nor last activity, and must be asked for the e-mail;
- a 429 carries `Retry-After`.
How late events are is not documented.
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
    return JSONResponseCursorPaginator(cursor_path="next_page.offset", cursor_param="offset")


CONNECTOR = Connector(
    name="asana",
    base_url="https://app.asana.com",
    auth=_auth,
    streams=(
        Stream(
            name="audit_log_events",
            kind="events",
            path="/api/1.0/workspaces/{workspace_gid}/audit_log_events",
            records="data",
            paginator=_pages,
            ends_on_empty_page=True,
            params={"limit": 100},
            order="oldest_first",
            window=Window(
                params={"start_at": "{start}", "end_at": "{end}"},
                format="iso_ms",
                step=timedelta(milliseconds=1),
                retention=timedelta(days=90),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.gid",)),
            occurred_at=Column("occurred_at", "$.created_at", "timestamp"),
            columns=(
                Column("event_type", "$.event_type"),
                Column("event_category", "$.event_category"),
                Column("actor_type", "$.actor.actor_type"),
                Column("actor_gid", "$.actor.gid"),
                Column("actor_email", "$.actor.email"),
                Column("actor_name", "$.actor.name"),
                Column("context_type", "$.context.context_type"),
                Column("api_authentication_method", "$.context.api_authentication_method"),
                Column("rule_name", "$.context.rule_name"),
                Column("ip_address", "$.context.client_ip_address"),
                Column("user_agent", "$.context.user_agent"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/api/1.0/users",
            records="data",
            paginator=_pages,
            params={"limit": 100, "opt_fields": "name,email"},
            settings={"workspace": "workspace_gid"},
            key=Key(("$.gid",)),
            columns=(
                Column("account_id", "$.gid"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
            ),
        ),
    ),
)
