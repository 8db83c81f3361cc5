"""The models, on landing tables written by hand: what must come out of what arrived, in whatever order it arrived."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from dbt.compilation import Linker
from dbt.graph.selector_methods import QualifiedNameSelectorMethod
from hypothesis import given
from hypothesis import strategies as st

from ingestion import dbt_speed
from ingestion.publish.marts import read_marts
from tests.flow_support import PROJECT, copy_project
from tests.models_support import (
    GOOGLE,
    Row,
    Warehouse,
    declared_columns,
    employee,
    fetches,
    google_user,
    login,
    org,
    utc,
)

if TYPE_CHECKING:
    from tests.conftest import NewWarehouse

# The tables that log-ins alone decide, of which the ledger is what builds told in between.
TOLD = ("fct_app_usage_daily", "app_usage_daily", "app_usage", "app_usage_periods", "app_retention", "user_app_usage")
USAGE = " ".join((*TOLD, "fct_restatements"))
DAYS = "fct_app_usage_daily app_usage_daily data_freshness"


def arrivals() -> Iterator[tuple[str, dict[str, list[Row]]]]:
    """Loads in the order in which they complete: late, repeated, corrected, moved and slow ones."""
    start = "2025-10-01 07:00"

    def load(at: str, *logins: Row) -> dict[str, list[Row]]:
        people = ("alice", "bob")
        users = [google_user(*GOOGLE, f"{name}@acme.com", created="2025-10-01 12:00", fetched=at) for name in people]
        log = fetches("google_workspace", *GOOGLE, start=start, at=at)
        return {"users": users, "login": [{**row, "fetched_at": utc(at)} for row in logins], "fetch_log": log}

    alice, bob = "alice@acme.com", "bob@acme.com"
    first = [login(*GOOGLE, alice, f"2026-01-{day:02} 18:00", key=f"a{day}") for day in range(2, 20)]
    yield "g1", load("2026-01-20 12:00", *first, login(*GOOGLE, bob, "2026-01-05 18:00", key="b5"))
    yield (
        "g2",
        load(
            "2026-01-21 12:00",
            first[-1],  # again, as it was
            login(*GOOGLE, alice, "2026-01-20 18:00", key="a20"),
            login(*GOOGLE, bob, "2026-01-09 18:00", key="b5"),  # moved: the only event of the 5th is one of the 9th
            login(*GOOGLE, alice, "2026-01-19 18:00", key="a18"),  # moved onto a day that has one
            login(*GOOGLE, bob, "2025-12-24 18:00", key="b24"),  # late by a month
        ),
    )
    yield (
        "g4",
        load(
            "2026-01-24 12:00",
            login(*GOOGLE, alice, "2026-01-07 18:00", key="a7", event_name="login_failure"),
        ),
    )
    # began before g4 and committed after it: its copy of a7 is older than the one that is there
    yield (
        "g3",
        load(
            "2026-01-23 12:00",
            login(*GOOGLE, alice, "2026-01-07 18:00", key="a7"),
            login(*GOOGLE, bob, "2026-01-22 18:00", key="b22"),
        ),
    )


def land_people(warehouse: Warehouse) -> None:
    warehouse.land(
        "product",
        "p1",
        {"orgs": [org("acme")], "employees": [employee("acme", "alice"), employee("acme", "bob")]},
    )


@pytest.mark.stress
@pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)
def test_loads_one_by_one_end_as_one_build_and_as_a_full_refresh(warehouse: Warehouse, on_duckdb: Warehouse) -> None:
    """For random loads, on DuckDB: test_incremental_equals_full.py."""
    land_people(warehouse)
    for load_id, tables in arrivals():
        warehouse.land("google_workspace", load_id, tables)
        warehouse.build(of=USAGE)
    step_by_step = warehouse.contents(*TOLD)
    used = warehouse.rows("analytics.fct_app_usage_daily where event_count > 0", "account_key", "usage_date")
    assert [day.day for name, day in used if name == "bob@acme.com"] == [24, 9, 22]
    alice = [day.day for name, day in used if name == "alice@acme.com"]
    assert alice == [day for day in range(2, 21) if day not in (7, 18)]

    daus = "analytics.fct_restatements where figure = 'dau'"
    restated = ("usage_date", "old_value", "new_value", "load_ids")
    assert warehouse.rows(daus, *restated) == [
        (date(2025, 12, 24), 0, 1, "google_workspace g2"),
        (date(2026, 1, 5), 2, 1, "google_workspace g2"),
        (date(2026, 1, 7), 1, 0, "google_workspace g4"),
        (date(2026, 1, 9), 1, 2, "google_workspace g2"),
        (date(2026, 1, 18), 1, 0, "google_workspace g2"),
        (date(2026, 1, 22), 0, 1, "google_workspace g3"),
    ]
    ledger = warehouse.contents("fct_restatements")

    warehouse.build("--full-refresh", of=USAGE)
    assert warehouse.contents(*TOLD) == step_by_step
    assert warehouse.contents("fct_restatements") == ledger  # nothing twice, and nothing is forgotten

    at_once = on_duckdb
    land_people(at_once)
    for load_id, tables in arrivals():
        at_once.land("google_workspace", load_id, tables)
    at_once.build(of=USAGE)
    assert at_once.contents(*TOLD) == step_by_step


@pytest.mark.stress
def test_a_build_killed_between_two_models_is_finished_by_the_next(new_warehouse: NewWarehouse) -> None:
    killed, whole = new_warehouse("duckdb"), new_warehouse("duckdb")
    builds = (
        ("--select", *(f"+{table}" for table in USAGE.split())),
        ("--full-refresh", "--select", "+int_days_touched"),
        ("--select", "+stg_google_workspace__events"),
        ("--select", "+fct_app_usage_daily"),
    )
    for warehouse in (killed, whole):
        land_people(warehouse)
    for (load_id, tables), build in zip(arrivals(), builds, strict=True):
        killed.land("google_workspace", load_id, tables)
        killed.build(*build)
        whole.land("google_workspace", load_id, tables)
    killed.build("--full-refresh", "--select", "+int_identities")
    killed.build(of=USAGE)
    whole.build(of=USAGE)
    assert killed.contents(*TOLD) == whole.contents(*TOLD)
    told = killed.rows("analytics_intermediate.int_days_told", "usage_date", "dau", order_by="telling")
    assert dict(told) == dict(killed.rows("analytics.app_usage_daily", "usage_date", "dau"))


def test_building_one_vendor_alone_loses_nothing_of_another(on_duckdb: Warehouse) -> None:
    land_people(on_duckdb)
    zoom = {
        "connection_id": "acme-zoom",
        "org_id": "acme",
        "event_id": "activities:acme-zoom:1",
        "event_id_kind": "content_hash",
        "email": "alice@acme.com",
        "activity_type": "Sign in",
        "payload": "{}",
    }
    loads = list(arrivals())
    on_duckdb.land(
        "zoom", "z1", {"fetch_log": fetches("zoom", "acme-zoom", "acme", start="2025-10-01", at="2026-01-20")}
    )
    on_duckdb.land("google_workspace", *loads[0])
    on_duckdb.build()
    on_duckdb.land(
        "zoom",
        "z2",
        {
            "activities": [{**zoom, "occurred_at": utc("2026-01-12 18:00"), "fetched_at": utc("2026-01-21 12:00")}],
            "fetch_log": fetches("zoom", "acme-zoom", "acme", start="2025-10-01", at="2026-01-21 12:00"),
        },
    )
    on_duckdb.land("google_workspace", *loads[1])
    # both loads are numbered, and only one vendor goes all the way
    on_duckdb.build("--select", "stg_loads", "stg_google_workspace__events+")
    on_duckdb.build(of=USAGE)
    step_by_step = on_duckdb.contents(*TOLD)
    assert on_duckdb.query("select 1 from analytics.fct_app_usage_daily where app_id = 'zoom'")
    on_duckdb.build("--full-refresh", of=USAGE)
    assert on_duckdb.contents(*TOLD) == step_by_step


def test_keys_of_a_history_are_tested_where_it_may_have_changed_since_all_passed(
    on_duckdb: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> dict[str, str]:
        results = on_duckdb.dbt("build", *selected, succeeds=False)
        return {result.node.name.partition("__")[0]: str(result.status) for result in results}

    events, fact = "is_key_int_events_batch_id", "is_key_fct_app_usage_daily_usage_date"
    copies = "assert_a_new_event_is_no_old_one"
    selected = ["--exclude-resource-type", "unit_test", "--indirect-selection", "cautious"]
    selected += ["--select", "+int_identities", "--exclude", "fqn:staging.okta", "fqn:staging.slack"]
    land_people(on_duckdb)
    loads = list(arrivals())
    on_duckdb.land("google_workspace", *loads[0])
    assert {build()[test] for test in (events, fact, copies)} == {"pass"}
    tested = newest_entries(on_duckdb)

    # nothing writes into days that are over, but for this
    for table in ("analytics_staging.stg_google_workspace__events", "analytics.fct_app_usage_daily"):
        day = "occurred_at" if "staging" in table else "usage_date"
        on_duckdb.execute(f"insert into {table} select * from {table} where cast({day} as date) = '2026-01-03'")
    monkeypatch.setenv("APP_USAGE_TESTED", json.dumps(tested))
    assert {build()[test] for test in (events, fact, copies)} == {"pass"}
    monkeypatch.setenv("APP_USAGE_TESTED", json.dumps({"ledger_id": tested["ledger_id"] + 1}))  # of another ledger
    assert build()[events] == "fail"
    monkeypatch.delenv("APP_USAGE_TESTED")
    done = build()
    assert (done[events], done["fct_app_usage_daily"]) == ("fail", "skipped")

    # a vendor moves an event by more days than copies are looked for: what is new has the key of what is not
    monkeypatch.setenv("APP_USAGE_TESTED", json.dumps(tested))
    moved = login(*GOOGLE, "alice@acme.com", "2025-10-20 18:00", key="a19")
    log = fetches("google_workspace", *GOOGLE, start="2025-10-01 07:00", at="2026-01-21 12:00")
    on_duckdb.land(
        "google_workspace", "moved", {"login": [{**moved, "fetched_at": utc("2026-01-21 12:00")}], "fetch_log": log}
    )
    assert build()[copies] == "fail"


def newest_entries(warehouse: Warehouse) -> dict[str, int]:
    """How far the ledgers have come, as `app-usage` remembers it."""
    ledgers = {"ledger_id": "int_days_touched", "identity_id": "int_identities"}
    newest = {column: f"select max({column}) from analytics_intermediate.{name}" for column, name in ledgers.items()}
    return {column: warehouse.query(sql)[0][0] for column, sql in newest.items()}


def test_people_of_days_are_tested_where_an_account_was_nobodys_when_all_passed(
    on_duckdb: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(tested: dict[str, int]) -> str:
        monkeypatch.setenv("APP_USAGE_TESTED", json.dumps(tested))
        results = on_duckdb.dbt("test", "--select", test, succeeds=False)
        return next(str(result.status) for result in results if result.node.name == test)

    test = "assert_daily_users_are_the_people_of_the_fact"
    on_duckdb.land("product", "p1", {"orgs": [org("acme")], "employees": [employee("acme", "bob")]})
    for load in arrivals():
        on_duckdb.land("google_workspace", *load)
    on_duckdb.build(of="app_usage_daily")
    assert status({}) == "pass"
    tested = newest_entries(on_duckdb)

    # of days that are not told yet, too: they will be, and are not looked at then
    steps = "analytics_intermediate.int_app_steps"
    not_over = "usage_date = date '2026-03-01'"
    seven = "date '2026-03-01' as usage_date, 7 as user_count, 'human' as person_class"
    on_duckdb.execute(f"insert into {steps} select * replace ({seven}) from {steps} limit 1")
    assert status({}) == "fail"
    on_duckdb.execute(f"delete from {steps} where {not_over}")

    # HR lists alice only now, and the days of her account were not counted anew
    land_people(on_duckdb)
    on_duckdb.build(of="int_identities")
    assert status(tested) == "fail"
    assert status(newest_entries(on_duckdb)) == "pass"
    assert status({}) == "fail"


def test_rows_of_a_load_that_never_completed_are_not_counted(on_duckdb: Warehouse) -> None:
    land_people(on_duckdb)
    (_, first), (_, second), *_ = arrivals()
    on_duckdb.land("google_workspace", "g1", first)
    on_duckdb.land("google_workspace", "g2", second, completes=False)
    on_duckdb.build(of="fct_app_usage_daily")
    assert on_duckdb.query("select max(usage_date) from analytics.fct_app_usage_daily") == [(date(2026, 1, 19),)]
    on_duckdb.land("google_workspace", "g2", {})
    on_duckdb.build(of="fct_app_usage_daily")
    assert on_duckdb.query("select max(usage_date) from analytics.fct_app_usage_daily") == [(date(2026, 1, 20),)]


def test_an_account_that_turns_out_to_be_somebodys_moves_with_its_history(on_duckdb: Warehouse) -> None:
    land_people(on_duckdb)
    _, tables = next(arrivals())
    private = login(*GOOGLE, "al@home.net", "2026-01-10 20:00", fetched="2026-01-20 12:00")
    on_duckdb.land("google_workspace", "g1", {**tables, "login": [*tables["login"], private]})
    on_duckdb.build(of="app_usage_daily user_app_usage")
    daily = "select dau from analytics.app_usage_daily where usage_date = '2026-01-10'"
    stranger = "select person_class from analytics.user_app_usage where person_id like 'account:%'"
    assert on_duckdb.query(daily) == [(1,)]
    assert on_duckdb.query(stranger) == [("external",)]

    people = [employee("acme", "alice", alias_emails='["AL@home.net"]'), employee("acme", "bob")]
    on_duckdb.land("product", "p2", {"orgs": [org("acme")], "employees": people})
    on_duckdb.build(of="app_usage_daily user_app_usage")
    assert on_duckdb.query(daily) == [(1,)]  # two accounts of one person on one day are one person
    assert on_duckdb.query(stranger) == []

    land_people(on_duckdb)
    on_duckdb.build(of="app_usage_daily user_app_usage")
    assert on_duckdb.query(stranger) == [("external",)]


def test_whom_the_product_deletes_keeps_the_past_without_a_name_and_has_left(on_duckdb: Warehouse) -> None:
    land_people(on_duckdb)
    _, tables = next(arrivals())
    on_duckdb.land("google_workspace", "g1", tables)
    on_duckdb.build(of="app_usage_daily user_app_usage dim_people")
    days = on_duckdb.contents("app_usage_daily")
    person = "analytics.dim_people where person_id = 'alice'", "user_email", "full_name", "person_class", "left_on"
    user = "analytics.user_app_usage where person_id = 'alice'", "user_email", "active_days_30"
    assert on_duckdb.rows(*person) == [("alice@acme.com", "Alice", "human", None)]
    assert on_duckdb.rows(*user) == [("alice@acme.com", 18)]

    on_duckdb.land("product", "p2", {"orgs": [org("acme")], "employees": [employee("acme", "bob")]})
    on_duckdb.build(of="app_usage_daily user_app_usage dim_people")
    assert on_duckdb.contents("app_usage_daily") == days
    assert on_duckdb.rows(*person) == [(None, None, "human", date(2026, 1, 20))]
    assert on_duckdb.rows(*user) == [(None, 18)]
    remembered = on_duckdb.query("select * from analytics_snapshots.email_owners_snapshot")
    assert "alice@acme.com" not in str(remembered)

    land_people(on_duckdb)
    on_duckdb.build(of="app_usage_daily user_app_usage dim_people")
    assert on_duckdb.contents("app_usage_daily") == days
    assert on_duckdb.rows(*person) == [("alice@acme.com", "Alice", "human", None)]


def test_a_leaver_whom_the_product_deletes_stays_one_who_left_when_hr_had_said(on_duckdb: Warehouse) -> None:
    left = employee("acme", "alice", left_on=date(2026, 1, 10))
    on_duckdb.land("product", "p1", {"orgs": [org("acme")], "employees": [left, employee("acme", "bob")]})
    on_duckdb.land("google_workspace", *next(arrivals()))
    findings = "analytics.offboarded_access", "person_id", "severity", "left_on", "evidence_at"
    on_duckdb.build(of="offboarded_access dim_people")
    found = on_duckdb.rows(*findings)
    assert found == [("alice", 1, date(2026, 1, 10), utc("2026-01-12 18:00"))]

    on_duckdb.land("product", "p2", {"orgs": [org("acme")], "employees": [employee("acme", "bob")]})
    on_duckdb.build(of="offboarded_access dim_people")
    assert on_duckdb.rows(*findings) == found


def test_a_vendor_of_whose_events_nobody_says_what_is_a_use_stops_the_build(on_duckdb: Warehouse) -> None:
    land_people(on_duckdb)
    log = fetches("zoom", "acme-zoom", "acme", start="2026-01-01 00:00", at="2026-01-20 12:00")
    log[0]["stream"] = "meetings"
    on_duckdb.land("zoom", "z1", {"fetch_log": log})
    claim = "assert_a_stream_of_events_says_what_is_a_use"
    results = on_duckdb.dbt("build", "--select", f"+{claim},+int_streams", claim, "activity_types", succeeds=False)
    assert [(r.status, r.failures) for r in results if r.node.name == claim] == [("fail", 1)]


def test_an_org_without_a_usable_time_zone_is_counted_in_utc_and_named(on_duckdb: Warehouse) -> None:
    orgs = [org("acme", None), org("globex", "Mars/Olympus"), org("initech", "Asia/Kolkata")]
    on_duckdb.land("product", "p1", {"orgs": orgs, "employees": [employee(row["org_id"], "ann") for row in orgs]})
    at = "2026-01-20 12:00"
    tables: dict[str, list[Row]] = {"login": [], "fetch_log": []}
    for row in orgs:
        connection = (f"{row['org_id']}-google", row["org_id"])
        tables["login"].append(login(*connection, f"ann@{row['org_id']}.com", "2026-01-10 20:00", fetched=at))
        tables["fetch_log"] += fetches("google_workspace", *connection, start="2026-01-01 00:00", at=at)
    on_duckdb.land("google_workspace", "g1", tables)
    results = on_duckdb.build(of="user_app_usage", tests=True)
    [warning] = [result for result in results if result.node.name == "assert_every_org_has_a_known_time_zone"]
    assert (warning.status, warning.failures) == ("warn", 2)
    assert on_duckdb.rows("analytics.user_app_usage", "org_id", "last_used_date") == [
        ("acme", date(2026, 1, 10)),
        ("globex", date(2026, 1, 10)),
        ("initech", date(2026, 1, 11)),
    ]


def test_a_customer_no_account_of_which_is_an_employees_is_named(on_duckdb: Warehouse) -> None:
    """Else all its figures of people are 0, and nothing says why."""
    orgs = ["acme", "globex", "initech"]
    people = [employee("globex", "ann", email="ann@elsewhere.com"), employee("initech", "ann")]
    on_duckdb.land("product", "p1", {"orgs": [org(name, "UTC") for name in orgs], "employees": people})
    at = "2026-01-20 12:00"
    tables: dict[str, list[Row]] = {"login": [], "fetch_log": []}
    for name in orgs:
        connection = (f"{name}-google", name)
        tables["login"].append(login(*connection, f"ann@{name}.com", "2026-01-10 20:00", fetched=at))
        tables["fetch_log"] += fetches("google_workspace", *connection, start="2026-01-01 00:00", at=at)
    on_duckdb.land("google_workspace", "g1", tables)
    results = on_duckdb.build(of="dim_accounts", tests=True)
    [warning] = [result for result in results if result.node.name == "assert_an_org_has_accounts_of_its_people"]
    assert (warning.status, warning.failures) == ("warn", 2)
    named = on_duckdb.query(warning.node.compiled_code)
    assert sorted(named) == [("acme",), ("globex",)]


def test_a_customer_that_moves_keeps_the_days_that_are_over(on_duckdb: Warehouse) -> None:
    """A first time zone has always been the customer's, however late it is told; others count from then on."""

    def used(time_zone: str | None, load_id: str, at: str, *instants: str) -> list[date]:
        on_duckdb.land("product", f"p {load_id}", {"orgs": [org("acme", time_zone)]})
        if instants:
            logins = [login(*GOOGLE, "ann@acme.com", instant, fetched=at) for instant in instants]
            log = fetches("google_workspace", *GOOGLE, start="2026-01-01 00:00", at=at)
            on_duckdb.land("google_workspace", load_id, {"login": logins, "fetch_log": log})
        on_duckdb.build(of=DAYS)
        return [day for (day,) in on_duckdb.rows("analytics.fct_app_usage_daily", "usage_date")]

    begun = used("Mars/Olympus", "g1", "2026-01-15 12:00", "2026-01-10 03:00")
    assert begun == [date(2026, 1, 10)]
    begun = used("America/Los_Angeles", "none", at="")
    assert begun == [date(2026, 1, 9)]
    # it is in Tokyo since this build, and neither what happened before nor what comes late of that is
    moved = used("Asia/Tokyo", "g2", "2026-01-22 12:00", "2026-01-21 20:00", "2026-01-12 03:00")
    assert moved == [*begun, date(2026, 1, 11), date(2026, 1, 21)]
    settled = used("Mars/Olympus", "g3", "2026-01-24 12:00", "2026-01-23 20:00", "2026-01-13 03:00")
    assert settled == [date(2026, 1, day) for day in (9, 11, 12, 21, 24)]
    assert on_duckdb.rows("analytics.data_freshness", "complete_through") == [(date(2026, 1, 23),)]
    # where that is the product no longer says
    assert used(None, "g4", "2026-01-25 16:00", "2026-01-24 20:00") == [*settled, date(2026, 1, 25)]
    assert on_duckdb.rows("analytics.data_freshness", "complete_through") == [(date(2026, 1, 25),)]

    step_by_step = on_duckdb.contents(*DAYS.split())
    on_duckdb.build("--full-refresh", of=DAYS)
    assert on_duckdb.contents(*DAYS.split()) == step_by_step


