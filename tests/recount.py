"""What the product's tables must hold, counted from the sandbox's truth: plain Python, no SQL, nothing of the models.

It follows the metric definitions: days are the org's own, a day counts when it is complete, windows end with the
as-of day, people are counted and not accounts, and what a source did not tell is unknown and not zero.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ingestion.sandbox import Truth

WINDOWS = (7, 28, 30, 90)
Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """How late a connector's vendor is: see its documentation."""

    delay: timedelta
    usual: timedelta
    restate_days: int


SOURCES = {
    "zoom": Source(timedelta(), timedelta(hours=3), 3),
    "okta": Source(timedelta(minutes=1), timedelta(hours=1), 1),
    "google_workspace": Source(timedelta(), timedelta(hours=6), 3),
    "slack": Source(timedelta(minutes=1), timedelta(hours=1), 1),
}
# Vendors whose listing does not say when an account was made.
SILENT_ABOUT_CREATION = {"slack"}
SUREST = ["direct", "sso", "usage_report", "oauth_grant"]
CLASSES = {"service": "service", "shared": "shared", "external": "external", "employee": "unknown"}


@dataclass
class Recount:
    """The two tables, keyed as they are published.

    `broken`: connection -> the instant at which it was last read, for connections that fail since.
    """

    truth: Truth
    now: datetime
    start: date
    broken: dict[str, datetime | None] | None = None

    def __post_init__(self) -> None:
        self.broken = self.broken or {}
        self._zones = {org["org_id"]: ZoneInfo(org["timezone"]) for org in self.truth.product["orgs"]}
        self._people = {(p["org_id"], p["person_id"]): p for p in self.truth.product["employees"]}
        self._collect()

    def _day(self, org_id: str, instant: datetime) -> date:
        return instant.astimezone(self._zones[org_id]).date()

    def _read_at(self, connection_id: str) -> datetime | None:
        assert self.broken is not None
        return self.broken.get(connection_id, self.now)

    def _collect(self) -> None:
        self.active: dict[tuple[str, str, str], set[date]] = defaultdict(set)  # (org, app, person) -> days
        self.volume: dict[tuple[str, str, str, date], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.evidence: dict[tuple[str, str, str], set[str]] = defaultdict(set)  # -> connections
        self.access: dict[tuple[str, str, str], date] = {}
        self.first_seen: dict[tuple[str, str], date] = {}
        self.accounts: dict[tuple[str, str], Any] = {}
        self.connectors = {e.connection_id: e.connector for e in self.truth.events}
        for account in self.truth.accounts:
            self.connectors[account.connection_id] = account.connector
            read_at = self._read_at(account.connection_id)
            if read_at is None or account.created_at > read_at:
                continue
            key = (account.org_id, account.app_id, self._person(account))
            self.accounts[key[0], key[2]] = account
            self.evidence[key].add(account.connection_id)
            history = self._history_start(account.org_id)
            if account.connector in SILENT_ABOUT_CREATION:
                self._see(key, history)
                continue
            made = self._day(account.org_id, account.created_at)
            self.access[key] = min(self.access.get(key, made), made)
            self._see(key, max(made, history))
        for event in self.truth.events:
            read_at = self._read_at(event.connection_id)
            if read_at is None or event.visible_at > read_at or event.account_kind == "system":
                continue
            if event.occurred_at >= read_at - SOURCES[event.connector].delay:
                continue
            key = (event.org_id, event.app_id, self._person(event))
            self.accounts.setdefault((key[0], key[2]), event)
            self.evidence[key].add(event.connection_id)
            day = self._day(event.org_id, event.occurred_at)
            self._see(key, day)
            if event.is_activity:
                self.active[key].add(day)
                self.volume[*key, day][event.source_kind] += 1

    def _see(self, key: tuple[str, str, str], day: date) -> None:
        app = key[:2]
        self.first_seen[app] = min(self.first_seen.get(app, day), day)

    def _history_start(self, org_id: str) -> date:
        """The first day that a source could give whole."""
        first = datetime.combine(self.start, time(), UTC)
        day = self._day(org_id, first)
        is_whole = datetime.combine(day, time(), self._zones[org_id]) >= first
        return day if is_whole else day + timedelta(days=1)

    @staticmethod
    def _person(thing: Any) -> str:
        return thing.person_id or f"account:{thing.connector}:{thing.account_id}"

    def person_class(self, org_id: str, person_id: str) -> str:
        """Only what is sure: an employee is human."""
        if (org_id, person_id) in self._people:
            return "human"
        account = self.accounts[org_id, person_id]
        return CLASSES[account.account_kind]

    def _complete_on(self, org_id: str, connection_id: str) -> date | None:
        """The last whole day that a connection has told everything about."""
        read_at = self._read_at(connection_id)
        if read_at is None:
            return None
        source = SOURCES[self.connectors[connection_id]]
        return self._day(org_id, read_at - max(source.usual, source.delay)) - timedelta(days=1)

    def _sources(self) -> dict[tuple[str, str], set[str]]:
        sources: dict[tuple[str, str], set[str]] = defaultdict(set)
        for (org_id, app_id, _), connections in self.evidence.items():
            sources[org_id, app_id] |= connections
        return sources

    def expected_as_of(self, org_id: str, connections: set[str]) -> date:
        """The last day that all sources should have told everything about by now."""
        return min(
            self._day(org_id, self.now - SOURCES[self.connectors[c]].usual) - timedelta(days=1) for c in connections
        )

    def user_app_usage(self) -> dict[tuple[str, str, str], Row]:
        """A row per person and app that ever had an account or an event."""
        sources = self._sources()
        rows: dict[tuple[str, str, str], Row] = {}
        for (org_id, app_id, person_id), connections in self.evidence.items():
            key = (org_id, app_id, person_id)
            expected = self.expected_as_of(org_id, sources[org_id, app_id])
            complete = [day for c in sources[org_id, app_id] if (day := self._complete_on(org_id, c))]
            as_of = min(expected, max(complete))
            is_known = all((self._complete_on(org_id, c) or date.min) >= expected for c in connections)
            days = {day for day in self.active[key] if day <= as_of}
            active = {n: len({day for day in days if day > as_of - timedelta(days=n)}) for n in WINDOWS}
            person_class = self.person_class(org_id, person_id)
            eligible = self._eligible_days(key, days, as_of, active[30])
            row: Row = {
                "person_class": person_class,
                "first_used_date": min(days, default=None),
                "last_used_date": max(days, default=None),
                "days_since_last_used": (as_of - max(days)).days if days else None,
                **{f"active_days_{n}": count for n, count in active.items()},
                "active_day_rate_30": active[30] / eligible if eligible else None,
            }
            if not is_known:
                row = {name: None if name != "person_class" else value for name, value in row.items()}
            row["usage_band"] = self._band(person_class, is_known, active[30], eligible)
            row["usage_known"] = is_known
            row["sources"] = ",".join(sorted({self.connectors[c] for c in connections}))
            row["as_of_date"] = as_of
            rows[org_id, person_id, app_id] = row
        return rows

    def _daily_volume(self, org_id: str, app_id: str) -> dict[date, int]:
        """People's activities by day; of several sources that saw a person's day only the surest counts."""
        volume: dict[date, int] = defaultdict(int)
        for (org, app, person_id, day), counts in self.volume.items():
            if (org, app) == (org_id, app_id) and self.person_class(org_id, person_id) == "human":
                volume[day] += counts[min(counts, key=SUREST.index)]
        return volume

    def _eligible_days(self, key: tuple[str, str, str], days: set[date], as_of: date, active: int) -> int | None:
        begins = [day for day in (self.access.get(key), min(days, default=None)) if day]
        first = max(min(begins, default=as_of - timedelta(days=29)), as_of - timedelta(days=29))
        person = self._people.get((key[0], key[2]))
        on_leave = 0
        if person and person["on_leave_from"]:
            leave_to = min(person["on_leave_to"] or as_of, as_of)
            on_leave = max(0, (leave_to - max(person["on_leave_from"], first)).days + 1)
        return max((as_of - first).days + 1 - on_leave, active)

    @staticmethod
    def _band(person_class: str, is_known: bool, active: int, eligible: int | None) -> str | None:
        if person_class in ("service", "shared"):
            return None
        if not is_known:
            return "unknown"
        for band, least in (("core", 16), ("high", 8), ("medium", 3), ("low", 1)):
            if active >= least:
                return band
        return "new" if (eligible or 0) < 14 else "not_used"

    def app_usage_daily(self) -> dict[tuple[str, str, date], Row]:
        """A row per app and day from the first that was seen of the app to the as-of day."""
        rows: dict[tuple[str, str, date], Row] = {}
        people: dict[tuple[str, str], dict[date, set[str]]] = defaultdict(lambda: defaultdict(set))
        for (org_id, app_id, person_id), days in self.active.items():
            if self.person_class(org_id, person_id) == "human":
                for day in days:
                    people[org_id, app_id][day].add(person_id)
        for (org_id, app_id), connections in self._sources().items():
            last = self.expected_as_of(org_id, connections)
            history = self._history_start(org_id)
            restate = max(SOURCES[self.connectors[c]].restate_days for c in connections)
            today = self._day(org_id, self.now)
            used = people[org_id, app_id]
            volume = self._daily_volume(org_id, app_id)

            def ratio(
                end: date, days: int, org_id: str = org_id, connections: set[str] = connections, history: date = history
            ) -> float | None:
                spans = [end - timedelta(days=n) for n in range(days)]
                told = [
                    day <= (self._complete_on(org_id, c) or date.min)
                    for c in connections
                    for day in spans
                    if day >= history and self._read_at(c) is not None
                ]
                return sum(told) / len(told) if told else None

            day, complete_days = self.first_seen[org_id, app_id], 0
            while day <= last:
                ratios = {n: ratio(day, n) for n in (1, *WINDOWS)}
                known = {n: (share or 0) >= 0.9 for n, share in ratios.items()}
                complete_days += known[1]
                span = {n: set().union(*(used[day - timedelta(days=k)] for k in range(n))) for n in WINDOWS}
                average = sum(len(used[day - timedelta(days=k)]) for k in range(28)) / 28
                rows[org_id, app_id, day] = {
                    "dau": len(used[day]) if known[1] else None,
                    "wau": len(span[7]) if known[7] else None,
                    **{f"mau_{n}": len(span[n]) if known[n] else None for n in (28, 30, 90)},
                    "stickiness": average / len(span[28]) if known[28] and complete_days >= 28 and span[28] else None,
                    "event_count": volume[day] if known[1] else None,
                    "is_final": known[1] and (today - day).days > restate,
                    "is_partial": complete_days < 28,
                    "data_complete_ratio": ratios[1],
                }
                day += timedelta(days=1)
        return rows
