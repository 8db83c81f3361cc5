"""Zoom: sign-ins from the activity report, users with their licences. Server-to-server OAuth app.

Scopes: `report:read:user_activities:admin`, `user:read:list_users:admin`; a Pro plan or higher.
How the API behaves:
- the report is asked by date only (`from`, `to`, both inclusive), at most one month a request, six months back,
  newest first, in pages of 300 whose token lives 15 minutes; an empty `next_page_token` is the end;
- an activity has no id, and fields can be absent: the key is a hash, and two equal sign-ins in one second both count;
- an activity of a day can appear after that day is over, so whole days are re-read;
- the user listing shows one status at a time and only active users unless asked; who was invited and has not come
  (`pending`) has no id yet and is not asked for;
- `last_login_time` may be up to three days older than the last log-in;
- a 429 carries `Retry-After`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


@configspec
class AccountCredentials(OAuth2ClientCredentials):
    """Zoom's own grant: `account_credentials` with the account id, client id and secret as Basic authentication."""

    account_id: str = ""

    def build_access_token_request(self) -> dict[str, Any]:
        """The token request as Zoom wants it."""
        return {
            "params": {"grant_type": "account_credentials", "account_id": self.account_id},
            "auth": (self.client_id, self.client_secret),
        }


def _auth(connection: Connection, session: requests.Session) -> AccountCredentials:
    return AccountCredentials(
        access_token_url="https://zoom.us/oauth/token",  # noqa: S106 (an address, no secret)
        account_id=connection.setting("account_id"),
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        session=session,
    )


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="next_page_token", cursor_param="next_page_token")


CONNECTOR = Connector(
    name="zoom",
    base_url="https://api.zoom.us",
    auth=_auth,
    streams=(
        Stream(
            name="activities",
            kind="events",
            path="/v2/report/activities",
            records="activity_logs",
            paginator=_pages,
            params={"page_size": 300},
            order="newest_first",
            window=Window(
                params={"from": "{start}", "to": "{end}"},
                format="date",
                step=timedelta(days=1),
                end_is_inclusive=True,
                longest=timedelta(days=28),  # February is a month too
                retention=timedelta(days=180),
            ),
            lateness=Lateness(usual=timedelta(hours=3), rare=timedelta(days=3)),
            key=Key(("$.email", "$.time", "$.type", "$.ip_address", "$.client_type", "$.version"), "content_hash"),
            occurred_at=Column("occurred_at", "$.time", "timestamp"),
            columns=(
                Column("email", "$.email"),
                Column("activity_type", "$.type"),
                Column("ip_address", "$.ip_address"),
                Column("client_type", "$.client_type"),
                Column("client_version", "$.version"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/v2/users",
            records="users",
            paginator=_pages,
            params={"page_size": 300},
            variants=({"status": "active"}, {"status": "inactive"}),
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", sql="concat_ws(' ', payload->>'$.first_name', payload->>'$.last_name')"),
                Column("license_type", "$.type", "bigint"),
                Column("status", "$.status"),
                Column("created_at", "$.created_at", "timestamp"),
                Column("last_login_at", "$.last_login_time", "timestamp"),
            ),
        ),
    ),
)
