"""Seats, what licences waste, and the access of people who left, counted from the sandbox's truth as in `recount`.

It is about a first run, at which every listing is read once: an account is then as old as it says, and has been since
as it is now.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from ingestion.sandbox import Sandbox
from ingestion.sandbox.sandbox import TrueAccount, TrueEvent
from tests.recount import LOG_INS, SILENT_ABOUT_CREATION, Recount, Row, has_left, is_on_leave, is_own, rounded

STATES = ("exempt", "undeprovisioned", "suspended", "unknown", "active", "grace", "never_used", "idle")
RECLAIMABLE = ("idle", "never_used", "undeprovisioned", "suspended")
# Slack bills for who did any of these lately; an administrator's work on accounts is none.
BILLED_AFTER = {"user_login", "file_downloaded", "file_uploaded", "user_channel_join", "public_channel_created"}
BILLED_FOR = timedelta(days=28)
GRACE = timedelta(days=1)


class Seat(NamedTuple):
    org_id: str
    app_id: str
    license_name: str
    account: TrueAccount
    days: frozenset[date]  # of the as-of day's month: those on which it goes by the name


class LicenseRecount(Recount):
    """The three tables, keyed as they are published."""

    # ---- contracts and seats

    def _contracts(self, org_id: str, app_id: str, day: date) -> dict[str, list[Row]]:
        """Licence -> its contracts in force on a day."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.truth.product["app_contracts"]:
            is_in_force = row["starts_on"] <= day and (row["ends_on"] is None or day <= row["ends_on"])
            if (row["org_id"], row["app_id"]) == (org_id, app_id) and is_in_force:
                found[row["license_name"]].append(row)
        return found

    def _listed_license(self, account: TrueAccount) -> str | None:
        """What an account's listing says that it holds. Free licences are none."""
        if account.app_id == account.connector == "slack":
            is_member = account.account_kind not in ("service", "external") and not account.closed_at
            is_billed = any(self.now - e.occurred_at < BILLED_FOR for e in self._own_events(account, BILLED_AFTER))
            return "Billed" if is_member and is_billed else None
        if account.app_id in ("zoom", "google_workspace") and account.app_id == account.connector:
            return account.license_name if account.license_name != "basic" else None
        if account.app_id in ("zoom", "slack") and account.app_id in self._own_apps(account.org_id):
            return None  # the app's own listing names who holds a licence; Okta's assignments do not
        return "the only one there is" if not account.closed_at else None

    def _licenses(self, account: TrueAccount) -> dict[date, str]:
        """Day -> the licence that an account holds, by the name of its contract, or of the only one on the day."""
        listed = self._listed_license(account)
        if listed is None:
            return {}
        named, only = self._contract_names[account.org_id, account.app_id]
        return dict.fromkeys(only, listed) if listed in named else {day: n for day, n in only.items() if n}

    @cached_property
    def _contract_names(self) -> dict[tuple[str, str], tuple[set[str], dict[date, str | None]]]:
        """App -> the names of its contracts, and of the only one on each day of the month, else on the as-of day."""
        found = {}
        for org_id, app_id in {(account.org_id, account.app_id) for account in self.truth.accounts}:
            as_of = self._last_day(org_id, app_id)
            last = list(self._contracts(org_id, app_id, self._last_contracted(org_id, app_id, as_of)))
            only: dict[date, str | None] = {}
            for day in (as_of.replace(day=n) for n in range(1, as_of.day + 1)):
                bought = list(self._contracts(org_id, app_id, day))
                only[day] = None if len(last) != 1 else bought[0] if len(bought) == 1 else last[0]
            rows = self.truth.product["app_contracts"]
            named = {row["license_name"] for row in rows if (row["org_id"], row["app_id"]) == (org_id, app_id)}
            found[org_id, app_id] = (named, only)
        return found

    def _last_contracted(self, org_id: str, app_id: str, day: date) -> date:
        """The day, or the last one before it on which any contract was in force."""
        rows = self.truth.product["app_contracts"]
        begun = [row for row in rows if (row["org_id"], row["app_id"]) == (org_id, app_id) and row["starts_on"] <= day]
        return max((min(row["ends_on"] or day, day) for row in begun), default=day)

    def _own_apps(self, org_id: str) -> set[str]:
        return {account.app_id for account in self.truth.accounts if account.org_id == org_id and is_own(account)}

    def _last_day(self, org_id: str, app_id: str) -> date:
        """The as-of day; of an app that nothing shows, yesterday."""
        if (org_id, app_id) in self._sources:
            return self.as_of(org_id, app_id)
        return self._day(org_id, self.now) - timedelta(days=1)

    @cached_property
    def seats(self) -> list[Seat]:
        found = []
        for account in self.truth.accounts:
            days: dict[str, set[date]] = defaultdict(set)
            for day, license_name in self._licenses(account).items():
                days[license_name].add(day)
            for license_name, of in days.items():
                found.append(Seat(account.org_id, account.app_id, license_name, account, frozenset(of)))
        return found

    def _assigned_on(self, account: TrueAccount) -> date | None:
        is_silent = account.connector in SILENT_ABOUT_CREATION
        return None if is_silent else self._day(account.org_id, account.created_at)

    def _cannot_log_in(self, account: TrueAccount) -> bool:
        if account.app_id == account.connector == "okta":
            person = self._people.get((account.org_id, account.person_id or ""))
            return person is not None and is_on_leave(person, self._day(account.org_id, self.now))
        return account.closed_at is not None

    def _last_used(self, seat: Seat, day: date) -> date | None:
        key = (seat.org_id, seat.app_id, self._person(seat.account))
        days = [used for used in self.active[key] if used <= day]
        if is_own(seat.account) and (codes := LOG_INS.get(seat.app_id)):
            stated = [event.occurred_at for event in self._own_events(seat.account, codes)]
            days += [self._day(seat.org_id, max(stated))] if stated else []
        return max(days, default=None)

    def _is_known(self, seat: Seat, day: date) -> bool:
        key = (seat.org_id, seat.app_id, self._person(seat.account))
        is_last = day == self.as_of(seat.org_id, seat.app_id)
        until = self.expected_as_of(seat.org_id, self._sources[seat.org_id, seat.app_id]) if is_last else day
        return all((self._complete_on(seat.org_id, c) or date.min) >= until for c in self.evidence[key])

    def _idle_after(self, org_id: str, app_id: str) -> int:
        days = {row["app_id"]: row["idle_after_days"] for row in self._settings(org_id)}
        return int(days.get(app_id, days.get(None, 30)))

    def _settings(self, org_id: str) -> list[Row]:
        return [row for row in self.truth.product["usage_settings"] if row["org_id"] == org_id]

    def _exempt_until(self, account: TrueAccount | TrueEvent) -> list[date | None]:
        """The last days of the account's exemptions, None for those without an end."""
        return [
            row["expires_on"]
            for row in self.truth.product["license_exemptions"]
            if (row["org_id"], row["app_id"]) == (account.org_id, account.app_id)
            and row["account_email"].lower() == (account.account_email or "").lower()
        ]

    def _is_exempted(self, account: TrueAccount, day: date) -> bool:
        return any(until is None or day <= until for until in self._exempt_until(account))

    def state(self, seat: Seat, day: date) -> str:
        """The state of a seat at the end of a day: the first that fits."""
        account = seat.account
        key = (seat.org_id, seat.app_id, self._person(account))
        person = self._people.get((key[0], key[2]))
        is_gone = person is not None and has_left(person, day)
        if self.person_class(key[0], key[2]) == "service" or (self._is_exempted(account, day) and not is_gone):
            return "exempt"
        if is_gone:
            return "undeprovisioned"
        if self._cannot_log_in(account):
            return "suspended"
        if not self._is_known(seat, day):
            return "unknown"
        used, assigned = self._last_used(seat, day), self._assigned_on(account)
        if used and (day - used).days < self._idle_after(seat.org_id, seat.app_id):
            return "active"
        hired = person["started_on"] if person else None
        since = max((date for date in (assigned, hired) if date), default=None)
        if (since and (day - since).days < 60) or (person and is_on_leave(person, day)):
            return "grace"
        if used and person:
            unused = (used + timedelta(days=number) for number in range(1, (day - used).days + 1))
            there = [date for date in unused if not is_on_leave(person, date) and (hired is None or hired <= date)]
            if len(there) < self._idle_after(seat.org_id, seat.app_id):
                return "grace"
        access = self.access.get(key)
        start, idle_after = self._history_start(seat.org_id), self._idle_after(seat.org_id, seat.app_id)
        if used is None and access is not None and start <= access:
            return "never_used"
        return "unknown" if used is None and (day - start).days + 1 < 0.9 * idle_after else "idle"

    def _is_held(self, seat: Seat, day: date) -> bool:
        assigned = self._assigned_on(seat.account)
        return day in seat.days and (assigned is None or assigned <= day)

    @cached_property
    def license_seats(self) -> dict[tuple[str, str, str, str], Row]:
        """A row per seat at the end of the as-of day."""
        rows: dict[tuple[str, str, str, str], Row] = {}
        for seat in self.seats:
            as_of = self.as_of(seat.org_id, seat.app_id)
            if not self._is_held(seat, as_of):
                continue
            person_id, state = self._person(seat.account), self.state(seat, as_of)
            is_known = self._is_known(seat, as_of)
            usage = self.user_app_usage[seat.org_id, person_id, seat.app_id]
            rate = usage["active_day_rate_30"]
            email = seat.account.account_email
            rows[seat.org_id, seat.app_id, seat.license_name, seat.account.account_id] = {
                "person_id": person_id,
                "user_email": email.lower() if email else None,
                "seat_state": state,
                "is_underused": state == "active" and rate is not None and rate < 0.3 and not usage["is_partial"],
                "last_used_date": self._last_used(seat, as_of) if is_known else None,
                "assigned_on": self._assigned_on(seat.account),
                "usage_known": is_known,
                "is_final": is_known and self.is_final(seat.org_id, seat.app_id),
                **{name: usage[name] for name in ("is_partial", "data_complete_ratio", "sources")},
                "as_of_date": as_of,
            }
        return rows

    @cached_property
    def license_utilization(self) -> dict[tuple[str, str, str], Row]:
        """A row per licence that is bought or held on the as-of day."""
        apps = {(row["org_id"], row["app_id"]) for row in self.truth.product["app_contracts"]}
        rows: dict[tuple[str, str, str], Row] = {}
        for org_id, app_id in apps | {seat[:2] for seat in self.seats}:
            as_of = self._last_day(org_id, app_id)
            bought = self._contracts(org_id, app_id, as_of)
            held = {seat.license_name for seat in self.seats if seat[:2] == (org_id, app_id) and as_of in seat.days}
            for name in bought.keys() | held:
                rows[org_id, app_id, name] = self._utilization(org_id, app_id, name, as_of)
        return rows

    def _utilization(self, org_id: str, app_id: str, name: str, as_of: date) -> Row:
        seats = [seat for seat in self.seats if seat[:3] == (org_id, app_id, name)]
        is_listed = any(row[:2] == (org_id, app_id) for row in self.seats)
        contracts = self._contracts(org_id, app_id, as_of).get(name, [])
        purchased = sum(row["purchased"] for row in contracts) if contracts else None
        states = Counter(self.state(seat, as_of) for seat in seats if self._is_held(seat, as_of))
        assigned = sum(states.values()) if is_listed else None
        own = [row for key, row in self.license_seats.items() if key[:3] == (org_id, app_id, name)]
        underused = sum(row["is_underused"] for row in own)
        counts = {state: states[state] if is_listed else None for state in STATES}
        row: Row = {
            "purchased": purchased,
            "assigned": assigned,
            "unassigned": None if None in (purchased, assigned) else max(0, (purchased or 0) - (assigned or 0)),
            "over_assigned": None if None in (purchased, assigned) else max(0, (assigned or 0) - (purchased or 0)),
            **counts,
            "active": states["active"] - underused if is_listed else None,
            "underused": underused if is_listed else None,
        }
        in_use, countable = states["active"], (assigned or 0) - states["exempt"] - states["unknown"]
        is_known = is_listed and states["unknown"] <= (assigned or 0) * 0.1
        days = [as_of.replace(day=n) for n in range(1, as_of.day + 1)]
        wasted = [
            self._wasted(org_id, app_id, name, day) for day in days if self._contracts(org_id, app_id, day).get(name)
        ]
        is_priced = bool(wasted) and None not in wasted
        price = self.price(contracts[0]) if contracts else None
        term = self._term(contracts[0], as_of) if contracts else None
        minimum = contracts[0].get("minimum_purchased") if contracts else None
        in_year = (date(as_of.year + 1, 1, 1) - date(as_of.year, 1, 1)).days
        savings = self._wasted(org_id, app_id, name, as_of, None if minimum is None else (purchased or 0) - minimum)
        released = self._released(org_id, app_id, name, term[0], as_of) if term else []
        saved_days = sum(seats * (term[1] - day).days for day, seats in released) if term else 0
        return row | {
            "allocation_rate": min(1.0, assigned / purchased) if purchased and assigned is not None else None,
            "utilization_rate": min(1.0, in_use / purchased) if purchased and is_known else None,
            "assigned_utilization_rate": in_use / countable if countable > 0 and is_known else None,
            "reclaimable_seats": sum(states[state] for state in RECLAIMABLE) if is_listed else None,
            "wasted_spend_month": float(sum(each or 0 for each in wasted)) / in_year if is_priced else None,
            "potential_annual_savings": None if savings is None else float(savings),
            "realised_savings": rounded(float(price) * saved_days / in_year) if price is not None and term else None,
            "realised_seats": sum(seats for _, seats in released) if term else None,
            "minimum_purchased": minimum,
            "cost_per_seat": None if price is None else float(price) / 12,
            "realisable_on": term[1] if term else None,
            "currency": self.currency(contracts[0]) if contracts else None,
            "price_status": "no_contract" if not contracts else "unpriced" if price is None else None,
            "is_small": (purchased is not None and purchased < 5) or (assigned is not None and countable < 5),
            "usage_known": is_known,
            "is_final": is_known and self.is_final(org_id, app_id),
            "sources": self._names(self._sources[org_id, app_id]) if (org_id, app_id) in self._sources else None,
            "data_complete_ratio": (assigned - states["unknown"]) / assigned if assigned else None,
            "as_of_date": as_of,
        }

    @staticmethod
    def _term(contract: Row, as_of: date) -> tuple[date, date] | None:
        """First day of the term, and of the next one: an open contract's is its bill's."""
        start, months = contract["starts_on"], {"month": 1, "year": 12}.get(contract.get("billing_period"))
        if contract["ends_on"]:
            return start, contract["ends_on"] + timedelta(days=1)
        if months is None:
            return None
        at = start.year * 12 + start.month - 1  # in the sandbox terms begin with a month
        bills = [date(month // 12, month % 12 + 1, 1) for month in range(at, at + 36, months)]
        return max(day for day in bills if day <= as_of), min(day for day in bills if day > as_of)

    def _released(self, org_id: str, app_id: str, name: str, first: date, last: date) -> list[tuple[date, int]]:
        """Day -> seats fewer than were bought before, and not bought again; in a first run nobody gave one back."""
        days = [first + timedelta(days=n) for n in range(-1, (last - first).days + 1)]
        bought = [sum(row["purchased"] for row in self._contracts(org_id, app_id, day).get(name, [])) for day in days]
        fewer = [bought[n - 1] - max(bought[n:]) for n in range(1, len(days))]
        return [(day, seats) for day, seats in zip(days[1:], fewer, strict=True) if seats > 0]

    def _wasted(self, org_id: str, app_id: str, name: str, day: date, most: int | None = None) -> Decimal | None:
        """A year's price of what was wasted on a day, of no more seats than `most`; None if that is not known."""
        contracts = self._contracts(org_id, app_id, day).get(name)
        if not contracts or not any(seat[:2] == (org_id, app_id) for seat in self.seats):
            return None
        [contract] = contracts  # in the sandbox terms follow one another
        held = [seat for seat in self.seats if seat[:3] == (org_id, app_id, name) and self._is_held(seat, day)]
        reclaimable = sum(self.state(seat, day) in RECLAIMABLE for seat in held)
        wasted = min(reclaimable + max(0, contract["purchased"] - len(held)), contract["purchased"])
        price = self.price(contract)
        return None if price is None else (wasted if most is None else min(wasted, max(0, most))) * price

    # ---- people who left

    def _is_held_by_law(self, account: TrueAccount | TrueEvent) -> bool:
        """Exempt until a day that has not passed: the only exemption that outlives a job."""
        today = self._day(account.org_id, self.now)
        return any(until is not None and today <= until for until in self._exempt_until(account))

    @cached_property
    def offboarded_access(self) -> dict[tuple[str, str, str, str], Row]:
        """A row per account of a leaver that was used, is open, or costs a seat, after a day of grace."""
        ended = {
            key: min(person["left_on"] or date.max, (person.get("garden_leave_from") or date.max) - timedelta(days=1))
            for key, person in self._people.items()
        }
        left = {key: day for key, day in ended.items() if day < self._day(key[0], self.now) - GRACE}
        is_sent_home = {
            key: (self._people[key]["left_on"] or date.max) >= self._day(key[0], self.now) - GRACE for key in left
        }
        findings: dict[tuple[str, str, str, str], list[tuple[int, TrueEvent | None]]] = defaultdict(list)
        listed = {(a.connection_id, a.account_id) for a in self.truth.accounts if is_own(a)}
        for event in self.truth.events:
            owner = (event.org_id, event.person_id or "")
            is_human = event.is_activity and event.account_kind == "employee"
            if owner not in left or not is_human or self._day(event.org_id, event.occurred_at) <= left[owner] + GRACE:
                continue
            if self._is_held_by_law(event):
                continue
            # Zoom's log names an account by its e-mail, which is all there is of one that was deleted
            is_nameless = event.connector == "zoom" and (event.connection_id, event.account_id) not in listed
            account_id = str(event.account_email).lower() if is_nameless else event.account_id
            severity = 4 if event.source_kind == "oauth_grant" else 1
            findings[*owner, event.app_id, account_id].append((severity, event))
        seats = {(seat.app_id, seat.account) for seat in self.seats}
        for account in self.truth.accounts:
            owner = (account.org_id, account.person_id or "")
            if owner not in left:
                continue
            is_open = account.closed_at is None and not self._cannot_log_in(account)
            key = (*owner, account.app_id, account.account_id)
            if is_open or ((account.app_id, account) in seats and not is_sent_home[owner]):
                findings[key].append((2 if is_open else 3, None))
            if self._is_held_by_law(account):
                findings.pop(key, None)
        rows: dict[tuple[str, str, str, str], Row] = {}
        for key, found in findings.items():
            overdue = datetime.combine(left[key[:2]] + GRACE + timedelta(days=1), time(), self._zones[key[0]])
            uses = [(severity, event.occurred_at, _landed_id(event)) for severity, event in found if event]
            _, evidence_at, event_id = min(uses, default=(0, None, None))
            sources = {event.connector for _, event in found if event and event.occurred_at == evidence_at}
            rows[key] = {
                "severity": min(severity for severity, _ in found),
                "left_on": self._people[key[:2]]["left_on"],
                "access_ended_on": left[key[:2]],
                "is_suspended_expected": is_sent_home[key[:2]],
                "evidence_source": min(sources, default=None),
                "evidence_at": evidence_at,
                "detected_at": max(self.now, overdue),
                "usage_known": self.user_app_usage[key[:3]]["usage_known"],
                "sources": self.user_app_usage[key[:3]]["sources"],
            }
            if event_id != "":
                rows[key]["evidence_event_id"] = event_id
        return rows


def _landed_id(event: TrueEvent) -> str:
    """The id that an event has in the warehouse, empty where its vendor gives it none."""
    if event.event_id is None:
        return ""
    vendors = event.event_id
    if event.connector == "google_workspace":  # an activity holds several events, which the warehouse counts from 1
        activity, _, index = vendors.rpartition("/")
        vendors = f"{activity}/{int(index) + 1}"
    return f"{event.stream}:{event.connection_id}:{vendors}"


def recounted_licenses(sandbox: Sandbox) -> dict[str, dict[tuple[Any, ...], Row]]:
    """What the product's three tables must hold after a first run, by name and key."""
    recount = LicenseRecount.of(sandbox)
    return {
        "license_seats": dict(recount.license_seats),
        "license_utilization": dict(recount.license_utilization),
        "offboarded_access": dict(recount.offboarded_access),
    }
