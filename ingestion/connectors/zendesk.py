"""Zendesk: the audit log of Enterprise accounts, and the people who hold a seat: agents and administrators.

An API token of an administrator, whose e-mail is the setting `email`; the connection's base_url is the account's.
How the API behaves:
- the audit log takes `filter[created_at][]` twice, start and end, in pages of up to 100 by a cursor; it is kept for
  ever. The bounds are not said to be inclusive. An entry has its actor's id and name, and no e-mail;
- users are asked by role: the customers of the account are users too, and there can be millions of them;
- a 429 carries `Retry-After`.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import HttpBasicAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> HttpBasicAuth:
    return HttpBasicAuth(f"{connection.setting('email')}/token", connection.secret("api_token"))


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(
        cursor_path="meta.after_cursor", cursor_param="page[after]", has_more_path="meta.has_more"
    )


CONNECTOR = Connector(
    name="zendesk",
    base_url="https://example.zendesk.com",
    auth=_auth,
    streams=(
        Stream(
            name="audit_logs",
            kind="events",
            path="/api/v2/audit_logs.json",
            records="audit_logs",
            paginator=_pages,
            params={"page[size]": 100},
            window=Window(
                params={"filter[created_at][]": ["{start}", "{end}"]},
                format="iso_s",
                start_is_exclusive=True,
                retention=timedelta(days=365),  # kept for ever; a year is what the metrics look back at
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.created_at", "timestamp"),
            columns=(
                Column("action", "$.action"),
                Column("source_type", "$.source_type"),
                Column("actor_id", "$.actor_id"),
                Column("actor_name", "$.actor_name"),
                Column("ip_address", "$.ip_address"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/api/v2/users.json",
            records="users",
            paginator=_pages,
            params={"page[size]": 100, "role[]": ["agent", "admin"]},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("role", "$.role"),
                Column("role_type", "$.role_type", "bigint"),
                Column("is_active", "$.active", "bool"),
                Column("is_suspended", "$.suspended", "bool"),
                Column("created_at", "$.created_at", "timestamp"),
                Column("last_login_at", "$.last_login_at", "timestamp"),
            ),
        ),
    ),
)
