"""The tables about apps and customers, on landing tables written by hand: what they say, and what they leave unsaid."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.models_support import (
    GOOGLE,
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

AS_OF = date(2026, 1, 31)
START = "2025-10-01 07:00"  # midnight in Los Angeles
DATA_TESTS = ("--exclude-resource-type", "unit_test")
TABLES = ("app_usage", "org_usage", "app_retention", "shadow_apps", "data_freshness")


def row(warehouse: Warehouse, table: str, condition: str = "1 = 1") -> Row:
    """The only row of a table that fulfils a condition."""
    names = [
        name
        for (name,) in warehouse.query(
            "select column_name from information_schema.columns"
            f" where table_schema = 'analytics' and table_name = '{table}'"
        )
    ]
    listed = ", ".join(f'"{name}"' for name in names)
    [values] = warehouse.query(f"select {listed} from analytics.{table} where {condition}")
    return dict(zip(names, values, strict=True))


def contents(warehouse: Warehouse, condition: str = "1 = 1") -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: sorted(warehouse.query(f"select * from analytics.{table} where {condition}"), key=repr)
        for table in TABLES
    }


def retention(warehouse: Warehouse) -> dict[date, tuple[int | None, ...]]:
    """Block -> active, retained, new, resurrected, churned."""
    columns = 'block_start_date, active, retained, "new", resurrected, churned'
    rows = warehouse.query(f"select {columns} from analytics.app_retention")
    return {block: tuple(figures) for block, *figures in rows}


def land_people(warehouse: Warehouse, *people: Row, **tables: list[Row]) -> None:
    warehouse.land("product", "p1", {"orgs": [org("acme")], "employees": list(people), **tables})


def land_logins(warehouse: Warehouse, load_id: str, at: str, *logins: Row, **tables: list[Row]) -> None:
    log = fetches("google_workspace", *GOOGLE, start=START, at=at)
    rows = [{**row, "fetched_at": utc(at)} for row in logins]
    warehouse.land("google_workspace", load_id, {"login": rows, "fetch_log": log, **tables})


def token(email: str, at: str, event_name: str, app_name: str) -> Row:
    """An entry of Google's token log."""
    return {
        "connection_id": GOOGLE[0],
        "org_id": GOOGLE[1],
        "event_id": f"token:{GOOGLE[0]}:{email} {app_name} {at}",
        "event_id_kind": "native",
        "occurred_at": utc(at),
        "fetched_at": utc("2026-02-01 20:00"),
        "event_name": event_name,
        "actor_email": email,
        "app_name": app_name,
        "payload": "{}",
    }


def test_the_golden_case_comes_out_for_the_app_and_for_the_customer(warehouse: Warehouse) -> None:
    golden_case(warehouse)
    warehouse.build(tests=True)
    app = row(warehouse, "app_usage")
    people = {"dau": 0, "wau": 1, "mau_28": 2, "mau_30": 3, "mau_90": 4}
    assert app == app | people | {
        "app_name": "Google Workspace",
        "stickiness": pytest.approx(17 / 28 / 2),
        "avg_active_days_30": (16 + 1 + 1) / 3,
        "usage_band": "medium",
        "adoption_rate": 3 / 4,  # erin has left
        "trend": 0.0,  # carol and erin, then alice and bob
        "trend_label": "flat",
        "cost_per_active_user": 8 * 120 / 12 / 3,
        "currency": "USD",
        "cost_status": None,
        "is_small": True,
        "usage_known": True,
        "is_partial": False,
        "data_complete_ratio": 1.0,
        "as_of_date": AS_OF,
    }
    assert row(warehouse, "org_usage") == {
        "org_id": "acme",
        **people,
        "apps_used_30": 1,
        "is_partial": False,
        "data_complete_ratio": 1.0,
        "as_of_date": AS_OF,
    }
    assert retention(warehouse) == {
        date(2025, 10, 6): (0, None, None, None, None),
        date(2025, 11, 3): (0, 0, 0, 0, 0),
        date(2025, 12, 1): (1, 0, 1, 0, 0),
        date(2025, 12, 29): (3, 0, 3, 0, 1),
    }
    last = row(warehouse, "app_retention", "block_start_date = '2025-12-29'")
    assert last == last | {"churned_stopped_using": 1, "retention_rate": 0.0, "is_final": True}
    assert warehouse.query("select * from analytics.shadow_apps") == []  # it is bought
    freshness = row(warehouse, "data_freshness")
    assert freshness == freshness | {
        "complete_through": AS_OF,
        "last_event_at": datetime(2026, 1, 31, 3),  # the bot's
        "last_loaded_at": datetime(2026, 2, 1, 20),
    }


