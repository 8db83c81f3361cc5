"""PagerDuty: audit records, users, and which licence each of them has.

A read-only API key of the account (`Token token=…`), on a plan with the audit trail.
How the API behaves:
- records come newest first; `until` is at most 31 days after `since`, and without `since` a day is answered; the cursor
  is `next_cursor`, null at the end;
- the log holds changes of users, teams, schedules, escalation policies and services: no log-ins, and nothing that is
  done with incidents. Somebody who is not in it may well be on call every night;
- an actor has an id and a name; e-mails are in the user listing. A key or an app can be the actor, and an identity
  provider the method;
- users and licences are numbered from an `offset`, up to 10,000 in all, 100 a page; neither knows a last activity;
- 960 requests a minute; a 429 says in `ratelimit-reset` how many seconds are left.
Whether the bounds are inclusive, how late records are and how long they are kept is not documented.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator, OffsetPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, HeaderAuth, Key, Lateness, RateLimit, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> HeaderAuth:
    return HeaderAuth({"Authorization": f"Token token={connection.secret('api_key')}"})


def _cursors() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="next_cursor", cursor_param="cursor")


def _offsets() -> BasePaginator:
    return OffsetPaginator(limit=100, total_path=None)


CONNECTOR = Connector(
    name="pagerduty",
    base_url="https://api.pagerduty.com",
    auth=_auth,
    headers={"Accept": "application/vnd.pagerduty+json;version=2"},
    rate_limit=RateLimit(reset="ratelimit-reset"),
    streams=(
        Stream(
            name="audit_records",
            kind="events",
            path="/audit/records",
            records="records",
            paginator=_cursors,
            params={"limit": 100},
            order="newest_first",
            window=Window(
                params={"since": "{start}", "until": "{end}"},
                format="iso_ms",
                step=timedelta(milliseconds=1),
                start_is_exclusive=True,
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.execution_time", "timestamp"),
            columns=(
                Column("action", "$.action"),
                Column("resource_type", "$.root_resource.type"),
                Column("actor_id", "$.actors[0].id"),
                Column("actor_type", "$.actors[0].type"),
                Column("actor_name", "$.actors[0].summary"),
                Column("method_type", "$.method.type"),
                Column("ip_address", "$.execution_context.remote_address"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/users",
            records="users",
            paginator=_offsets,
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("role", "$.role"),
                Column("is_invitation_open", "$.invitation_sent", "bool"),
            ),
        ),
        Stream(
            name="license_allocations",
            kind="accounts",
            path="/license_allocations",
            records="license_allocations",
            paginator=_offsets,
            key=Key(("$.user.id", "$.license.id")),
            columns=(
                Column("account_id", "$.user.id"),
                Column("license_id", "$.license.id"),
                Column("license_name", "$.license.name"),
                Column("role_group", "$.license.role_group"),
                Column("allocated_at", "$.allocated_at", "timestamp"),
            ),
        ),
    ),
)
