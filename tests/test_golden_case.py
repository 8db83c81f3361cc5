"""The golden case, computed by hand: what each table says of it, and what once its only source falls silent."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.models_support import (
    GOOGLE,
    PLAN,
    Warehouse,
    contract,
    employee,
    fetches,
    google_license,
    google_user,
    login,
    org,
)

if TYPE_CHECKING:
    from tests.conftest import NewWarehouse

AS_OF = date(2026, 1, 31)
START = "2025-10-01 07:00"  # midnight in Los Angeles


def golden_case(warehouse: Warehouse) -> None:
    """The golden case, as Google Workspace tells it: what had arrived on 31 January, then erin's late use.

    Six hold one of the eight seats that were bought, at 120 a year.
    """
    people = ["alice", "bob", "carol", "dave", "erin"]
    warehouse.land(
        "product",
        "p1",
        {
            "orgs": [org("acme")],
            "employees": [
                employee("acme", name, left_on=date(2026, 1, 15) if name == "erin" else None) for name in people
            ],
            "app_contracts": [contract("acme", "google_workspace", PLAN, 8, "120.00")],
        },
    )
    since = {"dave": "2026-01-25 20:00"}
    users = [
        google_user(
            *GOOGLE,
            f"{name}@acme.com",
            created=since.get(name, "2025-10-01 12:00"),
            fetched="2026-01-31 12:00",
        )
        for name in [*people, "svc"]
    ]
    in_time = [
        *(login(*GOOGLE, "alice@acme.com", f"2026-01-{day} 18:00") for day in range(10, 26)),
        login(*GOOGLE, "alice@acme.com", "2026-01-12 18:00"),  # delivered twice
        login(*GOOGLE, "alice@acme.com", "2026-03-01 18:00", fetched="2026-01-31 12:00"),
        login(*GOOGLE, "bob@acme.com", "2026-01-20 23:30"),
        login(*GOOGLE, "bob@acme.com", "2026-01-21 05:00"),
        login(*GOOGLE, "carol@acme.com", "2025-12-10 18:00"),
        login(*GOOGLE, "dave@acme.com", "2026-01-27 18:00", event_name="login_failure"),
        *(login(*GOOGLE, "svc@acme.com", f"2026-01-{day:02} 03:00") for day in range(1, 32)),
    ]
    warehouse.land(
        "google_workspace",
        "g1",
        {
            "users": users,
            "licenses": [google_license(*GOOGLE, row["email"], PLAN, fetched="2026-01-31 12:00") for row in users],
            "login": in_time,
            "fetch_log": fetches("google_workspace", *GOOGLE, start=START, at="2026-01-31 12:00"),
        },
    )
    late = login(*GOOGLE, "erin@acme.com", "2026-01-03 18:00", fetched="2026-02-01 20:00")
    warehouse.land(
        "google_workspace",
        "g2",
        {
            "login": [late],
            "fetch_log": fetches("google_workspace", *GOOGLE, start=START, at="2026-02-01 20:00"),
        },
    )


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def golden(request: pytest.FixtureRequest, new_warehouse: NewWarehouse) -> Warehouse:
    warehouse = new_warehouse(request.param)
    golden_case(warehouse)
    warehouse.build(tests=True)
    return warehouse


def test_people_are_told_how_often_they_used_it(golden: Warehouse) -> None:
    people = golden.rows(
        "analytics.user_app_usage",
        *("person_id", "person_class", "active_days_30", "usage_band", "days_since_last_used", "as_of_date"),
        order_by="user_email",
    )
    assert people == [
        ("alice", "human", 16, "core", 6, AS_OF),
        ("bob", "human", 1, "low", 11, AS_OF),
        ("carol", "human", 0, "not_used", 52, AS_OF),
        ("dave", "human", 0, "new", None, AS_OF),
        ("erin", "human", 1, "low", 28, AS_OF),
        ("account:google_workspace:id of svc@acme.com", "service", 29, None, 1, AS_OF),
    ]


def test_days_count_people_and_not_bots(golden: Warehouse) -> None:
    day = golden.row("app_usage_daily", "usage_date = '2026-01-31'")
    people = {"dau": 0, "wau": 1, "mau_28": 2, "mau_30": 3}
    assert day == day | people | {
        "stickiness": pytest.approx(17 / 28 / 2),
        "is_partial": False,
        "data_complete_ratio": 1.0,
    }
    assert golden.row("app_usage_daily", "usage_date = '2026-01-03'")["dau"] == 1


def test_two_idle_or_left_and_two_unassigned_seats_waste_480_a_year(golden: Warehouse) -> None:
    seats = golden.rows(
        "analytics.license_seats",
        *("seat_state", "is_underused", "last_used_date", "assigned_on", "license_name", "as_of_date"),
        order_by="user_email",
    )
    since, told = date(2025, 10, 1), (PLAN, AS_OF)
    assert seats == [
        ("active", False, date(2026, 1, 25), since, *told),  # alice
        ("active", True, date(2026, 1, 20), since, *told),  # bob: one day of thirty
        ("idle", False, date(2025, 12, 10), since, *told),  # carol
        ("grace", False, None, date(2026, 1, 25), *told),  # dave
        ("undeprovisioned", False, date(2026, 1, 3), since, *told),  # erin
        ("exempt", False, date(2026, 1, 30), since, *told),  # svc
    ]
    [row] = golden.rows(
        "analytics.license_utilization",
        *("purchased", "assigned", "unassigned", "over_assigned", "active", "underused", "idle", "never_used"),
        *("undeprovisioned", "suspended", "exempt", "unknown", "grace", "reclaimable_seats"),
    )
    assert row == (8, 6, 2, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 2)
    [rates] = golden.rows(
        "analytics.license_utilization",
        *("allocation_rate", "utilization_rate", "assigned_utilization_rate", "data_complete_ratio", "currency"),
    )
    assert rates == (6 / 8, 2 / 8, 2 / 5, 1.0, "USD")
    [(savings, wasted)] = golden.rows("analytics.license_utilization", "potential_annual_savings", "wasted_spend_month")
    assert savings == 480
    # dave's seat was unassigned until the 25th, carol is idle since the 9th, erin has left on the 15th, and before
    # their first use alice, bob and erin were idle, too
    assert wasted == pytest.approx(120 / 365 * (2 * 31 + 24 + 23 + 17 + 9 + 19 + 2))
    assert golden.rows(
        "analytics.offboarded_access", "person_id", "severity", "left_on", "evidence_event_id", "detected_at"
    ) == [("erin", 2, date(2026, 1, 15), None, datetime(2026, 1, 31, 12))]


def test_the_app_and_the_customer_are_told_their_people_cost_and_trend(golden: Warehouse) -> None:
    app = golden.row("app_usage")
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
    assert golden.row("org_usage") == {
        "org_id": "acme",
        **people,
        "apps_used_30": 1,
        "usage_known": True,
        "is_partial": False,
        "is_final": False,  # a log-in may come three days late
        "data_complete_ratio": 1.0,
        "sources": "google_workspace",
        "definition_version": app["definition_version"],
        "as_of_date": AS_OF,
    }
    assert retention(golden) == {
        date(2025, 10, 6): (0, None, None, None, None),
        date(2025, 11, 3): (0, 0, 0, 0, 0),
        date(2025, 12, 1): (1, 0, 1, 0, 0),
        date(2025, 12, 29): (3, 0, 3, 0, 1),
    }
    last = golden.row("app_retention", "block_start_date = '2025-12-29'")
    assert last == last | {"churned_stopped_using": 1, "retention_rate": 0.0, "is_final": True}
    assert golden.query("select * from analytics.shadow_apps") == []  # it is bought
    freshness = golden.row("data_freshness")
    assert freshness == freshness | {
        "complete_through": AS_OF,
        "last_event_at": datetime(2026, 1, 31, 3),  # the bot's
        "last_loaded_at": datetime(2026, 2, 1, 20),
    }


def retention(warehouse: Warehouse) -> dict[date, tuple[Any, ...]]:
    """Block -> active, retained, new, resurrected, churned."""
    columns = ("block_start_date", "active", "retained", '"new"', "resurrected", "churned")
    return {block: tuple(figures) for block, *figures in warehouse.rows("analytics.app_retention", *columns)}


@pytest.fixture(scope="module")
def together(new_warehouse: NewWarehouse) -> Warehouse:
    """The golden case with a second customer, whose person has an address of the first one's."""
    together = new_warehouse("duckdb")
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
    together.build()
    return together