def test_figures_behind_a_silent_source_are_unknown_and_freshness_says_since_when(warehouse: Warehouse) -> None:
    golden_case(warehouse)
    failing = fetches(
        "google_workspace",
        *GOOGLE,
        start="2026-02-01 19:00",
        at="2026-02-10 12:00",
        outcome="failed",
        complete_through="2026-02-01 19:00",
    )
    okta = fetches("okta", "acme-okta", "acme", start=START, at="2026-02-10 12:00")
    warehouse.land("google_workspace", "g3", {"fetch_log": failing})
    warehouse.land("okta", "o1", {"fetch_log": okta})
    warehouse.build(*DATA_TESTS, tests=True)
    app = row(warehouse, "app_usage")
    figures = ("dau", "wau", "mau_28", "mau_30", "mau_90", "stickiness", "avg_active_days_30", "adoption_rate", "trend")
    assert {app[name] for name in figures} == {None}
    assert (app["usage_known"], app["usage_band"], app["cost_status"]) == (False, "unknown", "usage_unknown")
    assert app["as_of_date"] == row(warehouse, "data_freshness")["complete_through"] == AS_OF
    customer = row(warehouse, "org_usage")
    # nine of 180 source-days are little; of 14 they are not
    assert (customer["as_of_date"], customer["wau"], customer["mau_90"]) == (date(2026, 2, 9), None, 4)
    # the blocks that were told before it fell silent stay
    assert retention(warehouse)[date(2025, 12, 29)] == (3, 0, 3, 0, 1)
    assert max(retention(warehouse)) == date(2025, 12, 29)


def test_a_late_use_makes_a_churned_person_a_retained_one(warehouse: Warehouse) -> None:
    land_people(warehouse, employee("acme", "ann"), employee("acme", "bob"))
    early = [login(*GOOGLE, f"{name}@acme.com", "2025-12-10 18:00") for name in ("ann", "bob")]
    land_logins(warehouse, "g1", "2026-02-01 20:00", *early, login(*GOOGLE, "ann@acme.com", "2026-01-10 18:00"))
    warehouse.build()
    assert retention(warehouse)[date(2025, 12, 29)] == (1, 1, 0, 0, 1)
    before = row(warehouse, "app_usage")["mau_30"]

    land_logins(warehouse, "g2", "2026-02-01 21:00", login(*GOOGLE, "bob@acme.com", "2026-01-25 18:00"))
    warehouse.build()
    assert retention(warehouse)[date(2025, 12, 29)] == (2, 2, 0, 0, 0)
    assert row(warehouse, "app_usage")["mau_30"] == before + 1
    step_by_step = contents(warehouse)
    warehouse.build("--full-refresh")
    assert contents(warehouse) == step_by_step


