"""Webex: sign-ins and sign-outs, what administrators did, people with licences and last activity, what was bought.

A service app authorised by a full administrator, with `audit:events_read`, `spark-admin:people_read` and
`spark-admin:licenses_read`: its client, and the refresh token of the authorisation, which lives on while it is used.
The setting `org_id`; `security_audit = true` reads sign-ins, which need an add-on.
How the API behaves:
- both audits require the organisation and both bounds, of which it is not said whether they are included; security
  events at most a year a request;
- pages are linked by a Link header, up to 200 at once for administrators' events, 1,000 for security events;
- a log-in that failed, or that no person made, is a security event like any other, and says so in its fields;
- people have the ids of their licences, whose names are a listing of their own;
- `lastActivity` is any activity, and absent where the organisation does not share presence.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RefreshToken, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> RefreshToken:
    return RefreshToken(
        access_token_url="https://webexapis.com/v1/access_token",  # noqa: S106 (an address, no secret)
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        refresh_token=connection.secret("refresh_token"),
        session=session,
    )


_EVENT = (
    Column("event_category", "$.data.eventCategory"),
    Column("event_description", "$.data.eventDescription"),
    Column("event_status", "$.data.eventStatus"),
    Column("authentication_method", "$.data.authenticationMethod"),
    Column("actor_id", "$.actorId"),
    Column("actor_email", "$.data.actorEmail"),
    Column("actor_name", "$.data.actorName"),
    Column("ip_address", "$.data.actorIp"),
    Column("user_agent", "$.data.actorUserAgent"),
)


def _events(name: str, path: str, start: str, end: str, most: int, needs: str = "") -> Stream:
    return Stream(
        name=name,
        kind="events",
        path=path,
        needs=needs,
        records="items",
        paginator=HeaderLinkPaginator,
        params={"max": most},
        settings={"orgId": "org_id"},
        window=Window(
            params={start: "{start}", end: "{end}"},
            format="iso_ms",
            start_is_exclusive=True,
            retention=timedelta(days=365),
        ),
        # not documented: the common case, and a day for what is rare
        lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
        key=Key(("$.id",)),
        occurred_at=Column("occurred_at", "$.created", "timestamp"),
        columns=_EVENT,
    )


CONNECTOR = Connector(
    name="webex",
    base_url="https://webexapis.com",
    auth=_auth,
    streams=(
        _events("admin_audit", "/v1/adminAudit/events", "from", "to", 200),
        _events(
            "security_audit", "/v1/admin/securityAudit/events", "startTime", "endTime", 1000, needs="security_audit"
        ),
        Stream(
            name="people",
            kind="accounts",
            path="/v1/people",
            records="items",
            paginator=HeaderLinkPaginator,
            params={"max": 100},
            settings={"orgId": "org_id"},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.emails[0]"),
                Column("display_name", "$.displayName"),
                Column("account_type", "$.type"),
                Column("license_ids", "$.licenses"),
                Column("is_invite_pending", "$.invitePending", "bool"),
                Column("is_login_enabled", "$.loginEnabled", "bool"),
                Column("created_at", "$.created", "timestamp"),
                Column("last_activity_at", "$.lastActivity", "timestamp"),
            ),
        ),
        Stream(
            name="licenses",
            kind="accounts",
            path="/v1/licenses",
            records="items",
            paginator=HeaderLinkPaginator,
            settings={"orgId": "org_id"},
            key=Key(("$.id",)),
            columns=(
                Column("license_id", "$.id"),
                Column("license_name", "$.name"),
                Column("total_units", "$.totalUnits", "bigint"),
                Column("consumed_units", "$.consumedUnits", "bigint"),
            ),
        ),
    ),
)
