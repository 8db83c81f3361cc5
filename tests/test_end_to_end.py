"""The whole flow against the sandbox's truth, counted anew in plain Python: every row, every column, every type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from ingestion.sandbox import Options, Sandbox
from tests.flow_support import NewSite, Site, differences, recounted
from tests.recount_licenses import recounted_licenses

# A seed each: noon; late on the day on which Europe's clocks change; months of history until the morning after
# America's did.
WORLDS = {1: "2026-01-31T12:00Z", 2: "2026-03-29T22:30Z", 3: "2025-11-03T05:10Z"}
# What the product's features read: a contract, in PostgreSQL's words.
CONTRACT: dict[str, dict[str, str]] = {
    "user_app_usage": {
        "org_id": "text",
        "person_id": "text",
        "app_id": "text",
        "user_email": "text",
        "person_class": "text",
        "first_used_date": "date",
        "last_used_date": "date",
        "days_since_last_used": "bigint",
        "active_days_7": "bigint",
        "active_days_28": "bigint",
        "active_days_30": "bigint",
        "active_days_90": "bigint",
        "active_day_rate_30": "double precision",
        "usage_band": "text",
        "usage_known": "boolean",
        "sources": "text",
        "as_of_date": "date",
    },
    "app_usage_daily": {
        "org_id": "text",
        "app_id": "text",
        "usage_date": "date",
        "dau": "bigint",
        "wau": "bigint",
        "mau_28": "bigint",
        "mau_30": "bigint",
        "mau_90": "bigint",
        "stickiness": "double precision",
        "event_count": "bigint",
        "is_final": "boolean",
        "is_partial": "boolean",
        "data_complete_ratio": "double precision",
    },
    "app_usage": {
        "org_id": "text",
        "app_id": "text",
        "app_name": "text",
        "category": "text",
        "dau": "bigint",
        "wau": "bigint",
        "mau_28": "bigint",
        "mau_30": "bigint",
        "mau_90": "bigint",
        "stickiness": "double precision",
        "avg_active_days_30": "double precision",
        "usage_band": "text",
        "adoption_rate": "double precision",
        "trend": "double precision",
        "trend_label": "text",
        "cost_per_active_user": "double precision",
        "usage_known": "boolean",
        "as_of_date": "date",
    },
    "org_usage": {
        "org_id": "text",
        "dau": "bigint",
        "wau": "bigint",
        "mau_28": "bigint",
        "mau_30": "bigint",
        "mau_90": "bigint",
        "apps_used_30": "bigint",
        "as_of_date": "date",
    },
    "app_retention": {
        "org_id": "text",
        "app_id": "text",
        "block_start_date": "date",
        "block_days": "bigint",
        "active": "bigint",
        "retained": "bigint",
        "new": "bigint",
        "resurrected": "bigint",
        "churned": "bigint",
        "churned_left_company": "bigint",
        "churned_lost_access": "bigint",
        "churned_stopped_using": "bigint",
        "retention_rate": "double precision",
    },
    "shadow_apps": {
        "org_id": "text",
        "app_id": "text",
        "app_name": "text",
        "app_state": "text",
        "shadow_kind": "text",
        "users_30": "bigint",
        "first_discovered_on": "date",
        "as_of_date": "date",
    },
    "data_freshness": {
        "org_id": "text",
        "app_id": "text",
        "complete_through": "date",
        "last_event_at": "timestamp with time zone",
        "last_loaded_at": "timestamp with time zone",
        "generation_id": "text",
        "published_at": "timestamp with time zone",
    },
    "license_seats": {
        "org_id": "text",
        "app_id": "text",
        "license_name": "text",
        "account_id": "text",
        "person_id": "text",
        "user_email": "text",
        "seat_state": "text",
        "is_underused": "boolean",
        "last_used_date": "date",
        "assigned_on": "date",
        "as_of_date": "date",
    },
    "license_utilization": {
        "org_id": "text",
        "app_id": "text",
        "license_name": "text",
        **dict.fromkeys(
            (
                *("purchased", "assigned", "unassigned", "over_assigned", "active", "underused", "idle", "never_used"),
                *("undeprovisioned", "suspended", "exempt", "unknown", "grace", "reclaimable_seats"),
            ),
            "bigint",
        ),
        **dict.fromkeys(
            (
                *("allocation_rate", "utilization_rate", "assigned_utilization_rate"),
                *("wasted_spend_month", "potential_annual_savings"),
            ),
            "double precision",
        ),
        "currency": "text",
        "as_of_date": "date",
    },
    "offboarded_access": {
        "org_id": "text",
        "person_id": "text",
        "app_id": "text",
        "account_id": "text",
        "severity": "bigint",
        "left_on": "date",
        "evidence_event_id": "text",
        "evidence_at": "timestamp with time zone",
        "detected_at": "timestamp with time zone",
    },
}
KEYS = {
    "license_seats": ["org_id", "app_id", "license_name", "account_id"],
    "license_utilization": ["org_id", "app_id", "license_name"],
    "offboarded_access": ["org_id", "person_id", "app_id", "account_id"],
    "user_app_usage": ["org_id", "person_id", "app_id"],
    "app_usage_daily": ["org_id", "app_id", "usage_date"],
    "app_usage": ["org_id", "app_id"],
    "org_usage": ["org_id"],
    "app_retention": ["org_id", "app_id", "block_start_date"],
    "shadow_apps": ["org_id", "app_id"],
    "data_freshness": ["org_id", "app_id"],
}


Runs = Callable[[int], tuple[Site, Sandbox]]


def world(seed: int) -> tuple[Options, datetime]:
    now = datetime.fromisoformat(WORLDS[seed])
    days, people = (125, 16) if seed == 3 else (40, 12)
    # the second product has no more than it must
    options = Options(seed=seed, orgs=3, people=people, start=now.date() - timedelta(days=days), extras=True)
    return replace(options, orgs=2, extras=False) if seed == 2 else options, now


@pytest.fixture(scope="module")
def runs(new_site: NewSite, lean_project: Path) -> Runs:
    """A first run of a seed's world, the first one with dbt's tests: the place, and the sandbox that it read."""

    @cache
    def first_run(seed: int) -> tuple[Site, Sandbox]:
        site = new_site(project=lean_project) if seed == 1 else new_site()
        return site, site.run(*world(seed))

    return first_run


@pytest.mark.parametrize("seed", WORLDS)
def test_what_is_published_is_a_recount_of_what_really_happened(runs: Runs, seed: int) -> None:
    site, sandbox = runs(seed)
    expected = recounted(sandbox)
    assert all(len(expected[table]) > 100 for table in ("user_app_usage", "app_usage_daily"))
    assert [table for table, rows in expected.items() if not rows] == ([] if seed == 3 else ["app_cohorts"])
    assert "shared" in {row["proposed_class"] for row in expected["user_app_usage"].values()}
    published = site.published()
    assert differences(published, expected) == []
    # nothing is published that is not counted here, but by which definitions it was
    uncounted = {
        column
        for table, rows in expected.items()
        for row in published[table].values()
        for column in row.keys() - next(iter(rows.values()), row).keys()
    }
    assert uncounted == {"definition_version"}


@pytest.mark.parametrize("seed", WORLDS)
def test_seats_waste_and_open_access_are_a_recount_of_what_really_is(runs: Runs, seed: int) -> None:
    site, sandbox = runs(seed)
    expected = recounted_licenses(sandbox)
    assert all(expected.values())
    assert differences(site.published(), expected) == []


@pytest.mark.parametrize("seed", [1, 3])
def test_a_product_that_tells_more_is_told_more(runs: Runs, seed: int) -> None:
    """What the recount of its rows is worth: each of these occurs."""
    _, sandbox = runs(seed)
    expected = recounted_licenses(sandbox)["license_utilization"]
    contracts = sandbox.truth().product["app_contracts"]
    own = {org["org_id"]: org["currency"] for org in sandbox.truth().product["orgs"]}
    priced = [key for key, row in expected.items() if row["price_status"] is None]
    given = {(c["org_id"], c["app_id"], c["license_name"]): c["currency"] for c in contracts}
    assert any(given[key] != own[key[0]] for key in priced)
    assert any(key not in priced and given.get(key) == "CHF" for key in expected)
    assert all(expected[key]["currency"] == own[key[0]] for key in priced)
    rows = [expected[key] for key in priced]
    assert any(row["realised_savings"] for row in rows)
    assert any(row["potential_annual_savings"] and row["minimum_purchased"] for row in rows)
    billed = {c["billing_period"] for c in contracts if c["ends_on"] is None}
    assert billed == {"month", "year"}
    apps = recounted(sandbox)["app_usage"]
    assert any((row["target_users_30"] or 0) < (row["mau_30"] or 0) for row in apps.values())
    assert any(row["is_suspended_expected"] for row in recounted_licenses(sandbox)["offboarded_access"].values())


def test_months_of_history_are_long_enough_for_who_stays_comes_and_goes_and_for_a_trend(runs: Runs) -> None:
    site, sandbox = runs(3)
    expected = recounted(sandbox)
    blocks = expected["app_retention"].values()
    reasons = [f"churned_{reason}" for reason in ("left_company", "lost_access", "stopped_using")]
    for figure in ("retained", "new", "resurrected", *reasons):
        assert any(block[figure] for block in blocks), figure
    assert {row["trend_label"] for row in expected["app_usage"].values()} == {"growing", "flat", None}
    assert site.product("select distinct last_loaded_at from app_usage.data_freshness") == [(sandbox.now,)]


def test_the_published_tables_have_the_columns_types_and_keys_of_the_contract(runs: Runs) -> None:
    site, _ = runs(1)
    for table, columns in CONTRACT.items():
        there: dict[str, str] = dict(
            site.product(
                "select attname::text, format_type(atttypid, atttypmod) from pg_attribute"
                f" where attrelid = 'app_usage.{table}'::regclass and attnum > 0 and not attisdropped"
            )
        )
        assert {name: there.get(name) for name in columns} == columns
        key = site.product(
            "select attname::text from pg_index join pg_attribute on attrelid = indrelid and attnum = any(indkey)"
            f" where indrelid = 'app_usage.{table}'::regclass and indisprimary order by array_position(indkey, attnum)"
        )
        assert [name for (name,) in key] == KEYS[table]


def test_postgres_as_the_warehouse_gives_the_rows_of_duckdb(runs: Runs, new_site: NewSite, lean_project: Path) -> None:
    duckdb, _ = runs(1)
    postgres = new_site(target="postgres", project=lean_project)
    sandbox = postgres.run(*world(1))
    assert differences(postgres.published(), recounted(sandbox)) == []
    marts = duckdb.marts()
    assert marts.keys() == postgres.marts().keys()
    assert differences(postgres.marts(), marts) == []
