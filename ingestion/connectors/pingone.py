"""PingOne: audit activities, which also see the use of applications behind PingOne, and users.

A worker application with the role `Environment Admin` or a custom role that may read audit activities, and one that may
read users, `Identity Data Read Only` or `Identity Data Admin`. Settings: `environment_id`, and `region`: `com`, `eu`,
`asia`, `ca` or `com.au`.
How the API behaves:
- a filter bounds `recordedAt`, both bounds exclusive; newest first, up to 500 a page, the address of the next in
  `_links.next.href`; at most two weeks back: what is older must be asked back from an archive, which is not done;
- who acted is `actors.user`, whose `name` is the user name and often an e-mail, and `actors.client`, the application;
- `result.status` is SUCCESS or FAILED;
- this endpoint has a lower rate limit than the others and is not meant for high volumes;
- users come up to 200 a page, with their last sign-on; one that is locked may log in again later, one that is disabled
  may not.
How late activities are is not documented.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window, where_equal


@configspec
class BasicCredentials(OAuth2ClientCredentials):
    """Client credentials as Basic authentication, which is how a worker application is set up unless changed."""

    def build_access_token_request(self) -> dict[str, Any]:
        """The token request as PingOne wants it."""
        return {"data": {"grant_type": "client_credentials"}, "auth": (self.client_id, self.client_secret)}


def _auth(connection: Connection, session: requests.Session) -> BasicCredentials:
    region, environment = connection.setting("region"), connection.setting("environment_id")
    return BasicCredentials(
        access_token_url=f"https://auth.pingone.{region}/{environment}/as/token",
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        session=session,
    )


def _pages() -> BasePaginator:
    return JSONLinkPaginator(next_url_path="_links.next.href")


CONNECTOR = Connector(
    name="pingone",
    base_url="https://api.pingone.com",
    auth=_auth,
    streams=(
        Stream(
            name="activities",
            kind="events",
            base_url="https://api.pingone.{region}",
            path="/v1/environments/{environment_id}/activities",
            records="_embedded.activities",
            paginator=_pages,
            params={"limit": 500},
            order="newest_first",
            window=Window(
                params={"filter": 'recordedAt gt "{start}" AND recordedAt lt "{end}"'},
                format="iso_ms",
                step=timedelta(milliseconds=1),
                start_is_exclusive=True,
                retention=timedelta(days=14),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.recordedAt", "timestamp"),
            columns=(
                Column("action_type", "$.action.type"),
                Column("user_id", "$.actors.user.id"),
                Column("user_name", "$.actors.user.name"),
                Column("client_id", "$.actors.client.id"),
                Column("client_name", "$.actors.client.name"),
                Column("result_status", "$.result.status"),
                Column("app_name", sql=where_equal("payload $.resources", "type", "APPLICATION", "name")),
                Column("created_at", "$.createdAt", "timestamp"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            base_url="https://api.pingone.{region}",
            path="/v1/environments/{environment_id}/users",
            records="_embedded.users",
            paginator=_pages,
            params={"limit": 200},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("user_name", "$.username"),
                Column("email", "$.email"),
                Column("display_name", sql="concat_ws(' ', payload->>'$.name.given', payload->>'$.name.family')"),
                Column("is_enabled", "$.enabled", "bool"),
                Column("created_at", "$.createdAt", "timestamp"),
                Column("last_sign_on_at", "$.lastSignOn.at", "timestamp"),
            ),
        ),
    ),
)
