"""The published tables: who may read and write them, how they follow their marts, what they refuse."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dlt
import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 spells its class in lower case
from typer.testing import CliRunner

from ingestion.build import Builder
from ingestion.cli import app
from ingestion.postgres import PrivatePostgres
from ingestion.publish import PublishError, migrate, read_marts, rollback, status
from ingestion.publish.guards import put_back
from ingestion.publish.product import Product
from tests.publish_support import World, run


@contextmanager
def logged_in(world: World, role: str) -> Iterator[Connection]:
    """A session of a user who has nothing but this role."""
    user = f"user_{time.time_ns()}"
    world.query(f"create user {user} in role {role}")
    with closing(psycopg2.connect(world.url.replace("postgres:postgres@", f"{user}@"))) as connection:
        connection.autocommit = True
        yield connection


def ask(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_reader_sees_the_org_that_it_has_set_and_none_before(world: World) -> None:
    world.publish()
    with logged_in(world, "app_usage_reader") as reader:
        count = "select count(*), count(distinct org_id) from app_usage.usage"
        assert ask(reader, count) == [(0, 0)]
        ask(reader, "set app_usage.org_id = 'org1'")
        assert ask(reader, count) == [(100, 1)]
        assert ask(reader, "select count(*) from app_usage.daily") == [(10,)]
        ask(reader, "set app_usage.org_id = 'org2'")
        assert ask(reader, "select distinct org_id from app_usage.usage") == [("org2",)]
        ask(reader, "set app_usage.org_id = ''")
        assert ask(reader, count) == [(0, 0)]
        assert ask(reader, "select count(*) from app_usage.generations") == [(1,)]


def test_every_table_with_orgs_in_the_published_schema_is_protected(world: World) -> None:
    world.publish()
    assert world.query(
        "select c.relname, c.relrowsecurity, count(p.oid) from pg_class as c left join pg_policy as p on "
        "p.polrelid = c.oid where c.relnamespace = 'app_usage'::regnamespace "
        "and c.relkind = 'r' group by 1, 2 order by 1"
    ) == [("app_usage_rejected", True, 1), ("daily", True, 1), ("generations", False, 0), ("usage", True, 1)]


@pytest.mark.parametrize(
    "statement",
    [
        "insert into app_usage.usage (org_id, person_id) values ('org1', 'x')",
        "delete from app_usage.usage",
        "select * from app_usage_ledger.orgs",
        "select * from app_usage_ledger.before_usage",
        "create table app_usage.mine (id int)",
        "create table app_usage_staging.mine (id int)",
        "select * from public.customers",
        "update app_usage.generations set status = 'x'",
        "alter table app_usage.usage disable row level security",
        "set role app_usage_owner",
    ],
)
def test_a_reader_may_do_nothing_else(world: World, statement: str) -> None:
    world.query("create table public.customers (id int)")
    world.publish()
    with logged_in(world, "app_usage_reader") as reader, pytest.raises(errors.InsufficientPrivilege):
        ask(reader, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "select * from public.customers",
        "drop table public.customers",
        "create table public.mine (id int)",
        "create schema mine",
        "create role mine",
        "set role postgres",
        "alter role app_usage_reader superuser",
        "copy app_usage.usage to '/tmp/stolen'",
    ],
)
def test_a_publisher_may_touch_nothing_outside_its_schemas(world: World, statement: str) -> None:
    world.query("create table public.customers (id int)")
    world.publish()
    with logged_in(world, "app_usage_publisher") as publisher, pytest.raises(errors.InsufficientPrivilege):
        ask(publisher, statement)


def test_a_publisher_publishes_with_its_own_rights_alone(world: World) -> None:
    """What the administrator's first run has prepared a user with the publisher's role goes on with."""
    world.publish()
    world.model("more", {"org_id": "text", "n": "bigint"}, key=["org_id"])
    world.change("create table analytics.more as select 'org1' as org_id, 1::bigint as n")
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    with logged_in(world, "app_usage_publisher") as publisher:
        user = publisher.info.user
    assert world.publish(product_url=world.url.replace("postgres:postgres@", f"{user}@")).rows_upserted == 2
    assert world.is_equal()
    owners = "select distinct tableowner from pg_tables where schemaname like 'app_usage%%'"
    assert world.query(owners) == [("app_usage_owner",)]


def test_an_administrator_prepares_what_a_publisher_then_fills(world: World) -> None:
    migrate(world.url)
    migrate(world.url)
    with logged_in(world, "app_usage_publisher") as publisher:
        user = publisher.info.user
    assert world.publish(product_url=world.url.replace("postgres:postgres@", f"{user}@")).rows_upserted == 330
    assert world.is_equal()


def test_a_user_who_may_not_prepare_the_database_is_told_who_must(world: World) -> None:
    user = f"user_{time.time_ns()}"
    world.query(f"create user {user}")
    with pytest.raises(PublishError, match="grant app_usage_publisher"):
        world.publish(product_url=world.url.replace("postgres:postgres@", f"{user}@"))


def test_a_new_column_of_a_mart_appears_and_views_and_grants_stay(world: World) -> None:
    world.publish()
    role = f"product_{time.time_ns()}"
    world.query(f"create role {role}; grant select on app_usage.usage to {role}")
    world.query("create view public.busy as select org_id, person_id from app_usage.usage where active_days > 20")
    world.change("alter table analytics.usage add column licence text; update analytics.usage set licence = 'pro'")
    world.model("usage", world.columns("usage") | {"licence": "text"}, key=["org_id", "person_id"])

    assert world.publish().rows_upserted == 300

    assert world.query("select distinct licence from app_usage.usage") == [("pro",)]
    assert world.query("select count(*) > 0 from public.busy") == [(True,)]
    assert world.query(f"select has_table_privilege('{role}', 'app_usage.usage', 'select')") == [(True,)]
    assert world.query(
        "select col_description(attrelid, attnum) from pg_attribute where attrelid = 'app_usage.usage'::regclass "
        "and attname = 'licence'"
    ) == [("Its licence.",)]


def test_a_column_that_a_mart_lost_stays_until_a_mart_that_declares_it_is_published(world: World) -> None:
    world.publish()
    world.change("alter table analytics.usage drop column is_known")
    columns = {name: kind for name, kind in world.columns("usage").items() if name != "is_known"}
    world.model("usage", columns, key=["org_id", "person_id"])
    with pytest.raises(PublishError, match=r"has lost: is_known.*meta\.publish\.drop"):
        world.publish()
    assert world.query("select count(is_known) from app_usage.usage") == [(240,)]
    world.change("update analytics.usage set active_days = active_days + 1")
    world.model(
        "usage", columns, key=["org_id", "person_id"], drop=["is_known"], breaker={"changed": 0.1, "min_rows": 50}
    )
    with pytest.raises(PublishError, match="app-usage publish --accept"):
        world.publish()
    assert world.query("select count(is_known) from app_usage.usage") == [(240,)]
    world.publish(accept=True)
    assert "is_known" not in {
        row[0]
        for row in world.query(
            "select attname from pg_attribute where attrelid = 'app_usage.usage'::regclass and not attisdropped"
        )
    }
    assert not world.publish().changed


@pytest.mark.parametrize("column", ["active_days", "published_at"])
def test_a_column_that_somebody_dropped_comes_back_with_its_values(world: World, column: str) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    world.publish()
    world.query(f"alter table app_usage.usage drop column {column}")
    world.publish()
    assert world.is_equal()
    assert not world.publish(reread=True).changed
    world.change("update analytics.usage set active_days = 98 where person_id = 'person7'")
    world.publish()
    rollback(world.url)
    assert world.query("select active_days from app_usage.usage where person_id = 'person7'") == [(99,)]


def test_a_new_column_without_values_rewrites_no_row(world: World) -> None:
    world.publish()
    before = world.row_versions("usage")
    world.change("alter table analytics.usage add column licence text")
    world.model("usage", world.columns("usage") | {"licence": "text"}, key=["org_id", "person_id"])
    world.publish()
    assert world.query("select count(*), count(licence) from app_usage.usage") == [(300, 0)]
    assert world.row_versions("usage") == before


@pytest.mark.parametrize(
    ("column", "kind", "is_now"),
    [
        ("active_days", "double", "double precision"),
        ("active_days", "decimal(30, 2)", "numeric(30,2)"),
        ("monthly_price", "decimal(14, 3)", "numeric(14,3)"),
        ("first_used_on", "timestamp", "timestamp with time zone"),
    ],
)
def test_a_wider_type_of_a_column_takes_its_place(world: World, column: str, kind: str, is_now: str) -> None:
    world.publish()
    as_now = f"select person_id, {column}::{is_now} from app_usage.usage order by 1"
    before = world.query(as_now)
    world.query("create view public.busy as select org_id, person_id from app_usage.usage where is_known")
    world.change("update analytics.usage set is_known = true where person_id = 'person7'")
    world.publish()
    world.change(f"alter table analytics.usage alter column {column} type {kind}")
    world.model(
        "usage", world.columns("usage") | {column: kind}, key=["org_id", "person_id"], indexes=[["org_id", column]]
    )

    assert not world.publish().changed

    assert world.query(
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'app_usage.usage'::regclass "
        "and attname = %s",
        column,
    ) == [(is_now,)]
    assert world.query(as_now) == before
    assert world.query("select count(*) > 0 from public.busy") == [(True,)]
    rollback(world.url)
    assert world.query("select is_known from app_usage.usage where person_id = 'person7'") == [(False,)]


def widened(world: World) -> None:
    world.change("alter table analytics.usage alter column active_days type double")
    world.model("usage", world.columns("usage") | {"active_days": "double"}, key=["org_id", "person_id"])


def test_a_type_becomes_wider_under_the_products_views_and_they_keep_all_they_have(world: World) -> None:
    world.publish()
    role = f"product_{time.time_ns()}"
    world.query(
        f"""create role {role}; grant create, usage on schema public to {role};
        grant usage on schema app_usage to {role}; grant select on app_usage.usage to {role};
        create view public."Busy" with (security_barrier=true) as
            select org_id, active_days as days from app_usage.usage;
        create view public.busiest as select max(days) as most from public."Busy";
        grant select on public."Busy" to app_usage_reader with grant option; grant select on public.busiest to public;
        comment on view public."Busy" is 'it''s busy'; comment on column public."Busy".days is 'days';
        alter view public."Busy" owner to {role}"""
    )
    told = """select c.relname, pg_get_viewdef(c.oid), c.relowner::regrole::text, c.reloptions, c.relacl::text,
        obj_description(c.oid), col_description(c.oid, 2) from pg_class as c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' order by 1"""
    before = world.query(told)

    widened(world)
    assert not world.publish().changed

    assert world.query(told) == before
    as_org = "set app_usage.org_id = 'org1'; select most, pg_typeof(most)::text from public.busiest"
    assert world.query(as_org) == [(28.0, "double precision")]
    assert world.is_equal()


