"""Zoom: sign-in activities and users.

From its API reference and from what public collectors have met: server-to-server OAuth; the report takes
dates only, both inclusive and in UTC, one month at most, of the last six months; newest first; `next_page_token` is ""
at the end, belongs to its query and expires after 15 minutes. Activities have no id: two sign-ins of one second with
one client are the same text, and both happened. `version`, `client_type` and `ip_address` may be missing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import date
from typing import Any

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
from ingestion.sandbox.world import DAY, HOUR, MINUTE, SECOND, Membership, Use, key, mix

# The report has no failed sign-ins: one that is there succeeded.
_SIGN_IN = Fact("Sign in", "zoom", "Zoom", is_activity=True, status="success")
_SIGN_OUT = Fact("Sign out", "zoom", "Zoom", is_activity=False, status="unknown")
_CLIENTS = (("Browser", None), ("Windows", "6.2.11.50939"), ("Mac", "6.2.10.43047"), ("iPhone", "6.2.6.18837"))
_MONTH_DAYS, _HISTORY = 31, 183 * DAY
_LICENSES = {"basic": 1, "licensed": 2}
# One sign-in of so many is followed by its twin: same second, same client.
_TWINS = 80


class Zoom(Vendor):
    connector = "zoom"
    streams = ("activities",)
    lateness = Lateness(30 * MINUTE, 3 * HOUR, 3 * DAY)
    has_native_ids = False
    resolution = SECOND
    time_path = ("time",)

    def settings(self, connection: Connection) -> dict[str, Any]:
        return {"account_id": f"zm{connection.key:016x}"}

    def secrets(self, connection: Connection) -> dict[str, str]:
        return {
            "client_id": f"zoomclient{connection.key % 10**12}",
            "client_secret": f"zs-{key(connection.key, 'secret'):016x}{key(connection.key, 'more'):016x}",
        }

    def account(self, connection: Connection, membership: Membership) -> Account:
        is_licensed = membership.key % 10 < 7 and membership.person.kind == "employee"
        return self.open_account(
            connection,
            membership,
            seal(f"{membership.key:016x}")[:22],
            license_name="licensed" if is_licensed else "basic",
            # Some admins delete what they have deactivated, a month later.
            deleted_after=30 * DAY if membership.key % 5 < 2 else None,
        )

    def used_at(self, use: Use) -> int:
        # Through an identity provider the sign-in comes some seconds after the click there.
        return use.at + (2 + use.salt % 7) * SECOND if use.through else use.at

    def happenings(self, connection: Connection, stream: str, day: int) -> Iterator[Record]:
        end = connection.org.day_start(day + 1) - 1
        for account, _, uses in self.uses(connection, "zoom", day):
            for use in uses:
                at = min(self.used_at(use), end)
                yield self.record(at, account, (_SIGN_IN,), use.salt)
                if mix(use.salt ^ 1) % _TWINS == 0:
                    # Same salt but for the top bit, which no field of the record is made of.
                    yield self.record(at, account, (_SIGN_IN,), use.salt | 1 << 63)
                if use.salt % 5 < 3:
                    out = at + 20 * MINUTE + use.salt % (3 * HOUR)
                    yield self.record(min(out, end), account, (_SIGN_OUT,), mix(use.salt ^ 2) >> 1)

    def payload(self, connection: Connection, record: Record) -> dict[str, Any]:
        salt = record.salt & ~(1 << 63)
        device = record.actor.device
        client, version = _CLIENTS[device % len(_CLIENTS)]
        listed: dict[str, Any] = {
            "email": record.actor.email,
            "time": iso(record.at, "seconds"),
            "type": record.facts[0].event_code,
        }
        if address := self.address(record):
            listed["ip_address"] = address
        if salt % 31:
            listed["client_type"] = client
        if version and salt % 17:
            listed["version"] = version
        return listed

    def event_id(self, record: Record, index: int) -> str | None:
        return None

    def address(self, record: Record) -> str | None:
        return f"203.0.113.{record.actor.device % 250 + 1}" if record.salt % (1 << 63) % 20 else None

    def connection_of(self, request: Request) -> Connection:
        authorization = request.headers.get("authorization", "")
        if request.path == "/oauth/token":
            return self._client(authorization)
        if grant := self.tokens.grant(authorization.removeprefix("Bearer ")):
            return grant[0]
        raise Refused(json_response({"code": 124, "message": "Invalid access token."}, 401))

    def answer(self, connection: Connection, request: Request) -> Response:
        match request.method, request.path:
            case "POST", "/oauth/token":
                return self._token(connection, request)
            case "GET", "/v2/report/activities":
                return self._activities(connection, request)
            case "GET", "/v2/users":
                return self._users(connection, request)
        return json_response({"code": 2300, "message": "This API endpoint is not recognized."}, 404)

    def revoked(self, request: Request) -> Response:
        # Tokens are still handed out: a client that asks for a new one at each 401 must not do so for ever.
        if request.path == "/oauth/token":
            return self._token(self.connection_of(request), request)
        return json_response({"code": 124, "message": "Invalid access token."}, 401)

    def busy(self, draw: int, pause: int = 1) -> Response:
        message = "You have reached the maximum per-second rate limit for this API. Try again later."
        return json_response({"code": 429, "message": message}, 429, Retry_After=str(pause))

    def broken(self, draw: int) -> Response:
        return json_response({"code": 500, "message": "Internal server error."}, 502 if draw % 2 else 500)

    def _client(self, authorization: str) -> Connection:
        try:
            pair = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
        except ValueError:
            pair = ""
        for connection in self.connections.values():
            secrets = self.secrets(connection)
            if pair == f"{secrets['client_id']}:{secrets['client_secret']}":
                return connection
        refusal = {"reason": "Invalid client_id or client_secret", "error": "invalid_client"}
        raise Refused(json_response(refusal, 400))

    def _token(self, connection: Connection, request: Request) -> Response:
        asked = {**request.query, **request.form}
        if asked.get("grant_type") != "account_credentials":
            return json_response({"reason": "unsupported grant type", "error": "unsupported_grant_type"}, 400)
        if asked.get("account_id") != self.settings(connection)["account_id"]:
            return json_response({"reason": "Bad Request", "error": "invalid_request"}, 400)
        token = self.tokens.issue(connection)
        return json_response(
            {
                "access_token": token,
                "token_type": "bearer",
                "expires_in": self.world.options.token_lifetime_s,
                "scope": "report:read:admin user:read:admin",
            }
        )

    def _activities(self, connection: Connection, request: Request) -> Response:
        asked = request.query
        try:
            first, last = date.fromisoformat(asked["from"]), date.fromisoformat(asked["to"])
        except (KeyError, ValueError):
            return _invalid("The from and to dates are required in the format yyyy-mm-dd.")
        if first > last or (last - first).days >= _MONTH_DAYS:
            return _invalid("The date range must be at most one month, and from must not be after to.")
        size = as_int(asked.get("page_size", ""), 30)
        if not 1 <= size <= 300:
            return _invalid("The page_size must be between 1 and 300.")
        at, after_empty = None, False
        if token := asked.get("next_page_token"):
            try:
                query, issued, at, after_empty = unseal(token)
            except ValueError:
                return _invalid("The next page token is invalid or expired.")
            if query != [asked["from"], asked["to"]] or self.wall() > issued + self.world.options.page_token_lifetime_s:
                return _invalid("The next page token is invalid or expired.")
        midnight = date(1970, 1, 1)
        low = max((first - midnight).days * DAY, self.now_ms() - _HISTORY)
        page = self.page(
            connection,
            "activities",
            low,
            (last - midnight).days * DAY + DAY - 1,
            size,
            at=at,
            after_empty=after_empty,
        )
        token = seal([[asked["from"], asked["to"]], self.wall(), page.next, page.was_empty]) if page.next else ""
        return json_response(
            {
                "from": asked["from"],
                "to": asked["to"],
                "page_size": size,
                "next_page_token": token,
                "activity_logs": self.render(connection, page.records),
            }
        )

    def _users(self, connection: Connection, request: Request) -> Response:
        asked = request.query
        size = as_int(asked.get("page_size", ""), 30)
        if not 1 <= size <= 300:
            return _invalid("The page_size must be between 1 and 300.")
        wanted = asked.get("status", "active")
        if wanted not in ("active", "inactive", "pending"):
            return _invalid("The status must be active, inactive or pending.")
        offset = 0
        if token := asked.get("next_page_token"):
            try:
                query, issued, offset = unseal(token)
            except ValueError:
                return _invalid("The next page token is invalid or expired.")
            if query != wanted or self.wall() > issued + self.world.options.page_token_lifetime_s:
                return _invalid("The next page token is invalid or expired.")
        elif page_number := as_int(asked.get("page_number", ""), 0):
            offset = (page_number - 1) * size
        users = [account for account in self.listing(connection) if self._status(account) == wanted]
        more = offset + size < len(users)
        return json_response(
            {
                "page_count": -(-len(users) // size),
                "page_number": offset // size + 1,
                "page_size": size,
                "total_records": len(users),
                "next_page_token": seal([wanted, self.wall(), offset + size]) if more else "",
                "users": [self._user(account, wanted) for account in users[offset : offset + size]],
            }
        )

    def _status(self, account: Account) -> str:
        if account.is_closed(self.now_ms()):
            return "inactive"
        # An invitation that was never taken up, for as long as it is fresh.
        is_new = self.now_ms() - account.created_at < 14 * DAY
        return "pending" if is_new and account.membership and account.membership.rate == 0 else "active"

    def _user(self, account: Account, status: str) -> dict[str, Any]:
        assert account.license_name is not None
        listed: dict[str, Any] = {
            "first_name": account.name.split(" ")[0],
            "last_name": account.name.split(" ")[-1],
            "display_name": account.name,
            "email": account.email,
            "type": _LICENSES[account.license_name],
            "status": status,
            "created_at": iso(account.created_at, "seconds"),
            "timezone": account.membership.person.org.timezone if account.membership else "",
            "verified": 1,
        }
        if status != "pending":
            listed["id"] = account.account_id
        if (last := self.last_use(account)) is not None:
            listed["last_login_time"] = iso(last, "seconds")
        return listed


def _invalid(message: str) -> Response:
    return json_response({"code": 300, "message": message}, 400)
