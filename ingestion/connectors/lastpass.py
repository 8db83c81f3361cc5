"""LastPass: the event report and users of a Business account.

The account number (secret `cid`) and the provisioning hash (secret `provhash`). Times have no zone, and LastPass says
that it means that of New York: the setting `time_zone` must name it, for instance `America/New_York`.
How the API behaves:
- one address takes every command as a POST, with the credentials in its body; a failure is a 200 whose status is
  `FAIL`;
- events come newest first as a map Event1 … EventN, 10,000 at once. An answer's `next`, a time in microseconds, asks
  for what was then or earlier; whether that brings the last event again, which would then count twice, is not stated,
  nor whether `from` and `to` are included;
- an event has no id: the key is a hash, and two equal events in one second both count;
- users come by page index, 2,000 at once; the end is a page without any;
- how a rate limit is announced is not documented.
"""

from __future__ import annotations

import json
from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    JSONResponseCursorPaginator,
    PageNumberPaginator,
)
from requests.auth import AuthBase

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


class Account(AuthBase):
    """Puts the credentials into the body."""

    def __init__(self, cid: str, provhash: str) -> None:
        self.cid = cid
        self.provhash = provhash

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Complete the body."""
        body = json.loads(request.body or b"{}")
        request.prepare_body(None, None, json={**body, "cid": self.cid, "provhash": self.provhash})
        return request


def _auth(connection: Connection, session: requests.Session) -> Account:
    connection.setting("time_zone")  # UTC, the default, would be hours off
    return Account(connection.secret("cid"), connection.secret("provhash"))


def _event_pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="next", cursor_body_path="data.next")


def _user_pages() -> BasePaginator:
    return PageNumberPaginator(base_page=0, page_body_path="data.pageindex", total_path=None)


CONNECTOR = Connector(
    name="lastpass",
    base_url="https://lastpass.com",
    auth=_auth,
    error_field="status",
    streams=(
        Stream(
            name="events",
            kind="events",
            path="/enterpriseapi.php",
            method="POST",
            records="data",
            paginator=_event_pages,
            params={"cmd": "reporting"},
            order="newest_first",
            window=Window(
                params={"data": {"from": "{start}", "to": "{end}", "user": "allusers"}},
                format="naive",
                start_is_exclusive=True,
                retention=timedelta(days=365),  # not stated; asking for more costs an empty page
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(
                ("$.value.Time", "$.value.Username", "$.value.IP_Address", "$.value.Action", "$.value.Data"),
                "content_hash",
            ),
            occurred_at=Column("occurred_at", "$.value.Time", "timestamp", "naive"),
            columns=(
                Column("action", "$.value.Action"),
                Column("email", "$.value.Username"),
                Column("ip_address", "$.value.IP_Address"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/enterpriseapi.php",
            method="POST",
            records="Users",
            paginator=_user_pages,
            params={"cmd": "getuserdata", "data": {"pagesize": 2000, "pageindex": 0}},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.value.username"),
                Column("display_name", "$.value.fullname"),
                Column("is_disabled", "$.value.disabled", "bool"),
                Column("is_never_logged_in", "$.value.neverloggedin", "bool"),
                Column("created_at", "$.value.created", "timestamp", "naive"),
                Column("last_login_at", "$.value.last_login", "timestamp", "naive"),
            ),
        ),
    ),
)
