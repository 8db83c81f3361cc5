"""LaunchDarkly: the audit log, and members with when they were last seen.

An access token with the reader role; it goes bare into the Authorization header.
How the API behaves:
- the audit log takes `after` and `before` in milliseconds, both exclusive, newest first, at most 20 a page, by a
  relative next link;
- an entry says what was done in `accesses`, one action or several; the first one names it. What a member's token did
  has its member, what an integration or a service token did has none;
- members come with `_lastSeen`, milliseconds, 0 for who never came: any activity, not a log-in;
- answers are of the version that a token was made with, unless the request names one;
- limits count per ten seconds; a 429 says when they end in epoch milliseconds.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import APIKeyAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> APIKeyAuth:
    return APIKeyAuth(name="Authorization", api_key=connection.secret("token"))


def _pages() -> BasePaginator:
    return JSONLinkPaginator("_links.next.href")


CONNECTOR = Connector(
    name="launchdarkly",
    base_url="https://app.launchdarkly.com",
    auth=_auth,
    headers={"LD-API-Version": "20240415"},
    rate_limit=RateLimit(pause=10.0),
    streams=(
        Stream(
            name="audit_log",
            kind="events",
            path="/api/v2/auditlog",
            records="items",
            paginator=_pages,
            params={"limit": 20},
            order="newest_first",
            window=Window(
                params={"after": "{start}", "before": "{end}"},
                format="epoch_ms",
                start_is_exclusive=True,
                retention=timedelta(days=365),  # not stated; asking for more costs an empty page
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$._id",)),
            occurred_at=Column("occurred_at", "$.date", "timestamp", "epoch_ms"),
            columns=(
                Column("action", "$.accesses[0].action"),
                Column("kind", "$.kind"),
                Column("member_id", "$.member._id"),
                Column("member_email", "$.member.email"),
                Column(
                    "member_name",
                    sql="nullif(concat_ws(' ', payload->>'$.member.firstName', payload->>'$.member.lastName'), '')",
                ),
            ),
        ),
        Stream(
            name="members",
            kind="accounts",
            path="/api/v2/members",
            records="items",
            paginator=_pages,
            params={"limit": 100},
            key=Key(("$._id",)),
            columns=(
                Column("account_id", "$._id"),
                Column("email", "$.email"),
                Column("display_name", sql="concat_ws(' ', payload->>'$.firstName', payload->>'$.lastName')"),
                Column("role", "$.role"),
                Column("is_pending", "$._pendingInvite", "bool"),
                Column("created_at", "$.creationDate", "timestamp", "epoch_ms"),
                Column("last_seen_at", "$._lastSeen", "timestamp", "epoch_ms"),
            ),
        ),
    ),
)
