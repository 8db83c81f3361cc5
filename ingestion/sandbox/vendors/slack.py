"""Slack: audit logs of an Enterprise Grid, members, and who is billed.

From Slack's API description and what public collectors have met. `oldest` and `latest` are whole seconds, both
inclusive; newest first; at most 9999 a page. A cursor holds a place in the log and no lower bound: without the same
`oldest` beside it, paging runs on into the past (elastic/integrations#8163). The Web API says "no" with status 200
and `ok: false`; the audit API with a status.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
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
    json_response,
    seal,
    unseal,
)
from ingestion.sandbox.world import DAY, HOUR, MINUTE, SECOND, Membership, key, mix


def _fact(action: str, status: str = "unknown", *, is_activity: bool = True) -> Fact:
    return Fact(action, "slack", "Slack", is_activity, status)


_LOGIN = _fact("user_login", "success")
_LOGIN_FAILED = _fact("user_login_failed", "failure", is_activity=False)
_LOGOUT = _fact("user_logout", is_activity=False)
_DOWNLOAD = _fact("file_downloaded")
_WORK = (
    _DOWNLOAD,
    _fact("file_uploaded"),
    _fact("user_channel_join", is_activity=False),
    _fact("public_channel_created"),
)
_CREATED = _fact("user_created", is_activity=False)
_DEACTIVATED = _fact("user_deactivated", is_activity=False)
_ENTITIES = {
    "file_downloaded": "file",
    "file_uploaded": "file",
    "user_channel_join": "channel",
    "public_channel_created": "channel",
}
_AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Slack_SSB/4.39.88",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Slack_SSB/4.39.88",
    "com.tinyspeck.chatlyio/24.07.10 (iPhone; iOS 17.5; Scale/3.00)",
)


class Slack(Vendor):
    connector = "slack"
    streams = ("audit_logs",)
    lateness = Lateness(30 * SECOND, HOUR, DAY)
    resolution = SECOND
    time_path = ("date_create",)

    def settings(self, connection: Connection) -> dict[str, Any]:
        return {}

    def secrets(self, connection: Connection) -> dict[str, str]:
        return {"token": f"xoxp-{key(connection.key, 'token')}-{key(connection.key, 'more'):016x}"}

    def account(self, connection: Connection, membership: Membership) -> Account:
        letters = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
        account_id = "U" + "".join(letters[membership.key >> 5 * n & 31] for n in range(10))
        return self.open_account(connection, membership, account_id)

    def happenings(self, connection: Connection, stream: str, day: int) -> Iterator[Record]:
        org = connection.org
        start, end = org.day_start(day), org.day_start(day + 1) - 1
        admin = self.accounts_by_person(connection)[org.admin.person_id]
        for account, _, uses in self.uses(connection, "slack", day):
            for number, use in enumerate(uses):
                salt = use.salt
                if number == 0 and account.kind != "service":
                    yield self.record(use.at, account, (_LOGIN,), salt)
                    if salt % 16 == 0:
                        before = max(start, use.at - 12 * SECOND)
                        yield self.record(before, account, (_LOGIN_FAILED,), mix(salt ^ 1) >> 1)
                    if salt % 6 == 0:
                        yield self.record(min(end, use.at + 4 * HOUR), account, (_LOGOUT,), mix(salt ^ 2) >> 1)
                else:
                    yield self.record(use.at, account, (_WORK[salt % len(_WORK)],), salt)
                if salt % 9 == 0:
                    # A folder is downloaded: many files in one second.
                    for file in range(2 + salt % 4):
                        yield self.record(min(end, use.at + MINUTE), account, (_DOWNLOAD,), mix(salt ^ 8 + file) >> 1)
        for account in self.accounts(connection):
            for at, fact in ((account.created_at, _CREATED), (account.closed_at, _DEACTIVATED)):
                if at is not None and start <= at <= end:
                    yield self.record(at, admin, (fact,), key(account.account_id, fact.event_code) >> 1, account)

    def payload(self, connection: Connection, record: Record) -> dict[str, Any]:
        actor, action, salt = record.actor, record.facts[0].event_code, record.salt
        device = actor.device
        name = connection.org.org_id
        entity_type = _ENTITIES.get(action, "user")
        entity: dict[str, Any]
        if entity_type == "file":
            entity = {"id": f"F{salt % 10**10:010d}", "name": f"plan-{salt % 97}.pdf", "filetype": "application/pdf"}
        elif entity_type == "channel":
            entity = {
                "id": f"C{salt % 10**10:010d}",
                "privacy": "public",
                "name": f"team-{salt % 23}",
                "is_shared": False,
            }
        else:
            entity = self._user(connection, record.target or actor)
        return {
            "id": self.event_id(record, 0),
            "date_create": record.at // SECOND,
            "action": action,
            "actor": {"type": "user", "user": self._user(connection, actor)},
            "entity": {"type": entity_type, entity_type: entity},
            "context": {
                "location": {"type": "workspace", "id": _team(connection), "name": name, "domain": name},
                "ua": _AGENTS[device % len(_AGENTS)],
                "session_id": salt % 10**12,
                "ip_address": self.address(record),
            },
        }

    def event_id(self, record: Record, index: int) -> str | None:
        return str(UUID(int=record.salt << 64 | mix(record.salt), version=4))

    def address(self, record: Record) -> str | None:
        return f"192.0.2.{record.actor.device % 250 + 1}"

    def connection_of(self, request: Request) -> Connection:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        for connection in self.connections.values():
            if token == self.secrets(connection)["token"]:
                return connection
        raise Refused(self.revoked(request))

    def answer(self, connection: Connection, request: Request) -> Response:
        if request.method in ("GET", "POST"):
            match request.path:
                case "/audit/v1/logs" if request.method == "GET":
                    return self._logs(connection, request)
                case "/api/users.list":
                    return self._members(connection, request)
                case "/api/team.billableInfo":
                    return self._billable(connection, request)
        if request.path.startswith("/audit/"):
            return json_response({"ok": False, "error": "method_not_supported"}, 404)
        return json_response({"ok": False, "error": "unknown_method"})

    def revoked(self, request: Request) -> Response:
        is_audit = request.path.startswith("/audit/")
        return json_response({"ok": False, "error": "invalid_auth"}, 401 if is_audit else 200)

    def busy(self, draw: int, pause: int = 1) -> Response:
        return json_response({"ok": False, "error": "ratelimited"}, 429, Retry_After=str(pause))

    def broken(self, draw: int) -> Response:
        return Response(
            503 if draw % 2 else 500, b"<html><body>Something is broken</body></html>", {"Content-Type": "text/html"}
        )

    def _logs(self, connection: Connection, request: Request) -> Response:
        asked = request.query
        size = as_int(asked.get("limit", ""), 1000)
        oldest, latest = as_int(asked.get("oldest", "0"), -1), as_int(asked.get("latest", str(2**40)), -1)
        if oldest < 0 or latest < 0 or not 1 <= size <= 9999:
            return json_response({"ok": False, "error": "invalid_arguments"}, 400)
        at, after_empty = None, False
        if asked.get("cursor"):
            try:
                at, after_empty = unseal(asked["cursor"])
            except ValueError:
                return json_response({"ok": False, "error": "invalid_cursor"}, 400)
        page = self.page(
            connection,
            "audit_logs",
            oldest * SECOND,
            latest * SECOND + SECOND - 1,
            size,
            at=at,
            after_empty=after_empty,
        )
        cursor = seal([page.next, page.was_empty]) if page.next else ""
        entries = self.render(connection, page.records)
        return json_response({"entries": entries, "response_metadata": {"next_cursor": cursor}})

    def _members(self, connection: Connection, request: Request) -> Response:
        asked = {**request.query, **request.form}
        members = self.listing(connection)
        size = as_int(asked.get("limit", ""), 0) or len(members)
        offset = 0
        if asked.get("cursor"):
            try:
                offset = unseal(asked["cursor"])
            except ValueError:
                return json_response({"ok": False, "error": "invalid_cursor"})
        more = offset + size < len(members)
        return json_response(
            {
                "ok": True,
                "members": [self._member(connection, account) for account in members[offset : offset + size]],
                "cache_ts": self.now_ms() // SECOND,
                "response_metadata": {"next_cursor": seal(offset + size) if more else ""},
            }
        )

    def _billable(self, connection: Connection, request: Request) -> Response:
        now = self.now_ms()
        info = {}
        for account in self.listing(connection):
            # Slack bills for members who have been active lately, and for no bots or single-channel guests.
            last = None if account.kind in ("service", "external") else self.last_use(account)
            is_billed = last is not None and not account.is_closed(now) and now - last < 28 * DAY
            info[account.account_id] = {"billing_active": is_billed}
        if wanted := {**request.query, **request.form}.get("user"):
            info = {name: row for name, row in info.items() if name == wanted}
        return json_response({"ok": True, "billable_info": info})

    def _user(self, connection: Connection, account: Account) -> dict[str, Any]:
        user = {"id": account.account_id, "name": account.name, "email": account.email, "team": _team(connection)}
        if account.kind == "service":
            del user["email"]
        return user

    def _member(self, connection: Connection, account: Account) -> dict[str, Any]:
        now = self.now_ms()
        is_deleted, is_guest = account.is_closed(now), account.kind == "external"
        updated = account.closed_at if is_deleted and account.closed_at else account.created_at
        profile = {
            "real_name": account.name,
            "display_name": account.name,
            "email": account.email,
            "team": _team(connection),
        }
        if account.kind == "service":
            del profile["email"]
        return {
            "id": account.account_id,
            "team_id": _team(connection),
            "name": (account.email or account.name).split("@")[0].lower(),
            "deleted": is_deleted,
            "real_name": account.name,
            "tz": connection.org.timezone,
            "profile": profile,
            "is_admin": account.actual_person_id == connection.org.admin.person_id,
            "is_owner": False,
            "is_primary_owner": False,
            "is_restricted": is_guest,
            "is_ultra_restricted": is_guest and (account.created_at // DAY) % 2 == 0,
            "is_bot": account.kind == "service",
            "is_app_user": False,
            "updated": updated // SECOND,
        }


def _team(connection: Connection) -> str:
    return f"T{connection.key % 10**9:09d}"