def test_a_wider_type_under_a_view_that_would_not_come_back_is_refused_with_its_name(world: World) -> None:
    world.publish()
    world.query("create materialized view public.busy as select org_id, active_days from app_usage.usage")
    before = world.row_versions("usage")
    widened(world)
    with pytest.raises(
        PublishError, match=r"the view public\.busy of the product reads .*active_days.*drop it, publish"
    ):
        world.publish()
    assert world.query("select count(*) from public.busy") == [(300,)]
    assert world.row_versions("usage") == before
    world.query("drop materialized view public.busy")
    world.publish()
    assert world.query("select attname from pg_attribute where attname like '%%widened' and not attisdropped") == []


def test_a_wider_column_keeps_its_grants_and_what_else_hangs_on_it_is_named_and_not_lost(world: World) -> None:
    world.publish()
    role = f"product_{time.time_ns()}"
    world.query(
        f"""create role {role}; grant select (active_days, person_id) on app_usage.usage to {role} with grant option;
        create index by_days on app_usage.usage (org_id, (active_days + 1));
        alter table app_usage.usage add constraint some_days check (active_days >= 0)"""
    )
    may = f"select has_column_privilege('{role}', 'app_usage.usage', 'active_days', 'select with grant option')"
    widened(world)
    with pytest.raises(PublishError, match=r"the constraint some_days .*, the index app_usage\.by_days hang on"):
        world.publish()
    world.query("drop index app_usage.by_days; alter table app_usage.usage drop constraint some_days")
    world.publish()
    assert world.query(may) == [(True,)]
    assert world.query("select pg_typeof(min(active_days))::text from app_usage.usage") == [("double precision",)]


