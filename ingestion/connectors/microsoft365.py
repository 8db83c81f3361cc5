"""Microsoft 365: Entra sign-ins, users with their last sign-in and licences, what was bought, the 365 usage report.

An app registration with the application permissions `AuditLog.Read.All`, `Directory.Read.All`,
`Organization.Read.All` and `Reports.Read.All`; the setting `tenant_id`. Sign-ins also see the use of every app behind
Entra. Sign-ins, and the last sign-in of users, are of tenants with Entra ID P1 or more: others are refused, and say
`without_sign_ins = true` in the settings. The use of their licences is unknown; the usage report tells the last use of
Outlook, OneDrive, SharePoint, Teams and Viva Engage.
How the API behaves:
- sign-ins come newest first, 1,000 a page, with a next link whose token can neither be kept nor read deep: windows
  are short. How long they are kept is the tenant's choice, 30 days with most plans;
- v1.0 returns sign-ins that are interactive and federated ones; `status.errorCode` 0 is a success;
- `lastSignInDateTime` counts failed attempts; `lastSuccessfulSignInDateTime` does not, and is there since December
  2023;
- the usage report is CSV behind a redirect that is signed for a few minutes; its day lags behind, and its names are
  pseudonyms where the tenant conceals them;
- a 429 carries `Retry-After`.
"""

from __future__ import annotations

from datetime import timedelta

import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator, JSONLinkPaginator

from ingestion.connections import Connection
from ingestion.connector import Column, Connector, Key, Lateness, Stream, Window

_USER = "id,userPrincipalName,mail,displayName,accountEnabled,userType,createdDateTime"
_PRODUCTS = ("Exchange", "OneDrive", "SharePoint", "Yammer", "Teams")


def _auth(connection: Connection, session: requests.Session) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(
        access_token_url=f"https://login.microsoftonline.com/{connection.setting('tenant_id')}/oauth2/v2.0/token",
        client_id=connection.secret("client_id"),
        client_secret=connection.secret("client_secret"),
        access_token_request_data={"scope": "https://graph.microsoft.com/.default"},
        session=session,
    )


def _pages() -> BasePaginator:
    return JSONLinkPaginator("'@odata.nextLink'")


CONNECTOR = Connector(
    name="microsoft365",
    base_url="https://graph.microsoft.com",
    auth=_auth,
    streams=(
        Stream(
            name="sign_ins",
            kind="events",
            path="/v1.0/auditLogs/signIns",
            unless="without_sign_ins",
            records="value",
            paginator=_pages,
            params={"$top": 1000},
            order="newest_first",
            window=Window(
                params={"$filter": "createdDateTime ge {start} and createdDateTime lt {end}"},
                format="iso_s",
                longest=timedelta(days=1),  # a lost $skiptoken costs a day at most
                retention=timedelta(days=30),
            ),
            # not documented: the common case, and a day for what is rare
            lateness=Lateness(delay=timedelta(minutes=1), usual=timedelta(hours=1), rare=timedelta(days=1)),
            key=Key(("$.id",)),
            occurred_at=Column("occurred_at", "$.createdDateTime", "timestamp"),
            columns=(
                Column("user_id", "$.userId"),
                Column("user_principal_name", "$.userPrincipalName"),
                Column("user_display_name", "$.userDisplayName"),
                Column("app_id", "$.appId"),
                Column("app_name", "$.appDisplayName"),
                Column("resource_name", "$.resourceDisplayName"),
                Column("error_code", "$.status.errorCode", "bigint"),
                Column("is_interactive", "$.isInteractive", "bool"),
                Column("client_app", "$.clientAppUsed"),
                Column("ip_address", "$.ipAddress"),
            ),
        ),
        Stream(
            name="users",
            kind="accounts",
            path="/v1.0/users",
            records="value",
            paginator=_pages,
            params={"$select": f"{_USER},signInActivity", "$top": 500},
            params_if={"without_sign_ins": {"$select": _USER}},
            key=Key(("$.id",)),
            columns=(
                Column("account_id", "$.id"),
                Column("user_principal_name", "$.userPrincipalName"),
                Column("email", "$.mail"),
                Column("display_name", "$.displayName"),
                Column("user_type", "$.userType"),
                Column("is_enabled", "$.accountEnabled", "bool"),
                Column("created_at", "$.createdDateTime", "timestamp"),
                Column("last_successful_login_at", "$.signInActivity.lastSuccessfulSignInDateTime", "timestamp"),
                Column("last_login_attempt_at", "$.signInActivity.lastSignInDateTime", "timestamp"),
            ),
        ),
        Stream(
            name="licenses",
            kind="accounts",
            path="/v1.0/users",
            records="value",
            explode="$.assignedLicenses",
            may_be_empty=True,
            paginator=_pages,
            params={"$select": "id,userPrincipalName,assignedLicenses", "$top": 999},
            key=Key(("$.id", "item $.skuId")),
            columns=(Column("account_id", "$.id"), Column("sku_id", "$.skuId", of="item")),
        ),
        Stream(
            name="subscribed_skus",
            kind="accounts",
            path="/v1.0/subscribedSkus",
            records="value",
            paginator=_pages,
            key=Key(("$.id",)),
            columns=(
                Column("sku_id", "$.skuId"),
                Column("sku_name", "$.skuPartNumber"),
                Column("capability_status", "$.capabilityStatus"),
                Column("consumed_units", "$.consumedUnits", "bigint"),
                Column("enabled_units", "$.prepaidUnits.enabled", "bigint"),
            ),
        ),
        Stream(
            name="active_users",
            kind="accounts",
            path="/v1.0/reports/getOffice365ActiveUserDetail(period='D180')",
            csv=("User Principal Name", "Is Deleted"),
            key=Key(('$."User Principal Name"',)),
            columns=(
                Column("user_principal_name", '$."User Principal Name"'),
                Column("display_name", '$."Display Name"'),
                Column("is_deleted", '$."Is Deleted"', "bool"),
                Column("assigned_products", '$."Assigned Products"'),
                *(Column(f"has_{name.lower()}_license", f'$."Has {name} License"', "bool") for name in _PRODUCTS),
                *(
                    Column(f"{name.lower()}_active_on", f'$."{name} Last Activity Date"', "timestamp")
                    for name in _PRODUCTS
                ),
            ),
        ),
    ),
)
