"""A customer that is none any more: nothing is left of it, the others keep what they have, and it may come back."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest
from dlt.common.versioned_state import decompress_state

from ingestion.build import Builder, BuildError
from ingestion.connectors.product import TABLES
from ingestion.sandbox import Options
from tests.flow_support import VENDORS, NewSite, Site
from tests.support import NOW

WORLD = Options(orgs=2, people=8, days=40)


@pytest.fixture(scope="module")
def ran(new_site: NewSite) -> Site:
    return twice_run(new_site())


def twice_run(site: Site) -> Site:
    """So that the product can be rolled back."""
    for day in (0, 1):
        site.run(WORLD, NOW + timedelta(days=day))
    return site


@pytest.fixture
def site(ran: Site, tmp_path: Path) -> Site:
    return ran.copy(tmp_path / "home", f"{ran.database}_{tmp_path.name}")


def leave(site: Site, org: str) -> None:
    """The product deletes a customer, and remembers it."""
    _change_product(
        site,
        "create table left_{0} as select * from public.{0} where org_id = %s",
        "delete from public.{0} where org_id = %s",
        org,
    )


def come_back(site: Site, org: str) -> None:
    _change_product(site, "insert into public.{0} select * from left_{0} where org_id = %s", "drop table left_{0}", org)


def _change_product(site: Site, first: str, then: str, org: str) -> None:
    with closing(psycopg2.connect(site.product_url)) as connection, connection, connection.cursor() as cursor:
        for table, columns in TABLES.items():
            cursor.execute("select to_regclass(%s)", (f"public.{table}",))
            if "org_id" in columns and cursor.fetchall() != [(None,)]:
                cursor.execute(first.format(table), (org,))
                cursor.execute(then.format(table), (org,) if "%s" in then else None)


def customers(site: Site) -> tuple[str, str]:
    """Who leaves, and who stays."""
    leaver, other = (org for (org,) in site.product("select org_id from public.orgs order by 1"))
    return leaver, other


def mentions(site: Site, text: str) -> dict[str, int]:
    """How many rows of the warehouse and of the publisher's schemas have a text anywhere, but dlt's schemas."""
    found: dict[str, int] = {}
    for query, prefixes in ((site.query, ("landing", "analytics")), (site.product, ("app_usage",))):
        schemas = (f"starts_with(table_schema, '{prefix}')" for prefix in prefixes)
        tables = query(
            "select table_schema || '.' || table_name from information_schema.tables where table_type = 'BASE TABLE'"
            f" and table_name <> '_dlt_version' and ({' or '.join(schemas)})"
        )
        counts = (
            f"select '{table}', count(*) from {table} as t where strpos(cast(t as varchar), '{text}') > 0"
            for (table,) in tables
        )
        found |= {table: count for table, count in query(" union all ".join(counts)) if count}
    return found


def of_others(site: Site, org: str) -> dict[str, object]:
    return {table: {key: row for key, row in rows.items() if key[0] != org} for table, rows in site.published().items()}


@pytest.mark.parametrize("target", ["duckdb", pytest.param("postgres", marks=pytest.mark.stress)])
def test_nothing_is_left_of_a_forgotten_customer_and_the_others_keep_what_they_have(
    target: str, request: pytest.FixtureRequest, new_site: NewSite
) -> None:
    site: Site = request.getfixturevalue("site") if target == "duckdb" else twice_run(new_site(target=target))
    leaver, other = customers(site)
    if target == "duckdb":
        # as a replay leaves it
        site.query(f"create table landing_zoom.replayed_records as select '{leaver}-zoom' as connection_id, 7 as hash")
    shown, everything = of_others(site, leaver), mentions(site, leaver)
    assert any(name.startswith("app_usage_ledger.before_") for name in everything)
    leave(site, leaver)

    counted = site.invoke("forget", leaver)
    assert counted.exit_code == 0, counted.output
    assert "warehouse: landing_zoom.activities" in counted.output
    assert "product: app_usage.user_app_usage" in counted.output
    assert f"app-usage forget {leaver} --yes" in counted.output
    assert mentions(site, leaver) == everything

    done = site.invoke("forget", leaver, "--yes")
    assert done.exit_code == 0, done.output
    assert mentions(site, leaver) == {}
    assert mentions(site, other)
    for connector in VENDORS - {"product"}:
        states = site.query(f"select state from landing_{connector}._dlt_pipeline_state")
        assert leaver not in str([decompress_state(state)["sources"] for (state,) in states])
    assert of_others(site, leaver) == shown == site.published()
    assert site.invoke("verify").exit_code == 0
    assert f"nothing of '{leaver}'" in site.invoke("forget", leaver, "--yes").output

    assert site.invoke("rollback").exit_code == 0
    assert mentions(site, leaver) == {}
    assert site.invoke("publish", "--accept").exit_code == 0
    assert site.published() == shown


@pytest.mark.stress
def test_a_customer_that_comes_back_is_read_as_if_it_had_never_been_there(site: Site, new_site: NewSite) -> None:
    leaver, other = customers(site)
    leave(site, leaver)
    assert site.invoke("forget", leaver, "--yes").exit_code == 0
    with site.flow(None, NOW) as flow:
        read = [flow.warehouse.pipeline(name).state["sources"][name]["resources"] for name in VENDORS - {"product"}]
    assert {state["org_id"] for states in read for state in states.values()} == {other}
    come_back(site, leaver)
    never = new_site()
    for each in (site, never):
        each.run(WORLD, NOW + timedelta(days=1))
    assert of_others(site, other) == of_others(never, other)


def test_a_customer_that_is_still_served_is_not_forgotten(site: Site) -> None:
    leaver, _ = customers(site)
    shown = mentions(site, leaver)
    refused = site.invoke("forget", leaver, "--yes")
    assert refused.exit_code == 2
    assert f"still has '{leaver}' in public.orgs" in refused.output
    assert json.loads(site.invoke("status", "--json").stdout)["published"]["gone_customers"] == []
    leave(site, leaver)
    assert json.loads(site.invoke("status", "--json").stdout)["published"]["gone_customers"] == [leaver]
    assert (
        f"the product no longer lists {leaver}, which stays published: app-usage forget {leaver}"
        in site.invoke("status").output
    )
    connection = {"connection_id": f"{leaver}-zoom", "org_id": leaver, "connector": "zoom"}
    file = site.write_connections({**connection, "settings": {"account_id": "a"}})
    (site.home / "read_from").unlink()
    refused = site.invoke("forget", leaver, "--yes", "--connections", str(file))
    assert refused.exit_code == 2
    assert f"{leaver}-zoom" in refused.output
    assert mentions(site, leaver).keys() >= shown.keys() - {"landing_product.orgs"}


def test_a_forgetting_that_broke_off_publishes_nothing_and_is_finished_by_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaver, _ = customers(site)
    leave(site, leaver)
    with monkeypatch.context() as broken:

        def fail(*_: object, **__: object) -> None:
            raise BuildError("out of memory")

        broken.setattr(Builder, "build", fail)
        assert site.invoke("forget", leaver, "--yes").exit_code == 1
    assert mentions(site, leaver)
    assert "run `app-usage build` first" in site.invoke("publish").output
    assert site.invoke("forget", leaver, "--yes").exit_code == 0
    assert mentions(site, leaver) == {}