def test_a_publisher_without_rights_on_a_view_names_it(world: World) -> None:
    world.publish()
    world.query("create view public.busy as select org_id, active_days from app_usage.usage")
    widened(world)
    with logged_in(world, "app_usage_publisher") as publisher:
        user = publisher.info.user
    with pytest.raises(PublishError, match=r"the view public\.busy .* or publish once as its owner"):
        world.publish(product_url=world.url.replace("postgres:postgres@", f"{user}@"))


def test_a_column_that_a_view_reads_is_not_dropped_though_its_mart_declares_it(world: World) -> None:
    world.publish()
    world.query("create view public.known as select count(is_known) from app_usage.usage")
    world.change("alter table analytics.usage drop column is_known")
    columns = {name: kind for name, kind in world.columns("usage").items() if name != "is_known"}
    world.model("usage", columns, key=["org_id", "person_id"], drop=["is_known"])
    with pytest.raises(PublishError, match=r"the view public\.known of the product reads is_known"):
        world.publish()


@pytest.mark.parametrize(
    ("column", "kind"), [("active_days", "text"), ("active_days", "boolean"), ("monthly_price", "decimal(12, 1)")]
)
def test_a_type_that_may_hold_less_is_refused(world: World, column: str, kind: str) -> None:
    world.publish()
    world.change(f"alter table analytics.usage alter column {column} type {kind}")
    world.model("usage", world.columns("usage") | {column: kind}, key=["org_id", "person_id"])
    with pytest.raises(PublishError, match=f"{column} is .* and would be"):
        world.publish()


