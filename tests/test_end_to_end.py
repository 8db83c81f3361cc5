"""The whole flow against the sandbox's truth, counted anew in plain Python: every row, every column, every type."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache

import pytest

from ingestion.sandbox import Options, Sandbox
from tests.flow_support import NewSite, Site, differences, recounted

SEEDS = (1, 2, 3)
# Noon; late on the day on which Europe's clocks change; the morning after America's did.
NOWS = ("2026-01-31T12:00Z", "2026-03-29T22:30Z", "2025-11-03T05:10Z")
# What the product's features read: PRODUCT_DB.md, in PostgreSQL's words.
CONTRACT = {
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
}
KEYS = {"user_app_usage": ["org_id", "person_id", "app_id"], "app_usage_daily": ["org_id", "app_id", "usage_date"]}


Runs = Callable[[int, str], tuple[Site, Sandbox]]


def world(seed: int, now: datetime) -> Options:
    return Options(seed=seed, orgs=3 if seed == 1 else 2, people=12, start=now.date() - timedelta(days=40))


@pytest.fixture(scope="module")
def runs(new_site: NewSite) -> Runs:
    """A first run of a seed's world at an instant: the place, and the sandbox that it read."""

    @cache
    def first_run(seed: int, now: str) -> tuple[Site, Sandbox]:
        site, at = new_site(), datetime.fromisoformat(now)
        return site, site.run(world(seed, at), at)

    return first_run


@pytest.mark.parametrize("now", NOWS)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_published_is_a_recount_of_what_really_happened(runs: Runs, seed: int, now: str) -> None:
    site, sandbox = runs(seed, now)
    expected = recounted(sandbox)
    assert all(len(rows) > 100 for rows in expected.values())
    assert differences(site.published(), expected) == []


def test_the_published_tables_have_the_columns_types_and_keys_of_the_contract(runs: Runs) -> None:
    site, _ = runs(SEEDS[0], NOWS[0])
    for table, columns in CONTRACT.items():
        there = dict(
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


def test_postgres_as_the_warehouse_gives_the_rows_of_duckdb(runs: Runs, new_site: NewSite) -> None:
    duckdb, _ = runs(SEEDS[0], NOWS[0])
    postgres, now = new_site(target="postgres"), datetime.fromisoformat(NOWS[0])
    sandbox = postgres.run(world(SEEDS[0], now), now)
    assert differences(postgres.published(), recounted(sandbox)) == []
    marts = duckdb.marts()
    assert marts.keys() == postgres.marts().keys()
    assert differences(postgres.marts(), marts) == []
