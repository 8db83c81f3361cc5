"""What the product's tables must hold, counted from the sandbox's truth: plain Python, no SQL, nothing of the models.

It follows the metric definitions: days are the org's own, a day counts when it is complete, windows end with the
as-of day, people are counted and not accounts, and what a source did not tell is unknown and not zero.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from itertools import combinations
from math import log
from pathlib import Path
from statistics import median
from typing import Any, Self
from zoneinfo import ZoneInfo

from ingestion.sandbox import Sandbox, Truth
from ingestion.sandbox.sandbox import TrueAccount, TrueEvent

WINDOWS = (7, 28, 30, 90)
FIGURES = {1: "dau", 7: "wau", 28: "mau_28", 30: "mau_30", 90: "mau_90"}
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
QUALITY = ("usage_known", "is_partial", "is_final", "data_complete_ratio", "sources")
SUREST = ["direct", "sso", "usage_report", "oauth_grant"]
CATALOG = Path(__file__).resolve().parent.parent / "seeds" / "app_catalog.csv"
FIRST_BLOCK, BLOCK = date(2000, 1, 3), timedelta(days=28)
# What Google's token log calls a standing grant, or a use that an app makes of one.
GRANTS = {"authorize", "activity"}
UNAPPROVED = {"discovered", "in_review", "need_to_close", "closed"}
# What these apps state in their listings as the last log-in; Slack states none.
LOG_INS = {"zoom": {"Sign in"}, "google_workspace": {"login_success"}, "okta": {"user.session.start"}}
CLASSES = {"service": "service", "shared": "shared", "external": "external", "employee": "unknown", "lent": "unknown"}


@dataclass
class Recount:
    """The tables, keyed as they are published.

    `occurred`: all that happened by now, shown by now or not. `broken`: connection -> the instant at which it was last
    read, for connections that fail since. `ended`: connection -> the instant from which on it is taken away.
    """

    truth: Truth
    now: datetime
    start: date
    occurred: list[TrueEvent]
    broken: dict[str, datetime | None] | None = None
    ended: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.broken = self.broken or {}
        self._orgs = {org["org_id"]: org for org in self.truth.product["orgs"]}
        self._zones = {org_id: ZoneInfo(org["timezone"]) for org_id, org in self._orgs.items()}
        self._people = {(p["org_id"], p["person_id"]): p for p in self.truth.product["employees"]}
        self._collect()

    @classmethod
    def of(
        cls,
        sandbox: Sandbox,
        broken: Mapping[str, datetime | None] | None = None,
        ended: Mapping[str, datetime] | None = None,
    ) -> Self:
        truth = sandbox.truth()
        latest = truth.now + max(source.usual for source in SOURCES.values()) + timedelta(days=3)
        return cls(truth, truth.now, sandbox.start, list(sandbox.events(latest)), dict(broken or {}), dict(ended or {}))

    def _day(self, org_id: str, instant: datetime) -> date:
        return instant.astimezone(self._zones[org_id]).date()

    def _read_at(self, connection_id: str) -> datetime | None:
        assert self.broken is not None
        return self.broken.get(connection_id, self.now)

    def _collect(self) -> None:
        self.active: dict[tuple[str, str, str], set[date]] = defaultdict(set)  # (org, app, person) -> days
        self.hours: dict[tuple[str, str, str, date], set[int]] = defaultdict(set)  # UTC's, of a person's day
        self.seen_at: dict[tuple[str, date, str], set[tuple[str, str]]] = defaultdict(set)  # -> (app, person)
        self.seen_by: dict[tuple[str, str, str, date], dict[tuple[str, str], int]] = defaultdict(
            lambda: defaultdict(int)
        )
        self.evidence: dict[tuple[str, str, str], set[str]] = defaultdict(set)  # -> connections
        self.access: dict[tuple[str, str, str], date] = {}
        self.first_seen: dict[tuple[str, str], date] = {}
        self.accounts: dict[tuple[str, str], Any] = {}
        self.connectors = {e.connection_id: e.connector for e in self.truth.events}
        self.org_of = {e.connection_id: e.org_id for e in self.truth.events}
        self.newest: dict[tuple[str, str], datetime] = {}
        self.grants: list[tuple[str, str, TrueEvent]] = []
        self.listings: dict[tuple[str, str], set[str]] = defaultdict(set)  # (org, app) -> connections that list it
        self.listed: set[tuple[str, str, str]] = set()  # who has an account
        self.admitted: set[tuple[str, str, str]] = set()  # who has one that can log in
        self.let_in: set[tuple[str, str, str]] = set()  # and whose listing goes on
        self.judged: set[tuple[str, str, str]] = (
            set()
        )  # of whom a listing that goes on tells, or another that it is shut
        for account in self.truth.accounts:
            self.connectors[account.connection_id] = account.connector
            self.org_of[account.connection_id] = account.org_id
            read_at = self._read_at(account.connection_id)
            if read_at is None or account.created_at > read_at:
                continue
            key = (account.org_id, account.app_id, self._person(account))
            self.accounts[key[0], key[2]] = account
            self.evidence[key].add(account.connection_id)
            self.listings[key[:2]].add(account.connection_id)
            self.listed.add(key)
            is_shut_out, has_ended = self._is_shut_out(account, read_at), account.connection_id in self.ended
            if not is_shut_out:
                self.admitted.add(key)
                if not has_ended:
                    self.let_in.add(key)
            if is_shut_out or not has_ended:
                self.judged.add(key)
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
            app = key[:2]
            self.newest[app] = max(self.newest.get(app, event.occurred_at), event.occurred_at)
            if event.source_kind == "oauth_grant" and self.person_class(key[0], key[2]) == "human":
                self.grants.append((*app, event))
            if event.is_activity:
                self.active[key].add(day)
                self.hours[*key, day].add(event.occurred_at.hour)
                if event.address:
                    self.seen_at[event.org_id, day, event.address].add((event.app_id, key[2]))
                self.seen_by[*key, day][event.source_kind, event.connector] += 1

    def _is_shut_out(self, account: TrueAccount, read_at: datetime) -> bool:
        """Whether the vendor's listing said, when it was last read, that the account cannot log in."""
        if account.closed_at and account.closed_at <= read_at:
            return True
        person = self._people.get((account.org_id, account.person_id or ""))
        is_own = account.app_id == account.connector == "okta"  # where HR has those on leave suspended
        return is_own and person is not None and is_on_leave(person, self._day(account.org_id, read_at))

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

    @cached_property
    def _sources(self) -> dict[tuple[str, str], set[str]]:
        sources: dict[tuple[str, str], set[str]] = defaultdict(set)
        for (org_id, app_id, _), connections in self.evidence.items():
            sources[org_id, app_id] |= connections
        return sources

    def expected_as_of(self, org_id: str, connections: set[str]) -> date:
        """The last day that all sources should have told everything about by now."""
        return min(
            self._day(org_id, self.now - SOURCES[self.connectors[c]].usual) - timedelta(days=1)
            for c in self._heard(connections)
        )

    def _heard(self, connections: Iterable[str]) -> set[str]:
        """Those that go on; where all have ended, all of them."""
        every = set(connections)
        return every - self.ended.keys() or every

    def _asked(self, org_id: str, connections: Iterable[str], day: date) -> list[str]:
        """Those that were read and had not ended by a day."""
        read = [c for c in connections if self._read_at(c) is not None]
        return [c for c in read if c not in self.ended or day < self._day(org_id, self.ended[c])]

    def _told(self, org_id: str, connections: Iterable[str], end: date, days: int) -> float | None:
        """The share of the sources' days, of those up to `end`, that are complete."""
        history = self._history_start(org_id)
        if not any(self._read_at(c) is not None for c in connections):
            return None
        told: list[bool] = []
        for day in (end - timedelta(days=n) for n in range(days)):
            if day >= history:  # of one on which nobody was left to tell, nothing was told
                asked = self._asked(org_id, connections, day)
                told += [day <= (self._complete_on(org_id, c) or date.min) for c in asked] or [False]
        return sum(told) / len(told) if told else None

    def as_of(self, org_id: str, app_id: str) -> date:
        """The last day that any source of the app has told everything about, of those that all should have."""
        connections = self._sources[org_id, app_id]
        complete = [day for c in self._heard(connections) if (day := self._complete_on(org_id, c))]
        return min(self.expected_as_of(org_id, connections), max(complete))

    def is_current(self, org_id: str, app_id: str) -> bool:
        sources = self._sources[org_id, app_id]
        return not sources <= self.ended.keys() and self.as_of(org_id, app_id) == self.expected_as_of(org_id, sources)

    def is_final(self, org_id: str, app_id: str) -> bool:
        """Whether all sources told of the as-of day, and none may still do so late."""
        restate = max(SOURCES[self.connectors[c]].restate_days for c in self._sources[org_id, app_id])
        age = self._day(org_id, self.now) - self.as_of(org_id, app_id)
        return self.is_current(org_id, app_id) and age.days > restate

    @cached_property
    def user_app_usage(self) -> dict[tuple[str, str, str], Row]:
        """A row per person and app that ever had an account or an event."""
        rows: dict[tuple[str, str, str], Row] = {}
        for (org_id, app_id, person_id), connections in self.evidence.items():
            key = (org_id, app_id, person_id)
            expected = self.expected_as_of(org_id, self._sources[org_id, app_id])
            as_of = self.as_of(org_id, app_id)
            is_known = not connections <= self.ended.keys() and all(
                (self._complete_on(org_id, c) or date.min) >= expected for c in self._heard(connections)
            )
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
                "day_basis": "instant" if active[30] else None,  # no vendor of the sandbox gives dates
            }
            row |= self._first_use(key, days)
            if not is_known:
                row = {name: None if name != "person_class" else value for name, value in row.items()}
            is_told = key in (self.listed if connections <= self.ended.keys() else self.judged)
            row["has_access"] = key in self.let_in or not is_told
            row["is_partial"] = self._history_start(org_id) > as_of - timedelta(days=29)
            row["data_complete_ratio"] = self._told(org_id, self._heard(self._sources[org_id, app_id]), as_of, 30)
            row["usage_band"] = self._band(person_class, is_known, active[30], eligible)
            hours = set().union(*(self.hours[*key, day] for day in days if (as_of - day).days < 28))
            is_restless = is_known and active[28] >= 27 and len(hours) >= 20
            row["proposed_class"] = None
            if person_class in ("unknown", "external") and is_known:
                is_lent = self.is_current(org_id, app_id) and len(self._hosts(key, as_of)) >= 3
                row["proposed_class"] = "service" if is_restless else "shared" if is_lent else None
            row["usage_known"] = is_known
            row["is_final"] = is_known and self.is_final(org_id, app_id)
            row["unknown_reason"] = None if is_known else "source_silent"
            row["sources"] = ",".join(sorted({self.connectors[c] for c in connections}))
            row["as_of_date"] = as_of
            rows[org_id, person_id, app_id] = row
        return rows

    def _hosts(self, key: tuple[str, str, str], as_of: date) -> set[str]:
        """At whose addresses an account was used in 7 days: those at which one person of HR's was, and no other."""
        org_id, app_id, person_id = key
        seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for (org, day, address), users in self.seen_at.items():
            if org == org_id and 0 <= (as_of - day).days < 7:
                seen[address] |= users
        visited = [users for users in seen.values() if (app_id, person_id) in users]
        people = [{p for _, p in users if self.person_class(org_id, p) == "human"} for users in visited]
        return set().union(*(hosts for hosts in people if len(hosts) == 1))

    def _first_use(self, key: tuple[str, str, str], days: set[date]) -> Row:
        history, access, first = self._history_start(key[0]), self.access.get(key), min(days, default=None)
        is_told = access is not None and history <= access and key not in self._said_to_have_logged_in
        restate = max(SOURCES[self.connectors[c]].restate_days for c in self._sources[key[:2]])
        is_censored = first <= history + timedelta(days=restate) if first else None
        is_early = first < access if first and access else None
        lag = (first - access).days if first and access and history <= access and not is_censored else None
        return {
            "is_never_used": not days and is_told,
            "not_seen_since": None if days or is_told else history,
            "is_first_use_censored": is_censored,
            "activation_lag_days": 0 if is_early else lag,
            "is_used_before_access": is_early,
        }

    @cached_property
    def _said_to_have_logged_in(self) -> set[tuple[str, str, str]]:
        """By their apps' own listings, which know of log-ins before their events are shown."""
        return {
            (account.org_id, account.app_id, self._person(account))
            for account in self.truth.accounts
            if is_own(account) and self._own_events(account, LOG_INS.get(account.app_id, set()))
        }

    def _own_events(self, account: TrueAccount, codes: Set[str]) -> list[TrueEvent]:
        """Which of these an account did in its own app, with success."""
        return [
            event
            for event in self._occurred_by_account[account.connection_id, account.account_id]
            if event.app_id == account.app_id and event.event_code in codes
        ]

    @cached_property
    def _occurred_by_account(self) -> dict[tuple[str, str], list[TrueEvent]]:
        found: dict[tuple[str, str], list[TrueEvent]] = defaultdict(list)
        for event in self.occurred:
            if event.occurred_at <= self.now and event.status != "failure":
                found[event.connection_id, event.account_id].append(event)
        return found

    def _daily_volume(self, org_id: str, app_id: str) -> dict[date, int]:
        """People's activities by day; of several sources that saw a person's day only the surest counts."""
        volume: dict[date, int] = defaultdict(int)
        for (org, app, person_id, day), counts in self.seen_by.items():
            if (org, app) == (org_id, app_id) and self.person_class(org_id, person_id) == "human":
                volume[day] += _surest(counts)
        return volume

    def _eligible_days(self, key: tuple[str, str, str], days: set[date], as_of: date, active: int) -> int | None:
        begins = [day for day in (self.access.get(key), min(days, default=None)) if day]
        first = max(min(begins, default=as_of - timedelta(days=29)), as_of - timedelta(days=29))
        person = self._people.get((key[0], key[2]))
        on_leave = 0
        if person and person["started_on"]:
            first = max(first, person["started_on"])
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

    @cached_property
    def _users(self) -> dict[tuple[str, str], dict[date, set[str]]]:
        """(org, app) -> day -> the people who used it."""
        users: dict[tuple[str, str], dict[date, set[str]]] = defaultdict(lambda: defaultdict(set))
        for (org_id, app_id, person_id), days in self.active.items():
            if self.person_class(org_id, person_id) == "human":
                for day in days:
                    users[org_id, app_id][day].add(person_id)
        return users

    @cached_property
    def app_usage_daily(self) -> dict[tuple[str, str, date], Row]:
        """A row per app and day from the first that was seen of the app to the as-of day."""
        rows: dict[tuple[str, str, date], Row] = {}
        for (org_id, app_id), connections in self._sources.items():
            last = self.expected_as_of(org_id, connections)
            restate = max(SOURCES[self.connectors[c]].restate_days for c in connections)
            today = self._day(org_id, self.now)
            used = self._users[org_id, app_id]
            volume = self._daily_volume(org_id, app_id)

            day, complete_days = self.first_seen[org_id, app_id], 0
            while day <= last:
                ratios = {n: self._told(org_id, connections, day, n) for n in (1, *WINDOWS)}
                known = {n: (share or 0) >= 0.9 for n, share in ratios.items()}
                complete_days += known[1]
                span = {n: set().union(*(used[day - timedelta(days=k)] for k in range(n))) for n in WINDOWS}
                people = {last: len(used[last]) for last in (day - timedelta(days=k) for k in range(28))}
                is_told = known[28] and complete_days >= 28 and bool(span[28])
                working = [count for last, count in people.items() if self._is_working(org_id, last)]
                rows[org_id, app_id, day] = {
                    "dau": len(used[day]) if known[1] else None,
                    "wau": len(span[7]) if known[7] else None,
                    **{f"mau_{n}": len(span[n]) if known[n] else None for n in (28, 30, 90)},
                    "stickiness": sum(people.values()) / 28 / len(span[28]) if is_told else None,
                    "stickiness_weekdays": sum(working) / len(working) / len(span[28]) if is_told else None,
                    "event_count": volume[day] if known[1] else None,
                    "is_final": known[1] and (today - day).days > restate,
                    "is_partial": complete_days < 28,
                    "usage_known": known[1],
                    "data_complete_ratio": ratios[1],
                    "sources": self._names(connections) if day >= self._history_start(org_id) else None,
                }
                day += timedelta(days=1)
        return rows

    @cached_property
    def _holidays(self) -> set[tuple[str, date]]:
        return {(row["org_id"], row["holiday_on"]) for row in self.truth.product.get("org_holidays", [])}

    def _is_working(self, org_id: str, day: date) -> bool:
        return (org_id, day) not in self._holidays and day.isoweekday() in (
            self._orgs[org_id].get("working_days") or range(1, 6)
        )

    def _names(self, connections: Iterable[str]) -> str:
        return ",".join(sorted({self.connectors[c] for c in connections}))

    @cached_property
    def app_usage_periods(self) -> dict[tuple[str, str, str, date], Row]:
        """A row per app and ISO week, and month, of which a day is told."""
        days: dict[tuple[str, str, str, date], list[date]] = defaultdict(list)
        for org_id, app_id, day in self.app_usage_daily:
            days[org_id, app_id, "week", day - timedelta(days=day.weekday())].append(day)
            days[org_id, app_id, "month", day.replace(day=1)].append(day)
        rows: dict[tuple[str, str, str, date], Row] = {}
        for (org_id, app_id, kind, start), told in days.items():
            following = start + timedelta(days=7 if kind == "week" else 31)
            end = (following if kind == "week" else following.replace(day=1)) - timedelta(days=1)
            used = self._users[org_id, app_id]
            daily = [self.app_usage_daily[org_id, app_id, day] for day in told]
            ratio = self._told(org_id, self._sources[org_id, app_id], max(told), len(told))
            is_whole = len(told) == (end - start).days + 1
            rows[org_id, app_id, kind, start] = {
                "period_end_date": end,
                "active": len(set().union(*(used[day] for day in told))) if (ratio or 0) >= 0.9 else None,
                "usage_known": (ratio or 0) >= 0.9,
                "is_partial": not is_whole,
                "is_final": is_whole and all(day["is_final"] for day in daily),
                "data_complete_ratio": ratio,
                "sources": self.app_usage_daily[org_id, app_id, max(told)]["sources"],
            }
        return rows

    @cached_property
    def app_usage_bands(self) -> dict[tuple[str, str, str], Row]:
        """A row per app and band, of employees who have not left and can log in."""
        bands: dict[tuple[str, str], list[str]] = defaultdict(list)
        for (org_id, person_id, app_id), usage in self.user_app_usage.items():
            person = self._people.get((org_id, person_id))
            is_there = person and not has_left(person, usage["as_of_date"])
            if is_there and usage["has_access"]:
                bands[org_id, app_id].append(usage["usage_band"])
        return {
            (*app, band): {
                "person_count": people.count(band),
                "assigned_count": len(people),
                "share": people.count(band) / len(people),
                "is_small": len(people) < 5,
                **{name: self.app_usage[app][name] for name in (*QUALITY, "as_of_date")},
            }
            for app, people in bands.items()
            for band in set(people)
        }

    @cached_property
    def app_usage_classes(self) -> dict[tuple[str, str, str], Row]:
        """A row per app and class of who used it in 90 days, each counted by the days of use."""
        days: dict[tuple[str, str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for org_id, app_id, person_id, day in self.seen_by:
            age = (self.as_of(org_id, app_id) - day).days
            if 0 <= age < 90:
                days[org_id, app_id, self.person_class(org_id, person_id)][age].add(person_id)
        rows: dict[tuple[str, str, str], Row] = {}
        for (org_id, app_id, person_class), by_age in days.items():
            app = self.app_usage[org_id, app_id]
            rows[org_id, app_id, person_class] = {
                **{
                    name: None if app[name] is None else len(set().union(*(by_age[age] for age in range(window))))
                    for window, name in FIGURES.items()
                },
                **{name: app[name] for name in (*QUALITY, "as_of_date")},
            }
        return rows

    @cached_property
    def app_usage_daily_classes(self) -> dict[tuple[str, str, str, date], Row]:
        """A row per app, class other than people, and day from its first use on: the accounts of each window."""
        used: dict[tuple[str, str, str], dict[date, set[str]]] = defaultdict(lambda: defaultdict(set))
        for org_id, app_id, person_id, day in self.seen_by:
            used[org_id, app_id, self.person_class(org_id, person_id)][day].add(person_id)
        rows: dict[tuple[str, str, str, date], Row] = {}
        for (org_id, app_id, day), people in self.app_usage_daily.items():
            for person_class in ("service", "shared", "external", "unknown"):
                by_day = used.get((org_id, app_id, person_class), {})
                if day < min(by_day, default=date.max):
                    continue
                within = {n: set().union(*(by_day.get(day - timedelta(days=k), ()) for k in range(n))) for n in FIGURES}
                rows[org_id, app_id, person_class, day] = {
                    **{name: None if people[name] is None else len(within[n]) for n, name in FIGURES.items()},
                    **{name: people[name] for name in QUALITY},
                }
        return rows

    @cached_property
    def _volumes(self) -> dict[tuple[str, str], dict[str, int]]:
        """(org, app) -> person of any class -> activities in the 30 days, each day's from the surest source."""
        volumes: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for (org_id, app_id, person_id, day), counts in self.seen_by.items():
            if 0 <= (self.as_of(org_id, app_id) - day).days < 30:
                volumes[org_id, app_id][person_id] += _surest(counts)
        return volumes

    def _scores(self, org_id: str, category: str, catalog: dict[str, Row], row: Row) -> Row:
        volumes = self._volumes[org_id, row["app_id"]]
        mine = [volume for person, volume in volumes.items() if self.person_class(org_id, person) == "human"]
        kind = sorted(
            volume
            for (owner, app_id), people in self._volumes.items()
            if owner == org_id and catalog[app_id]["category"] == category
            for person, volume in people.items()
            if self.person_class(org_id, person) == "human"
        )
        users, average = row["mau_30"], row["avg_active_days_30"]
        scores: Row = {"frequency_score": None, "volume_score": None, "usage_score": None}
        if users is not None:
            frequency = min(1.0, average / 20) if users else 0.0
            heavy = _percentile(kind, 0.9) if users else 0
            volume = min(1.0, log(1 + sum(mine) / len(mine)) / log(1 + heavy)) if users else 0.0
            adoption = row["adoption_rate"]
            score = None if adoption is None else 100 * (0.5 * frequency + 0.3 * adoption + 0.2 * volume)
            scores = {
                "frequency_score": frequency,
                "volume_score": rounded(volume),
                "usage_score": None if score is None else rounded(score),
            }
        classes = [self.person_class(org_id, person) for person in volumes]
        return scores | {
            f"{name}_accounts_30": None if users is None else classes.count(name)
            for name in ("service", "shared", "external", "unknown")
        }

    def _slope(self, org_id: str, app_id: str, as_of: date) -> float | None:
        """People more per week: the median of the slopes between any two of twelve weeks."""
        days = [as_of - timedelta(weeks=n) for n in range(12)]
        weeks = [self.app_usage_daily.get((org_id, app_id, day), {}).get("wau") for day in days]
        if None in weeks or self._history_start(org_id) > days[-1] - timedelta(days=6):
            return None
        return rounded(median((weeks[a] - weeks[b]) / (b - a) for a, b in combinations(range(12), 2)))

    @cached_property
    def app_usage(self) -> dict[tuple[str, str], Row]:
        """A row per app that was ever seen."""
        with CATALOG.open(encoding="utf-8", newline="") as file:
            catalog = {row["app_id"]: row for row in csv.DictReader(file)}
        daily = self.app_usage_daily
        rows: dict[tuple[str, str], Row] = {}
        for (org_id, app_id), connections in self._sources.items():
            as_of, is_known = self.as_of(org_id, app_id), self.is_current(org_id, app_id)
            day = daily.get((org_id, app_id, as_of), {})
            figures = ("dau", "wau", "mau_28", "mau_30", "mau_90", "stickiness", "stickiness_weekdays")
            row: Row = {name: day.get(name) if is_known else None for name in figures}
            users, mau = row["mau_30"], row["mau_28"]
            active = [len(people) for people in self._last_days(org_id, app_id, as_of, 30)]
            average = sum(active) / users if users else None
            target = self._target_group(org_id, app_id)
            is_told = any(org == org_id for org, _ in self._people)
            headcount = sum(_is_at_work(person, as_of) for person in target.values()) if is_told else None
            targeted = len(set().union(*self._last_days(org_id, app_id, as_of, 30)) & target.keys())
            targeted_users = None if users is None else targeted
            earlier = daily.get((org_id, app_id, as_of - BLOCK), {}).get("mau_28")
            # all sources of the sandbox begin on one day
            is_short = self._history_start(org_id) > as_of - 2 * BLOCK + timedelta(days=1)
            trend = (mau - earlier) / earlier if mau is not None and earlier and not is_short else None
            rows[org_id, app_id] = row = {
                "app_name": catalog[app_id]["app_name"],
                "category": catalog[app_id]["category"],
                **row,
                "avg_active_days_30": average,
                "usage_band": self._app_band(
                    users if is_told else None, average, (as_of - self.first_seen[org_id, app_id]).days + 1
                ),
                "adoption_rate": min(1.0, targeted / headcount) if users is not None and headcount else None,
                "target_headcount": headcount,
                "target_users_30": targeted_users,
                "trend": trend,
                "trend_label": None if trend is None else _label(trend, mau - (earlier or 0)),
                "trend_break": "short_history" if is_short else None,
                **self._cost(org_id, app_id, as_of, users),
                "wau_slope": self._slope(org_id, app_id, as_of) if is_known else None,
                "is_small": (headcount is not None and headcount < 5) or (mau is not None and mau < 5),
                "usage_known": is_known,
                "unknown_reason": (None if users is not None else "incomplete_window") if is_known else "source_silent",
                "is_partial": day.get("is_partial", True),
                "is_final": self.is_final(org_id, app_id),
                "data_complete_ratio": self._told(org_id, self._heard(connections), as_of, 30),
                "day_basis": "instant" if users else None,
                "sources": self._names(connections),
                "as_of_date": as_of,
            }
            row |= self._scores(org_id, catalog[app_id]["category"], catalog, {"app_id": app_id, **row})
        return rows

    def _last_days(self, org_id: str, app_id: str, end: date, days: int) -> list[set[str]]:
        """Who used the app on each of the days up to `end`."""
        return [self._users[org_id, app_id].get(end - timedelta(days=n), set()) for n in range(days)]

    def _target_group(self, org_id: str, app_id: str) -> dict[str, Row]:
        """The employees whom an app is for."""
        groups = self.truth.product.get("app_target_groups", [])
        departments = {row["department"].strip().lower() for row in groups if _is_of(row, org_id, app_id)}
        return {
            person_id: person
            for (org, person_id), person in self._people.items()
            if org == org_id and (not departments or person["department"].strip().lower() in departments)
        }

    @staticmethod
    def _app_band(users: int | None, average: float | None, age: int) -> str:
        if users is None:
            return "unknown"
        if average is None:
            return "new" if age < 14 else "not_used"
        return next(band for band, above in (("core", 15), ("high", 7), ("medium", 2), ("low", 0)) if average > above)

    def _cost(self, org_id: str, app_id: str, as_of: date, users: int | None) -> Row:
        """What an active person costs a month; or why that cannot be said."""
        contracts = [
            contract
            for contract in self.truth.product["app_contracts"]
            if (contract["org_id"], contract["app_id"]) == (org_id, app_id)
            and contract["starts_on"] <= as_of <= (contract["ends_on"] or date.max)
        ]
        currencies = {self.currency(contract) for contract in contracts}
        status = None
        if not contracts:
            status = "no_contract"
        elif any(self.price(contract) is None for contract in contracts):
            status = "unpriced"
        elif len(currencies) > 1:
            status = "mixed_currencies"
        elif not users:
            status = "usage_unknown" if users is None else "no_users"
        cost = per_seat = monthly = None
        if contracts and status in (None, "no_users", "usage_unknown"):
            total = float(sum(c["purchased"] * (self.price(c) or 0) for c in contracts))
            monthly = total / 12
            per_seat = monthly / sum(c["purchased"] for c in contracts)
        if status is None and users:
            cost = total / 12 / users
        currency = currencies.pop() if len(currencies) == 1 else None
        return {
            "cost_per_seat": per_seat,
            "cost_per_active_user": cost,
            "monthly_cost": monthly,
            "currency": currency,
            "cost_status": status,
        }

    def currency(self, contract: Row) -> str | None:
        """The customer's own currency, else the contract's."""
        own: str | None = self._orgs[contract["org_id"]].get("currency")
        return own or contract["currency"]

    def price(self, contract: Row) -> Decimal | None:
        """What a seat costs a year, at the rate of the contract's first day."""
        given, own = contract["currency"], self.currency(contract)
        price: Decimal | None = contract["annual_price"]
        if given is None or price is None or given == own:
            return price if given else None
        known = {
            row["currency"]: row["rate"]
            for row in sorted(self.truth.product.get("exchange_rates", []), key=lambda row: row["starts_on"])
            if row["starts_on"] <= contract["starts_on"]
        }
        if not {given, own} <= known.keys():
            return None
        return Decimal(repr(float(price) * known[own] / known[given])).quantize(Decimal("0.0001"), ROUND_HALF_UP)

    @cached_property
    def org_usage(self) -> dict[tuple[str], Row]:
        """A row per customer: distinct people over all apps."""
        rows: dict[tuple[str], Row] = {}
        for org in self.truth.product["orgs"]:
            org_id = org["org_id"]
            connections = {c for c, owner in self.org_of.items() if owner == org_id}
            apps = {app_id: of for (owner, app_id), of in self._sources.items() if owner == org_id}
            as_of = min(self.expected_as_of(org_id, of) for of in apps.values())
            row: Row = {}
            for name, days in (("dau", 1), ("wau", 7), ("mau_28", 28), ("mau_30", 30), ("mau_90", 90)):
                used = {app_id: set().union(*self._last_days(org_id, app_id, as_of, days)) for app_id in apps}
                ratio = self._told(org_id, connections, as_of, days)
                is_known = ratio is not None and ratio >= 0.9
                row[name] = len(set().union(*used.values())) if is_known else None
                if days == 30:
                    row["apps_used_30"] = sum(map(bool, used.values())) if is_known else None
                    row["data_complete_ratio"] = ratio
            history = (as_of - self._history_start(org_id)).days + 1
            told = [self._told(org_id, connections, as_of - timedelta(days=n), 1) or 0 for n in range(history)]
            row["is_partial"] = sum(share >= 0.9 for share in told) < 28
            row["usage_known"] = bool(self._told(org_id, connections, as_of, 1))
            row["is_final"] = row["usage_known"] and all(self.is_final(org_id, app_id) for app_id in apps)
            row["sources"] = self._names(c for c in connections if self._read_at(c) is not None)
            row["as_of_date"] = as_of
            rows[org_id,] = row
        return rows

    @cached_property
    def app_retention(self) -> dict[tuple[str, str, date], Row]:
        """A row per app and block of 28 days that is over and was seen from its first day on."""
        rows: dict[tuple[str, str, date], Row] = {}
        for (org_id, app_id), connections in self._sources.items():
            used: dict[date, set[str]] = defaultdict(set)
            for day, people in self._users[org_id, app_id].items():
                used[FIRST_BLOCK + (day - FIRST_BLOCK) // BLOCK * BLOCK] |= people
            history, as_of = self._history_start(org_id), self.as_of(org_id, app_id)
            today = self._day(org_id, self.now)
            restate = max(SOURCES[self.connectors[c]].restate_days for c in connections)
            start = first = FIRST_BLOCK + -((FIRST_BLOCK - history) // BLOCK) * BLOCK
            while (end := start + BLOCK - timedelta(days=1)) <= as_of:
                ratios = [self._told(org_id, connections, day, 28) or 0 for day in (end, end - BLOCK)]
                row = self._block(org_id, app_id, used, start)
                ends = [self._day(org_id, self.ended[c]) for c in connections if c in self.ended]
                if start == first or min(ratios) < 0.9 or any(start - BLOCK < day <= end for day in ends):
                    row = dict.fromkeys(row) | {"active": row["active"], "is_small": False}
                if ratios[0] < 0.9:
                    row["active"] = None
                row["usage_known"] = ratios[0] >= 0.9
                row["data_complete_ratio"] = ratios[0]
                row["sources"] = self._names(connections)
                row["is_final"] = ratios[0] >= 0.9 and (today - end).days > restate
                if end >= self.first_seen[org_id, app_id]:
                    rows[org_id, app_id, start] = {"block_days": 28, **row}
                start += BLOCK
        return rows

    def _block(self, org_id: str, app_id: str, used: dict[date, set[str]], start: date) -> Row:
        now, before = used[start], used[start - BLOCK]
        ever = set().union(*(people for day, people in used.items() if day < start))
        gone = {"left_company": 0, "lost_access": 0, "stopped_using": 0}
        for person_id in before - now:
            person = self._people[org_id, person_id]
            end = start + BLOCK - timedelta(days=1)
            key = (org_id, app_id, person_id)
            if has_left(person, end) or has_left(person, end, "garden_leave_from"):
                gone["left_company"] += 1
            elif self.evidence[key] & self.listings[org_id, app_id] and key not in self.admitted:
                gone["lost_access"] += 1
            else:
                gone["stopped_using"] += 1
        churned = len(before - now)
        return {
            "active": len(now),
            "retained": len(now & before),
            "new": len(now - ever),
            "resurrected": len(now & ever - before),
            "churned": churned,
            **{f"churned_{reason}": count for reason, count in gone.items()},
            "retention_rate": len(now & before) / len(before) if before else None,
            "quick_ratio": len(now - before) / churned if churned else None,
            "is_small": len(before) < 5,
        }

    @cached_property
    def app_cohorts(self) -> dict[tuple[str, str, date, date], Row]:
        """A row per app, block in which people came, and block since."""
        rows: dict[tuple[str, str, date, date], Row] = {}
        for (org_id, app_id, block), retention in self.app_retention.items():
            users = self._users[org_id, app_id]
            for n in range((block - FIRST_BLOCK) // BLOCK + 1):
                start = block - n * BLOCK
                size = self.app_retention.get((org_id, app_id, start), {}).get("new")
                if not size:
                    continue
                before = set().union(*(people for day, people in users.items() if day < start))
                came = set().union(*(people for day, people in users.items() if start <= day < start + BLOCK)) - before
                now = set().union(*(people for day, people in users.items() if block <= day < block + BLOCK))
                is_known = retention["usage_known"]
                rows[org_id, app_id, start, block] = {
                    "block_number": n,
                    "cohort_size": size,
                    "active": len(came & now) if is_known else None,
                    "share": len(came & now) / size if is_known else None,
                    "is_small": size < 5,
                    **{name: retention[name] for name in ("usage_known", "is_final", "data_complete_ratio", "sources")},
                }
        return rows

    @cached_property
    def shadow_apps(self) -> dict[tuple[str, str], Row]:
        """A row per app that nobody approved and that people use, or have granted something."""
        product, rows = self.truth.product, {}
        decided = (row for row in product["app_states"] if row["changed_at"] <= self.now)
        states = {(row["org_id"], row["app_id"]): row["state"] for row in decided}
        paid_to: dict[tuple[str, str], date] = defaultdict(lambda: date.min)
        for row in product["app_contracts"]:
            key = row["org_id"], row["app_id"]
            paid_to[key] = max(paid_to[key], row["ends_on"] or date.max)
        for key, usage in self.app_usage.items():
            state = states.get(key) or ("" if paid_to[key] >= usage["as_of_date"] else "discovered")
            kind = None
            if any(self._last_days(*key, usage["as_of_date"], 30)):
                kind = "closed_but_used" if state in ("need_to_close", "closed") else "in_use"
            elif usage["mau_30"] == 0 and self._is_granted(*key, usage["as_of_date"]):
                kind = "granted_not_used"
            if kind and state in UNAPPROVED:
                users, seen = usage["mau_30"], set().union(*self._last_days(*key, usage["as_of_date"], 30))
                has_grants = self._is_granted(*key, usage["as_of_date"])
                score = 30 * has_grants + 20 * bool(usage["monthly_cost"]) + 10 * (usage["trend_label"] == "growing")
                rows[key] = {
                    "has_grants": has_grants,
                    "risk_score": None if users is None else 4 * min(users, 10) + score,
                    "is_alert": len(seen) >= (1 if has_grants else 3),
                    **{name: usage[name] for name in ("trend_label", "monthly_cost", "currency")},
                    "app_name": usage["app_name"],
                    "app_state": state,
                    "shadow_kind": kind,
                    "users_30": usage["mau_30"],
                    "first_discovered_on": self.first_seen[key],
                    **{name: usage[name] for name in (*QUALITY, "as_of_date")},
                }
        return rows

    def _is_granted(self, org_id: str, app_id: str, as_of: date) -> bool:
        """Whether the last that any one's account said of the app is that it may act."""
        last: dict[str, tuple[datetime, bool]] = {}
        for *app, event in self.grants:
            is_sign = event.event_code in GRANTS or event.event_code == "revoke"
            if app == [org_id, app_id] and is_sign and self._day(org_id, event.occurred_at) <= as_of:
                sign = (event.occurred_at, event.event_code in GRANTS)
                last[event.account_id] = max(last.get(event.account_id, sign), sign)
        return any(is_granted for _, is_granted in last.values())

    @cached_property
    def data_freshness(self) -> dict[tuple[str, str], Row]:
        """A row per app that was ever seen. When its rows arrived, the truth does not know."""
        return {
            (org_id, app_id): {
                "complete_through": min(self._complete_on(org_id, c) or date.min for c in self._heard(connections)),
                "last_event_at": self.newest.get((org_id, app_id)),
                "sources": ",".join(sorted({self.connectors[c] for c in connections})),
            }
            for (org_id, app_id), connections in self._sources.items()
        }


def _is_of(row: Row, org_id: str, app_id: str) -> bool:
    return (row["org_id"], row["app_id"]) == (org_id, app_id)


def is_on_leave(person: Row, day: date) -> bool:
    since = person["on_leave_from"]
    return since is not None and since <= day <= (person["on_leave_to"] or date.max)


def has_left(person: Row, day: date, since: str = "left_on") -> bool:
    """Unless hired again since."""
    left = person.get(since) or date.max
    is_back = person["started_on"] is not None and left < person["started_on"] <= day
    return left <= day and not is_back


def _is_at_work(person: Row, day: date) -> bool:
    has_begun = person["started_on"] is None or person["started_on"] <= day
    is_sent_home = has_left(person, day, "garden_leave_from")
    return has_begun and not has_left(person, day) and not is_sent_home and not is_on_leave(person, day)


def _surest(counts: Counter[tuple[str, str]]) -> int:
    """Of what sources counted on one day, each a kind and a connector: what the surest did that saw most."""
    kind = min((kind for kind, _ in counts), key=SUREST.index)
    return max(count for (seen, _), count in counts.items() if seen == kind)


def _percentile(values: list[int], share: float) -> float:
    """Of sorted values, between two of them in proportion."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def rounded(number: float) -> float:
    return float(Decimal(repr(number)).quantize(Decimal("0.000001"), ROUND_HALF_UP))


def _label(trend: float, delta: int) -> str:
    if abs(trend) < 0.1 or abs(delta) < 3:
        return "flat"
    return "growing" if delta > 0 else "shrinking"


def is_own(account: TrueAccount) -> bool:
    """It is listed by its own app, and not by an identity provider that lets people in."""
    return account.app_id == account.connector