def test_another_key_is_refused(world: World) -> None:
    world.publish()
    world.model("usage", world.columns("usage"), key=["org_id", "person_id", "active_days"])
    with pytest.raises(PublishError, match="publish it under another name"):
        world.publish()


def test_a_primary_key_that_somebody_dropped_comes_back(world: World) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    world.publish()
    world.query("alter table app_usage.usage drop constraint usage_pkey, alter column person_id drop not null")
    with pytest.raises(PublishError, match=r"usage lost its primary key: .* publish, then roll back"):
        rollback(world.url)
    world.change("update analytics.usage set active_days = 98 where person_id = 'person7'")
    assert world.publish().repaired == "app_usage.usage lost its primary key"
    assert world.is_equal()
    assert world.query(
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'app_usage.usage'::regclass "
        "and contype = 'p'"
    ) == [("PRIMARY KEY (org_id, person_id)",)]
    assert world.publish().repaired == ""
    rollback(world.url)
    assert world.query("select active_days from app_usage.usage where person_id = 'person7'") == [(99,)]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("alter table app_usage.usage drop column person_id", "for somebody dropped person_id"),
        (
            "alter table app_usage.usage drop constraint usage_pkey; "
            "insert into app_usage.usage (org_id, person_id) values ('org1', 'person1')",
            "rows since that no key can hold: .*person1",
        ),
    ],
)
def test_a_table_that_can_have_no_key_any_more_is_made_anew_once_it_is_dropped(
    world: World, loss: str, message: str
) -> None:
    world.publish()
    world.query(loss)
    with pytest.raises(PublishError, match=f"(?s)usage lost its primary key.*{message}.*`drop table app_usage.usage`"):
        world.publish()
    assert world.query("select to_regclass('app_usage.usage_primary_key_idx')") == [(None,)]
    world.query("drop table app_usage.usage")
    world.publish()
    assert world.is_equal()
    assert world.publish().repaired == ""


def test_declared_indexes_are_made_with_the_table_and_after_it(world: World) -> None:
    world.model("usage", world.columns("usage"), key=["org_id", "person_id"], indexes=[["org_id", "active_days"]])
    world.publish()
    listed = "select indexname from pg_indexes where schemaname = 'app_usage' and tablename = 'usage' order by 1"
    assert world.query(listed) == [("usage_org_id_active_days_idx",), ("usage_pkey",)]
    world.model("usage", world.columns("usage"), key=["org_id", "person_id"], indexes=[["org_id", "seen_at"]])
    assert not world.publish().changed
    assert ("usage_org_id_seen_at_idx",) in world.query(listed)


