"""Airtable: the enterprise audit log, and the enterprise account's users with their last activity.

A personal access token of an enterprise administrator with `enterprise.auditLogs:read`, `enterprise.account:read` and
`enterprise.user:read`; the setting `enterprise_account_id`.
How the API behaves:
- the audit log takes a start that is included and an end that is not, goes 180 days back, up to 1,000 a page, newest
  first unless asked. Without an end `next` never disappears; an empty page is the end too;
- there is no listing of users: the enterprise account gives their ids, and users are asked for by id;
- `lastActivityTime` is any activity in the enterprise account.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window

_IDS_AT_ONCE = 50  # 18 characters each: an address that every proxy takes


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


def _log_pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="pagination.next", cursor_param="next")


class UsersById(BasePaginator):
    """The first page is the enterprise account with its users' ids; each further one is some of these users."""

    def __init__(self) -> None:
        super().__init__()
        self._ids: list[str] = []

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Take the ids of the first page; drop those that a page brought."""
        page = response.json()
        self._ids = page["userIds"] if "userIds" in page else self._ids[_IDS_AT_ONCE:]
        self._has_next_page = bool(self._ids)

    def update_request(self, request: requests.Request) -> None:
        """Ask for the next users."""
        request.url = request.url.removesuffix("/users") + "/users"
        request.params = {"id[]": self._ids[:_IDS_AT_ONCE]}


CONNECTOR = Connector(
    name="airtable",
    base_url="https://api.airtable.com",
    auth=_auth,
    streams=(
        Stream(
            name="audit_log_events",
            kind="events",
            path="/v0/meta/enterpriseAccounts/{enterprise_account_id}/auditLogEvents",
            records="events",
            paginator=_log_pages,
            ends_on_empty_page=True,
            params={"pageSize": 1000, "sortOrder": "ascending"},
            order="oldest_first",
            window=Window(
                params={"startTime": "{start}", "endTime": "{end}"}, format="iso_s", retention=timedelta(days=180)
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.timestamp", "timestamp"),
            columns=(
                Column("action", "$.action"),
                Column("actor_type", "$.actor.type"),
                Column("actor_id", "$.actor.user.id"),
                Column("actor_email", "$.actor.user.email"),
                Column("actor_name", "$.actor.user.name"),
                Column("model_type", "$.modelType"),
                Column("ip_address", "$.origin.ipAddress"),
                Column("user_agent", "$.origin.userAgent"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/v0/meta/enterpriseAccounts/{enterprise_account_id}",
            records="users",
            paginator=UsersById,
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("state", "$.state"),
                Column("is_managed", "$.isManaged", "bool"),
                Column("is_service_account", "$.isServiceAccount", "bool"),
                Column("created_at", "$.createdTime", "timestamp"),
                Column("last_activity_at", "$.lastActivityTime", "timestamp"),
            ),
        ),
    ),
)
