"""GitLab: audit events and members, of groups on GitLab.com or of a self-managed instance.

Premium or Ultimate, and a token with `read_api`: of an owner of the groups, or of an administrator of the instance.
Settings: `group_ids`, top-level groups on GitLab.com; or `is_instance = true` with the instance as `base_url`.
How the API behaves:
- `created_after` and `created_before` are both inclusive, at most 30 days apart; keyset pages of 100 by a Link header;
- a group's log is of the group itself, not of its subgroups and projects; it holds administration and security, few
  log-ins: presence comes from the members' last activity;
- newer events have an `event_type`, older ones say what happened in `details` only;
- a group's billable members are renewed once a day, without whoever is blocked or deactivated, and have an e-mail
  only where the group owns the account, or the one that the user shows to everybody;
- `last_activity_on` is a day; on an instance, `current_sign_in_at` is the latest log-in (`last_sign_in_at` the one
  before) and `using_license_seat` tells who counts;
- a 429 carries `Retry-After`.
How late events are and how long they are kept is not documented.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


def _audit_events(name: str, path: str, needs: str, for_each: str = "") -> Stream:
    return Stream(
        name=name,
        kind="events",
        needs=needs,
        for_each=for_each,
        path=path,
        paginator=HeaderLinkPaginator,
        params={"pagination": "keyset", "per_page": 100},
        window=Window(
            params={"created_after": "{start}", "created_before": "{end}"},
            format="iso_s",
            end_is_inclusive=True,
            longest=timedelta(days=29),
        ),
        # not documented: what holds for logs of this kind
        lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
        key=Key(("$.id",)),
        occurred_at=Column("occurred_at", "$.created_at", "timestamp"),
        columns=(
            Column("event_type", "$.event_type"),
            Column("author_id", "$.author_id"),
            Column("author_name", "$.details.author_name"),
            Column("author_email", "$.details.author_email"),
            Column("author_class", "$.details.author_class"),
            Column("entity_type", "$.entity_type"),
            Column("custom_message", "$.details.custom_message"),
            Column("ip_address", "$.details.ip_address"),
        ),
    )


CONNECTOR = Connector(
    name="gitlab",
    base_url="https://gitlab.com",
    auth=_auth,
    streams=(
        _audit_events("group_audit_events", "/api/v4/groups/{item}/audit_events", "group_ids", "group_ids"),
        _audit_events("audit_events", "/api/v4/audit_events", "is_instance"),
        Stream(
            name="billable_members",
            kind="accounts",
            needs="group_ids",
            for_each="group_ids",
            path="/api/v4/groups/{item}/billable_members",
            paginator=HeaderLinkPaginator,
            params={"per_page": 100},
            key=Key(("item", "$.id")),
            columns=(
                Column("group_id", "item", of="parent"),
                Column("account_id", "$.id"),
                Column("username", "$.username"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("state", "$.state"),
                Column("created_at", "$.created_at", "timestamp"),
                Column("last_login_at", "$.last_login_at", "timestamp"),
                Column("last_activity_on", "$.last_activity_on", "timestamp"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            needs="is_instance",
            path="/api/v4/users",
            paginator=HeaderLinkPaginator,
            params={"per_page": 100},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("username", "$.username"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("state", "$.state"),
                Column("is_bot", "$.bot", "bool"),
                Column("is_external", "$.external", "bool"),
                Column("is_using_seat", "$.using_license_seat", "bool"),
                Column("created_at", "$.created_at", "timestamp"),
                Column("last_login_at", "$.current_sign_in_at", "timestamp"),
                Column("last_activity_on", "$.last_activity_on", "timestamp"),
            ),
        ),
    ),
)