def test_an_index_that_has_to_wait_for_the_product_is_made_by_a_later_publish(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.publish.tables.INDEX_TIMEOUT", "100ms")
    world.publish()
    world.model("usage", world.columns("usage"), key=["org_id", "person_id"], indexes=[["org_id", "seen_at"]])
    valid = "select indisvalid from pg_index where indexrelid = to_regclass('app_usage.usage_org_id_seen_at_idx')"
    with closing(psycopg2.connect(world.url)) as product, product.cursor() as cursor:
        cursor.execute("update app_usage.daily set dau = dau where false; update app_usage.usage set is_known = true")
        assert not world.publish(progress=lambda _: None, accept=True).changed
        assert world.query(valid) != [(True,)]
        product.rollback()
    world.publish()
    assert world.query(valid) == [(True,)]


def test_a_new_description_becomes_the_new_comment(world: World) -> None:
    world.publish()
    world.models["usage"]["columns"]["active_days"]["description"] = "Days with an activity."
    assert not world.publish().changed
    assert world.query("select col_description('app_usage.usage'::regclass, 3)") == [("Days with an activity.",)]


def test_a_row_that_postgres_cannot_hold_is_set_aside_and_the_rest_is_published(world: World) -> None:
    world.publish()
    world.change(
        """insert into analytics.usage (org_id, person_id) values ('org1', 'a' || chr(0) || 'b');
        update analytics.usage set first_used_on = 'infinity' where person_id = 'person7';
        update analytics.usage set active_days = 99 where person_id = 'person8'"""
    )
    generation = world.publish()
    assert {table.name: table.rejected for table in generation.tables} == {"daily": 0, "usage": 2}
    rejected = world.query(
        "select org_id, row_key, reason, row_json from app_usage.app_usage_rejected order by row_key"
    )
    assert [(org, json.loads(key), reason) for org, key, reason, _ in rejected] == [
        ("org1", {"org_id": "org1", "person_id": "a\0b"}, "person_id contains a NUL character"),
        ("org1", {"org_id": "org1", "person_id": "person7"}, "first_used_on is out of range"),
    ]
    assert world.query(
        "select person_id, active_days from app_usage.usage where person_id in ('person7', 'person8')"
    ) == [("person8", 99)]
    assert not world.publish().changed

    world.change(
        "delete from analytics.usage where contains(person_id, chr(0)); "
        "update analytics.usage set first_used_on = null where person_id = 'person7'"
    )
    world.publish()
    assert world.query("select * from app_usage.app_usage_rejected") == []
    assert world.is_equal()


def test_a_number_that_does_not_fit_is_set_aside(world: World) -> None:
    world.change("alter table analytics.usage alter column active_days type hugeint")
    world.change("update analytics.usage set active_days = 9223372036854775808 where person_id = 'person7'")
    world.publish()
    assert world.query("select reason from app_usage.app_usage_rejected") == [("active_days is out of range",)]
    assert world.query("select count(*) from app_usage.usage") == [(299,)]


def test_a_row_that_the_products_own_constraint_refuses_is_set_aside_until_it_fits(world: World) -> None:
    """Nobody foresaw it; the table keeps no older version of it either, for that belongs to no one generation."""
    world.publish()
    world.query("alter table app_usage.usage add constraint few check (active_days < 100)")
    world.change(
        """update analytics.usage set active_days = 100 + active_days where person_id in ('person7', 'person9');
        update analytics.usage set active_days = 99 where hash(person_id) % 2 = 0 and active_days < 100;
        insert into analytics.usage (org_id, person_id, active_days) values ('org1', 'new', 1), ('org1', 'bad', 500)"""
    )
    refused = [("bad",), ("person7",), ("person9",)]

    assert {table.name: table.rejected for table in world.publish().tables} == {"daily": 0, "usage": 3}

    told = world.query("select row_key::json ->> 'person_id', reason from app_usage.app_usage_rejected order by 1")
    assert [(person,) for person, _ in told] == refused
    assert all('violates check constraint "few"' in reason for _, reason in told)
    rest = f"from analytics.usage where person_id not in {tuple(person for person, _ in told)}"
    (mine,) = world.warehouse.execute(f"select count(*), sum(active_days) {rest}").fetchall()
    assert world.query("select count(*), sum(active_days) from app_usage.usage") == [mine]
    assert {table.name: table.rejected for table in status(world.url).tables} == {"daily": 0, "usage": 3}
    assert not world.publish().changed

    world.query("alter table app_usage.usage drop constraint few")
    assert world.publish().rows_upserted == 3
    assert world.query("select * from app_usage.app_usage_rejected") == []
    assert world.is_equal()


def test_a_key_that_no_index_can_hold_is_set_aside_from_a_first_publish(world: World) -> None:
    random = "string_agg(md5(i::varchar), '')"
    world.change(f"insert into analytics.usage (org_id, person_id) select 'org1', {random} from range(200) as t(i)")
    assert world.publish().rows_upserted == 330
    ((reason,),) = world.query("select reason from app_usage.app_usage_rejected")
    assert "index row" in reason
    assert not world.publish().changed


def test_a_text_that_the_products_encoding_lacks_is_set_aside(world: World, product_server: PrivatePostgres) -> None:
    name = f"latin_{time.time_ns()}"
    run(product_server.url("postgres"), f"create database {name} encoding 'LATIN1' locale 'C' template template0")
    world.url = product_server.url(name)
    world.change("insert into analytics.usage (org_id, person_id) values ('org1', 'é'), ('org1', '漢'), ('org1', '🦆')")
    assert world.publish().rows_upserted == 331
    assert world.query("select count(*) from app_usage.usage where person_id = 'é'") == [(1,)]
    assert world.query("select count(*) from app_usage.app_usage_rejected where reason like '%%no equivalent%%'") == [
        (2,)
    ]
    world.change("delete from analytics.usage where person_id in ('漢', '🦆')")
    world.change("update analytics.usage set active_days = 3 where person_id = 'é'")
    assert world.publish().rows_upserted == 1
    assert world.query("select * from app_usage.app_usage_rejected") == []


def test_a_constraint_that_refuses_all_rows_is_told_and_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.publish.refusal.MOST", 10)
    world.publish()
    before = world.row_versions("usage")
    world.query("alter table app_usage.usage add constraint never check (active_days < 0) not valid")
    world.change("update analytics.usage set active_days = active_days + 1")
    with pytest.raises(PublishError, match=r'refuses more than 10 rows of usage.*check constraint "never"'):
        world.publish()
    assert world.row_versions("usage") == before


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ("insert into analytics.usage (org_id, person_id) values ('org1', 'person1')", "2 rows with the key .*person1"),
        ("insert into analytics.usage (org_id, person_id) values ('o', 'n'), ('o', 'n')", "2 rows with the key"),
        ("insert into analytics.usage (org_id) values ('org1')", "without a value in its key"),
        ("insert into analytics.usage (person_id) values ('x')", "without a value in its key"),
        ("alter table analytics.usage drop column is_known", "differ in is_known"),
        ("alter table analytics.usage add column extra text", "differ in extra"),
        ("alter table analytics.usage alter column active_days type double", "active_days is double in the warehouse"),
        ("drop table analytics.usage", "app-usage build"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_mart_that_breaks_its_contract_is_not_published(
    world: World, break_it: str, message: str, is_first: bool
) -> None:
    if not is_first:
        world.publish()
    world.change(break_it)
    with pytest.raises(PublishError, match=message):
        world.publish()
    counted = world.query("select count(*) from app_usage.generations")
    assert counted == [(0 if is_first else 1,)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda node: node["config"].update(contract={"enforced": False}), "without an enforced contract"),
        (lambda node: node["config"]["meta"]["publish"].update(key=["person_id"]), "must begin with org_id"),
        (lambda node: node["columns"]["active_days"].update(data_type="blob"), "has the type blob"),
        (lambda node: node["columns"]["active_days"].update(name="Active Days"), "not a snake_case name"),
    ],
)
def test_a_declaration_that_cannot_be_followed_is_named(
    world: World, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(world.models["usage"])
    with pytest.raises(PublishError, match=message):
        read_marts(world.manifest)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"drop": "weekend_days_28"}, ".drop is 'weekend_days_28': write a list, [weekend_days_28]"),
        ({"drop": None}, ".drop is None: write a list, [old_column]"),
        ({"key": "org_id"}, ".key is 'org_id': write a list, [org_id]"),
        ({"key": ["org_id", "nope"]}, ".key names nope: the contract has no such column from the warehouse, write"),
        ({"key": ["org_id", "published_at"]}, ".key names published_at: the contract has no such column"),
        ({"key": []}, ".key must begin with org_id"),
        ({"indexes": "org_id"}, ".indexes is 'org_id': write a list of lists, [[org_id]]"),
        (
            {"indexes": ["org_id", "seen_at"]},
            ".indexes is ['org_id', 'seen_at']: write a list of lists, [[org_id, seen_at]]",
        ),
        ({"indexes": [[]]}, ".indexes is [[]]: write a list of lists, [[org_id, usage_band]]"),
        ({"indexes": [["org_id", "nope"]]}, ".indexes names nope: the contract has no such column"),
        ({"indexs": []}, " does not know indexs, only key, indexes, breaker, canary, drop"),
        ({"breaker": 0.2}, ".breaker is 0.2: write what it limits, {deleted: 0.2}"),
        ({"breaker": {"delete": 1}}, ".breaker does not know delete, only deleted, changed, min_rows, may_be_empty"),
        ({"breaker": {"deleted": "0.2"}}, ".breaker.deleted is '0.2': write a share of the rows, from 0 to 1"),
        ({"breaker": {"changed": 20}}, ".breaker.changed is 20: write a share of the rows, from 0 to 1"),
        ({"breaker": {"min_rows": "few"}}, ".breaker.min_rows is 'few': write a number of rows"),
        ({"breaker": {"may_be_empty": "yes"}}, ".breaker.may_be_empty is 'yes': write true or false"),
        ({"canary": "10"}, ".canary is '10': write a percentage without a fraction, from 0 to 100"),
        ({"canary": 200}, ".canary is 200: write a percentage without a fraction, from 0 to 100"),
    ],
)
def test_an_entry_of_another_form_is_no_list_of_letters_but_an_error_that_says_what_to_write(
    world: World, declared: dict[str, Any], message: str
) -> None:
    world.models["usage"]["config"]["meta"]["publish"].update(declared)
    with pytest.raises(PublishError, match=re.escape(f"models/usage.sql: model usage: meta.publish{message}")):
        world.publish()
    assert world.query("select to_regclass('app_usage.usage')") == [(None,)]


