"""Atlassian: events of the organisation, its managed accounts, and the products that each of them has.

An organisation API key with the scopes `read:events:admin` and `read:accounts:admin`. Setting: `org_id`.
How the API behaves:
- events are bounded by epoch milliseconds; the cursor in `meta.next`, null at the end, goes without the bounds. Events
  have the `time` they happened and are `processedAt` later, mostly within a second; which of the two is bounded is not
  documented;
- the listing holds managed accounts only: people whose e-mail domain the organisation has verified;
- `last_active` is given per account and per product, is late by up to a day, and means a page viewed for two seconds;
- Jira, Confluence, Trello and so on are products of one account: a row each in `product_access`;
- a 429 says in `X-RateLimit-Reset` when to come back, as a date with whole minutes.
Log-ins and other events that users make may need Atlassian Guard. Asking for more than is kept costs an empty page.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, LoneCursorPaginator, RateLimit, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("api_key"))


def _linked_pages() -> BasePaginator:
    return JSONLinkPaginator(next_url_path="links.next")


CONNECTOR = Connector(
    name="atlassian",
    base_url="https://api.atlassian.com",
    auth=_auth,
    rate_limit=RateLimit(reset="X-RateLimit-Reset", reset_format="date"),
    headers={"Accept": "application/json"},
    streams=(
        Stream(
            name="events",
            kind="events",
            path="/admin/v1/orgs/{org_id}/events-stream",
            records="data",
            paginator=lambda: LoneCursorPaginator(cursor="meta.next", keep=("limit",)),
            params={"limit": 200, "sortOrder": "asc"},
            order="oldest_first",
            window=Window(
                params={"from": "{start}", "to": "{end}"},
                format="epoch_ms",
                start_is_exclusive=True,
                retention=timedelta(days=180),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.attributes.time", "timestamp"),
            columns=(
                Column("action", "$.attributes.action"),
                Column("actor_id", "$.attributes.actor.id"),
                Column("actor_name", "$.attributes.actor.name"),
                Column("actor_email", "$.attributes.actor.email"),
                Column("ip_address", "$.attributes.location.ip"),
                Column("processed_at", "$.attributes.processedAt", "timestamp"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/admin/v1/orgs/{org_id}/users",
            records="data",
            paginator=_linked_pages,
            key=Key(("$.account_id",)),
            columns=(
                Column("account_id", "$.account_id"),
                Column("account_type", "$.account_type"),
                Column("account_status", "$.account_status"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("is_billable", "$.access_billable", "bool"),
                Column("last_active_at", "$.last_active", "timestamp"),
            ),
        ),
        Stream(
            name="product_access",
            kind="accounts",
            path="/admin/v1/orgs/{org_id}/users",
            records="data",
            paginator=_linked_pages,
            explode="$.product_access",
            may_be_empty=True,
            key=Key(("$.account_id", "item $.key", "item $.url"), "aggregate_key"),
            columns=(
                Column("account_id", "$.account_id"),
                Column("account_type", "$.account_type"),
                Column("account_status", "$.account_status"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("product_key", "$.key", of="item"),
                Column("product_name", "$.name", of="item"),
                Column("site_url", "$.url", of="item"),
                Column("last_active_at", "$.last_active", "timestamp", of="item"),
            ),
        ),
    ),
)