def test_the_earliest_use_that_is_accepted_is_on_a_day_of_the_calendar(on_duckdb: Warehouse) -> None:
    """2000-01-01 UTC is a vendor's date for "unknown", and in America the day before: nobody leaves who never came."""
    orgs, employees = [org("acme", "America/Los_Angeles")], [employee("acme", "alice")]
    on_duckdb.land("product", "p1", {"orgs": orgs, "employees": employees})
    uses = [
        {**login(*GOOGLE, "alice@acme.com", at), "fetched_at": utc("2026-01-20 12:00")}
        for at in ("2000-01-01 00:30", "2026-01-15 18:00")
    ]
    log = fetches("google_workspace", *GOOGLE, start="2025-10-01 08:00", at="2026-01-20 12:00")
    on_duckdb.land("google_workspace", "g1", {"login": uses, "fetch_log": log})
    on_duckdb.build(of="app_usage_daily")
    daily = "analytics.app_usage_daily where app_id = 'google_workspace'"
    assert on_duckdb.query(f"select min(usage_date), min(wau), max(wau), min(mau_90) from {daily}") == [
        (date(1999, 12, 31), 0, 1, 0)
    ]


def test_a_template_sees_what_dbt_alone_would_show_it(tmp_path: Path) -> None:
    asked = (
        "{% for name in context.keys() | sort %}{{ name }}: {{ (context[name].macro or {}).unique_id }}, {% endfor %}"
        "{{ usage_warehouse.block_starts_on('day') }} {{ trailing(7) }} {{ dbt.date_trunc('week', 'day') }}"
    )
    command = ["--quiet", "compile", "--inline", asked, "--target-path", str(tmp_path / "target")]
    project = copy_project(tmp_path / "project", data_tests=False)
    (project / "macros" / "log.sql").write_text("{% macro log(message) %}{% endmacro %}")  # in place of dbt's own
    spare = "from ingestion.dbt_speed import spare_dbt_idle_work; spare_dbt_idle_work()"
    alone, spared = (
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", f"{prepare}; from dbt.cli.main import cli; cli()", *command],
            cwd=project,
            env=os.environ | {"APP_USAGE_HOME": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for prepare in ("pass", spare)
    )
    assert "log: macro.usage_warehouse.log, " in alone
    assert "trailing: macro.usage_warehouse.trailing, " in alone
    assert spared == alone


SEGMENTS = st.sampled_from(["app_usage", "staging", "zoom", "stg_zoom", "v2", "a.b", "x"])


@given(
    fqn=st.lists(SEGMENTS, min_size=3, max_size=4),
    name=st.lists(SEGMENTS | st.sampled_from(["*", "stg_?oom", "[sz]*"]), min_size=1, max_size=4).map(".".join),
    is_versioned=st.booleans(),
)
def test_a_name_selects_what_dbt_alone_would_select(fqn: list[str], name: str, is_versioned: bool) -> None:
    method = QualifiedNameSelectorMethod(None, None, [])  # type: ignore[arg-type]
    alone = dbt_speed._node_is_match(method, name, fqn, is_versioned)
    assert dbt_speed._is_named(method, name, fqn, is_versioned) == alone


def test_models_that_need_each_other_are_refused_as_dbt_alone_would() -> None:
    linker = Linker()
    linker.dependency("b", "a")
    assert dbt_speed._cycles(linker) is None
    linker.dependency("a", "b")
    assert dbt_speed._cycles(linker) == dbt_speed._find_cycles(linker) == "b --> a"


def test_an_empty_warehouse_builds_and_passes_every_test(warehouse: Warehouse) -> None:
    """Of all vendors. On DuckDB the unit tests are run by `dbt build` on what a run left: test_command_line."""
    whole = replace(warehouse, project=PROJECT)
    whole.dbt("build", *(() if whole.dsn else ("--exclude-resource-type", "unit_test")))
    assert warehouse.query("select count(*) from analytics.user_app_usage") == [(0,)]
    assert warehouse.query("select count(*) from analytics.app_usage_daily") == [(0,)]


def test_what_a_vendor_may_leave_null_stops_nothing(on_duckdb: Warehouse) -> None:
    """Of every vendor a row of each table that says nothing but where it is from, and of the product's tables, too."""
    whole = replace(on_duckdb, project=PROJECT)
    at = utc("2026-01-20 12:00")
    said = {
        "connection_id": "nil",
        "org_id": "nil",
        "event_id": "nil",
        "event_id_kind": "native",
        "record_id": "nil",
        "person_id": "nil",
        "occurred_at": utc("2026-01-10 12:00"),
        "fetched_at": at,
    }
    with (PROJECT / "seeds" / "activity_types.csv").open(encoding="utf-8", newline="") as file:
        streams = {row["connector"]: row["stream"] for row in csv.DictReader(file)}
    vendors: dict[str, dict[str, list[Row]]] = defaultdict(dict)
    for (connector, table), columns in declared_columns().items():
        if table in ("_dlt_loads", "rejected_records"):
            continue
        row = {name: value for name, value in said.items() if name in columns}
        if "connection_id" in columns:
            row |= {"connection_id": f"nil-{connector}", "event_id": f"{table}:nil-{connector}"}
        if table == "fetch_log":
            kind = "events" if connector in streams else "accounts"
            row |= {"stream": streams.get(connector, "nil"), "stream_kind": kind, "outcome": "failed"}
        vendors[connector][table] = [{name: value for name, value in row.items() if name in columns}]
    _, google = next(arrivals())
    for table, rows in google.items():
        vendors["google_workspace"][table] += rows
    vendors["product"]["orgs"] += [org("acme")]
    vendors["product"]["employees"] += [employee("acme", "alice"), {"org_id": None}]
    for connector, tables in vendors.items():
        whole.land(connector, "1", tables)

    results = whole.build(tests=True)
    assert {result.node.name for result in results if result.status == "warn"} == {
        "assert_a_contract_says_what_was_bought",
        "assert_a_person_is_listed_once",
        "assert_an_org_has_accounts_of_its_people",
        "assert_every_org_has_a_known_time_zone",
    }
    used = whole.rows("analytics.user_app_usage where person_class = 'human'", "org_id", "person_id", "active_days_30")
    assert used == [("acme", "alice", 18)]
    # an identity provider says who may use an app; whatever else lists accounts, who has one
    assigned = "analytics_intermediate.int_account_states where not is_own_listing"
    assert whole.rows(assigned, "connector", "stream") == [("okta", "app_users")]


def test_an_edited_seed_counts_for_the_past_at_the_next_build(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    warehouse = Warehouse(tmp_path / "home", project=project)
    land_people(warehouse)
    _, tables = next(arrivals())
    asking = {"key": "token", "event_name": "request", "app_name": "Some Tool"}
    tables["token"] = [login(*GOOGLE, "alice@acme.com", "2026-01-19 18:00", **asking)]
    warehouse.land("google_workspace", "g1", tables)
    counted = "select sum(event_count), count(last_granted_at) from analytics.fct_app_usage_daily"
    warehouse.build(of="fct_app_usage_daily")
    assert warehouse.query(counted) == [(19, 0)]
    seed = project / "seeds" / "activity_types.csv"
    text = seed.read_text(encoding="utf-8")
    row, asked = "google_workspace,login,login_success,Authentication,Logon,", "token,request,User Access Management,"
    assert f"{row}true" in text
    assert f"{asked}Other" in text
    text = text.replace(f"{row}true", f"{row}false").replace(f"{asked}Other", f"{asked}Assign Privileges")
    seed.write_text(text, encoding="utf-8")
    warehouse.build(of="fct_app_usage_daily")
    assert warehouse.query(counted) == [(0, 1)]


@pytest.mark.parametrize(
    ("edited", "written", "is_written"),
    [
        ("int_app_class_days", "counted.*,\n", "counted.*,\n        10 * counted.dau as figure,\n"),
        ("int_events", "select * from placed", "select * exclude (event_count), 10 as event_count from placed"),
    ],
)
def test_an_edited_model_counts_the_past_anew_at_the_next_build(
    tmp_path: Path, edited: str, written: str, is_written: str
) -> None:
    """A new column would else be null, which means unknown, of all days that no load touches again."""
    project = copy_project(tmp_path / "project")
    warehouse = Warehouse(tmp_path / "home", project=project)
    land_people(warehouse)
    warehouse.land("google_workspace", *next(arrivals()))
    warehouse.build(of="app_usage_daily")
    days = "analytics_intermediate.int_app_class_days where dau is not null"
    before = warehouse.rows(days, "usage_date", "dau * 10")
    assert len(before) > 60

    [model] = project.glob(f"models/**/{edited}.sql")
    sql = model.read_text(encoding="utf-8")
    assert sql.count(written) == 1
    model.write_text(sql.replace(written, is_written), encoding="utf-8")
    warehouse.build(of="app_usage_daily")
    figure = "figure" if edited == "int_app_class_days" else "event_count"
    assert warehouse.rows(days, "usage_date", figure) == before


def test_a_warehouse_older_than_what_its_days_are_compared_by_counts_them_anew(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "home")
    land_people(warehouse)
    warehouse.land("google_workspace", *next(arrivals()))
    warehouse.build()
    marts = warehouse.contents("app_usage_daily", "user_app_usage", "fct_app_usage_daily")
    assert all(marts.values())
    counted = [path for path in PROJECT.glob("models/**/*.sql") if "replace_days" in path.read_text(encoding="utf-8")]
    assert len(counted) == 6
    for path in counted:
        table = f"analytics{'_intermediate' * (path.parent.name == 'intermediate')}.{path.stem}"
        warehouse.query(f"alter table {table} drop column definition_version")
    warehouse.query("alter table analytics_intermediate.int_app_class_days drop column counted_as")
    warehouse.build()
    assert warehouse.contents(*marts) == marts


def test_a_breaking_change_is_a_second_version_beside_the_first(tmp_path: Path) -> None:
    """A column gets another name: readers of the published table keep theirs until they have moved to the new one."""
    project = copy_project(tmp_path / "project", data_tests=False)
    marts = project / "models" / "marts" / "product"
    described = marts / "_product__models.yml"
    declared = yaml.safe_load(described.read_text(encoding="utf-8"))
    [model] = [model for model in declared["models"] if model["name"] == "org_usage"]
    renamed = {"name": "app_count_30", "data_type": "bigint", "description": "Apps in use"}
    model |= {
        "latest_version": 1,
        "versions": [
            {"v": 1, "defined_in": "org_usage", "config": {"alias": "org_usage"}},
            {"v": 2, "columns": [{"include": "all", "exclude": ["apps_used_30"]}, renamed]},
        ],
    }
    described.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    sql = (marts / "org_usage.sql").read_text(encoding="utf-8")
    changed = sql.replace("apps_used_30,\n        usage_known", "apps_used_30 as app_count_30,\n        usage_known")
    (marts / "org_usage_v2.sql").write_text(changed, encoding="utf-8")

    warehouse = Warehouse(tmp_path / "home", project=project)
    land_people(warehouse)
    warehouse.land("google_workspace", *next(arrivals()))
    warehouse.build(of="org_usage")
    first, second = warehouse.row("org_usage"), warehouse.row("org_usage_v2")
    assert first.pop("apps_used_30") == second.pop("app_count_30") == 1
    assert first == second
    published = {mart.name: mart for mart in read_marts(warehouse.home / "target" / "manifest.json")}
    assert {name for name in published if name.startswith("org_usage")} == {"org_usage", "org_usage_v2"}
    assert [column.name for column in published["org_usage_v2"].columns][-1] == "app_count_30"