def test_two_accounts_of_one_person_are_one_in_every_table(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    logins = [
        login(*GOOGLE, "ann@acme.com", "2025-12-10 18:00"),
        login(*GOOGLE, "ann@acme.com", "2026-01-27 18:00"),
        login(*GOOGLE, "a.nn@acme.com", "2026-01-10 18:00"),
    ]
    land_people(warehouse, employee("acme", "ann"), employee("acme", "anna", email="a.nn@acme.com"))
    land_logins(warehouse, "g1", "2026-02-01 20:00", *logins)
    warehouse.build(*DATA_TESTS, tests=True)
    assert [row(warehouse, table)["mau_30"] for table in ("app_usage", "org_usage")] == [2, 2]
    assert retention(warehouse)[date(2025, 12, 29)] == (1, 0, 1, 0, 1)

    land_people(warehouse, employee("acme", "ann", alias_emails='["a.nn@acme.com"]'))
    warehouse.build(*DATA_TESTS, tests=True)
    assert [row(warehouse, table)["mau_30"] for table in ("app_usage", "org_usage")] == [1, 1]
    assert retention(warehouse)[date(2025, 12, 29)] == (1, 1, 0, 0, 0)


def test_another_customer_changes_no_row_of_this_one(tmp_path: Path) -> None:
    alone, together = Warehouse(tmp_path / "alone"), Warehouse(tmp_path / "together")
    golden_case(alone)
    alone.build()
    golden_case(together)
    globex = ("globex-google", "globex")
    at = "2026-02-01 20:00"
    together.land(
        "google_workspace",
        "g3",
        {
            "login": [login(*globex, "alice@acme.com", "2026-01-31 12:00", fetched=at)],
            "fetch_log": fetches("google_workspace", *globex, start="2026-01-20 00:00", at=at),
        },
    )
    together.build(*DATA_TESTS, tests=True)
    assert contents(together, "org_id = 'acme'") == contents(alone)
    assert row(together, "org_usage", "org_id = 'globex'")["mau_30"] == 0  # whoever it is, it is no employee


def test_an_app_that_may_act_and_is_not_used_is_listed_until_the_grant_is_withdrawn(warehouse: Warehouse) -> None:
    ann = "ann@acme.com"
    states = [{"org_id": "acme", "app_id": "figma", "state": "in_review", "changed_at": utc("2025-11-01")}]
    land_people(warehouse, employee("acme", "ann"), app_states=states)
    tokens = [
        token(ann, "2026-01-10 18:00", "authorize", "Figma"),
        token(ann, "2026-01-11 18:00", "activity", "Some Tool"),
        token(ann, "2026-01-12 18:00", "request", "Miro"),
        token(ann, "2026-01-13 18:00", "authorize", "Asana"),
        token(ann, "2026-01-14 18:00", "revoke", "Asana"),
        token("svc@acme.com", "2026-01-14 18:00", "authorize", "Notion"),
    ]
    land_logins(warehouse, "g1", "2026-02-01 20:00", login(*GOOGLE, ann, "2026-01-10 17:00"), token=tokens)
    warehouse.build(*DATA_TESTS, tests=True)
    listed = ("app_id", "app_state", "shadow_kind", "users_30", "first_discovered_on")
    assert warehouse.rows("analytics.shadow_apps", *listed) == [
        ("discovered:some tool", "discovered", "granted_not_used", 0, date(2026, 1, 11)),
        ("figma", "in_review", "granted_not_used", 0, date(2026, 1, 10)),
        ("google_workspace", "discovered", "in_use", 1, date(2026, 1, 10)),
    ]

    again = [token(ann, "2026-01-20 18:00", "revoke", "Figma")]
    land_logins(warehouse, "g2", "2026-02-01 21:00", token=again)
    land_people(warehouse, employee("acme", "ann"), app_states=[{**states[0], "app_id": "google_workspace"}])
    warehouse.build(*DATA_TESTS, tests=True)
    assert warehouse.rows("analytics.shadow_apps", "app_id", "app_state") == [
        ("discovered:some tool", "discovered"),
        ("google_workspace", "in_review"),
    ]


def test_who_lost_the_account_did_not_lose_interest(warehouse: Warehouse) -> None:
    """By what the listing said when the block ended: an account that is taken away later was not why."""
    names = ("ann", "bob", "cid")
    land_people(warehouse, *(employee("acme", name) for name in names))
    made = "2025-10-01 12:00"
    users = {name: google_user(*GOOGLE, f"{name}@acme.com", created=made, fetched="2026-01-05 12:00") for name in names}
    used = [login(*GOOGLE, f"{name}@acme.com", "2025-12-10 18:00") for name in names]
    land_logins(warehouse, "g1", "2026-01-05 12:00", *used, users=list(users.values()))
    suspended = {**users["ann"], "is_suspended": True, "fetched_at": utc("2026-01-20 12:00")}
    land_logins(warehouse, "g2", "2026-01-20 12:00", users=[suspended])
    gone = {**users["bob"], "is_gone": True, "fetched_at": utc("2026-02-01 20:00")}
    land_logins(warehouse, "g3", "2026-02-01 20:00", users=[gone])
    warehouse.build(*DATA_TESTS, tests=True)
    block = row(warehouse, "app_retention", "block_start_date = '2025-12-29'")
    assert block == block | {"churned": 3, "churned_lost_access": 1, "churned_stopped_using": 2}
