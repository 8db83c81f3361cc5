"""Intercom: the activity log of teammates, and teammates with their inbox seat.

An access token of a private app that may read admins and their activity.
How the API behaves:
- `created_at_after` is required; whether the bounds include their second is not stated, and rows older than asked for
  were seen to come back: repeats are dropped;
- `pages.next` is described as an object with `starting_after`, and was seen as an address: both are followed;
- teammates are one page; they have no last log-in;
- 500 requests a minute, counted per ten seconds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


class NextPage(JSONLinkPaginator):
    """Follows `pages.next`, an address or the parameters of the next page."""

    def __init__(self) -> None:
        super().__init__("pages.next")

    def update_request(self, request: requests.Request) -> None:
        """Make the request for the next page."""
        following: Any = self._next_reference
        if isinstance(following, dict):
            request.params.update(following)
        else:
            super().update_request(request)


CONNECTOR = Connector(
    name="intercom",
    base_url="https://api.intercom.io",
    auth=_auth,
    rate_limit=RateLimit(pause=10.0),
    headers={"Intercom-Version": "2.14"},
    streams=(
        Stream(
            name="activity_logs",
            kind="events",
            path="/admins/activity_logs",
            records="activity_logs",
            paginator=NextPage,
            window=Window(
                params={"created_at_after": "{start}", "created_at_before": "{end}"},
                format="epoch_s",
                start_is_exclusive=True,
                retention=timedelta(days=365),  # not stated; asking for more costs an empty page
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.created_at", "timestamp", "epoch_s"),
            columns=(
                Column("activity_type", "$.activity_type"),
                Column("actor_type", "$.performed_by.type"),
                Column("actor_id", "$.performed_by.id"),
                Column("actor_email", "$.performed_by.email"),
                Column("ip_address", "$.performed_by.ip"),
            ),
        ),
        Stream(
            name="admins",
            kind="accounts",
            path="/admins",
            records="admins",
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("has_inbox_seat", "$.has_inbox_seat", "bool"),
            ),
        ),
    ),
)
