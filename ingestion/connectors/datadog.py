"""Datadog: Audit Trail events, users, and who has a seat of a product.

An API key and an application key with `audit_logs_read`, `user_access_read` and, for seats, `billing_read`. Setting,
where seats are bought: `seat_products`, their product codes. `base_url` for other sites: `https://api.datadoghq.eu` ….
How the API behaves:
- pages of up to 1,000, ascending if asked; the cursor is `meta.page.after`, absent at the end;
- a query that takes too long answers 200 with what it has and `meta.status` "timeout", and one that could not read all
  has `meta.warnings`: taken as a failure here, since the rest would be missing;
- what an event says is free-form below `attributes.attributes`. The names of who (`usr.email`; `evt.actor.type`, of
  Datadog's own staff `SUPPORT_USER`), what (`evt.name`, `action`, `asset.type`) and with which outcome (`status`, of a
  failed log-in `error`) are those of Datadog's pages on audit events, not of its API description;
- users come in numbered pages of 100, disabled ones too, with `last_login_time`;
- a seat's id and e-mail can both be null;
- a 429 says in `X-RateLimit-Reset` how many seconds are left.
Whether the bounds are inclusive and how late events are is not documented. Kept for 90 days unless more is bought.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONResponseCursorPaginator,
    PageNumberPaginator,
)

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, HeaderAuth, Key, Lateness, RateLimit, Stream, Window
from ingestion.http import FetchError


class WholePagesPaginator(JSONResponseCursorPaginator):
    """Cursors of the audit log; a page that Datadog gave up on is an error."""

    def __init__(self) -> None:
        super().__init__(cursor_path="meta.page.after", cursor_param="page[cursor]")

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Take the cursor of a page that is whole."""
        super().update_state(response, data)
        meta = response.json().get("meta") or {}
        if meta.get("status") == "timeout":
            raise FetchError("GET /api/v2/audit/events answered a part only: the query timed out at Datadog")
        if meta.get("warnings"):
            codes = ", ".join(str(warning.get("code")) for warning in meta["warnings"])
            raise FetchError(f"GET /api/v2/audit/events may have answered a part only: Datadog warns of {codes}")


def _auth(connection: Connection, session: requests.Session) -> HeaderAuth:
    return HeaderAuth(
        {"DD-API-KEY": connection.secret("api_key"), "DD-APPLICATION-KEY": connection.secret("application_key")}
    )


def _numbered_pages() -> BasePaginator:
    return PageNumberPaginator(base_page=0, page_param="page[number]", total_path=None)


def _seat_pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="meta.next_cursor", cursor_param="page[cursor]")


CONNECTOR = Connector(
    name="datadog",
    base_url="https://api.datadoghq.com",
    auth=_auth,
    rate_limit=RateLimit(reset="X-RateLimit-Reset"),
    streams=(
        Stream(
            name="audit_events",
            kind="events",
            path="/api/v2/audit/events",
            records="data",
            paginator=WholePagesPaginator,
            params={"page[limit]": 1000, "sort": "timestamp"},
            order="oldest_first",
            window=Window(
                params={"filter[from]": "{start}", "filter[to]": "{end}"},
                format="iso_ms",
                step=timedelta(milliseconds=1),
                start_is_exclusive=True,
                retention=timedelta(days=90),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.attributes.timestamp", "timestamp"),
            columns=(
                Column("event_name", "$.attributes.attributes.evt.name"),
                Column("action", "$.attributes.attributes.action"),
                Column("asset_type", "$.attributes.attributes.asset.type"),
                Column("user_email", "$.attributes.attributes.usr.email"),
                Column("actor_type", "$.attributes.attributes.evt.actor.type"),
                Column("status", "$.attributes.attributes.status"),
                Column("service", "$.attributes.service"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/api/v2/users",
            records="data",
            paginator=_numbered_pages,
            params={"page[size]": 100},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.attributes.email"),
                Column("display_name", "$.attributes.name"),
                Column("status", "$.attributes.status"),
                Column("is_disabled", "$.attributes.disabled", "bool"),
                Column("is_service_account", "$.attributes.service_account", "bool"),
                Column("created_at", "$.attributes.created_at", "timestamp"),
                Column("last_login_at", "$.attributes.last_login_time", "timestamp"),
            ),
        ),
        Stream(
            name="seats",
            kind="accounts",
            needs="seat_products",
            for_each="seat_products",
            path="/api/v2/seats/users?product_code={item}",
            records="data",
            paginator=_seat_pages,
            params={"page[limit]": 100},
            key=Key(("item", "$.id", "$.attributes.email"), "aggregate_key"),
            columns=(
                Column("product_code", "item", of="parent"),
                Column("seat_user_id", "$.id"),
                Column("email", "$.attributes.email"),
                Column("display_name", "$.attributes.name"),
                Column("assigned_at", "$.attributes.assigned_at", "timestamp"),
            ),
        ),
    ),
)
