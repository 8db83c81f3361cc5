"""GitHub Enterprise Cloud: the enterprise's audit log, who consumes a licence, who has a Copilot seat.

A classic token of an enterprise owner with `read:audit_log`, `read:enterprise` and, for Copilot,
`manage_billing:copilot`. Settings: `enterprise`, its slug, and, where there is Copilot, `copilot_organizations`, the
organisations that pay for it.
How the API behaves:
- the log is searched by `created:`, in whole seconds, and ordered by `@timestamp`, when it happened; `created_at`, when
  it was recorded, can be older and is absent from Git events. Both are epoch milliseconds;
- pages of 100 by a Link header; Git events (`include=all`) are kept for 7 days, the others for 180;
- the actor is a login; e-mails are in the licence listing only, where a person of a GitHub Enterprise Server alone has
  an empty login and is known by the server's own id;
- a rate limit is a 403 or a 429, with `X-RateLimit-Reset`, an epoch second;
- entries are sometimes filed later, without a bound that is documented.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, RateLimit, Stream, Window


def _auth(connection: Connection, session: requests.Session) -> BearerTokenAuth:
    return BearerTokenAuth(token=connection.secret("token"))


CONNECTOR = Connector(
    name="github",
    base_url="https://api.github.com",
    auth=_auth,
    rate_limit=RateLimit(reset="X-RateLimit-Reset", reset_format="epoch", markers=("rate limit",)),
    headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
    streams=(
        Stream(
            name="audit_log",
            kind="events",
            path="/enterprises/{enterprise}/audit-log",
            paginator=HeaderLinkPaginator,
            params={"include": "all", "order": "asc", "per_page": 100},
            order="oldest_first",
            window=Window(
                params={"phrase": "created:{start}..{end}"},
                format="iso_s",
                start_is_exclusive=True,
                retention=timedelta(days=180),
            ),
            # GitHub files entries late and gives no bound: a day costs little, and three are a weekend's outage
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=3)),
            key=Key(("$._document_id",)),
            occurred_at=Column("occurred_at", '$."@timestamp"', "timestamp", "epoch_ms"),
            columns=(
                Column("action", "$.action"),
                Column("actor", "$.actor"),
                Column("actor_id", "$.actor_id"),
                Column("organization", "$.org"),
                Column("repository", "$.repo"),
                Column("transport_protocol", "$.transport_protocol_name"),
                Column("is_bot", "$.actor_is_bot", "bool"),
                Column("is_agent", "$.actor_is_agent", "bool"),
                Column("recorded_at", "$.created_at", "timestamp", "epoch_ms"),
            ),
        ),
        Stream(
            name="consumed_licenses",
            kind="accounts",
            path="/enterprises/{enterprise}/consumed-licenses",
            records="users",
            paginator=HeaderLinkPaginator,
            params={"per_page": 100},
            # who was only invited by a Visual Studio subscription has neither
            key=Key(
                ("$.github_com_login", "$.enterprise_server_user_ids", "$.visual_studio_subscription_email"),
                "aggregate_key",
            ),
            columns=(
                Column("login", "$.github_com_login"),
                Column("display_name", "$.github_com_name"),
                Column("license_type", "$.license_type"),
                Column("is_github_com_user", "$.github_com_user", "bool"),
                Column("verified_email", "$.github_com_verified_domain_emails[0]"),
                Column("saml_name_id", "$.github_com_saml_name_id"),
                Column("server_email", "$.enterprise_server_emails[0]"),
                Column("server_user_id", "$.enterprise_server_user_ids[0]"),
                Column("visual_studio_email", "$.visual_studio_subscription_email"),
            ),
        ),
        Stream(
            name="copilot_seats",
            kind="accounts",
            needs="copilot_organizations",
            for_each="copilot_organizations",
            path="/orgs/{item}/copilot/billing/seats",
            records="seats",
            paginator=HeaderLinkPaginator,
            params={"per_page": 100},
            key=Key(("item", "$.assignee.login")),
            columns=(
                Column("organization", "item", of="parent"),
                Column("login", "$.assignee.login"),
                Column("plan_type", "$.plan_type"),
                Column("last_activity_editor", "$.last_activity_editor"),
                Column("assigned_at", "$.created_at", "timestamp"),
                Column("last_activity_at", "$.last_activity_at", "timestamp"),
                Column("last_authenticated_at", "$.last_authenticated_at", "timestamp"),
                Column("pending_cancellation_on", "$.pending_cancellation_date", "timestamp"),
            ),
        ),
    ),
)
