"""Box: the enterprise's events and its managed users.

A server application (client credentials grant) with the scope `manage enterprise properties` and `manage users`,
authorised by an administrator. Setting: `enterprise_id`.
How the API behaves:
- of the streams of events, `admin_logs` is the one that takes times: a year back, in chronological order, slower than
  the live stream, which has neither order nor bounds;
- pages of up to 500, and one that is not full need not be the last: `next_stream_position` never disappears, and
  reading ends at an empty page. Whether a position still heeds `created_before` is not certain, so reading also ends
  at a page that lies wholly behind it;
- `created_at` has a local offset;
- an event that nobody logged in caused has the user 2;
- the user listing needs markers: an offset ends at 10,000. It knows no last log-in;
- a 429 carries `Retry-After`.
Whether the bounds are inclusive and how late `admin_logs` is, is not documented.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


class PositionPaginator(JSONResponseCursorPaginator):
    """Stream positions, until a page lies wholly behind the end that was asked for."""

    def __init__(self) -> None:
        super().__init__(cursor_path="next_stream_position", cursor_param="stream_position")
        self._end = datetime.max.replace(tzinfo=UTC)

    def init_request(self, request: requests.Request) -> None:
        """Remember the end."""
        super().init_request(request)
        self._end = datetime.fromisoformat(request.params["created_before"])

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Take the next position."""
        super().update_state(response, data)
        if data and all(self._is_behind(record) for record in data):
            self._has_next_page = False

    def _is_behind(self, record: msgspec.Raw) -> bool:
        try:
            return datetime.fromisoformat(msgspec.json.decode(record)["created_at"]) > self._end
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError):
            return False  # a record without a usable time ends in the rejected records, not here


def _auth(connection: Connection, session: requests.Session) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(
        access_token_url="https://api.box.com/oauth2/token",  # noqa: S106 (an address, no secret)
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        access_token_request_data={
            "box_subject_type": "enterprise",
            "box_subject_id": str(connection.setting("enterprise_id")),
        },
        session=session,
    )


def _markers() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="next_marker", cursor_param="marker")


CONNECTOR = Connector(
    name="box",
    base_url="https://api.box.com",
    auth=_auth,
    streams=(
        Stream(
            name="events",
            kind="events",
            path="/2.0/events",
            records="entries",
            paginator=PositionPaginator,
            ends_on_empty_page=True,
            params={"stream_type": "admin_logs", "limit": 500},
            order="oldest_first",
            window=Window(
                params={"created_after": "{start}", "created_before": "{end}"},
                format="iso_s",
                start_is_exclusive=True,
                retention=timedelta(days=365),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.event_id",)),
            occurred_at=Column("occurred_at", "$.created_at", "timestamp"),
            columns=(
                Column("event_type", "$.event_type"),
                Column("actor_id", "$.created_by.id"),
                Column("actor_login", "$.created_by.login"),
                Column("actor_name", "$.created_by.name"),
                Column("recorded_at", "$.recorded_at", "timestamp"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/2.0/users",
            records="entries",
            paginator=_markers,
            params={
                "usemarker": "true",
                "limit": 1000,
                "user_type": "managed",
                "fields": "id,name,login,status,role,created_at,is_platform_access_only",
            },
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("login", "$.login"),
                Column("display_name", "$.name"),
                Column("status", "$.status"),
                Column("role", "$.role"),
                Column("is_app_user", "$.is_platform_access_only", "bool"),
                Column("created_at", "$.created_at", "timestamp"),
            ),
        ),
    ),
)
