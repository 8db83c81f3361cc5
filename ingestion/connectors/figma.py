"""Figma: the activity log of an Enterprise organisation. Its description has no listing of members.

An OAuth token of an organisation administrator with `org:activity_log_read`.
How the API behaves:
- events come oldest first, 1,000 a page, a year back. The answer has a `cursor`, yet no parameter takes one: the next
  page is asked from the second before the last event, and what comes twice has the same id;
- whether the bounds include their second is not stated;
- a 429 has no documented header and lasts "typically a minute".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


class FromLastEvent(BasePaginator):
    """The next page begins a second before the last event of this one, which the window has room for."""

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Take the times of a page, if it says that there are more."""
        self._has_next_page = bool(data) and bool(response.json().get("meta", {}).get("next_page"))
        self._times = [_time(event) for event in data or ()]

    def update_request(self, request: requests.Request) -> None:
        """Make the request for the next page."""
        if self._has_next_page:
            last = max(time for time in self._times if time <= request.params["end_time"])
            request.params["start_time"] = last - 1  # the bound may leave its second out


def _time(event: Any) -> int:
    """The second of an event; 0 for one that is rejected later, and must not lead the paging astray."""
    try:
        return int(msgspec.json.decode(event)["timestamp"])
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, RecursionError):
        return 0


CONNECTOR = Connector(
    name="figma",
    base_url="https://api.figma.com",
    auth=_auth,
    rate_limit=RateLimit(pause=60.0),
    streams=(
        Stream(
            name="activity_logs",
            kind="events",
            path="/v1/activity_logs",
            records="meta.activity_logs",
            paginator=FromLastEvent,
            params={"limit": 1000, "order": "asc"},
            order="oldest_first",
            window=Window(
                params={"start_time": "{start}", "end_time": "{end}"},
                format="epoch_s",
                start_is_exclusive=True,
                retention=timedelta(days=365),
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.timestamp", "timestamp", "epoch_s"),
            columns=(
                Column("action", "$.action.type"),
                Column("actor_type", "$.actor.type"),
                Column("actor_id", "$.actor.id"),
                Column("actor_name", "$.actor.name"),
                Column("actor_email", "$.actor.email"),
                Column("entity_type", "$.entity.type"),
                Column("client_name", "$.context.client_name"),
                Column("ip_address", "$.context.ip_address"),
                Column("is_support_action", "$.context.is_figma_support_team_action", "bool"),
            ),
        ),
    ),
)
