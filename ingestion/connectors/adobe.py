"""Adobe: the users of an organisation and the groups, product profiles among them, that give them licences.

An OAuth server-to-server credential of the User Management API; secrets `client_id` and `client_secret`, the setting
`organization_id` (…@AdobeOrg).
How the API behaves:
- the page number is part of the address, from 0, at a size of Adobe's choice; `lastPage` says when to stop, and a
  page after the last is the last once more;
- only active users are listed: who is disabled or locked is gone;
- users have no id in Adobe's own examples: the key is the kind of account and the e-mail;
- `groups` names user groups and product profiles alike: which are licences only the listing of groups tells, which is
  not read. Neither is there a last log-in;
- 25 requests a minute; a 429 carries `Retry-After`.
"""

from __future__ import annotations

from typing import Any

import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Stream


@configspec
class KeyedClientCredentials(OAuth2ClientCredentials):
    """Client credentials whose id is a header of every request too."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token and the id."""
        request.headers["X-Api-Key"] = self.client_id
        return super().__call__(request)


def _auth(connection: Connection, session: requests.Session) -> KeyedClientCredentials:
    return KeyedClientCredentials(
        access_token_url="https://ims-na1.adobelogin.com/ims/token/v3",  # noqa: S106 (an address, no secret)
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        access_token_request_data={"scope": "openid,AdobeID,user_management_sdk"},
        session=session,
    )


class PageInPath(BasePaginator):
    """The last part of the address is the number of the page."""

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """See whether this page is the last."""
        self._has_next_page = response.json().get("lastPage") is False

    def update_request(self, request: requests.Request) -> None:
        """Make the request for the next page."""
        address, number = request.url.rsplit("/", 1)
        request.url = f"{address}/{int(number) + 1}"


CONNECTOR = Connector(
    name="adobe",
    base_url="https://usermanagement.adobe.io",
    auth=_auth,
    streams=(
        Stream(
            name="users",
            kind="accounts",
            path="/v2/usermanagement/users/{organization_id}/0",
            records="users",
            paginator=PageInPath,
            key=Key(("$.type", "$.email")),
            columns=(
                Column("account_type", "$.type"),
                Column("email", "$.email"),
                Column("user_name", "$.username"),
                Column("display_name", sql="concat_ws(' ', payload->>'$.firstname', payload->>'$.lastname')"),
                Column("status", "$.status"),
                Column("groups", "$.groups"),
            ),
        ),
    ),
)
