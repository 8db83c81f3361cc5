"""HubSpot: log-ins, the audit log of Enterprise accounts, users.

A private app with the scopes `account-info.security.read` and `settings.users.read`. `audit_logs = true` in the
settings reads the audit log, which only Enterprise accounts have.
How the API behaves:
- log-ins, successes and failures, are those of the last 90 days; they cannot be asked by time, 200 a page. Their
  order is not stated. It is taken for newest first, and as that is not certain the whole list is read every two
  hours;
- the audit log is asked by `occurredAfter` and `occurredBefore`; whether either includes its bound is not stated;
- the user listing knows neither status nor last log-in;
- a 429 carries no documented header.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="paging.next.after", cursor_param="after")


CONNECTOR = Connector(
    name="hubspot",
    base_url="https://api.hubapi.com",
    auth=_auth,
    rate_limit=RateLimit(pause=10.0),  # the limit of a private app counts per ten seconds
    streams=(
        Stream(
            name="logins",
            kind="events",
            path="/account-info/v3/activity/login",
            records="results",
            paginator=_pages,
            params={"limit": 200},
            order="newest_first",
            window=Window(params={}, retention=timedelta(days=90)),
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=2), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.loginAt", "timestamp"),
            columns=(
                Column("user_id", "$.userId"),
                Column("email", "$.email"),
                Column("is_success", "$.loginSucceeded", "bool"),
                Column("ip_address", "$.ipAddress"),
                Column("user_agent", "$.userAgent"),
            ),
        ),
        Stream(
            name="audit_logs",
            kind="events",
            path="/account-info/v3/activity/audit-logs",
            needs="audit_logs",
            records="results",
            paginator=_pages,
            params={"limit": 100},
            window=Window(
                params={"occurredAfter": "{start}", "occurredBefore": "{end}"},
                format="iso_ms",
                start_is_exclusive=True,
                retention=timedelta(days=90),  # not stated; as long as log-ins
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.occurredAt", "timestamp"),
            columns=(
                Column("action", "$.action"),
                Column("category", "$.category"),
                Column("sub_category", "$.subCategory"),
                Column("user_id", "$.actingUser.userId"),
                Column("email", "$.actingUser.userEmail"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/settings/v3/users/",
            records="results",
            paginator=_pages,
            params={"limit": 100},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", sql="concat_ws(' ', payload->>'$.firstName', payload->>'$.lastName')"),
            ),
        ),
    ),
)
