"""JumpCloud: Directory Insights events and users. Events also see the single sign-ons to apps behind JumpCloud.

An API key of a read-only administrator; setting `org_id` only where the key belongs to a managed service provider.
In the EU region `base_url` is `https://console.eu.jumpcloud.com`.
How the API behaves:
- events are asked for by POST, up to 1,000 a page; what the next page continues from is in the response header
  `X-Search_after`, a JSON list, and a page with fewer rows than `X-Limit` is the last;
- of the services, those are read in which people use something: portals, single sign-on and the password manager;
  devices, software inventories and administration have their own and would be most of the volume;
- the app of a single sign-on is `application`; `success` tells whether a log-in to a portal succeeded, and
  `sso_token_success`, which the description leaves out and events have, whether a single sign-on did;
- who acted is `initiated_by`, in a log-in to a portal also `resource` alone: an administrator has an `email`, a user a
  `username`, which need not be one;
- events are kept for 90 days, 15 on the lowest plan.
Whether the bounds are inclusive and how late events are is not documented. The user listing knows no last log-in.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator, BaseReferencePaginator, OffsetPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, HeaderAuth, Key, Lateness, Stream, Window


class SearchAfterPaginator(BaseReferencePaginator):
    """Repeats the query with what the last response's headers say to continue from."""

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """A page with fewer rows than the limit is the last."""
        header = response.headers.get("X-Search_after")
        limit = int(response.headers.get("X-Limit", 1))
        self._next_reference = header if header and data and len(data) >= limit else None

    def update_request(self, request: requests.Request) -> None:
        """The same query with `search_after`."""
        if self._next_reference:
            request.json = {**(request.json or {}), "search_after": msgspec.json.decode(self._next_reference)}


def _auth(connection: Connection, session: requests.Session) -> HeaderAuth:
    organization = connection.settings.get("org_id")
    return HeaderAuth(
        {"x-api-key": connection.secret("api_key"), **({"x-org-id": str(organization)} if organization else {})}
    )


def _pages() -> BasePaginator:
    return OffsetPaginator(limit=100, offset_param="skip", total_path=None)


CONNECTOR = Connector(
    name="jumpcloud",
    base_url="https://api.jumpcloud.com",
    auth=_auth,
    streams=(
        Stream(
            name="events",
            kind="events",
            path="/insights/directory/v1/events",
            method="POST",
            paginator=SearchAfterPaginator,
            params={"service": ["directory", "sso", "password_manager"], "limit": 1000, "sort": "ASC"},
            order="oldest_first",
            window=Window(
                params={"start_time": "{start}", "end_time": "{end}"},
                format="iso_ms",
                step=timedelta(milliseconds=1),
                start_is_exclusive=True,
                retention=timedelta(days=90),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.timestamp", "timestamp"),
            columns=(
                Column("event_type", "$.event_type"),
                Column("service", "$.service"),
                Column("actor_id", "$.initiated_by.id"),
                Column("actor_type", "$.initiated_by.type"),
                Column("actor_email", "$.initiated_by.email"),
                Column("actor_username", "$.initiated_by.username"),
                Column("resource_id", "$.resource.id"),
                Column("resource_type", "$.resource.type"),
                Column("resource_email", "$.resource.email"),
                Column("resource_username", "$.resource.username"),
                Column("is_success", "$.success", "bool"),
                Column("is_sso_success", "$.sso_token_success", "bool"),
                Column("app_id", "$.application.id"),
                Column("app_name", "$.application.display_label"),
                Column("app_type", "$.application.name"),
                Column("ip_address", "$.client_ip"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            base_url="https://console.jumpcloud.com",
            path="/api/systemusers",
            records="results",
            paginator=_pages,
            params={"sort": "_id"},
            key=Key(("$._id",)),
            columns=(
                Column("account_id", "$._id"),
                Column("email", "$.email"),
                Column("username", "$.username"),
                Column("display_name", "$.displayname"),
                Column("state", "$.state"),
                Column("is_activated", "$.activated", "bool"),
                Column("is_suspended", "$.suspended", "bool"),
                Column("is_locked", "$.account_locked", "bool"),
                Column("created_at", "$.created", "timestamp"),
            ),
        ),
    ),
)
