"""monday.com: the audit log of Enterprise accounts, and users with their last activity.

Two tokens of an administrator: `audit_token` (Security, Audit, Monitor by API) and `api_token`. The setting `account`
is the account's part of its address, `acme` of acme.monday.com.
How the API behaves:
- the audit log takes its bounds as JSON in one parameter, in UTC, and is not said to include them. Pages by number,
  the last has no `next_page`; 50 requests a minute;
- an event has no id: the key is a hash, and two equal events in one second both count;
- users come by GraphQL, which answers 200 with a list of `errors` when a query failed. The version is pinned: the
  next one drops `enabled`, `is_guest`, `is_pending` and `is_view_only`;
- `last_activity` is any activity.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONResponseCursorPaginator,
    PageNumberPaginator,
)
from requests.auth import AuthBase

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window

_USERS = """query ($page: Int!) { users(limit: 200, page: $page, status: [ACTIVE, INACTIVE, PENDING]) {
 id email name enabled is_guest is_pending is_view_only created_at last_activity } }"""


class TwoTokens(AuthBase):
    """The audit log takes a token of its own as a bearer; GraphQL takes the account's, bare."""

    def __init__(self, audit_token: str, api_token: str) -> None:
        self.audit_token = audit_token
        self.api_token = api_token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token that the request needs."""
        is_audit = "/audit-api/" in (request.url or "")
        request.headers["Authorization"] = f"Bearer {self.audit_token}" if is_audit else self.api_token
        return request


def _auth(connection: Connection, session: requests.Session) -> TwoTokens:
    return TwoTokens(connection.secret("audit_token"), connection.secret("api_token"))


def _log_pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="next_page", cursor_param="page")


def _user_pages() -> BasePaginator:
    return PageNumberPaginator(base_page=1, page_body_path="variables.page", total_path=None)


CONNECTOR = Connector(
    name="monday",
    base_url="https://api.monday.com",
    auth=_auth,
    rate_limit=RateLimit(pause=60.0),
    headers={"API-Version": "2026-07"},
    error_field="errors",
    streams=(
        Stream(
            name="audit_logs",
            kind="events",
            base_url="https://{account}.monday.com",
            path="/audit-api/get-logs",
            records="data",
            paginator=_log_pages,
            params={"page": 1, "per_page": 1000},
            window=Window(
                params={"filters": '{"start_time":"{start}","end_time":"{end}"}'},
                format="iso_s",
                start_is_exclusive=True,
                retention=timedelta(days=180),  # not stated; asking for more costs an empty page
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(
                (
                    "$.timestamp",
                    "$.user_id",
                    "$.event",
                    "$.slug",
                    "$.ip_address",
                    "$.user_agent",
                    "$.activity_metadata",
                ),
                "content_hash",
            ),
            occurred_at=Column("occurred_at", "$.timestamp", "timestamp"),
            columns=(
                Column("event", "$.event"),
                Column("user_id", "$.user_id"),
                Column("user_name", "$.activity_metadata.user_name"),
                Column("ip_address", "$.ip_address"),
                Column("user_agent", "$.user_agent"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/v2",
            method="POST",
            records="data.users",
            paginator=_user_pages,
            params={"query": _USERS, "variables": {"page": 1}},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("is_enabled", "$.enabled", "bool"),
                Column("is_pending", "$.is_pending", "bool"),
                Column("is_guest", "$.is_guest", "bool"),
                Column("is_view_only", "$.is_view_only", "bool"),
                Column("created_at", "$.created_at", "timestamp"),
                Column("last_activity_at", "$.last_activity", "timestamp"),
            ),
        ),
    ),
)
