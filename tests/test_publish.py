"""Publishing into a real PostgreSQL from a real DuckDB: what is written, what is not, and what readers see."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from ingestion.postgres import PrivatePostgres
from ingestion.publish import PublishError
from tests.publish_support import NOW, World, wait_until


def test_a_first_publish_makes_the_tables_that_the_marts_declare(world: World) -> None:
    generation = world.publish()

    assert generation.changed
    assert (generation.rows_upserted, generation.rows_deleted) == (330, 0)
    assert [(table.name, table.rows) for table in generation.tables] == [("daily", 30), ("usage", 300)]
    assert world.is_equal()
    types = world.query(
        "select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull from pg_attribute as a "
        "where a.attrelid = 'app_usage.usage'::regclass and a.attnum > 0 order by a.attnum"
    )
    assert types == [
        ("org_id", "text", True),
        ("person_id", "text", True),
        ("active_days", "bigint", False),
        ("active_day_rate", "double precision", False),
        ("first_used_on", "date", False),
        ("is_known", "boolean", False),
        ("seen_at", "timestamp with time zone", False),
        ("monthly_price", "numeric(12,2)", False),
        ("generation_id", "text", False),
        ("published_at", "timestamp with time zone", False),
    ]
    assert world.query(
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'app_usage.usage'::regclass"
    ) == [("PRIMARY KEY (org_id, person_id)",)]
    assert world.query(
        "select obj_description('app_usage.usage'::regclass), col_description('app_usage.usage'::regclass, 3)"
    ) == [("The org's usage.", "Its active_days.")]
    assert world.query("select seen_at from app_usage.usage where person_id = 'person1'") == [
        (datetime(2026, 1, 1, 10, 1, 0, 123456, tzinfo=UTC),)
    ]
    noted = world.query("select * from app_usage.generations")
    assert len(noted) == 1
    generation_id, started_at, published_at, *rest = noted[0]
    assert generation_id == generation.generation_id
    assert started_at == NOW <= published_at < NOW + timedelta(minutes=5)
    assert rest[:4] == ["published", "an-invocation", 330, 0]
    assert world.query("select distinct generation_id, published_at < %s from app_usage.usage", published_at) == [
        (generation_id, True)
    ]


@pytest.mark.parametrize(("processors", "used"), [(4, 3), (1, 1)])
def test_a_publish_leaves_a_processor_to_the_product(world: World, processors: int, used: int) -> None:
    """And who else has the warehouse open gets theirs back, also from a publish that fails."""
    world.change(f"set threads = {processors}")
    seen: set[int] = set()

    def threads() -> int:
        [(count,)] = world.warehouse.execute("select current_setting('threads')").fetchall()
        return int(count)

    def note(step: str) -> None:
        if step not in ("claim", "prepare", "index"):
            seen.add(threads())
        if step == "stage" and processors == 4:
            raise PublishError("enough")

    with pytest.raises(PublishError, match="enough") if processors == 4 else nullcontext():
        world.publish(progress=note)
    assert seen == {used}
    assert threads() == processors


def test_only_new_changed_and_vanished_rows_are_written(world: World) -> None:
    world.publish()
    usage, daily = world.row_versions("usage"), world.row_versions("daily")
    world.change("update analytics.usage set active_days = 99 where person_id in ('person7', 'person8')")
    world.change("update analytics.usage set is_known = null where person_id = 'person4'")
    world.change("delete from analytics.usage where person_id = 'person9'")
    world.change("insert into analytics.usage (org_id, person_id) values ('org1', 'new')")

    generation = world.publish()

    assert (generation.rows_upserted, generation.rows_deleted) == (4, 1)
    assert world.is_equal()
    now = world.row_versions("usage")
    rewritten = {key for key in now if now[key] != usage.get(key)}
    assert {person for _, person in rewritten} == {"person7", "person8", "person4", "new"}
    assert world.row_versions("daily") == daily
    assert world.query("select generation_id, count(*) from app_usage.usage group by 1 order by 1") == [
        ("00000001", 296),
        ("00000002", 4),
    ]
    assert world.query("select rows_upserted, rows_deleted from app_usage.generations order by 1 desc") == [
        (330, 0),
        (4, 1),
    ]


def test_postgres_counts_no_update_for_unchanged_rows_and_no_index_entry_for_changed_ones(world: World) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    world.publish()
    world.publish()
    counters = (
        "select n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del from pg_stat_user_tables "
        "where relid = 'app_usage.usage'::regclass"
    )
    wait_until(lambda: world.query(counters) == [(300, 1, 1, 0)])


def test_a_publish_without_changes_writes_nothing(world: World) -> None:
    first = world.publish()
    before = world.query("select xmin::text, * from app_usage.generations"), world.row_versions("usage")
    ledger = world.query("select xmin::text, * from app_usage_ledger.orgs order by 2, 3")

    second = world.publish(now=NOW + timedelta(days=1))

    assert not second.changed
    assert second.generation_id == first.generation_id
    assert (world.query("select xmin::text, * from app_usage.generations"), world.row_versions("usage")) == before
    assert world.query("select xmin::text, * from app_usage_ledger.orgs order by 2, 3") == ledger


def test_the_content_hash_depends_on_the_rows_alone(world: World, product_server: PrivatePostgres) -> None:
    world.publish()
    world.change("create table analytics.other as select * from analytics.usage order by hash(person_id)")
    world.change("drop table analytics.usage; alter table analytics.other rename to usage")
    assert not world.publish().changed
    world.publish(product_url=product_server.url(f"product_{time.time_ns()}"))
    world.change("update analytics.usage set active_days = active_days + 1 where person_id = 'person1'")
    world.publish()
    world.change("update analytics.usage set active_days = active_days - 1 where person_id = 'person1'")
    world.publish()
    hashes = [row[0] for row in world.query("select content_hash from app_usage.generations order by generation_id")]
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_lost_local_folder_costs_nothing_but_time(world: World) -> None:
    world.publish()
    before = world.row_versions("usage")
    shutil.rmtree(world.folder / "pipelines")
    assert not world.publish().changed
    shutil.rmtree(world.folder / "pipelines")
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    assert world.publish().rows_upserted == 1
    assert world.is_equal()
    assert [key for key, version in world.row_versions("usage").items() if version != before[key]] == [
        ("org1", "person7")
    ]


def test_a_restored_backup_is_brought_up_to_date(world: World, product_server: PrivatePostgres) -> None:
    world.publish()
    backup = f"backup_{time.time_ns()}"
    with closing(psycopg2.connect(product_server.url("postgres"))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"create database {backup} template {world.url.rpartition('/')[2]}")
    for number in (7, 8):
        world.change(f"update analytics.usage set active_days = 99 where person_id = 'person{number}'")
        world.publish()
    world.change("update analytics.usage set active_days = 98 where person_id = 'person7'")
    world.url = product_server.url(backup)

    assert world.publish().rows_upserted == 2
    assert world.is_equal()


@pytest.mark.parametrize(
    "write",
    [
        "update app_usage.usage set active_days = -1 where person_id = 'person7'",
        "delete from app_usage.usage where person_id = 'person7'",
        "insert into app_usage.usage (org_id, person_id) values ('org1', 'nobody')",
        "truncate app_usage.usage",
        "drop table app_usage.usage",
        "delete from app_usage.usage; drop table app_usage.usage",
    ],
)
def test_what_somebody_else_wrote_is_repaired(world: World, write: str) -> None:
    world.publish()
    world.query(write)
    assert not world.is_equal() if "drop" not in write else True
    assert world.publish(accept=True).changed
    assert world.is_equal()
    assert not world.publish().changed


def test_a_change_behind_the_ledgers_back_is_found_by_a_reread(world: World) -> None:
    world.publish()
    world.query("set session_replication_role = replica; delete from app_usage.usage where person_id = 'person7'")
    assert not world.publish().changed
    assert world.publish(reread=True).rows_upserted == 1
    assert world.is_equal()


@pytest.mark.parametrize("is_folder_lost", [False, True])
@pytest.mark.parametrize("changed", ["person7", "person10"])
def test_a_change_behind_the_ledgers_back_is_repaired_by_the_publish_that_meets_it(
    world: World, changed: str, is_folder_lost: bool
) -> None:
    world.publish()
    world.query(
        "set session_replication_role = replica; delete from app_usage.usage where person_id = 'person7'; "
        "insert into app_usage.usage (org_id, person_id) values ('org1', 'nobody'), ('org1', 'noone')"
    )
    world.change(f"update analytics.usage set active_days = 99 where person_id = '{changed}'")
    if is_folder_lost:
        shutil.rmtree(world.folder / "pipelines")
    generation = world.publish()
    assert ("is not what was published" if is_folder_lost else "has other rows of org1") in generation.repaired
    assert world.is_equal()
    assert len(world.query("select * from app_usage.generations")) == 2
    assert world.publish().repaired == ""


@pytest.mark.parametrize(
    ("when", "meddle", "message"),
    [
        ("before", "new.active_days := 0", "not those that were sent"),
        ("after", "update app_usage.usage set active_days = 0 where person_id = 'person8'", "somebody wrote to"),
    ],
)
def test_a_product_trigger_that_changes_rows_is_not_let_through(
    world: World, when: str, meddle: str, message: str
) -> None:
    world.publish()
    world.query(
        f"""create function meddle() returns trigger language plpgsql as $$ begin
            {meddle}; return new; end $$;
        create trigger meddle {when} update of seen_at, active_days on app_usage.usage
            for each row when (pg_trigger_depth() = 0) execute function meddle()"""
    )
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    with pytest.raises(PublishError, match=message):
        world.publish()
    assert world.query("select max(active_days), count(*) from app_usage.usage") == [(29, 300)]
    assert len(world.query("select * from app_usage.generations")) == 1


@pytest.mark.stress
def test_readers_see_whole_generations_only(world: World) -> None:
    """A reader that looks at both tables in one snapshot, as fast as it can, while ten generations go by."""
    world.change("update analytics.usage set active_days = 0; update analytics.daily set dau = 0")
    world.publish()
    seen: set[tuple[Any, ...]] = set()
    stop = threading.Event()

    def read() -> None:
        with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            while not stop.is_set():
                cursor.execute("select count(*), min(active_days), max(active_days) from app_usage.usage")
                usage = cursor.fetchone()
                cursor.execute("select count(*), min(dau), max(dau) from app_usage.daily")
                daily = cursor.fetchone()
                cursor.execute("select count(*) from app_usage.generations")
                generations = cursor.fetchone()
                connection.commit()
                assert usage is not None
                assert daily is not None
                assert generations is not None
                seen.add((*usage, *daily, *generations))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 11):
        world.change(f"update analytics.usage set active_days = {number}; update analytics.daily set dau = {number}")
        world.change(
            f"insert into analytics.usage (org_id, person_id, active_days) values ('org1', 'n{number}', {number})"
        )
        world.publish()
    stop.set()
    reader.join()

    assert seen <= {(300 + n, n, n, 30, n, n, n + 1) for n in range(11)}
    assert len(seen) > 3
