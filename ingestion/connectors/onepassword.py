"""1Password: sign-in attempts, uses of items in shared vaults, and the audit log, from the Events API.

1Password Business, and the token of an Events Reporting integration with all three features. `base_url` for accounts
elsewhere: `https://events.1password.ca`, `https://events.1password.eu`, `https://events.ent.1password.com`.
How the API behaves:
- everything is a POST; the first request has the bounds, all others the cursor alone;
- a cursor is always returned, and an empty page can have `has_more`; 120 days can be asked for;
- a use of an item is sent when the app next synchronises: it can be late by as long as a device stays offline;
- times of the audit log have nine fraction digits;
- a 429 has no header that is documented; at most 100,000 events a minute and kind are advised.
Whether the bounds are inclusive is not documented. People are listed by a SCIM bridge that the customer runs, which is
not read: there are no accounts.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, LoneCursorPaginator, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


def _events(name: str, feature: str, rare: timedelta, *columns: Column) -> Stream:
    return Stream(
        name=name,
        kind="events",
        path=f"/api/v2/{feature}",
        method="POST",
        records="items",
        paginator=lambda: LoneCursorPaginator(has_more="has_more"),
        params={"limit": 1000},
        order="oldest_first",
        window=Window(
            params={"start_time": "{start}", "end_time": "{end}"},
            format="iso_s",
            start_is_exclusive=True,
            retention=timedelta(days=120),
        ),
        lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=rare),
        key=Key(("$.uuid",)),
        occurred_at=Column("occurred_at", "$.timestamp", "timestamp"),
        columns=columns,
    )


CONNECTOR = Connector(
    name="onepassword",
    base_url="https://events.1password.com",
    auth=_auth,
    streams=(
        _events(
            "sign_in_attempts",
            "signinattempts",
            timedelta(days=1),  # not documented: what holds for logs of this kind
            Column("category", "$.category"),
            Column("type", "$.type"),
            Column("user_id", "$.target_user.uuid"),
            Column("user_email", "$.target_user.email"),
            Column("user_name", "$.target_user.name"),
            Column("ip_address", "$.client.ip_address"),
            Column("client_name", "$.client.app_name"),
        ),
        _events(
            "item_usages",
            "itemusages",
            timedelta(days=3),  # a laptop that was closed over the weekend
            Column("action", "$.action"),
            Column("user_id", "$.user.uuid"),
            Column("user_email", "$.user.email"),
            Column("user_name", "$.user.name"),
            Column("ip_address", "$.client.ip_address"),
            Column("client_name", "$.client.app_name"),
        ),
        _events(
            "audit_events",
            "auditevents",
            timedelta(days=1),  # not documented: what holds for logs of this kind
            Column("action", "$.action"),
            Column("object_type", "$.object_type"),
            Column("user_id", "$.actor_uuid"),
            Column("user_email", "$.actor_details.email"),
            Column("user_name", "$.actor_details.name"),
            Column("ip_address", "$.session.ip"),
        ),
    ),
)
