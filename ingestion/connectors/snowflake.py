"""Snowflake: log-ins, and users with their last log-in, from the views of ACCOUNT_USAGE by the SQL API.

A user of the type SERVICE with the public key of a key pair; its role has the database role SNOWFLAKE.SECURITY_VIEWER
and the use of a small warehouse. Settings `account` (the part of the address before `.snowflakecomputing.com`), `user`,
`role` and `warehouse`, secret `private_key` (PEM).
How the API behaves:
- a statement is a POST; what is not ready after 45 seconds is a 202 with the address at which it will be;
- rows are lists of text, or null, whose names come before them. A large result is cut into partitions, got by number;
  the first comes with the names, the others without them;
- a time is in seconds since the epoch with nine decimals, whatever the session's time zone;
- a token is signed by the client and lasts an hour at most: each attempt has one of its own;
- the views are up to two hours late and keep a year. An unfinished log-in, of a wrong user name say, is an event too;
- a user's name is unique among those who are not deleted, and it is what a log-in names;
- `last_success_login` counts log-ins that succeeded.
"""

from __future__ import annotations

import time
from base64 import b64encode
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urljoin

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from requests.auth import AuthBase

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window
from ingestion.http import private_key

_STATEMENTS = "/api/v2/statements"
_LOGINS = """select EVENT_ID, EVENT_TIMESTAMP, EVENT_TYPE, USER_NAME, CLIENT_IP, REPORTED_CLIENT_TYPE,
 REPORTED_CLIENT_VERSION, FIRST_AUTHENTICATION_FACTOR, SECOND_AUTHENTICATION_FACTOR, IS_SUCCESS, ERROR_MESSAGE
from SNOWFLAKE.ACCOUNT_USAGE.LOGIN_HISTORY
where EVENT_TIMESTAMP >= to_timestamp_tz(?) and EVENT_TIMESTAMP < to_timestamp_tz(?) order by EVENT_TIMESTAMP"""
_USERS = """select USER_ID, NAME, LOGIN_NAME, EMAIL, DISPLAY_NAME, TYPE, DISABLED, CREATED_ON, LAST_SUCCESS_LOGIN
from SNOWFLAKE.ACCOUNT_USAGE.USERS where DELETED_ON is null order by NAME"""


class KeyPair(AuthBase):
    """A token that names the account, the user and the key it is signed with, made anew for each attempt."""

    def __init__(self, account: str, user: str, key: str) -> None:
        from cryptography.hazmat.primitives import serialization  # which other connectors' runs need not wait for

        self._key = private_key(key)
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        fingerprint = b64encode(sha256(self._key.public_key().public_bytes(encoding, form)).digest()).decode()
        self._subject = f"{account.split('.')[0]}.{user}".upper()  # an account locator goes without its region
        self._issuer = f"{self._subject}.SHA256:{fingerprint}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Nothing yet: the session signs each attempt."""
        return request

    def sign(self, request: requests.PreparedRequest) -> None:
        """A token as of now."""
        import jwt

        now = int(time.time())
        claims = {"iss": self._issuer, "sub": self._subject, "iat": now, "exp": now + 600}
        request.headers["Authorization"] = "Bearer " + jwt.encode(claims, self._key, "RS256")
        request.headers["X-Snowflake-Authorization-Token-Type"] = "KEYPAIR_JWT"


def _auth(connection: Connection, session: requests.Session) -> KeyPair:
    return KeyPair(connection.setting("account"), connection.setting("user"), connection.secret("private_key"))


class PartitionPaginator(BasePaginator):
    """The first partition comes with the statement's answer, which counts them, and the others by GET and number."""

    def __init__(self) -> None:
        super().__init__()
        self._handle, self._count, self._number = "", 0, 0

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Whether there is another partition."""
        if not self._number:
            result = response.json()
            self._handle = result["statementHandle"]
            self._count = len(result["resultSetMetaData"]["partitionInfo"])
        self._number += 1
        self._has_next_page = self._number < self._count

    def update_request(self, request: requests.Request) -> None:
        """Ask for the next partition in place of the statement."""
        request.method, request.json = "GET", None
        request.url = urljoin(request.url, f"{_STATEMENTS}/{self._handle}")
        request.params = {"partition": self._number}


def _stream(statement: str, **more: Any) -> Stream:
    return Stream(
        base_url="https://{account}.snowflakecomputing.com",
        path=_STATEMENTS,
        method="POST",
        params={"statement": statement, "timeout": 600},  # seconds
        settings={"role": "role", "warehouse": "warehouse"},
        records="data",
        names="resultSetMetaData.rowType[*].name",
        total="resultSetMetaData.numRows",
        paginator=PartitionPaginator,
        **more,
    )


CONNECTOR = Connector(
    name="snowflake",
    base_url="https://example.snowflakecomputing.com",
    auth=_auth,
    headers={"Accept": "application/json"},
    later="statementStatusUrl",
    streams=(
        _stream(
            _LOGINS,
            name="login_history",
            kind="events",
            order="oldest_first",
            window=Window(
                params={
                    "bindings": {"1": {"type": "TEXT", "value": "{start}"}, "2": {"type": "TEXT", "value": "{end}"}}
                },
                format="iso_s",
                retention=timedelta(days=365),
            ),
            # two hours are documented; a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=2), rare=timedelta(days=1)),
            key=Key(("$.EVENT_ID",)),
            occurred_at=Column("occurred_at", "$.EVENT_TIMESTAMP", "timestamp", "epoch_s"),
            columns=(
                Column("event_type", "$.EVENT_TYPE"),
                Column("user_name", "$.USER_NAME"),
                Column("ip_address", "$.CLIENT_IP"),
                Column("client_type", "$.REPORTED_CLIENT_TYPE"),
                Column("client_version", "$.REPORTED_CLIENT_VERSION"),
                Column("first_factor", "$.FIRST_AUTHENTICATION_FACTOR"),
                Column("second_factor", "$.SECOND_AUTHENTICATION_FACTOR"),
                Column("is_success", "$.IS_SUCCESS"),
                Column("error_message", "$.ERROR_MESSAGE"),
            ),
        ),
        _stream(
            _USERS,
            name="users",
            kind="accounts",
            key=Key(("$.NAME",)),
            columns=(
                Column("user_name", "$.NAME"),
                Column("user_id", "$.USER_ID"),
                Column("login_name", "$.LOGIN_NAME"),
                Column("email", "$.EMAIL"),
                Column("display_name", "$.DISPLAY_NAME"),
                Column("user_type", "$.TYPE"),
                Column("is_disabled", "$.DISABLED", "bool"),
                Column("created_at", "$.CREATED_ON", "timestamp", "epoch_s"),
                Column("last_login_at", "$.LAST_SUCCESS_LOGIN", "timestamp", "epoch_s"),
            ),
        ),
    ),
)
