"""The models, on landing tables written by hand: what must come out of what arrived, in whatever order it arrived."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.models_support import (
    GOOGLE,
    PROJECT,
    Row,
    Warehouse,
    employee,
    fetches,
    golden_case,
    google_user,
    login,
    org,
    utc,
)


def test_the_golden_case_of_the_metrics_comes_out(warehouse: Warehouse) -> None:
    golden_case(warehouse)
    warehouse.build(tests=True)
    people = warehouse.rows(
        "analytics.user_app_usage",
        *("person_id", "person_class", "active_days_30", "usage_band", "days_since_last_used", "as_of_date"),
        order_by="user_email",
    )
    as_of = date(2026, 1, 31)
    assert people == [
        ("alice", "human", 16, "core", 6, as_of),
        ("bob", "human", 1, "low", 11, as_of),
        ("carol", "human", 0, "not_used", 52, as_of),
        ("dave", "human", 0, "new", None, as_of),
        ("erin", "human", 1, "low", 28, as_of),
        ("account:google_workspace:id of svc@acme.com", "service", 29, None, 1, as_of),
    ]
    [day] = warehouse.rows(
        "analytics.app_usage_daily where usage_date = '2026-01-31'",
        *("mau_30", "mau_28", "wau", "dau", "stickiness", "is_partial", "data_complete_ratio"),
    )
    assert day[:4] == (3, 2, 1, 0)
    assert day[4] == pytest.approx(17 / 28 / 2)
    assert day[5:] == (False, 1.0)
    assert warehouse.query("select dau from analytics.app_usage_daily where usage_date = '2026-01-03'") == [(1,)]


MARTS = {
    "analytics.fct_app_usage_daily": (
        "org_id, app_id, connection_id, account_key, usage_date, source_kind, event_count, first_used_at, last_used_at"
    ),
    "analytics.dim_accounts": "*",
    "analytics.user_app_usage": "*",
    "analytics.app_usage_daily": "*",
    "analytics.app_usage": "*",
    "analytics.org_usage": "*",
    "analytics.app_retention": "*",
    "analytics.shadow_apps": "*",
    "analytics.data_freshness": "*",
}


def contents(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """Every mart, sorted here: engines sort text differently."""
    return {
        relation: sorted(warehouse.query(f"select {columns} from {relation}"), key=repr)
        for relation, columns in MARTS.items()
    }


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
        ),
    )
    yield (
        "g3",
        load("2026-01-22 12:00", login(*GOOGLE, bob, "2025-12-24 18:00", key="b24")),
    )  # late by a month
    yield (
        "g5",
        load(
            "2026-01-24 12:00",
            login(*GOOGLE, alice, "2026-01-07 18:00", key="a7", event_name="login_failure"),
        ),
    )
    # began before g5 and committed after it: its copy of a7 is older than the one that is there
    yield (
        "g4",
        load(
            "2026-01-23 12:00",
            login(*GOOGLE, alice, "2026-01-07 18:00", key="a7"),
            login(*GOOGLE, bob, "2026-01-22 18:00", key="b22"),
        ),
    )
    yield "g6", load("2026-01-25 12:00")


def land_people(warehouse: Warehouse) -> None:
    warehouse.land(
        "product",
        "p1",
        {"orgs": [org("acme")], "employees": [employee("acme", "alice"), employee("acme", "bob")]},
    )


def test_loads_one_by_one_end_as_one_build_and_as_a_full_refresh(warehouse: Warehouse, tmp_path: Path) -> None:
    land_people(warehouse)
    for load_id, tables in arrivals():
        warehouse.land("google_workspace", load_id, tables)
        warehouse.build()
    step_by_step = contents(warehouse)
    used = warehouse.rows("analytics.fct_app_usage_daily where event_count > 0", "account_key", "usage_date")
    assert [day.day for name, day in used if name == "bob@acme.com"] == [24, 9, 22]
    alice = [day.day for name, day in used if name == "alice@acme.com"]
    assert alice == [day for day in range(2, 21) if day not in (7, 18)]

    warehouse.build("--full-refresh")
    assert contents(warehouse) == step_by_step

    at_once = Warehouse(tmp_path / "at once")
    land_people(at_once)
    for load_id, tables in arrivals():
        at_once.land("google_workspace", load_id, tables)
    at_once.build()
    assert contents(at_once) == step_by_step


def test_a_build_killed_between_two_models_is_finished_by_the_next(tmp_path: Path) -> None:
    killed, whole = Warehouse(tmp_path / "killed"), Warehouse(tmp_path / "whole")
    stopping_after = [
        "stg_loads",
        "stg_google_workspace__events",
        "int_days_touched",
        "fct_app_usage_daily",
        "int_apps",
    ]
    for warehouse in (killed, whole):
        land_people(warehouse)
    for (load_id, tables), last in zip(arrivals(), [*stopping_after, "app_usage_daily"], strict=True):
        killed.land("google_workspace", load_id, tables)
        killed.build("--select", f"+{last}")
        whole.land("google_workspace", load_id, tables)
    killed.build()
    whole.build()
    assert contents(killed) == contents(whole)


def test_building_one_vendor_alone_loses_nothing_of_another(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    land_people(warehouse)
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
    warehouse.land(
        "zoom", "z1", {"fetch_log": fetches("zoom", "acme-zoom", "acme", start="2025-10-01", at="2026-01-20")}
    )
    warehouse.land("google_workspace", *loads[0])
    warehouse.build()
    warehouse.land(
        "zoom",
        "z2",
        {
            "activities": [{**zoom, "occurred_at": utc("2026-01-12 18:00"), "fetched_at": utc("2026-01-21 12:00")}],
            "fetch_log": fetches("zoom", "acme-zoom", "acme", start="2025-10-01", at="2026-01-21 12:00"),
        },
    )
    warehouse.land("google_workspace", *loads[1])
    # both loads are numbered, and only one vendor goes all the way
    warehouse.build("--select", "stg_loads", "stg_google_workspace__events+")
    warehouse.build()
    step_by_step = contents(warehouse)
    assert [row for row in step_by_step["analytics.fct_app_usage_daily"] if row[1] == "zoom"]
    warehouse.build("--full-refresh")
    assert contents(warehouse) == step_by_step


def test_rows_of_a_load_that_never_completed_are_not_counted(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    land_people(warehouse)
    (_, first), (_, second), *_ = arrivals()
    warehouse.land("google_workspace", "g1", first)
    warehouse.land("google_workspace", "g2", second, completes=False)
    warehouse.build()
    assert warehouse.query("select max(usage_date) from analytics.fct_app_usage_daily") == [(date(2026, 1, 19),)]
    warehouse.land("google_workspace", "g2", {})
    warehouse.build()
    assert warehouse.query("select max(usage_date) from analytics.fct_app_usage_daily") == [(date(2026, 1, 20),)]


def test_usage_behind_a_source_that_fails_is_unknown_from_then_on(warehouse: Warehouse) -> None:
    golden_case(warehouse)
    failing = fetches(
        "google_workspace",
        *GOOGLE,
        start="2026-02-01 19:00",
        at="2026-02-10 12:00",
        outcome="failed",
        complete_through="2026-02-01 19:00",
    )
    okta = fetches("okta", "acme-okta", "acme", start="2025-10-01", at="2026-02-10 12:00")
    warehouse.land("google_workspace", "g3", {"fetch_log": failing})
    warehouse.land("okta", "o1", {"fetch_log": okta})
    warehouse.build(tests=True)
    assert set(
        warehouse.rows(
            "analytics.user_app_usage where person_class = 'human'",
            *("usage_known", "usage_band", "active_days_30", "last_used_date", "as_of_date"),
        )
    ) == {(False, "unknown", None, None, date(2026, 1, 31))}
    days = warehouse.rows(
        "analytics.app_usage_daily where usage_date > '2026-01-29'", "usage_date", "dau", "wau", "mau_90"
    )
    assert [day[1] for day in days] == [0, 0] + [None] * 9
    assert days[2][2] is None  # one day of seven is too much
    assert days[-1][0] == date(2026, 2, 9)
    assert days[-1][3] is None or days[-1][3] > 0


def test_an_account_that_turns_out_to_be_somebodys_moves_with_its_history(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    land_people(warehouse)
    _, tables = next(arrivals())
    private = login(*GOOGLE, "al@home.net", "2026-01-10 20:00", fetched="2026-01-20 12:00")
    warehouse.land("google_workspace", "g1", {**tables, "login": [*tables["login"], private]})
    warehouse.build()
    daily = "select dau from analytics.app_usage_daily where usage_date = '2026-01-10'"
    stranger = "select person_class from analytics.user_app_usage where person_id like 'account:%'"
    assert warehouse.query(daily) == [(1,)]
    assert warehouse.query(stranger) == [("external",)]

    people = [employee("acme", "alice", alias_emails='["AL@home.net"]'), employee("acme", "bob")]
    warehouse.land("product", "p2", {"orgs": [org("acme")], "employees": people})
    warehouse.build()
    assert warehouse.query(daily) == [(1,)]  # two accounts of one person on one day are one person
    assert warehouse.query(stranger) == []

    land_people(warehouse)
    warehouse.build()
    assert warehouse.query(stranger) == [("external",)]


def test_an_org_without_a_usable_time_zone_is_counted_in_utc_and_named(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    orgs = [org("acme", None), org("globex", "Mars/Olympus"), org("initech", "Asia/Kolkata")]
    warehouse.land("product", "p1", {"orgs": orgs, "employees": [employee(row["org_id"], "ann") for row in orgs]})
    at = "2026-01-20 12:00"
    tables: dict[str, list[Row]] = {"login": [], "fetch_log": []}
    for row in orgs:
        connection = (f"{row['org_id']}-google", row["org_id"])
        tables["login"].append(login(*connection, f"ann@{row['org_id']}.com", "2026-01-10 20:00", fetched=at))
        tables["fetch_log"] += fetches("google_workspace", *connection, start="2026-01-01 00:00", at=at)
    warehouse.land("google_workspace", "g1", tables)
    results = warehouse.build(tests=True)
    [warning] = [result for result in results if result.node.name == "assert_every_org_has_a_known_time_zone"]
    assert (warning.status, warning.failures) == ("warn", 2)
    assert warehouse.rows("analytics.user_app_usage", "org_id", "last_used_date") == [
        ("acme", date(2026, 1, 10)),
        ("globex", date(2026, 1, 10)),
        ("initech", date(2026, 1, 11)),
    ]


def test_an_empty_warehouse_builds_and_passes_every_test(warehouse: Warehouse) -> None:
    warehouse.build(tests=True)
    assert warehouse.query("select count(*) from analytics.user_app_usage") == [(0,)]
    assert warehouse.query("select count(*) from analytics.app_usage_daily") == [(0,)]


def copy_of_the_project(folder: Path) -> Path:
    for part in ("models", "macros", "seeds", "snapshots", "tests/dbt"):
        shutil.copytree(PROJECT / part, folder / part)
    for file in ("dbt_project.yml", "profiles.example.yml"):
        shutil.copyfile(PROJECT / file, folder / file)
    return folder


def test_a_further_vendor_is_a_staging_folder_and_a_seed_row(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    folder = project / "models" / "staging" / "initrode"
    folder.mkdir()
    for file in (project / "models" / "staging" / "zoom").iterdir():
        text = file.read_text(encoding="utf-8").replace("zoom", "initrode").replace("Zoom", "Initrode")
        (folder / file.name.replace("zoom", "initrode")).write_text(text, encoding="utf-8")
    with (project / "seeds" / "activity_types.csv").open("a", encoding="utf-8") as seed:
        seed.write("initrode,activities,*,Authentication,Logon,true,A log-in\n")
    warehouse = Warehouse(tmp_path / "home", project=project)
    warehouse.columns |= {
        ("initrode", table): columns for (vendor, table), columns in warehouse.columns.items() if vendor == "zoom"
    }
    land_people(warehouse)
    event = {
        "connection_id": "acme-initrode",
        "org_id": "acme",
        "event_id": "activities:acme-initrode:1",
        "email": "alice@acme.com",
        "activity_type": "entered",
        "occurred_at": utc("2026-01-12 18:00"),
        "fetched_at": utc("2026-01-20 12:00"),
    }
    log = fetches("zoom", "acme-initrode", "acme", start="2026-01-01", at="2026-01-20 12:00")
    warehouse.land("initrode", "i1", {"activities": [event], "fetch_log": log})
    warehouse.build()
    assert warehouse.rows("analytics.user_app_usage", "person_id", "app_id", "last_used_date") == [
        ("alice", "discovered:initrode", date(2026, 1, 12))
    ]


def test_an_edited_seed_counts_for_the_past_at_the_next_build(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    warehouse = Warehouse(tmp_path / "home", project=project)
    land_people(warehouse)
    _, tables = next(arrivals())
    warehouse.land("google_workspace", "g1", tables)
    warehouse.build()
    assert warehouse.query("select sum(event_count) from analytics.fct_app_usage_daily") == [(19,)]
    seed = project / "seeds" / "activity_types.csv"
    text = seed.read_text(encoding="utf-8")
    row = "google_workspace,login,login_success,Authentication,Logon,"
    edited = text.replace(f"{row}true", f"{row}false")
    assert edited != text
    seed.write_text(edited, encoding="utf-8")
    warehouse.dbt("parse")
    warehouse.build()
    assert warehouse.query("select sum(event_count) from analytics.fct_app_usage_daily") == [(0,)]
