"""Cisco Duo: authentications, which also show the use of every app behind Duo, and users.

An Admin API application with `Grant read log` and `Grant read resource`; its API host is the connection's base_url.
How the API behaves:
- each request is signed: an HMAC-SHA1 over date, method, host, path and the sorted query, in Basic authentication.
  The date must be current, so an attempt after a pause is signed anew;
- authentications are asked in milliseconds, 180 days back, sorted by time, 1,000 a page; `next_offset` has two parts.
  Those of the last two minutes are withheld on purpose, and a query for them comes back empty;
- a 429 has no header. Duo's staff speak of two requests a minute for this log;
- the log of administrators (v1) has no id, no end and whole seconds; it tells of Duo's own settings, and is not read.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from datetime import timedelta
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator
from requests.auth import AuthBase

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window


class Signature(AuthBase):
    """Duo's signature, made when a request has its final host and parameters."""

    def __init__(self, integration_key: str, secret_key: str) -> None:
        self.integration_key = integration_key
        self.secret_key = secret_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Nothing yet: the session signs each attempt."""
        return request

    def sign(self, request: requests.PreparedRequest) -> None:
        """Sign the request as of now."""
        url = urlsplit(request.url or "")
        pairs = sorted(parse_qsl(url.query, keep_blank_values=True))
        query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs)
        request.url = url._replace(query=query).geturl()
        date = formatdate()
        canonical = "\n".join((date, str(request.method).upper(), url.netloc.lower(), url.path, query))
        digest = hmac.new(self.secret_key.encode(), canonical.encode(), hashlib.sha1).hexdigest()
        request.headers["Date"] = date
        request.headers["Authorization"] = "Basic " + b64encode(f"{self.integration_key}:{digest}".encode()).decode()


def _auth(connection: Connection, session: requests.Session) -> Signature:
    return Signature(connection.secret("integration_key"), connection.secret("secret_key"))


class TwoPartOffset(JSONResponseCursorPaginator):
    """The offset of the log comes as a list and goes back joined by a comma."""

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Take the next offset of a page."""
        super().update_state(response, data)
        if isinstance(self._next_reference, list):
            self._next_reference = ",".join(map(str, self._next_reference))


def _log_pages() -> BasePaginator:
    return TwoPartOffset(cursor_path="response.metadata.next_offset", cursor_param="next_offset")


def _user_pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="metadata.next_offset", cursor_param="offset")


CONNECTOR = Connector(
    name="duo",
    base_url="https://api-example.duosecurity.com",
    auth=_auth,
    rate_limit=RateLimit(pause=30.0),
    error_field="stat",
    streams=(
        Stream(
            name="authentication",
            kind="events",
            path="/admin/v2/logs/authentication",
            records="response.authlogs",
            paginator=_log_pages,
            params={"limit": 1000, "sort": "ts:asc"},
            order="oldest_first",
            window=Window(
                params={"mintime": "{start}", "maxtime": "{end}"},
                format="epoch_ms",
                start_is_exclusive=True,
                retention=timedelta(days=179),  # 180, less what passes between two pages
            ),
            # beyond the two minutes nothing is documented: an hour, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=2), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.txid",)),
            occurred_at=Column("occurred_at", "$.isotimestamp", "timestamp"),
            columns=(
                Column("event_type", "$.event_type"),
                Column("factor", "$.factor"),
                Column("result", "$.result"),
                Column("reason", "$.reason"),
                Column("user_id", "$.user.key"),
                Column("user_name", "$.user.name"),
                Column("email", "$.email"),
                Column("app_id", "$.application.key"),
                Column("app_name", "$.application.name"),
                Column("ip_address", "$.access_device.ip"),
                Column("browser", "$.access_device.browser"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/admin/v1/users",
            records="response",
            paginator=_user_pages,
            params={"limit": 300},
            key=Key(("$.user_id",)),
            columns=(
                Column("account_id", "$.user_id"),
                Column("user_name", "$.username"),
                Column("email", "$.email"),
                Column("display_name", "$.realname"),
                Column("status", "$.status"),
                Column("created_at", "$.created", "timestamp", "epoch_s"),
                Column("last_login_at", "$.last_login", "timestamp", "epoch_s"),
            ),
        ),
    ),
)
