"""OneLogin: events and users. Events also see the use of every app behind OneLogin.

API credentials with the scope `Read all`. `base_url` is the account's own address, `https://acme.onelogin.com`.
How the API behaves:
- the token request carries the credentials as `client_id:…, client_secret:…` in the Authorization header;
- events come in pages of at most 50, with the address of the next in `pagination.next_link`;
- `event_type_id` is a number; 8 is a log-in to `app_name`;
- `user_name` is first and last name, or the e-mail of a user without a name;
- a rate limit (5,000 requests an hour) is a 400 that says `rate_limit_exceeded`. How long it lasts is told by another
  address only; a window that does not get through within half a minute is read at the next run.
Whether `since` and `until` are inclusive, how late events are and how long they are kept is not documented.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONLinkPaginator, PageNumberPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window


@configspec
class HeaderCredentials(OAuth2ClientCredentials):
    """Client credentials in OneLogin's own form of the Authorization header."""

    def build_access_token_request(self) -> dict[str, Any]:
        """The token request as OneLogin wants it."""
        return {
            "headers": {"Authorization": f"client_id:{self.client_id}, client_secret:{self.client_secret}"},
            "json": {"grant_type": "client_credentials"},
        }


def _auth(connection: Connection, session: requests.Session) -> HeaderCredentials:
    return HeaderCredentials(
        access_token_url="https://example.onelogin.com/auth/oauth2/v2/token",  # noqa: S106 (an address, no secret)
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        session=session,
    )


def _numbered_pages() -> BasePaginator:
    return PageNumberPaginator(base_page=1, page_param="page", total_path=None)


CONNECTOR = Connector(
    name="onelogin",
    base_url="https://example.onelogin.com",
    auth=_auth,
    rate_limit=RateLimit(markers=("rate_limit_exceeded",)),
    streams=(
        Stream(
            name="events",
            kind="events",
            path="/api/1/events",
            records="data",
            paginator=lambda: JSONLinkPaginator(next_url_path="pagination.next_link"),
            params={"limit": 50},
            window=Window(
                params={"since": "{start}", "until": "{end}"},
                format="iso_ms",
                step=timedelta(milliseconds=1),
                start_is_exclusive=True,
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.created_at", "timestamp"),
            columns=(
                Column("event_type_id", "$.event_type_id", "bigint"),
                Column("user_id", "$.user_id"),
                Column("user_name", "$.user_name"),
                Column("actor_user_id", "$.actor_user_id"),
                Column("actor_user_name", "$.actor_user_name"),
                Column("actor_system", "$.actor_system"),
                Column("assuming_user_id", "$.assuming_acting_user_id"),
                Column("app_id", "$.app_id"),
                Column("app_name", "$.app_name"),
                Column("ip_address", "$.ipaddr"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/api/2/users",
            paginator=_numbered_pages,
            params={"limit": 100},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", sql="concat_ws(' ', payload->>'$.firstname', payload->>'$.lastname')"),
                Column("state", "$.state", "bigint"),
                Column("status", "$.status", "bigint"),
                Column("created_at", "$.created_at", "timestamp"),
                Column("last_login_at", "$.last_login", "timestamp"),
            ),
        ),
    ),
)
