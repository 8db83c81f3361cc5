"""Okta: the System Log, users, apps and who is assigned to them.

From Okta's API description and what public collectors have met. A query with `until` is *bounded*: it goes by
`published`, and its last page has no `next` link (Okta's "request types", okta-sdk-python#231). A query without
`until` is *polling*: it goes by the time at which Okta stored the event, and every page has a `next` link, for ever,
the empty ones too. `GET /users` leaves out DEPROVISIONED users unless a filter or search asks for them. A 429 tells
when to come back in X-Rate-Limit-Reset (epoch seconds, of the same clock as the Date header) and has no Retry-After.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

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
from ingestion.sandbox.world import DAY, HOUR, MINUTE, SECOND, App, Membership, Org, key, millis, mix


def _own(code: str, status: str = "success", *, is_activity: bool = False) -> Fact:
    return Fact(code, "okta", "Okta", is_activity, status)


_SESSION = _own("user.session.start", is_activity=True)
_SESSION_FAILED = _own("user.session.start", "failure")
_SESSION_END = _own("user.session.end")
_MFA = _own("user.authentication.auth_via_mfa")
_POLICY = _own("policy.evaluate_sign_on")
_ASSIGNED = _own("application.user_membership.add")
_DEACTIVATED = _own("user.lifecycle.deactivate")
_RESET = _own("user.account.reset_password")
_MESSAGES = {
    "user.session.start": "User login to Okta",
    "user.session.end": "User logout from Okta",
    "user.authentication.auth_via_mfa": "Authentication of user via MFA",
    "user.authentication.sso": "User single sign on to app",
    "policy.evaluate_sign_on": "Evaluation of sign-on policy",
    "application.user_membership.add": "Add user to application membership",
    "user.lifecycle.deactivate": "Deactivate Okta user",
    "user.account.reset_password": "Fired when the user's Okta password is reset",
}
_AGENTS = (
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/127.0 Safari/537.36",
        "Mac OS X",
        "CHROME",
    ),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0", "Windows 10", "FIREFOX"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15", "iOS (iPhone)", "SAFARI"),
)
_SYSTEM = Account("okta.system", "system@okta.com", "Okta System", "system", None, "okta-system", 0)
_WEEK = 7 * DAY
_CLAUSE = re.compile(r'(status|lastUpdated)\s+(eq|gt|ge|lt|le)\s+"([^"]*)"', re.IGNORECASE)


@cache
def _sso(app: App, status: str) -> Fact:
    return Fact("user.authentication.sso", app.app_id, app.okta_name, status == "success", status, "sso")


class Okta(Vendor):
    connector = "okta"
    streams = ("system_log",)
    lateness = Lateness(30 * SECOND, HOUR, DAY)
    time_path = ("published",)

    def settings(self, connection: Connection) -> dict[str, Any]:
        return {}

    def secrets(self, connection: Connection) -> dict[str, str]:
        return {"api_token": f"00{key(connection.key, 'token'):016x}{key(connection.key, 'more'):016x}"}

    def account(self, connection: Connection, membership: Membership) -> Account:
        return self.open_account(connection, membership, f"00u{membership.key:016x}0g4")

    def happenings(self, connection: Connection, stream: str, day: int) -> Iterator[Record]:
        org = connection.org
        start, end = org.day_start(day), org.day_start(day + 1) - 1
        everybody = self.accounts_by_person(connection)
        admin = everybody[org.admin.person_id]
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for app, membership in org.joiners.get(day, ()):
            account = everybody.get(membership.person.person_id)
            if account and account.is_open(day):
                salt = mix(membership.key ^ 5) >> 1
                yield self.record(start + 9 * HOUR, _SYSTEM, (_ASSIGNED,), salt, (app, account))
        for app in org.apps.values():
            for account, _, uses in self.uses(connection, app.app_id, day):
                for use in uses:
                    if use.through != "okta":
                        continue
                    fact = _sso(app, "failure" if use.salt % 29 == 0 else "success")
                    yield self.record(use.at, account, (fact,), use.salt, (app, account))
                    person = account.actual_person_id
                    first[person] = min(first.get(person, use.at), use.at)
                    last[person] = max(last.get(person, use.at), use.at)
        for person, at in first.items():
            account = everybody[person]
            salt = key(account.account_id, day, "session") >> 1
            at = _session_at(org, account, day, at)
            yield self.record(at, account, (_SESSION,), salt)
            if salt % 2:
                yield self.record(at, account, (_POLICY,), mix(salt ^ 1) >> 1)
            if salt % 3 == 0:
                yield self.record(at + SECOND, account, (_MFA,), mix(salt ^ 2) >> 1)
            if salt % 13 == 0:
                yield self.record(max(start, at - 20 * SECOND), account, (_SESSION_FAILED,), mix(salt ^ 3) >> 1)
            if salt % 5 == 0:
                out = min(end, last[person] + 30 * MINUTE)
                yield self.record(out, account, (_SESSION_END,), mix(salt ^ 4) >> 1)
            if salt % 211 == 0:
                yield self.record(max(start, at - MINUTE), admin, (_RESET,), mix(salt ^ 5) >> 1, (None, account))
        for account in self.accounts(connection):
            if account.closed_at is not None and start <= account.closed_at <= end:
                salt = key(account.account_id, "closed") >> 1
                yield self.record(account.closed_at, admin, (_DEACTIVATED,), salt, (None, account))

    def payload(self, connection: Connection, record: Record) -> dict[str, Any]:
        fact, actor, salt = record.facts[0], record.actor, record.salt
        device = actor.device
        agent, system, browser = _AGENTS[device % len(_AGENTS)]
        address = self.address(record)
        request_id = f"{mix(salt ^ 7):016x}{mix(salt ^ 8):016x}"
        outcome = {"result": "SUCCESS" if fact.status == "success" else "FAILURE", "reason": None}
        if fact.status == "failure":
            outcome["reason"] = (
                "INVALID_CREDENTIALS" if fact is _SESSION_FAILED else "User is not assigned to this app."
            )
        elif fact is _POLICY:
            outcome = {"result": "ALLOW", "reason": "Sign-on policy evaluation resulted in ALLOW"}
        place = {"city": "Springfield", "state": None, "country": None, "postalCode": None, "geolocation": None}
        return {
            "actor": {
                "id": actor.account_id,
                "type": "SystemPrincipal" if actor is _SYSTEM else "User",
                "alternateId": actor.email,
                "displayName": actor.name,
                "detailEntry": None,
            },
            "client": {
                "userAgent": {"rawUserAgent": agent, "os": system, "browser": browser},
                "zone": "null",
                "device": "Computer",
                "id": None,
                "ipAddress": address,
                "geographicalContext": place,
            },
            "authenticationContext": {
                "authenticationProvider": None,
                "credentialProvider": None,
                "credentialType": None,
                "issuer": None,
                "interface": None,
                "authenticationStep": 0,
                "externalSessionId": f"idx{mix(device ^ record.at // DAY):016x}",
            },
            "displayMessage": _MESSAGES[fact.event_code],
            "eventType": fact.event_code,
            "outcome": outcome,
            "published": iso(record.at),
            "securityContext": {
                "asNumber": 64500,
                "asOrg": "example",
                "isp": "example",
                "domain": None,
                "isProxy": False,
            },
            "severity": "WARN" if fact.status == "failure" else "INFO",
            "debugContext": {"debugData": {"requestId": request_id, "requestUri": "/login", "url": "/login?"}},
            "legacyEventType": None,
            "transaction": {"type": "WEB", "id": request_id, "detail": {}},
            "uuid": self.event_id(record, 0),
            "version": "0",
            "request": {"ipChain": [{"ip": address, "geographicalContext": place, "version": "V4", "source": None}]},
            "target": self._targets(connection.org, record),
        }

    def event_id(self, record: Record, index: int) -> str | None:
        return str(UUID(int=record.salt << 64 | mix(record.salt), version=1))

    def address(self, record: Record) -> str | None:
        return f"198.51.100.{record.actor.device % 250 + 1}"

    def _targets(self, org: Org, record: Record) -> list[dict[str, Any]] | None:
        if record.target is None:
            return None
        app, account = record.target
        user = {
            "id": account.account_id,
            "type": "User" if app is None else "AppUser",
            "alternateId": account.email,
            "displayName": account.name,
            "detailEntry": None,
        }
        if app is None:
            return [user]
        instance = {
            "id": _app_id(org, app),
            "type": "AppInstance",
            "alternateId": app.okta_name,
            "displayName": app.okta_name,
            "detailEntry": {"signOnModeType": "SAML_2_0"},
        }
        return [user, instance] if record.salt % 2 else [instance, user]

    def connection_of(self, request: Request) -> Connection:
        token = request.headers.get("authorization", "").removeprefix("SSWS ")
        for connection in self.connections.values():
            if token == self.secrets(connection)["api_token"]:
                return connection
        raise Refused(self.revoked(request))

    def answer(self, connection: Connection, request: Request) -> Response:
        if request.method == "GET":
            match request.path.strip("/").split("/"):
                case ["api", "v1", "logs"]:
                    return self._logs(connection, request)
                case ["api", "v1", "users"]:
                    return self._users(connection, request)
                case ["api", "v1", "apps"]:
                    return self._apps(connection, request)
                case ["api", "v1", "apps", app_id, "users"]:
                    return self._app_users(connection, request, app_id)
        return _error(404, "E0000022", "The endpoint does not support the provided HTTP method")

    def revoked(self, request: Request) -> Response:
        return _error(401, "E0000011", "Invalid token provided")

    def busy(self, draw: int, pause: int = 1) -> Response:
        response = _error(429, "E0000047", "API call exceeded rate limit due to too many requests.")
        response.headers |= self._limit(remaining=0, pause=pause)
        return response

    def broken(self, draw: int) -> Response:
        return _error(500, "E0000009", "Internal Server Error")

    def _limit(self, remaining: int = 59, pause: int = 1) -> dict[str, str]:
        reset = str(int(self.wall()) + pause)
        return {"X-Rate-Limit-Limit": "60", "X-Rate-Limit-Remaining": str(remaining), "X-Rate-Limit-Reset": reset}

    def _logs(self, connection: Connection, request: Request) -> Response:
        asked = request.query
        size = as_int(asked.get("limit", ""), 100)
        if not 0 <= size <= 1000:
            return _invalid("limit must be between 0 and 1000")
        order = asked.get("sortOrder", "ASCENDING")
        if order not in ("ASCENDING", "DESCENDING"):
            return _invalid("sortOrder must be ASCENDING or DESCENDING")
        try:
            high = _instant(asked["until"]) if "until" in asked else self.now_ms()
            low = _instant(asked["since"]) if "since" in asked else high - _WEEK
            after = unseal(asked["after"]) if "after" in asked else None
        except ValueError:
            return _invalid("since, until and after must be what they are described to be")
        if "until" not in asked:
            return self._poll(connection, request, low, max(size, 1), after)
        at, after_empty = after or (None, False)
        page = self.page(
            connection,
            "system_log",
            low,
            high,
            max(size, 1),
            at=at,
            after_empty=after_empty,
            newest_first=order == "DESCENDING",
        )
        listed = self.render(connection, page.records)
        following = seal([page.next, page.was_empty]) if page.next else None
        return self._listed(request, listed, following)

    def _poll(self, connection: Connection, request: Request, since: int, size: int, after: Any) -> Response:
        """The events stored since, in the order in which they were; the next link stays where the log ends."""
        now = self.now_ms()
        stored, salt = after or (since - 1, -1)
        org = connection.org
        days = range(org.day_of(stored - self.lateness.rare), org.day_of(now) + 1)
        records = [
            record
            for day in days
            for record in self.day(connection, "system_log", day)
            if (stored, salt) < (record.visible_at, record.salt) and record.visible_at <= now
        ]
        records.sort(key=lambda record: (record.visible_at, record.salt))
        taken = records[:size]
        if taken:
            stored, salt = taken[-1].visible_at, taken[-1].salt
        return self._listed(request, self.render(connection, taken), seal([stored, salt]))

    def _users(self, connection: Connection, request: Request) -> Response:
        asked = request.query
        condition = asked.get("filter") or asked.get("search")
        clauses = [(name.lower(), op, value) for name, op, value in _CLAUSE.findall(condition or "")]
        if condition and (not clauses or " and " in condition):
            return _invalid("this sandbox filters and searches by status and lastUpdated, joined with or")
        users = []
        for account in self.listing(connection):
            user = self._user(connection, account)
            facts = {"status": user["status"], "lastupdated": user["lastUpdated"]}
            if any(_holds(facts[name], op, value) for name, op, value in clauses) or (
                not condition and user["status"] != "DEPROVISIONED"
            ):
                users.append(user)
        return self._slice(request, users, default=200, most=200)

    def _apps(self, connection: Connection, request: Request) -> Response:
        org = connection.org
        created = iso(millis(org.created_at))
        apps = [
            {
                "id": _app_id(org, app),
                "name": app.app_id,
                "label": app.okta_name,
                "status": "ACTIVE",
                "created": created,
                "lastUpdated": created,
                "signOnMode": "SAML_2_0",
                "features": [],
            }
            for app in org.apps.values()
        ]
        return self._slice(request, apps, default=20, most=200)

    def _app_users(self, connection: Connection, request: Request, app_id: str) -> Response:
        org = connection.org
        app = next((app for app in org.apps.values() if _app_id(org, app) == app_id), None)
        if app is None:
            return _error(404, "E0000007", f"Not found: Resource not found: {app_id} (AppInstance)")
        users = []
        for _, account, membership in self.assignments(connection, self.now_ms(), app.app_id):
            assigned = iso(account.created_at)
            users.append(
                {
                    "id": account.account_id,
                    "externalId": None,
                    "created": assigned,
                    "lastUpdated": assigned,
                    "scope": "USER" if membership.key % 3 else "GROUP",
                    "status": "PROVISIONED" if membership.key % 4 else "ACTIVE",
                    "statusChanged": assigned,
                    "passwordChanged": None,
                    "syncState": "SYNCHRONIZED",
                    "credentials": {"userName": account.email},
                    "profile": {"email": account.email, "displayName": account.name},
                    "_links": {"user": {"href": f"/api/v1/users/{account.account_id}"}},
                }
            )
        return self._slice(request, users, default=50, most=500)

    def assignments(
        self, connection: Connection, at: int, app_id: str | None = None
    ) -> Iterator[tuple[App, Account, Membership]]:
        accounts = {a.actual_person_id: a for a in self.accounts(connection) if a.exists(at) and not a.is_closed(at)}
        for app in connection.org.apps.values():
            for membership in connection.org.memberships(app.app_id) if app_id in (None, app.app_id) else ():
                if account := accounts.get(membership.person.person_id):
                    yield app, account, membership

    def _user(self, connection: Connection, account: Account) -> dict[str, Any]:
        now = self.now_ms()
        assert account.membership is not None
        is_closed = account.is_closed(now)
        last = self._last_login(connection, account)
        status = "DEPROVISIONED" if is_closed else "ACTIVE"
        if not is_closed and account.membership.person.is_on_leave(connection.org.day_of(now)):
            status = "SUSPENDED"
        elif not is_closed and last is None and now - account.created_at < 14 * DAY:
            status = "PROVISIONED"
        updated = account.closed_at if is_closed and account.closed_at else max(account.created_at, last or 0)
        person = account.membership.person
        return {
            "id": account.account_id,
            "status": status,
            "created": iso(account.created_at),
            "activated": iso(account.created_at),
            "statusChanged": iso(updated),
            "lastLogin": None if last is None else iso(last),
            "lastUpdated": iso(updated),
            "passwordChanged": None,
            "type": {"id": f"oty{connection.key:016x}"},
            "profile": {
                "firstName": person.given_name,
                "lastName": person.family_name,
                "mobilePhone": None,
                "secondEmail": None,
                "login": account.email,
                "email": account.email,
            },
            "credentials": {"provider": {"type": "OKTA", "name": "OKTA"}},
        }

    def _last_login(self, connection: Connection, account: Account) -> int | None:
        """The last session that was started, before the first app of its day."""
        org, now = connection.org, self.now_ms()
        assert account.membership is not None
        places = [place for place in org.places(account.membership.person) if place.rate]
        for day in range(org.day_of(now), max(org.day_of(self.world.start_at), account.membership.first_day) - 1, -1):
            if not places or not account.membership.is_open(day):
                continue
            clicks = [use.at for place in places for use in org.uses(place, day) if use.through == "okta"]
            if clicks and self.world.start_at <= (at := _session_at(org, account, day, min(clicks))) <= now:
                return at
        return None

    def _slice(self, request: Request, rows: list[Any], default: int, most: int) -> Response:
        """A page of a listing whose rows keep their places. More than the most is served as the most."""
        size = min(max(as_int(request.query.get("limit", ""), default), 1), most)
        try:
            offset = unseal(request.query["after"]) if "after" in request.query else 0
        except ValueError:
            return _invalid("after is no cursor of ours")
        following = seal(offset + size) if offset + size < len(rows) else None
        return self._listed(request, rows[offset : offset + size], following)

    def _listed(self, request: Request, rows: list[Any], after: str | None) -> Response:
        links = [f'<{request.url}?{urlencode(request.query)}>; rel="self"']
        if after is not None:
            links.append(f'<{request.url}?{urlencode({**request.query, "after": after})}>; rel="next"')
        response = json_response(rows)
        response.headers |= {"Link": ", ".join(links)} | self._limit()
        return response


def _session_at(org: Org, account: Account, day: int, first_click: int) -> int:
    """A session is started some seconds before the first app of its day."""
    return max(org.day_start(day), first_click - (3 + key(account.account_id, day) % 9) * SECOND)


def _app_id(org: Org, app: App) -> str:
    return f"0oa{key(org.key, 'okta app', app.app_id):016x}5d7"


def _instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("an instant needs its offset")
    return millis(moment)


def _holds(fact: str, op: str, value: str) -> bool:
    return {"eq": fact == value, "gt": fact > value, "ge": fact >= value, "lt": fact < value, "le": fact <= value}[
        op.lower()
    ]


def _error(status: int, code: str, summary: str) -> Response:
    return json_response(
        {
            "errorCode": code,
            "errorSummary": summary,
            "errorLink": code,
            "errorId": f"oae{key(code, summary):016x}",
            "errorCauses": [],
        },
        status,
    )


def _invalid(summary: str) -> Response:
    return _error(400, "E0000001", f"Api validation failed: {summary}")
