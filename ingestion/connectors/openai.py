"""OpenAI platform: the organisation's audit log, API usage by user and day, users.

An admin key (`Authorization: Bearer`) that may read the audit log, usage and users. The audit log must be switched
on.
How the API behaves:
- the audit log and the users page by the last id (`after`), 100 at once; `has_more` says whether there is another
  page;
- usage is a bucket a day with a result per user; a day's row grows until the day is over and is landed anew. Its
  start is included, its end is not, 31 days a request. Usage without a user is that of service accounts and older
  keys;
- `api_key_last_used_at` of a user is the last use of a key, not a log-in;
- a 429 carries `Retry-After`.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONResponseCursorPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("admin_key"))


def _pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="last_id", cursor_param="after", has_more_path="has_more")


def _usage_pages() -> BasePaginator:
    return JSONResponseCursorPaginator(cursor_path="next_page", cursor_param="page", has_more_path="has_more")


CONNECTOR = Connector(
    name="openai",
    base_url="https://api.openai.com",
    auth=_auth,
    streams=(
        Stream(
            name="audit_logs",
            kind="events",
            path="/v1/organization/audit_logs",
            records="data",
            paginator=_pages,
            params={"limit": 100},
            order="newest_first",
            window=Window(
                params={"effective_at[gte]": "{start}", "effective_at[lt]": "{end}"},
                format="epoch_s",
                retention=timedelta(days=365),  # not stated; asking for more costs an empty page
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.effective_at", "timestamp", "epoch_s"),
            columns=(
                Column("event_type", "$.type"),
                Column("actor_type", "$.actor.type"),
                Column("api_key_type", "$.actor.api_key.type"),
                Column(
                    "actor_id",
                    sql="coalesce(payload->>'$.actor.session.user.id', payload->>'$.actor.api_key.user.id',"
                    " payload->>'$.actor.api_key.service_account.id')",
                ),
                Column(
                    "actor_email",
                    sql="coalesce(payload->>'$.actor.session.user.email', payload->>'$.actor.api_key.user.email')",
                ),
                Column("ip_address", "$.actor.session.ip_address"),
                Column("user_agent", "$.actor.session.user_agent"),
            ),
        ),
        Stream(
            name="usage_completions",
            kind="events",
            path="/v1/organization/usage/completions",
            records="data",
            explode="$.results",
            may_be_empty=True,
            paginator=_usage_pages,
            params={"bucket_width": "1d", "group_by": ["user_id"], "limit": 31},
            window=Window(
                params={"start_time": "{start}", "end_time": "{end}"},
                format="epoch_s",
                step=timedelta(days=1),
                longest=timedelta(days=31),
                retention=timedelta(days=365),  # not stated; asking for more costs an empty page
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.start_time", "item $.user_id"), "aggregate_key"),
            occurred_at=Column("occurred_at", "$.start_time", "timestamp", "epoch_s"),
            columns=(
                Column("window_ended_at", "$.end_time", "timestamp", "epoch_s"),
                Column("user_id", "$.user_id", of="item"),
                Column("request_count", "$.num_model_requests", "bigint", of="item"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/v1/organization/users",
            records="data",
            paginator=_pages,
            params={"limit": 100},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("email", "$.email"),
                Column("display_name", "$.name"),
                Column("role", "$.role"),
                Column("is_service_account", "$.is_service_account", "bool"),
                Column("is_enabled", "$.user.enabled", "bool"),
                Column("is_banned", "$.user.banned", "bool"),
                Column("added_at", "$.added_at", "timestamp", "epoch_s"),
                Column("api_key_last_used_at", "$.api_key_last_used_at", "timestamp", "epoch_s"),
            ),
        ),
    ),
)
