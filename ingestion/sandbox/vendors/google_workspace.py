"""Google Workspace: login, SAML and token activities, users, licences.

From Google's discovery documents and what public collectors have met. A service account signs a JWT (RS256) in an
administrator's name and gets an access token for its scopes. Activities come newest first, at most 1000 a page and
180 days old; one activity holds one or several events; `id.time` with `id.uniqueQualifier` names it. Too many
requests are a 403 or a 429 with the reason `rateLimitExceeded`, and nothing says when to come back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from math import gcd, prod
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ingestion.sandbox.vendor import (
    Account,
    Connection,
    Fact,
    Lateness,
    Record,
    Refused,
    Request,
    Response,
    Vendor,
    as_int,
    iso,
    json_response,
    seal,
    unseal,
)
from ingestion.sandbox.world import DAY, HOUR, MINUTE, SECOND, App, Membership, key, millis, mix

_SCOPE = "https://www.googleapis.com/auth/"
_REPORTS, _USERS, _LICENSING = "admin.reports.audit.readonly", "admin.directory.user.readonly", "apps.licensing"
_PRODUCT = "Google-Apps"
_SKUS = {"Google Workspace Business Standard": "1010020028", "Google Workspace Business Plus": "1010020025"}
_HISTORY = 180 * DAY


def _login(event: str, status: str = "unknown", *, is_activity: bool = False) -> Fact:
    return Fact(event, "google_workspace", "Google Workspace", is_activity, status)


_SUCCESS = _login("login_success", "success", is_activity=True)
_FAILURE = _login("login_failure", "failure")
_VERIFICATION = _login("login_verification")
_LOGOUT = _login("logout")


@cache
def _saml(app: App, status: str) -> Fact:
    name, event = app.saml_name or "", f"login_{status}"
    return Fact(event, app.app_id, name, status == "success", status, "sso")


@cache
def _token(app: App, event: str) -> Fact:
    # What an app does with its grant says nothing about the person: it may sync by itself.
    return Fact(event, app.app_id, app.token_name or "", is_activity=False, status="unknown", source_kind="oauth_grant")


class GoogleWorkspace(Vendor):
    connector = "google_workspace"
    streams = ("login", "saml", "token")
    lateness = Lateness(20 * MINUTE, 6 * HOUR, 3 * DAY)
    time_path = ("id", "time")

    def settings(self, connection: Connection) -> dict[str, Any]:
        admin = self.accounts_by_person(connection)[connection.org.admin.person_id]
        return {"subject": admin.email, "customer_id": _customer(connection), "product_ids": [_PRODUCT]}

    def secrets(self, connection: Connection) -> dict[str, str]:
        pem = _private_key(self.world.options.seed).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {"client_email": _client_email(connection), "private_key": pem.decode()}

    def account(self, connection: Connection, membership: Membership) -> Account:
        skus = list(_SKUS)
        is_licensed = membership.person.kind != "service"
        return self.open_account(
            connection,
            membership,
            f"1{membership.key % 10**20:020d}",
            license_name=skus[membership.key % 7 == 0] if is_licensed else None,
            deleted_after=20 * DAY if membership.key % 10 < 3 else None,
            email=membership.person.email.lower(),
        )

    def happenings(self, connection: Connection, stream: str, day: int) -> Iterator[Record]:
        match stream:
            case "login":
                return self._logins(connection, day)
            case "saml":
                return self._sso(connection, day)
        return self._grants(connection, day)

    def _logins(self, connection: Connection, day: int) -> Iterator[Record]:
        start, end = connection.org.day_start(day), connection.org.day_start(day + 1) - 1
        for account, _, uses in self.uses(connection, "google_workspace", day):
            for use in uses:
                salt = use.salt
                yield self.record(use.at, account, (_VERIFICATION, _SUCCESS) if salt % 8 == 0 else (_SUCCESS,), salt)
                if salt % 12 == 0:
                    yield self.record(max(start, use.at - 9 * SECOND), account, (_FAILURE,), mix(salt ^ 1) >> 1)
                if salt % 5 == 0:
                    yield self.record(min(end, use.at + 5 * HOUR), account, (_LOGOUT,), mix(salt ^ 2) >> 1)

    def _sso(self, connection: Connection, day: int) -> Iterator[Record]:
        org = connection.org
        for app in org.apps.values():
            if "google_workspace" not in org.routes(app.app_id):
                continue
            for account, _, uses in self.uses(connection, app.app_id, day):
                for use in uses:
                    if use.through == "google_workspace":
                        fact = _saml(app, "failure" if use.salt % 31 == 0 else "success")
                        yield self.record(use.at, account, (fact,), mix(use.salt ^ 3) >> 1)

    def _grants(self, connection: Connection, day: int) -> Iterator[Record]:
        for app in connection.org.apps.values():
            if app.token_name is None:
                continue
            for account, membership, uses in self.uses(connection, app.app_id, day):
                if mix(membership.key ^ 9) % 3:
                    continue  # who has not let the app into the Google account
                for use in uses:
                    if use.salt % 3 == 0:
                        event = "authorize" if use.salt % 5 == 0 else "revoke" if use.salt % 37 == 0 else "activity"
                        yield self.record(use.at, account, (_token(app, event),), mix(use.salt ^ 4) >> 1, app)

    def payload(self, connection: Connection, record: Record) -> dict[str, Any]:
        stream = self._stream(record.facts[0])
        return {
            "kind": "admin#reports#activity",
            "id": {
                "time": iso(record.at),
                "uniqueQualifier": _qualifier(record),
                "applicationName": stream,
                "customerId": _customer(connection),
            },
            "etag": f'"{mix(record.salt ^ 7):016x}/{record.salt:016x}"',
            "actor": {"callerType": "USER", "email": record.actor.email, "profileId": record.actor.account_id},
            "ownerDomain": connection.org.domain,
            "ipAddress": self.address(record),
            "events": [self._event(fact, record) for fact in record.facts],
        }

    def _stream(self, fact: Fact) -> str:
        return {"direct": "login", "sso": "saml", "oauth_grant": "token"}[fact.source_kind]

    def _event(self, fact: Fact, record: Record) -> dict[str, Any]:
        match fact.source_kind:
            case "sso":
                parameters = [
                    {"name": "application_name", "value": fact.app_name},
                    {"name": "initiated_by", "value": "idp" if record.salt % 2 else "sp"},
                    {"name": "orgunit_path", "value": "/"},
                ]
                if fact.status == "failure":
                    parameters.append({"name": "failure_type", "value": "failure_app_not_enabled_for_user"})
                return {"type": "login", "name": fact.event_code, "parameters": parameters}
            case "oauth_grant":
                scope = f"{_SCOPE}calendar.readonly"
                return {
                    "type": "auth",
                    "name": fact.event_code,
                    "parameters": [
                        {"name": "client_id", "value": f"{key(fact.app_id) % 10**12}.apps.googleusercontent.com"},
                        {"name": "app_name", "value": fact.app_name},
                        {"name": "client_type", "value": "WEB"},
                        {"name": "scope", "multiValue": [scope]},
                    ],
                }
        parameters = [{"name": "login_type", "value": "google_password"}]
        if fact is _FAILURE:
            parameters.append({"name": "login_failure_type", "value": "login_failure_invalid_password"})
        if fact is _VERIFICATION:
            parameters.append({"name": "login_challenge_method", "value": "google_prompt"})
        return {"type": "login", "name": fact.event_code, "parameters": parameters}

    def address(self, record: Record) -> str | None:
        return f"2001:db8::{record.actor.device % 0xFFFF:x}"

    def event_id(self, record: Record, index: int) -> str | None:
        return f"{iso(record.at)}/{_qualifier(record)}/{index}"

    def connection_of(self, request: Request) -> Connection:
        if request.path == "/token":
            return self._signer(request)
        return self._grant(request)[0]

    def answer(self, connection: Connection, request: Request) -> Response:
        if request.path == "/token" and request.method == "POST":
            return self._token_for(connection, request)
        if request.method == "GET":
            match request.path.strip("/").split("/"):
                case ["admin", "reports", "v1", "activity", "users", "all", "applications", stream] if (
                    stream in self.streams
                ):
                    self._require(request, _REPORTS)
                    return self._activities(connection, stream, request)
                case ["admin", "directory", "v1", "users"]:
                    self._require(request, _USERS)
                    return self._users(connection, request)
                case ["apps", "licensing", "v1", "product", product, "users"]:
                    self._require(request, _LICENSING)
                    return self._licenses(connection, product, request)
        return _error(404, "notFound", "Not Found", "NOT_FOUND")

    def revoked(self, request: Request) -> Response:
        if request.path == "/token":
            text = "Client is unauthorized to retrieve access tokens using this method."
            return json_response({"error": "unauthorized_client", "error_description": text}, 401)
        return _error(401, "authError", "Request had invalid authentication credentials.", "UNAUTHENTICATED")

    def busy(self, draw: int, pause: int = 1) -> Response:
        text = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'"
        return _error(403 if draw % 2 else 429, "rateLimitExceeded", text, "RESOURCE_EXHAUSTED", "usageLimits")

    def broken(self, draw: int) -> Response:
        if draw % 2:
            return _error(503, "backendError", "The service is currently unavailable.", "UNAVAILABLE")
        return _error(500, "internalError", "Internal error encountered.", "INTERNAL")

    def _signer(self, request: Request) -> Connection:
        """Whose service account signed an assertion, and that it is in order."""
        asked = request.form
        if asked.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise Refused(json_response({"error": "unsupported_grant_type"}, 400))
        public = _private_key(self.world.options.seed).public_key()
        try:
            # The times are checked below, by this vendor's clock instead of the library's.
            claims = jwt.decode(
                asked.get("assertion", ""),
                public,
                algorithms=["RS256"],
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_iat": False,
                    "require": ["iss", "aud", "iat", "exp"],
                },
            )
        except jwt.InvalidTokenError as error:
            raise Refused(_grant_error("Invalid JWT Signature.")) from error
        if not str(claims["aud"]).endswith("/token"):
            raise Refused(_grant_error("Invalid JWT: Failed audience check."))
        now = self.wall()
        if not (claims["iat"] - 300 <= now < claims["exp"] and claims["exp"] - claims["iat"] <= 3600):
            text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            raise Refused(_grant_error(text))
        for connection in self.connections.values():
            if claims["iss"] == _client_email(connection):
                if claims.get("sub") != self.settings(connection)["subject"]:
                    # Without an administrator to act for, a service account may read nothing of the customer's.
                    raise Refused(self.revoked(request))
                return connection
        raise Refused(_grant_error("Invalid grant: account not found"))

    def _token_for(self, connection: Connection, request: Request) -> Response:
        claims = jwt.decode(request.form["assertion"], options={"verify_signature": False})
        scopes = {scope.removeprefix(_SCOPE) for scope in str(claims.get("scope", "")).split()}
        if not scopes or not scopes <= {_REPORTS, _USERS, _LICENSING}:
            return self.revoked(request)
        token = self.tokens.issue(connection, scopes)
        return json_response(
            {"access_token": token, "expires_in": self.world.options.token_lifetime_s, "token_type": "Bearer"}
        )

    def _grant(self, request: Request) -> tuple[Connection, frozenset[str]]:
        grant = self.tokens.grant(request.headers.get("authorization", "").removeprefix("Bearer "))
        if grant is None:
            raise Refused(self.revoked(request))
        return grant

    def _require(self, request: Request, scope: str) -> None:
        if scope not in self._grant(request)[1]:
            text = "Request had insufficient authentication scopes."
            raise Refused(_error(403, "insufficientPermissions", text, "PERMISSION_DENIED"))

    def _activities(self, connection: Connection, stream: str, request: Request) -> Response:
        asked = request.query
        size = as_int(asked.get("maxResults", ""), 1000)
        if not 1 <= size <= 1000:
            return _invalid("maxResults")
        now = self.now_ms()
        at, after_empty = None, False
        try:
            high = _instant(asked["endTime"]) if "endTime" in asked else now
            low = _instant(asked["startTime"]) if "startTime" in asked else high - _HISTORY
            if "pageToken" in asked:
                # The token knows its query, so that one without endTime does not slide along with the clock.
                low, high, at, after_empty = unseal(asked["pageToken"])
        except ValueError:
            return _invalid("startTime, endTime or pageToken")
        if low > high or low > now:
            return _invalid("startTime")
        page = self.page(connection, stream, max(low, now - _HISTORY), high, size, at=at, after_empty=after_empty)
        listed: dict[str, Any] = {"kind": "admin#reports#activities", "etag": f'"{connection.key:016x}"'}
        if page.records:
            listed["items"] = self.render(connection, page.records)
        if page.next:
            listed["nextPageToken"] = seal([low, high, page.next, page.was_empty])
        return json_response(listed)

    def _users(self, connection: Connection, request: Request) -> Response:
        asked = request.query
        if asked.get("customer") not in ("my_customer", _customer(connection)) and "domain" not in asked:
            return _invalid("customer or domain")
        size = as_int(asked.get("maxResults", ""), 100)
        if not 1 <= size <= 500:
            return _invalid("maxResults")
        domain = asked.get("domain")
        users = [a for a in self.listing(connection) if domain is None or str(a.email).endswith(f"@{domain}")]
        return self._slice(request, "admin#directory#users", "users", [self._user(a, connection) for a in users], size)

    def _licenses(self, connection: Connection, product: str, request: Request) -> Response:
        asked = request.query
        if asked.get("customerId") not in (_customer(connection), connection.org.domain, "my_customer"):
            return _invalid("customerId")
        size = as_int(asked.get("maxResults", ""), 100)
        if not 1 <= size <= 1000:
            return _invalid("maxResults")
        licenses = [
            {
                "kind": "licensing#licenseAssignment",
                "userId": account.email,
                "productId": _PRODUCT,
                "productName": "Google Workspace",
                "skuId": _SKUS[account.license_name],
                "skuName": account.license_name,
            }
            for account in self.listing(connection)
            if product == _PRODUCT and account.license_name
        ]
        return self._slice(request, "licensing#licenseAssignmentList", "items", licenses, size)

    def _slice(self, request: Request, kind: str, name: str, rows: list[dict[str, Any]], size: int) -> Response:
        try:
            offset = unseal(request.query["pageToken"]) if request.query.get("pageToken") else 0
        except ValueError:
            return _invalid("pageToken")
        listed: dict[str, Any] = {"kind": kind, name: rows[offset : offset + size]}
        if offset + size < len(rows):
            listed["nextPageToken"] = seal(offset + size)
        return json_response(listed)

    def _user(self, account: Account, connection: Connection) -> dict[str, Any]:
        assert account.membership is not None
        person = account.membership.person
        is_closed = account.is_closed(self.now_ms())
        last = self.last_use(account)
        return {
            "kind": "admin#directory#user",
            "id": account.account_id,
            "primaryEmail": account.email,
            "name": {"givenName": person.given_name, "familyName": person.family_name, "fullName": person.name},
            "isAdmin": person is connection.org.admin,
            "isDelegatedAdmin": False,
            # Who has never logged in has this date, not none.
            "lastLoginTime": "1970-01-01T00:00:00.000Z" if last is None else iso(last),
            "creationTime": iso(account.created_at),
            "suspended": is_closed,
            "archived": is_closed and account.membership.key % 7 == 0,
            "aliases": list(person.aliases),
            "customerId": _customer(connection),
            "orgUnitPath": "/",
            "isMailboxSetup": True,
        }


def _customer(connection: Connection) -> str:
    return f"C{connection.key:016x}"[:10]


def _client_email(connection: Connection) -> str:
    return f"app-usage@{connection.org.org_id}.iam.gserviceaccount.com"


def _qualifier(record: Record) -> str:
    """A signed 64-bit number, as text."""
    return str(mix(record.salt ^ 11) - (1 << 63))


def _instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("an instant needs its offset")
    return millis(moment)


def _error(status: int, reason: str, text: str, name: str, domain: str = "global") -> Response:
    errors = [{"message": text, "domain": domain, "reason": reason}]
    return json_response({"error": {"code": status, "message": text, "errors": errors, "status": name}}, status)


def _invalid(what: str) -> Response:
    return _error(400, "invalid", f"Invalid value for: {what}", "INVALID_ARGUMENT")


def _grant_error(text: str) -> Response:
    return json_response({"error": "invalid_grant", "error_description": text}, 400)


@cache
def _private_key(seed: int) -> rsa.RSAPrivateKey:
    """The sandbox's key pair. It comes from the seed, so that a secrets file outlives the process that wrote it."""
    rng = random.Random(key(seed, "rsa"))  # noqa: S311 - it guards a sandbox on localhost
    small = prod(n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))
    exponent = 65537

    def prime() -> int:
        candidate = rng.getrandbits(1024) | 3 << 1022 | 1
        while gcd(candidate, small) > 1 or (candidate - 1) % exponent == 0 or not _is_prime(candidate, rng):
            candidate += 2
        return candidate

    p, q = prime(), prime()
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    return rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    ).private_key()


def _is_prime(n: int, rng: random.Random) -> bool:
    """Miller and Rabin's test, sixteen times."""
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    for _ in range(16):
        x = pow(rng.randrange(2, n - 1), (n - 1) >> twos, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True
