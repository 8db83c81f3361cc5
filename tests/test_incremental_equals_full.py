"""Histories drawn at random: built load by load, killed on the way, they end as one build of everything does.

What is drawn: customers whose time zones are told late or change; events that come late, twice, corrected, moved to
another day or after a newer copy; loads that are split, cut off, resumed, and committed in the opposite order of
their ids; connections that fail for days, or end and are taken up again; accounts that are suspended, deleted and
licensed; addresses that turn out to be somebody's and do not.

`HISTORIES=200 uv run pytest -n 0 tests/test_incremental_equals_full.py` draws so many, other ones every time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.flow_support import copy_project, differences
from tests.models_support import (
    AS_TOLD,
    GOOGLE,
    Row,
    Warehouse,
    contract,
    employee,
    ended,
    fetches,
    google_license,
    google_user,
    login,
    org,
    utc,
)

pytestmark = pytest.mark.stress

Draw = Callable[[st.SearchStrategy[Any]], Any]
Tables = dict[str, list[Row]]

drawn = settings(
    max_examples=int(os.environ.get("HISTORIES", "3")),
    derandomize="HISTORIES" not in os.environ,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # an example takes seconds: to make a failing one smaller would take the day
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

# What says how the present state came about, and may differ: ledger_id counts builds, and a copy that says nothing new
# is dropped when it comes later, so that last_loaded_at is when the first of such copies came, or the last, and an
# event's load is the one that brought that copy. The ledger of restatements is nothing but the way here.
BOOKKEEPING = ("ledger_id", "last_loaded_at", "evidence_load_id")
ZONES = {"acme": "America/Los_Angeles", "globex": "Asia/Kolkata", "initech": "Pacific/Auckland"}
START = "2025-10-20 00:00"
CLOCKS = ("2026-01-20 12:00", "2026-01-22 12:00", "2026-01-25 12:00", "2026-02-01 20:00")
LATER = "2026-03-20 12:00"
# around the ends of daylight saving time, of a year, of 28-day blocks and of the trailing windows
DAYS = ("2025-10-26", "2025-11-02", "2025-12-01", "2025-12-28", "2025-12-29", "2026-01-03", "2026-01-05", "2026-01-19")
DAYS += ("2026-01-20", "2026-01-21", "2026-01-24", "2026-01-25", "2026-01-26", "2026-01-31", "2026-02-01", "2026-02-03")
HOURS = ("00:30", "05:00", "07:30", "08:30", "11:00", "18:45", "23:30")
PEOPLE = ("ann", "bob", "cid")
LICENSE = "Business Standard"
SECOND = "-2"  # a vendor's second connection of a customer
STREAMS = {
    ("google_workspace", "login"): ("login_success", "login_failure"),
    ("google_workspace", "saml"): ("login_success", "login_failure"),
    ("google_workspace", "token"): ("authorize", "activity", "revoke"),
    ("okta", "system_log"): ("SUCCESS", "FAILURE"),
    ("zoom", "activities"): ("Sign in", "Sign out"),
}
# the last model of a build that is killed: with it goes all that it stands on, and nothing else
LAST_MODELS = (
    "stg_loads",
    "stg_google_workspace__events",
    "stg_okta__events",
    "int_days_touched",
    "fct_app_usage_daily",
    "int_account_blocks",
    "dim_accounts",
    "int_identities",
    "int_person_app_days",
    "int_person_app_blocks",
    "int_app_steps",
    "int_app_class_days",
)


@dataclass(repr=False)
class Load:
    load_id: str
    connector: str
    tables: Tables
    is_cut_off: bool = False  # its entry in dlt's list of completed loads comes with the next step


@dataclass(repr=False)
class Step:
    loads: list[Load] = field(default_factory=list)
    people: list[Row] = field(default_factory=list)
    zones: dict[str, str | None] = field(default_factory=dict)  # org -> time zone
    extras: dict[str, Extras] = field(default_factory=dict)  # by org
    stops_after: str | None = None


@dataclass(repr=False)
class Extras:
    """What a product may know of a customer besides; working days and holidays are others from step to step."""

    org: Row = field(default_factory=dict)
    contract: Row = field(default_factory=dict)
    departments: list[str] = field(default_factory=list)  # whom Figma is bought for
    holidays: list[date] = field(default_factory=list)


@dataclass(repr=False)
class History:
    orgs: list[str]
    steps: list[Step]

    @property
    def has_moves(self) -> bool:
        """A customer went from one time zone to another, or lost somebody: only the builds on the way can know when."""
        known = [{step.zones[org_id] for step in self.steps} - {None} for org_id in self.orgs]
        *earlier, last = ({(person["org_id"], person["person_id"]) for person in step.people} for step in self.steps)
        return any(len(zones) > 1 for zones in known) or not last.issuperset(set().union(*earlier))

    def whole(self) -> dict[str, Tables]:
        """All that ever landed, by connector."""
        tables: dict[str, Tables] = {}
        for load in (load for step in self.steps for load in step.loads):
            for table, rows in load.tables.items():
                tables.setdefault(load.connector, {}).setdefault(table, []).extend(rows)
        return tables


def event(draw: Draw, orgs: list[str], number: int) -> list[tuple[int, str, str, Row]]:
    """The copies of an event, later ones corrected: (step at which it was fetched, connector, table, row)."""
    connector, stream = draw(st.sampled_from(sorted(STREAMS)))
    org_id = draw(st.sampled_from(orgs))
    name = draw(
        st.sampled_from([f"{person}@{org_id}.com" for person in PEOPLE] + ["ann@home.net", f"noreply@{org_id}.com"])
    )
    has_id = draw(st.booleans())
    app_name = draw(st.sampled_from(["Zoom", "Figma", "Some Tool"]))
    connection_id = f"{org_id}-{connector}{draw(st.sampled_from(['', '', '', SECOND]))}"
    day = draw(st.sampled_from(DAYS))
    copies = []
    for copy in range(draw(st.sampled_from([1, 1, 1, 1, 1, 1, 2, 3]))):
        if copy and draw(st.booleans()):
            near = [other for other in DAYS if abs(date.fromisoformat(other) - date.fromisoformat(day)).days < 15]
            day = draw(st.sampled_from(near))
        code = draw(st.sampled_from(STREAMS[connector, stream]))
        at = f"{day} {draw(st.sampled_from(HOURS))}"
        earliest = next((step for step, clock in enumerate(CLOCKS) if at <= clock), len(CLOCKS) - 1)
        # few are late: those that are have their customer's days counted anew, and hide what should have had
        step = earliest if copy == 0 and draw(st.integers(0, 7)) else draw(st.integers(earliest, len(CLOCKS) - 1))
        row = {
            "connection_id": connection_id,
            "org_id": org_id,
            "event_id": f"{stream}:{connection_id}:{number}",
            "event_id_kind": "native",
            "occurred_at": utc(at),
            # no two copies at one instant, of which neither would be the newer
            "fetched_at": utc(CLOCKS[step]) + timedelta(milliseconds=10 * number + copy),
            "ip_address": draw(st.sampled_from([None, "192.0.2.1", "192.0.2.2", "192.0.2.3"])),
            "payload": "{}",
        }
        account = {"actor_email": name, "actor_id": f"id of {name}" if has_id else None}
        if has_id and connection_id.endswith(SECOND):  # which shows the same accounts, and says less of them
            account["actor_email"] = None
        if connector == "zoom":
            row |= {"email": name, "activity_type": code}
        elif connector == "okta":
            row |= account | {"actor_type": "User", "outcome": code}
            row |= {"event_type": "user.session.start"}
            if app_name != "Figma":
                row |= {"event_type": "user.authentication.sso", "app_name": app_name}
        else:
            row |= account | {"event_name": code}
            if stream != "login":
                row |= {"app_name": app_name}
        copies.append((step, connector, stream, row))
    return copies


def listings(draw: Draw, org_id: str) -> list[tuple[int, str, str, Row]]:
    """Changes of accounts, of licences and of who has which name in an app, as listings told them."""
    google = (f"{org_id}-google_workspace", org_id)
    changes: list[tuple[int, str, str, Row]] = []
    for person in PEOPLE:
        email = f"{person}@{org_id}.com"
        made = {"created": "2025-10-25 12:00"}
        for step in sorted(draw(st.sets(st.integers(0, len(CLOCKS) - 1), max_size=3))):
            state = draw(st.sampled_from([{}, {"is_suspended": True}, {"is_gone": True}]))
            user = google_user(*google, email, fetched=CLOCKS[step], **made) | state
            changes.append((step, "google_workspace", "users", user))
        for step in sorted(draw(st.sets(st.integers(0, len(CLOCKS) - 1), max_size=2))):
            held = google_license(*google, email, LICENSE, fetched=CLOCKS[step], is_gone=draw(st.booleans()))
            changes.append((step, "google_workspace", "licenses", held))
    if draw(st.booleans()):  # Okta says that ann is who has a private address in Zoom
        step = draw(st.integers(0, len(CLOCKS) - 1))
        common = {
            "connection_id": f"{org_id}-okta",
            "org_id": org_id,
            "record_id": "1",
            "account_id": "id of ann",
            "status": "ACTIVE",
            "fetched_at": utc(CLOCKS[step]),
            "is_gone": False,
            "is_complete_listing": True,
            "payload": "{}",
        }
        changes.append((step, "okta", "users", {**common, "email": f"ann@{org_id}.com"}))
        named = {"app_id": "0oa1", "app_name": "Zoom", "user_name": "ann@home.net"}
        changes.append((step, "okta", "app_users", {**common, **named}))
    return changes


def fetch_logs(draw: Draw, org_id: str, connector: str) -> list[tuple[int, str, str, Row]]:
    """A run at each step: it reads on from where the last good one ended, or fails, or comes too late.

    The connection may have ended by one of them, lately or long ago, and be taken up again by the next.
    """
    logs = []
    read_to = START
    ends_at, is_back = draw(st.sampled_from([None, None, 1, 2, 3])), draw(st.booleans())
    for step, clock in enumerate(CLOCKS):
        second = fetches(connector, f"{org_id}-{connector}{SECOND}", org_id, start=START, at=clock)
        logs += [(step, connector, "fetch_log", row) for row in second]
        if step == ends_at:
            on = f"{draw(st.sampled_from([day for day in DAYS if day < clock]))} 08:00"
            rows = ended(connector, f"{org_id}-{connector}", org_id, on=on, at=clock)
            logs += [(step, connector, "fetch_log", row) for row in rows]
        if ends_at is not None and (step == ends_at or (step > ends_at and not is_back)):
            continue
        outcome = draw(st.sampled_from(["complete", "complete", "complete", "failed", "gap"]))
        through = None if outcome == "complete" else read_to
        rows = fetches(
            connector,
            f"{org_id}-{connector}",
            org_id,
            start=read_to,
            at=clock,
            outcome=outcome,
            complete_through=through,
        )
        logs += [(step, connector, "fetch_log", row) for row in rows]
        if outcome != "failed":
            read_to = clock
    return logs


@st.composite
def histories(draw: Draw) -> History:
    orgs = sorted(draw(st.sets(st.sampled_from(sorted(ZONES)), min_size=1, max_size=2)))
    arrivals = [copy for number in range(draw(st.integers(5, 40))) for copy in event(draw, orgs, number)]
    connectors = sorted({connector for _, connector, _, _ in arrivals})
    for org_id in orgs:
        arrivals += listings(draw, org_id)
    for connector in {"google_workspace", *connectors, *(connector for _, connector, _, _ in arrivals)}:
        arrivals += [log for org_id in orgs for log in fetch_logs(draw, org_id, connector)]
    steps = [Step() for _ in CLOCKS]
    for org_id in orgs:
        changes_at = draw(st.integers(1, len(CLOCKS) - 1))
        before = draw(st.sampled_from([ZONES[org_id], ZONES[org_id], None, "Europe/London"]))
        for number, step in enumerate(steps):
            step.zones[org_id] = before if number < changes_at else ZONES[org_id]
    ids = iter(draw(st.permutations([f"{number:02}" for number in range(4 * len(CLOCKS) * 2)])))
    for begun, step in enumerate(steps):
        for connector in sorted({connector for _, connector, _, _ in arrivals}):
            brought = [(table, row) for at, by, table, row in arrivals if (at, by) == (begun, connector)]
            halves = draw(st.integers(1, 2))
            for half in range(halves):
                tables: Tables = {}
                for position, (table, row) in enumerate(brought):
                    if position % halves == half or draw(st.integers(0, 9)) == 0:  # one in ten twice
                        tables.setdefault(table, []).append(row)
                load = Load(f"{draw(st.sampled_from('ab'))}{next(ids)}", connector, tables)
                # a load that is slow to commit is there after a younger one
                last = len(steps) - 1
                slow = begun < last and draw(st.integers(0, 4)) == 0
                load.is_cut_off = slow and draw(st.booleans())
                (step if load.is_cut_off or not slow else steps[begun + 1]).loads.append(load)
        step.loads = draw(st.permutations(step.loads))
        is_whole = begun == len(steps) - 1 and draw(st.integers(0, 3)) > 0
        step.people = [person for org_id in orgs for person in people(draw, org_id, is_whole=is_whole)]
        step.stops_after = draw(st.sampled_from([None, *LAST_MODELS])) if begun < len(steps) - 1 else None
    for org_id in orgs:
        known = extras(draw)
        for step in steps:
            step.extras[org_id] = known = known if draw(st.booleans()) else with_other_days(draw, known)
    history = History(orgs, steps)
    assume("HISTORIES" in os.environ or is_eventful(history))
    return history


def is_eventful(history: History) -> bool:
    """Of the few that CI has time for, each must have something of everything."""
    loads = [load for step in history.steps for load in step.loads]
    outcomes = {row["outcome"] for load in loads for row in load.tables.get("fetch_log", [])}
    return (
        len(history.orgs) == 2
        and {load.connector for load in loads} == {connector for connector, _ in STREAMS}
        and outcomes == {"complete", "failed", "gap", "ended"}
        and not history.has_moves
        and any(load.is_cut_off for load in loads)
        and any(step.stops_after for step in history.steps)
    )


def extras(draw: Draw) -> Extras:
    known = Extras(
        {"currency": draw(st.sampled_from([None, "EUR"]))},
        {
            "minimum_purchased": draw(st.sampled_from([None, 2])),
            "billing_period": draw(st.sampled_from([None, "month"])),
        },
        sorted(draw(st.sets(st.sampled_from(["Design", "Sales"])))),
    )
    return with_other_days(draw, known)


def with_other_days(draw: Draw, known: Extras) -> Extras:
    days = st.sampled_from([date.fromisoformat(day) for day in DAYS])
    working = {"working_days": draw(st.sampled_from([None, "[7,1,2,3,4]"]))}
    return replace(known, org=known.org | working, holidays=sorted(draw(st.sets(days, max_size=3))))


def people(draw: Draw, org_id: str, *, is_whole: bool) -> list[Row]:
    """HR's list as it is at a step: addresses are somebody's, or no longer, and people are missing."""
    aliases = {"ann": ["ann@home.net"], "bob": [f"cid@{org_id}.com", f"noreply@{org_id}.com"]}
    listed = [name for name in PEOPLE if name == "ann" or is_whole or draw(st.integers(0, 5))]
    rows = []
    for name in listed:
        known = [f'"{alias}"' for alias in aliases.get(name, []) if draw(st.booleans())]
        left = draw(st.sampled_from([None, None, date(2026, 1, 15)])) if name == "cid" else None
        more: Row = {"department": draw(st.sampled_from([None, "Design", "Sales"])), "left_on": left}
        if left and draw(st.booleans()):
            more["started_on"] = date(2026, 1, 25)  # is back
        elif left:
            more["garden_leave_from"] = draw(st.sampled_from([None, date(2026, 1, 5)]))
        rows.append(employee(org_id, name, alias_emails=f"[{','.join(known)}]", **more))
    return rows


def land_product(
    warehouse: Warehouse,
    load_id: str,
    orgs: dict[str, str | None],
    employees: list[Row],
    extras: dict[str, Extras],
) -> None:
    warehouse.land(
        "product",
        load_id,
        {
            "orgs": [org(org_id, zone) | extras[org_id].org for org_id, zone in orgs.items()],
            "employees": employees,
            "exchange_rates": [{"currency": "USD", "starts_on": date(2025, 1, 1), "rate": 0.9}],
            "app_contracts": [
                contract(org_id, "google_workspace", LICENSE, 3, "120", **extras[org_id].contract) for org_id in orgs
            ],
            "app_target_groups": [
                {"org_id": org_id, "app_id": "figma", "department": department}
                for org_id in orgs
                for department in extras[org_id].departments
            ],
            "org_holidays": [
                {"org_id": org_id, "holiday_on": day} for org_id in orgs for day in extras[org_id].holidays
            ],
            "app_states": [
                {"org_id": org_id, "app_id": "figma", "state": "in_review", "changed_at": utc("2025-11-01")}
                for org_id in orgs
            ],
        },
    )


def land_step_by_step(warehouse: Warehouse, history: History) -> None:
    cut_off: list[Load] = []
    for number, step in enumerate(history.steps):
        land_product(warehouse, f"p{number}", step.zones, step.people, step.extras)
        for load in cut_off:
            warehouse.land(load.connector, load.load_id, {})
        for load in step.loads:
            warehouse.land(load.connector, load.load_id, load.tables, completes=not load.is_cut_off)
        cut_off = [load for load in step.loads if load.is_cut_off]
        warehouse.build(*(["--select", f"+{step.stops_after}"] if step.stops_after else []))


def land_at_once(warehouse: Warehouse, history: History, *, neighbour: str | None = None) -> None:
    """Everything in two loads for each vendor, the rows in the opposite order, and the first of them twice.

    `neighbour` is one more customer, who has all that the first one has, in another time zone.
    """
    orgs = dict(history.steps[-1].zones)
    employees = history.steps[-1].people
    extras = dict(history.steps[-1].extras)
    if neighbour is not None:
        orgs |= {neighbour: "Pacific/Kiritimati"}
        extras[neighbour] = extras[history.orgs[0]]
        employees = employees + moved_to(neighbour, history.orgs[0], employees)
    land_product(warehouse, "p", orgs, employees, extras)
    for connector, tables in history.whole().items():
        loads: tuple[Tables, Tables] = ({}, {})
        for table, rows in tables.items():
            every = [*rows, *(moved_to(neighbour, history.orgs[0], rows) if neighbour is not None else [])][::-1]
            loads[0][table], loads[1][table] = every[::2], [*every[1::2], *every[:1]]
        for load_id, load in zip("21", loads, strict=True):
            warehouse.land(connector, load_id, load)


def moved_to(neighbour: str, org_id: str, rows: list[Row]) -> list[Row]:
    """The rows of a customer as another's."""
    return [
        {name: value.replace(org_id, neighbour) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
        if row["org_id"] == org_id
    ]


def told(warehouse: Warehouse, orgs: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    """Every mart's rows about these customers."""
    listed = ", ".join(f"'{org_id}'" for org_id in orgs)
    marts = [path.stem for path in warehouse.project.glob("models/marts/*/*.sql")]
    about_orgs = [mart for mart in marts if mart not in {"dim_apps", *AS_TOLD}]
    of_orgs = warehouse.contents(*about_orgs, condition=f"org_id in ({listed})", without=BOOKKEEPING)
    tables = {"int_account_hosts": "*", "int_fetches": "* exclude (batch_id)"}
    steps = {
        table: sorted(
            warehouse.query(f"select {columns} from analytics_intermediate.{table} where org_id in ({listed})"),
            key=repr,
        )
        for table, columns in tables.items()
    }
    return of_orgs | warehouse.contents("dim_apps") | steps


def same(one: dict[str, list[tuple[Any, ...]]], other: dict[str, list[tuple[Any, ...]]]) -> None:
    found = differences(one, other)
    assert not found, "\n".join(found[:20])


@pytest.fixture(scope="module")
def new_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Warehouse]:
    """Makes warehouses that stage few events at a time, so that builds of many loads work in slices."""
    project = copy_project(tmp_path_factory.mktemp("project"), data_tests=False)
    file = project / "dbt_project.yml"
    settings = file.read_text(encoding="utf-8")
    sliced = re.sub(r"events_in_memory: \d+", "events_in_memory: 10", settings)
    assert sliced != settings
    file.write_text(sliced, encoding="utf-8")
    return lambda: Warehouse(tmp_path_factory.mktemp("warehouse"), project=project)


@drawn
@given(history=histories())
def test_a_history_built_step_by_step_ends_as_one_built_at_once(
    history: History, new_warehouse: Callable[[], Warehouse]
) -> None:
    stepwise = new_warehouse()
    land_step_by_step(stepwise, history)
    incremental = told(stepwise, history.orgs)
    stepwise.build("--full-refresh")
    same(incremental, told(stepwise, history.orgs))

    if history.has_moves:
        return

    # loads split, shuffled and repeated, nothing late, and one more customer: all the same
    at_once = new_warehouse()
    land_at_once(at_once, history, neighbour="neighbour")
    at_once.build()
    same(incremental, told(at_once, history.orgs))
    # who lives by another clock did as much, on whatever days
    counted = (
        "select sum(event_count) from analytics.fct_app_usage_daily where app_id = 'google_workspace' and org_id = "
    )
    assert at_once.query(f"{counted} 'neighbour'") == at_once.query(f"{counted} '{history.orgs[0]}'")


def test_of_slices_that_a_failure_cuts_off_none_is_staged(new_warehouse: Callable[[], Warehouse]) -> None:
    """What is staged of loads that are numbered together counts as read: half of them would never be staged."""
    warehouse = new_warehouse()
    landed = [f"g{number}" for number in range(1, 4)]
    for load_id in landed:
        names = (f"{number} of {load_id}" for number in range(11))
        logins = [login(*GOOGLE, "ann@acme.com", "2026-01-05 12:00", key=name) for name in names]
        warehouse.land("google_workspace", load_id, {"login": logins})
    table = "landing_google_workspace.login"
    warehouse.execute(f"alter table {table} rename to every_login")
    warehouse.execute(
        f"create view {table} as select * replace ("
        "case when _dlt_load_id = 'g3' then error('cut off') else event_name end as event_name"
        ") from landing_google_workspace.every_login"
    )
    with pytest.raises(AssertionError, match="cut off"):
        warehouse.build(of="stg_google_workspace__events")
    warehouse.execute(f"drop view {table}")
    warehouse.execute("alter table landing_google_workspace.every_login rename to login")
    warehouse.build(of="stg_google_workspace__events")
    staged = "select load_id, count(*) from analytics_staging.stg_google_workspace__events group by 1 order by 1"
    assert warehouse.query(staged) == [(load_id, 11) for load_id in landed]


@drawn
@given(history=histories(), silent=st.sampled_from(sorted({connector for connector, _ in STREAMS})))
def test_a_merge_adds_nobody_and_a_source_that_falls_silent_makes_nobody_idle(
    history: History, silent: str, new_warehouse: Callable[[], Warehouse], lean_project: Path
) -> None:
    warehouse = new_warehouse()
    for step in history.steps:
        step.people = [employee(org_id, name) for org_id in history.orgs for name in PEOPLE]
    land_at_once(warehouse, history)
    warehouse.build()
    apart = users(warehouse)
    assert apart

    merged = [
        employee(org_id, name, alias_emails=f'["bob@{org_id}.com"]' if name == "ann" else "[]")
        for org_id in history.orgs
        for name in PEOPLE
        if name != "bob"
    ]
    land_product(warehouse, "p2", history.steps[-1].zones, merged, history.steps[-1].extras)
    warehouse.build()
    together = users(warehouse)
    assert together.keys() == apart.keys()
    for window, counts in apart.items():
        for alone, merged_count in zip(counts, together[window], strict=True):
            assert (alone is None) == (merged_count is None)
            assert alone is None or merged_count <= alone, window

    for connector in history.whole():
        rows = []
        for org_id in history.orgs:
            for which in ("", SECOND):
                connection = (connector, f"{org_id}-{connector}{which}", org_id)
                if connector == silent:
                    failed = {"outcome": "failed", "complete_through": CLOCKS[-1]}
                    rows += fetches(*connection, start=CLOCKS[-1], at=LATER, **failed)
                else:
                    rows += fetches(*connection, start=START, at=LATER)
        warehouse.land(connector, "later", {"fetch_log": rows})
    warehouse.build()
    shown = f"',' || sources || ',' like '%,{silent},%'"
    assert warehouse.query(f"select * from analytics.user_app_usage where usage_known and {shown}") == []
    states = "('active', 'grace', 'never_used', 'idle')"
    assert warehouse.query(f"select * from analytics.license_seats where seat_state in {states} and {shown}") == []

    # and every claim about the tables that holds at any time
    Warehouse(warehouse.home, project=lean_project).dbt("test", "--select", "test_type:singular")


def users(warehouse: Warehouse) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """(customer, app, day) -> its windows' people."""
    columns = "org_id, app_id, usage_date, dau, wau, mau_28, mau_30, mau_90"
    return {row[:3]: row[3:] for row in warehouse.query(f"select {columns} from analytics.app_usage_daily")}
