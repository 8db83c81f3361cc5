"""Dropbox Business: the team's events and its members.

An app with the scopes `events.read` and `members.read` and a refresh token of a team administrator. Events of files
need a plan that has them.
How the API behaves:
- everything is a POST; the first request has the bounds, all others the cursor alone, at another path;
- a page may be empty although `has_more` is true, and events are not sorted;
- an event has no id: the key is a hash of when, what, who, from where and the first thing that it was done to, and what
  is alike in all of that counts as often as it comes;
- without an end time the cursor would go on for ever with what happens next;
- the actor is one of several kinds, and its fields lie below the kind's name;
- members know no last activity; `include_removed` shows those who left;
- a 429 carries `Retry-After`.
How late events are and how long they are kept is not documented here.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, LoneCursorPaginator, RefreshToken, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> RefreshToken:
    return RefreshToken(
        access_token_url="https://api.dropboxapi.com/oauth2/token",  # noqa: S106 (an address, no secret)
        client_id=connection.secret("app_key"),
        client_secret=connection.secret("app_secret"),
        refresh_token=connection.secret("refresh_token"),
        session=session,
    )


def _pages(path: str) -> BasePaginator:
    return LoneCursorPaginator(has_more="has_more", path=path)


def _actor(field: str) -> str:
    return f"coalesce(payload->>'$.actor.user.{field}', payload->>'$.actor.admin.{field}')"


CONNECTOR = Connector(
    name="dropbox",
    base_url="https://api.dropboxapi.com",
    auth=_auth,
    streams=(
        Stream(
            name="team_events",
            kind="events",
            path="/2/team_log/get_events",
            method="POST",
            records="events",
            paginator=lambda: _pages("/2/team_log/get_events/continue"),
            params={"limit": 1000},
            window=Window(
                params={"time": {"start_time": "{start}", "end_time": "{end}"}},
                format="iso_s",
                start_is_exclusive=True,
                retention=timedelta(days=730),
            ),
            # not documented: what holds for logs of this kind
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(
                (
                    "$.timestamp",
                    '$.event_type.".tag"',
                    '$.actor.".tag"',
                    "$.actor.user.account_id",
                    "$.actor.admin.account_id",
                    "$.actor.app.app_id",
                    "$.origin.geo_location.ip_address",
                    "$.assets[0].file_id",
                    "$.assets[0].display_name",
                ),
                "content_hash",
            ),
            occurred_at=Column("occurred_at", "$.timestamp", "timestamp"),
            columns=(
                Column("event_type", '$.event_type.".tag"'),
                Column("event_category", '$.event_category.".tag"'),
                Column("actor_type", '$.actor.".tag"'),
                Column(
                    "actor_membership",
                    sql="coalesce(payload->>'$.actor.user.\".tag\"', payload->>'$.actor.admin.\".tag\"')",
                ),
                Column("actor_id", sql=_actor("account_id")),
                Column("actor_email", sql=_actor("email")),
                Column("actor_name", sql=_actor("display_name")),
                Column("access_method", '$.origin.access_method.".tag"'),
                Column("ip_address", "$.origin.geo_location.ip_address"),
            ),
        ),
        Stream(
            name="members",
            kind="accounts",
            path="/2/team/members/list_v2",
            method="POST",
            records="members",
            paginator=lambda: _pages("/2/team/members/list/continue_v2"),
            params={"limit": 1000, "include_removed": True},
            key=Key(("$.profile.team_member_id",)),
            columns=(
                Column("team_member_id", "$.profile.team_member_id"),
                Column("account_id", "$.profile.account_id"),
                Column("email", "$.profile.email"),
                Column("display_name", "$.profile.name.display_name"),
                Column("status", '$.profile.status.".tag"'),
                Column("membership_type", '$.profile.membership_type.".tag"'),
                Column("joined_at", "$.profile.joined_on", "timestamp"),
            ),
        ),
    ),
)
