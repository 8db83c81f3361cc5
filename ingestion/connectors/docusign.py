"""DocuSign: Monitor's event stream, and the organisation's users with their plan.

An integration with the JWT grant: settings `user_id` (whom it acts for), `organization_id` and `account_id`, secrets
`integration_key` and `private_key`, scopes `impersonation` and `user_read`. Monitor is an add-on: `monitor = true`
reads it. It tells of the whole organisation: where several of its accounts are connections, one of them reads it.
How the API behaves:
- the stream is read from a time on, oldest first, with no end; `endCursor` is always there, and an empty page is the
  end. Asked for nothing it begins seven days ago, and how far back it reaches is not stated;
- the description declares no field of an event. Those landed are the names that another reader of the stream
  documents (AWS Glue's connector), the fewest that will do; the rest is in the payload;
- users are those of the account asked for, by a `paging.next` link; they have no last log-in.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import OAuthJWTAuth
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONLinkPaginator,
    JSONResponseCursorPaginator,
)

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window
from ingestion.http import private_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


@configspec
class Impersonation(OAuthJWTAuth):
    """An assertion that names the user acted for, and as its audience the bare host."""

    subject: str = ""

    def create_jwt_payload(self) -> dict[str, str | int]:
        """dlt's payload with DocuSign's subject and audience."""
        return {**super().create_jwt_payload(), "sub": self.subject, "aud": "account.docusign.com"}

    def load_private_key(self) -> RSAPrivateKey:
        """As dlt does, but once."""
        return private_key(self.private_key)


def _auth(connection: Connection, session: requests.Session) -> Impersonation:
    return Impersonation(
        client_id=connection.secret("integration_key"),
        private_key=connection.secret("private_key"),
        subject=connection.setting("user_id"),
        auth_endpoint="https://account.docusign.com/oauth/token",
        scopes=["signature", "impersonation", "user_read"],
        session=session,
    )


def _stream_pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="endCursor", cursor_param="cursor")


def _user_pages() -> BasePaginator:
    return JSONLinkPaginator("paging.next")


CONNECTOR = Connector(
    name="docusign",
    base_url="https://api.docusign.net",
    auth=_auth,
    streams=(
        Stream(
            name="monitor",
            kind="events",
            base_url="https://lens.docusign.net",
            path="/api/v2.0/datasets/monitor/stream",
            needs="monitor",
            records="data",
            paginator=_stream_pages,
            ends_on_empty_page=True,
            params={"limit": 1000},
            order="oldest_first",
            # how far back is not stated; the description's own example asks for a date long ago
            window=Window(params={"cursor": "{start}"}, format="iso_s", retention=timedelta(days=365)),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.eventId",)),
            occurred_at=Column("occurred_at", "$.timestamp", "timestamp"),
            columns=(
                Column("object", "$.object"),
                Column("action", "$.action"),
                Column("result", "$.result"),
                Column("user_id", "$.userId"),
                Column("ip_address", "$.ipAddress"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/Management/v2/organizations/{organization_id}/users",
            records="users",
            paginator=_user_pages,
            params={"include_license": "true", "take": 250},
            settings={"account_id": "account_id"},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.user_name"),
                Column("user_status", "$.user_status"),
                Column("membership_status", "$.membership_status"),
                Column("license_type", "$.license_type"),
                Column("plan_name", "$.plan_name"),
                Column("created_at", "$.created_on", "timestamp"),
            ),
        ),
    ),
)