def test_the_list_to_write_is_on_the_terminal_though_rich_takes_brackets_for_styles(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.models["usage"]["config"]["meta"]["publish"].update(drop="was_there")
    monkeypatch.setattr(Builder, "parse", lambda builder: world.manifest)
    published = world.folder / "published"
    published.mkdir()
    (published / "manifest.json").write_text("{}")
    told = CliRunner().invoke(app, ["check", "--state", str(published)], env={"APP_USAGE_HOME": str(world.folder)})
    assert told.exit_code == 1
    assert "drop is 'was_there': write a list, [was_there]" in told.stderr


@pytest.mark.parametrize("declared", [True, ["org_id"], {}])
def test_a_declaration_that_says_nothing_is_not_taken_for_none(world: World, declared: object) -> None:
    world.models["usage"]["config"]["meta"]["publish"] = declared
    with pytest.raises(PublishError, match=r"model usage: meta\.publish.* (write at least|must begin with org_id)"):
        read_marts(world.manifest)
    world.models["usage"]["config"]["meta"]["publish"] = False
    assert [mart.name for mart in read_marts(world.manifest)] == ["daily"]


def test_what_was_published_is_read_though_its_declaration_would_be_refused_now(world: World) -> None:
    """Else nobody could compare the mended one with it."""
    world.models["usage"]["config"]["meta"]["publish"].update(drop="was_there")
    assert [mart.name for mart in read_marts(world.manifest, is_published=True)] == ["daily", "usage"]


def test_a_missing_manifest_asks_for_a_build(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="app-usage build"):
        read_marts(tmp_path / "manifest.json")


def test_names_and_values_are_never_taken_for_sql(world: World) -> None:
    world.model("order", {"org_id": "text", "user": "text", "select": "bigint"}, key=["org_id", "user"])
    world.models["order"]["description"] = 'It\'s "quoted"; drop table x; -- \\'
    odd = ["o'1", 'o"2', "o\\3", "o\n4", "o;drop", "o$1", "é漢🦆", "", " o", "%s", "{}"]
    world.change('create table analytics."order" (org_id text, "user" text, "select" bigint)')
    for number, value in enumerate(odd):
        world.warehouse.execute('insert into analytics."order" values (?, ?, ?)', [value, value, number])
    world.publish()
    read = 'select org_id, "user", "select" from app_usage."order" order by "select"'
    assert world.query(read) == [(value, value, number) for number, value in enumerate(odd)]
    world.change('update analytics."order" set "select" = "select" + 100 where org_id <> \'\'')
    world.change("delete from analytics.\"order\" where org_id = 'o''1'")
    world.publish(accept=True)
    assert world.query(read) == [("", "", 7)] + [(v, v, n + 100) for n, v in enumerate(odd) if v not in ("", "o'1")]


def test_a_mart_without_rows_is_published_as_an_empty_table(world: World) -> None:
    world.change("delete from analytics.daily")
    world.publish()
    assert world.query("select count(*) from app_usage.daily") == [(0,)]
    world.change("insert into analytics.daily values ('org1', '2026-01-01', 1)")
    world.publish()
    assert world.is_equal()


@pytest.mark.parametrize("engine", ["postgres", "redshift"])
def test_any_engine_publishes_the_same_rows(world: World, product_server: PrivatePostgres, engine: str) -> None:
    """Redshift is stood in for by PostgreSQL: what is tried is the cursor that its rows are read with."""
    url = product_server.url(f"warehouse_{time.time_ns()}").replace("/warehouse", ":5432/warehouse")
    run(url, "create schema analytics")
    world.model("usage", world.columns("usage") | {"active_day_rate": "double precision"}, key=["org_id", "person_id"])
    columns = world.columns("usage")
    run(url, f"create table analytics.usage ({', '.join(f'{n} {k}' for n, k in columns.items())})")
    run(url, "create table analytics.daily (org_id text, usage_date date, dau bigint)")

    def copy_over() -> None:
        for table in ("usage", "daily"):
            run(url, f"truncate analytics.{table}")
            rows = world.warehouse.execute(f"select * from analytics.{table}").fetchall()
            with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                cursor.executemany(f"insert into analytics.{table} values ({', '.join(['%s'] * len(rows[0]))})", rows)
                connection.commit()

    copy_over()
    destination = dlt.destinations.postgres(url) if engine == "postgres" else dlt.destinations.redshift(url)
    assert world.publish(warehouse=destination).rows_upserted == 330
    assert world.is_equal()
    assert not world.publish(warehouse=destination).changed
    assert not world.publish().changed
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    copy_over()
    copies = world.folder / "pipelines" / "marts"
    copies.mkdir()
    (copies / "marts.duckdb").write_text("what a publish has left that was killed")
    assert world.publish(warehouse=destination).rows_upserted == 1
    assert world.is_equal()
    assert not copies.exists()


LOSSES = {
    "alter table app_usage.usage disable row level security": "row-level security",
    "drop policy one_org on app_usage.usage": "policy one_org",
    "alter policy one_org on app_usage.usage using (true)": "policy one_org",
    "revoke select on app_usage.usage from app_usage_reader": "grant to app_usage_reader",
    "alter table app_usage.usage disable trigger note_foreign_write": "trigger note_foreign_write",
    "drop trigger note_foreign_write on app_usage.usage": "trigger note_foreign_write",
    "drop function app_usage_ledger.note_foreign_write cascade": "trigger note_foreign_write",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_guard_of_a_table_that_somebody_took_away_is_told_of_and_put_back(world: World, loss: str) -> None:
    """No row tells of it, and a reader sees what other customers do."""
    world.publish()
    assert status(world.url).unguarded == ()
    told = f"app_usage.usage lost its {LOSSES[loss]}"
    world.query(loss)
    assert told in status(world.url).unguarded
    assert told in world.publish().repaired.split("; ")
    assert status(world.url).unguarded == ()
    assert world.publish().repaired == ""
    with logged_in(world, "app_usage_reader") as reader:
        count = "select count(*) from app_usage.usage"
        assert ask(reader, count) == [(0,)]
        ask(reader, "set app_usage.org_id = 'org1'")
        assert ask(reader, count) == [(100,)]
    world.query("delete from app_usage.usage where person_id = 'person7'")
    assert world.publish().rows_upserted == 1


def test_row_level_security_comes_back_though_nothing_is_published_after_a_rollback(world: World) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99")
    world.publish()
    rollback(world.url)
    world.query("alter table app_usage.app_usage_rejected disable row level security")
    with pytest.raises(PublishError, match="rolled back"):
        world.publish()
    assert status(world.url).unguarded == ()


def test_what_was_written_while_the_trigger_was_gone_is_repaired(world: World) -> None:
    world.publish()
    world.query(
        "alter table app_usage.usage disable trigger note_foreign_write; "
        "update app_usage.usage set active_days = -1 where person_id = 'person7'"
    )
    assert world.publish().rows_upserted == 1
    assert world.is_equal()


def test_looking_for_the_guards_costs_one_statement_however_many_tables(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish()
    told: list[str] = []
    execute = Product.execute
    monkeypatch.setattr(Product, "execute", lambda *of: [told.append(of[1]), execute(*of)][1])
    with Product(world.url) as product:
        told.clear()
        assert put_back(product) == []
    assert len(told) == 1
