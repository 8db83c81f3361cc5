"""Bitwarden: the organisation's events and its members, from the public API.

The organisation's API key (an owner has it), Teams or Enterprise. Setting: `server`, `bitwarden.com` or `bitwarden.eu`;
a self-hosted server has its token endpoint elsewhere and is not read.
How the API behaves:
- without both bounds it answers the last 30 days, and silently swaps bounds that are the wrong way round; more than
  367 days are refused;
- `continuationToken` is null at the end;
- an event has no id: the key is a hash of its fields, and what is alike in all of them counts as often as it comes;
- `type` is a number; 1005 and 1006 are failed log-ins;
- the actor is `actingUserId`, the `userId` of a member; e-mails are in the member listing only;
- the member listing is one page and knows no last activity; `status` -1 is revoked;
- a 429 carries `Retry-After`.
Most events come from people's devices, which send them every minute, and again until they arrive: one that was offline
sends its events later. They are kept for ever; a request is of a year at most.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(
        access_token_url=f"https://identity.{connection.setting('server')}/connect/token",
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        access_token_request_data={"scope": "api.organization"},
        session=session,
    )


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="continuationToken", cursor_param="continuationToken")


_THINGS = ("$.itemId", "$.collectionId", "$.groupId", "$.policyId", "$.memberId")

CONNECTOR = Connector(
    name="bitwarden",
    base_url="https://api.bitwarden.com",
    auth=_auth,
    streams=(
        Stream(
            name="events",
            kind="events",
            base_url="https://api.{server}",
            path="/public/events",
            records="data",
            paginator=_pages,
            window=Window(
                params={"start": "{start}", "end": "{end}"},
                format="iso_ms",
                step=timedelta(milliseconds=1),
                start_is_exclusive=True,
                longest=timedelta(days=180),
                retention=timedelta(days=3650),
            ),
            lateness=Lateness(delay=timedelta(minutes=2), usual=timedelta(hours=1), rare=timedelta(days=3)),
            key=Key(
                ("$.date", "$.type", "$.actingUserId", "$.device", "$.ipAddress", *_THINGS),
                "content_hash",
            ),
            occurred_at=Column("occurred_at", "$.date", "timestamp"),
            columns=(
                Column("type", "$.type", "bigint"),
                Column("acting_user_id", "$.actingUserId"),
                Column("member_id", "$.memberId"),
                Column("item_id", "$.itemId"),
                Column("device", "$.device", "bigint"),
                Column("ip_address", "$.ipAddress"),
            ),
        ),
        Stream(
            name="members",
            kind="accounts",
            base_url="https://api.{server}",
            path="/public/members",
            records="data",
            paginator=_pages,
            key=Key(("$.id",)),
            columns=(
                Column("member_id", "$.id"),
                Column("user_id", "$.userId"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("role", "$.type", "bigint"),
                Column("status", "$.status", "bigint"),
            ),
        ),
    ),
)
