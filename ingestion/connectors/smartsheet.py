"""Smartsheet: Event Reporting, and users with their licence and last log-in.

An access token of a system administrator. Event Reporting is an add-on: `event_reporting = true` in the settings
reads it.
How the API behaves:
- events are read between two times (`since`, `to`), both taken as the nearest hour, or on from a stream position, never
  both, up to 10,000 at once. How far back they go is not stated;
- log-ins and log-outs are among the events since June 2026; an event's kind is its object type and action together;
- who acted is `additionalDetails.emailAddress`; some user ids are Smartsheet's own, and `source` tells programs;
- users come by page number, with `lastLogin` on request. A plan that knows members, provisional members, guests and
  free contributors says which a user is (`seatType`) and since when; guests are of another company.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONResponseCursorPaginator,
    PageNumberPaginator,
)

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window

# examples and descriptions write it in both ways
_OCCURRED = "coalesce(payload->>'$.eventTimestamp', payload->>'$.eventTimeStamp')"


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


class StreamPosition(JSONResponseCursorPaginator):
    """A stream position takes the place of the times."""

    def __init__(self) -> None:
        super().__init__("nextStreamPosition", "streamPosition", has_more_path="moreAvailable")

    def update_request(self, request: requests.Request) -> None:
        """Make the request for the next page."""
        super().update_request(request)
        request.params.pop("since", None)
        request.params.pop("to", None)


def _user_pages() -> BasePaginator:
    return PageNumberPaginator(base_page=1, page_param="page", total_path="totalPages")


CONNECTOR = Connector(
    name="smartsheet",
    base_url="https://api.smartsheet.com",
    auth=_auth,
    rate_limit=RateLimit(pause=60.0),
    streams=(
        Stream(
            name="events",
            kind="events",
            path="/2.0/events",
            needs="event_reporting",
            records="data",
            paginator=StreamPosition,
            params={"maxCount": 10000},
            order="oldest_first",
            window=Window(
                params={"since": "{start}", "to": "{end}"},
                format="iso_s",
                step=timedelta(hours=1),
                end_is_inclusive=True,
                retention=timedelta(days=90),
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.eventId",)),
            occurred_at=Column("occurred_at", type="timestamp", sql=_OCCURRED),
            columns=(
                Column("event_type", sql="(payload->>'$.objectType') || ' - ' || (payload->>'$.action')"),
                Column("user_id", "$.userId"),
                Column("email", "$.additionalDetails.emailAddress"),
                Column("source", "$.source"),
                Column("ip_address", "$.additionalDetails.sourceIpAddress"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/2.0/users",
            records="data",
            paginator=_user_pages,
            params={"pageSize": 100, "include": "lastLogin"},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("status", "$.status"),
                Column("is_licensed", "$.licensedSheetCreator", "bool"),
                Column("seat_type", "$.seatType"),
                Column("seat_type_changed_at", "$.seatTypeLastChangedAt", "timestamp"),
                Column("last_login_at", "$.lastLogin", "timestamp"),
            ),
        ),
    ),
)
