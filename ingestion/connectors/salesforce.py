"""Salesforce: log-ins, what was used (event log files, where Event Monitoring is bought), users with their licences.

A connected app with the client credentials flow, scope `api`; its user needs `Manage Users` (log-ins, users) and
`View Event Log Files`. The connection's base_url is the org's My Domain. `event_log_files = true` in the settings
reads these.
How the API behaves:
- LoginHistory has the user's id and no name, successes and failures, six months back;
- an event log file is a listing row and then a CSV. `CreatedDate` is when the file was made, hours to days after what
  it tells of: it is what files are asked by, so that a file that comes late is never behind the cursor. Daily files
  are read; hourly ones repeat them;
- rows of a file have no id (`REQUEST_ID` repeats): the key is the file and a hash, equal rows in one file both count;
- a rate limit is a 403 that says `REQUEST_LIMIT_EXCEEDED`.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Parent, RateLimit, Stream, Window

_API = "/services/data/v60.0"
_USED = ("LightningPageView", "Logout", "Report", "URI")  # log-ins are in LoginHistory


def _auth(connection: Connection, session: requests.Session) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(
        access_token_url="https://login.salesforce.com/services/oauth2/token",  # noqa: S106 (an address, no secret)
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        session=session,
    )


def _pages() -> BasePaginator:
    return JSONLinkPaginator("nextRecordsUrl")


CONNECTOR = Connector(
    name="salesforce",
    base_url="https://example.my.salesforce.com",
    auth=_auth,
    rate_limit=RateLimit(markers=("REQUEST_LIMIT_EXCEEDED",)),
    streams=(
        Stream(
            name="login_history",
            kind="events",
            path=f"{_API}/query",
            records="records",
            total="totalSize",
            paginator=_pages,
            order="oldest_first",
            window=Window(
                params={
                    "q": "SELECT Id, UserId, LoginTime, LoginType, Status, SourceIp, Application, Browser, Platform"
                    " FROM LoginHistory WHERE LoginTime >= {start} AND LoginTime < {end} ORDER BY LoginTime"
                },
                format="iso_s",
                retention=timedelta(days=180),
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.Id",)),
            occurred_at=Column("occurred_at", "$.LoginTime", "timestamp"),
            columns=(
                Column("user_id", "$.UserId"),
                Column("login_type", "$.LoginType"),
                Column("status", "$.Status"),
                Column("ip_address", "$.SourceIp"),
                Column("application", "$.Application"),
                Column("browser", "$.Browser"),
                Column("platform", "$.Platform"),
            ),
        ),
        Stream(
            name="event_log",
            kind="events",
            path=f"{_API}/sobjects/EventLogFile/{{file_id}}/LogFile",
            needs="event_log_files",
            csv=("EVENT_TYPE", "TIMESTAMP_DERIVED"),
            parent=Parent(
                path=f"{_API}/query",
                records="records",
                fields={"file_id": "Id"},
                paginator=_pages,
                is_windowed=True,
            ),
            window=Window(
                params={
                    "q": "SELECT Id, EventType, LogDate, CreatedDate FROM EventLogFile"
                    " WHERE CreatedDate >= {start} AND CreatedDate < {end} AND Interval = 'Daily'"
                    f" AND EventType IN ({', '.join(map(repr, _USED))}) ORDER BY CreatedDate, Id"
                },
                format="iso_s",
                is_by_arrival=True,
                retention=timedelta(days=30),
            ),
            # a daily file is made the day after; "minutes to days" is what others saw
            lateness=Lateness(delay=timedelta(minutes=10), usual=timedelta(days=2), rare=timedelta(days=3)),
            key=Key(
                (
                    "file_id",
                    "$.EVENT_TYPE",
                    "$.TIMESTAMP_DERIVED",
                    "$.REQUEST_ID",
                    "$.USER_ID_DERIVED",
                    "$.SESSION_KEY",
                    "$.URI",
                    "$.CLIENT_IP",
                ),
                "content_hash",
            ),
            occurred_at=Column("occurred_at", "$.TIMESTAMP_DERIVED", "timestamp"),
            columns=(
                Column("file_id", "file_id", of="parent"),
                Column("event_type", "$.EVENT_TYPE"),
                Column("user_id", "$.USER_ID_DERIVED"),
                Column("uri", "$.URI"),
                Column("ip_address", "$.CLIENT_IP"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path=f"{_API}/query",
            records="records",
            total="totalSize",
            paginator=_pages,
            params={
                "q": "SELECT Id, Username, Email, Name, IsActive, UserType, CreatedDate, LastLoginDate,"
                " Profile.UserLicense.Name FROM User ORDER BY Id"
            },
            key=Key(("$.Id",)),
            columns=(
                Column("account_id", "$.Id"),
                Column("user_name", "$.Username"),
                Column("email", "$.Email"),
                Column("display_name", "$.Name"),
                Column("user_type", "$.UserType"),
                Column("license_name", "$.Profile.UserLicense.Name"),
                Column("is_active", "$.IsActive", "bool"),
                Column("created_at", "$.CreatedDate", "timestamp"),
                Column("last_login_at", "$.LastLoginDate", "timestamp"),
            ),
        ),
    ),
)
