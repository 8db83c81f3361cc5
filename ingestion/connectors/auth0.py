"""Auth0: the tenant's log and its users. The log also sees the use of every application behind the tenant.

A machine-to-machine application with the scopes `read:logs` and `read:users`. Setting: `domain`, the tenant's own
(`acme.eu.auth0.com`, not a custom domain), which the token's audience is made of.
How the API behaves:
- a search yields its first 1,000 results only, 100 a page; beyond, the search goes on from the time of the last record,
  so that one or two records at the seam come twice;
- reading from a checkpoint (`from`) has no such bound, but neither times nor an order by time;
- `type` is a short code; `client_name` is the application that somebody logged in to;
- a user without `email` has logged in by telephone or by a social account;
- a 429 says in `X-RateLimit-Reset`, an epoch second, when to come back.
How late logs are is not documented. Kept for 2 to 30 days, depending on the plan.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window
from ingestion.http import FetchError

PAGE, MOST = 100, 1000  # records of a page, records of a search


class SearchPaginator(BasePaginator):
    """Pages of a search by the time `by`, ascending; after the last one allowed, a new search from where it stopped."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self._by, self._page, self._last = by, 0, ""

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """A page that is not full is the last."""
        self._has_next_page = data is not None and len(data) == PAGE
        times = (self._time(record) for record in reversed(data or ()))
        self._last = next(filter(None, times), self._last)

    def update_request(self, request: requests.Request) -> None:
        """The next page, or the first one of a search whose lower bound is the last record's time."""
        self._page += 1
        if self._page * PAGE >= MOST:
            if not self._last:
                raise FetchError(f"the search cannot go on: none of its records has a {self._by}")
            self._page = 0
            _, upper = request.params["q"].split(" TO ")
            request.params["q"] = f"{self._by}:[{self._last} TO {upper}"
        request.params["page"] = self._page

    def _time(self, record: Any) -> str:
        """The time of a record; nothing for one that is rejected later, and must not lead the paging astray."""
        try:
            return str(msgspec.json.decode(record, type=dict[str, Any]).get(self._by) or "")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""


def _auth(connection: Connection, session: requests.Session) -> OAuth2ClientCredentials:
    domain = connection.setting("domain")
    return OAuth2ClientCredentials(
        access_token_url=f"https://{domain}/oauth/token",
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        access_token_request_data={"audience": f"https://{domain}/api/v2/"},
        session=session,
    )


CONNECTOR = Connector(
    name="auth0",
    base_url="https://example.auth0.com",
    auth=_auth,
    rate_limit=RateLimit(reset="X-RateLimit-Reset", reset_format="epoch"),
    streams=(
        Stream(
            name="logs",
            kind="events",
            base_url="https://{domain}",
            path="/api/v2/logs",
            paginator=lambda: SearchPaginator("date"),
            params={"sort": "date:1", "per_page": PAGE, "page": 0},
            order="oldest_first",
            window=Window(
                params={"q": "date:[{start} TO {end}]"},
                format="iso_ms",
                retention=timedelta(days=30),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.log_id",)),
            occurred_at=Column("occurred_at", "$.date", "timestamp"),
            columns=(
                Column("type", "$.type"),
                Column("user_id", "$.user_id"),
                Column("user_name", "$.user_name"),
                Column("client_id", "$.client_id"),
                Column("client_name", "$.client_name"),
                Column("connection", "$.connection"),
                Column("ip_address", "$.ip"),
                Column("user_agent", "$.user_agent"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            base_url="https://{domain}",
            path="/api/v2/users",
            paginator=lambda: SearchPaginator("created_at"),
            params={
                "q": "created_at:[2000-01-01T00:00:00.000Z TO *]",
                "sort": "created_at:1",
                "per_page": PAGE,
                "page": 0,
                "search_engine": "v3",
            },
            key=Key(("$.user_id",)),
            columns=(
                Column("account_id", "$.user_id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("is_blocked", "$.blocked", "bool"),
                Column("logins_count", "$.logins_count", "bigint"),
                Column("created_at", "$.created_at", "timestamp"),
                Column("last_login_at", "$.last_login", "timestamp"),
            ),
        ),
    ),
)