def test_another_customer_changes_no_row_of_this_one(golden: Warehouse, together: Warehouse) -> None:
    tables = [path.stem for path in (together.project / "models/marts/product").glob("*.sql")]
    assert together.contents(*tables, condition="org_id = 'acme'") == golden.contents(*tables)
    assert together.row("org_usage", "org_id = 'globex'")["mau_30"] == 0  # whoever it is, it is no employee


@pytest.fixture(scope="module")
def silent(golden: Warehouse) -> Warehouse:
    """The golden case nine days after its only source fell silent. It changes the warehouse: its tests come last."""
    failing = fetches(
        "google_workspace",
        *GOOGLE,
        start="2026-02-01 19:00",
        at="2026-02-10 12:00",
        outcome="failed",
        complete_through="2026-02-01 19:00",
    )
    okta = fetches("okta", "acme-okta", "acme", start=START, at="2026-02-10 12:00")
    golden.land("google_workspace", "g3", {"fetch_log": failing})
    golden.land("okta", "o1", {"fetch_log": okta})
    golden.build(tests=True)
    return golden


def test_people_behind_a_silent_source_are_unknown_and_not_idle(silent: Warehouse) -> None:
    assert set(
        silent.rows(
            "analytics.user_app_usage where person_class = 'human'",
            *("usage_known", "usage_band", "active_days_30", "last_used_date", "as_of_date"),
        )
    ) == {(False, "unknown", None, None, AS_OF)}


def test_days_without_their_source_have_no_figures(silent: Warehouse) -> None:
    days = silent.rows(
        "analytics.app_usage_daily where usage_date > '2026-01-29'", "usage_date", "dau", "wau", "mau_90"
    )
    assert [day[1] for day in days] == [0, 0] + [None] * 9
    assert days[2][2] is None  # one day of seven is too much
    assert days[-1][0] == date(2026, 2, 9)
    assert days[-1][3] is None or days[-1][3] > 0


def test_freshness_says_since_when_an_app_is_unknown(silent: Warehouse) -> None:
    app = silent.row("app_usage")
    figures = ("dau", "wau", "mau_28", "mau_30", "mau_90", "stickiness", "avg_active_days_30", "adoption_rate", "trend")
    assert {app[name] for name in figures} == {None}
    assert (app["usage_known"], app["usage_band"], app["cost_status"]) == (False, "unknown", "usage_unknown")
    assert app["as_of_date"] == silent.row("data_freshness")["complete_through"] == AS_OF
    customer = silent.row("org_usage")
    # nine of 180 source-days are little; of 14 they are not
    assert (customer["as_of_date"], customer["wau"], customer["mau_90"]) == (date(2026, 2, 9), None, 4)
    # the blocks that were told before it fell silent stay
    assert retention(silent)[date(2025, 12, 29)] == (3, 0, 3, 0, 1)
    assert max(retention(silent)) == date(2025, 12, 29)
