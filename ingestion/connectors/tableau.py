"""Tableau: the users of a site with their role, which is their licence, and their last log-in.

No log of events: Tableau Cloud's activity log, which is another API's, is not read.

A personal access token of a site administrator: secrets `token_name` and `token_secret`, the setting `site` (the name
in the site's address, empty for the default one). The connection's base_url is the server's or the pod's.
How the API behaves:
- signing in with the token gives a session of four hours and the site's id, which each address needs;
- it answers XML unless asked for JSON, in which numbers are text; pages by number, up to 1,000, and a page after the
  last is an error: the count of all says when to stop;
- `email` and `fullName` come only if `fields` asks for all; `lastLogin` is absent for who never came.
"""

from __future__ import annotations

from typing import Any

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from requests.auth import AuthBase

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Stream

_API = "/api/3.19"
_OWN_SITE = "/sites/own/"  # until the session says which one it is


class SiteSession(AuthBase):
    """A session of one site, opened at the first request and again when it is refused."""

    header = "X-Tableau-Auth"

    def __init__(self, address: str, name: str, secret: str, site: str, session: requests.Session) -> None:
        self.secret = secret
        self.token = ""
        self._address, self._name, self._site, self._session = address, name, site, session
        self._site_id = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the session's token, and its site to the address."""
        if not self.token:
            self.obtain_token()
        request.headers[self.header] = self.token
        request.url = (request.url or "").replace(_OWN_SITE, f"/sites/{self._site_id}/")
        return request

    def obtain_token(self) -> None:
        """Sign in."""
        token = {"personalAccessTokenName": self._name, "personalAccessTokenSecret": self.secret}
        body = {"credentials": {**token, "site": {"contentUrl": self._site}}}
        answer = self._session.post(self._address, json=body, headers={"Accept": "application/json"}).json()
        self.token = str(answer["credentials"]["token"])
        self._site_id = str(answer["credentials"]["site"]["id"])


def _auth(connection: Connection, session: requests.Session) -> SiteSession:
    return SiteSession(
        f"{CONNECTOR.base_url}{_API}/auth/signin",
        connection.secret("token_name"),
        connection.secret("token_secret"),
        connection.setting("site"),
        session,
    )


class CountedPages(BasePaginator):
    """Pages by number until as many records are there as the vendor counts."""

    def __init__(self) -> None:
        super().__init__()
        self._page = 1

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """See whether there are more."""
        page = response.json()["pagination"]
        self._page = int(page["pageNumber"]) + 1
        self._has_next_page = int(page["pageNumber"]) * int(page["pageSize"]) < int(page["totalAvailable"])

    def update_request(self, request: requests.Request) -> None:
        """Make the request for the next page."""
        request.params["pageNumber"] = self._page


CONNECTOR = Connector(
    name="tableau",
    base_url="https://online.tableau.com",
    auth=_auth,
    headers={"Accept": "application/json"},
    streams=(
        Stream(
            name="users",
            kind="accounts",
            path=f"{_API}{_OWN_SITE}users",
            records="users.user",
            paginator=CountedPages,
            params={"fields": "_all_", "pageSize": 1000, "pageNumber": 1},
            total="pagination.totalAvailable",
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("user_name", "$.name"),
                Column("email", "$.email"),
                Column("display_name", "$.fullName"),
                Column("site_role", "$.siteRole"),
                Column("last_login_at", "$.lastLogin", "timestamp"),
            ),
        ),
    ),
)
