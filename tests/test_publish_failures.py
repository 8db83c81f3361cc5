"""A publish that is killed, cut off, locked out or not alone: readers notice nothing, and the next one ends right."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import dlt
import psycopg2
import pytest

from ingestion.postgres import PrivatePostgres
from ingestion.publish import PublishError, publish
from tests.publish_support import DAILY, NOW, World, run, wait_until

pytestmark = pytest.mark.stress

# The steps of a publish between which it may die with something done and something not, in order.
STEPS = [
    *("compare", "export", "stage", "finish", "begin", "write daily", "write usage", "prove", "commit"),
    *("committed", "clean", "index"),
]

# Children are forked from a process that has imported all they need, which a publish spends most of its time on.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(
    [
        *("ingestion.publish", "ingestion.dlt_context", "dlt.load", "dlt.sources.helpers.requests"),
        *("dlt._workspace._plugins", "dlt._workspace._workspace_context", "dlt.common.libs.pyarrow"),
        *("dlt.destinations.impl.duckdb.duck", "dlt.destinations.impl.postgres.postgres", __name__),
    ]
)


def publish_and_die(arguments: dict[str, Any], warehouse: Path, fatal: str) -> None:
    def progress(step: str) -> None:
        if step == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    publish(warehouse=dlt.destinations.duckdb(str(warehouse)), progress=progress, **arguments)


def publish_until(world: World, step: str) -> None:
    """A publish in another process that dies at a step. DuckDB lets one process at a time open the warehouse."""
    world.warehouse.close()
    arguments = {
        "manifest": world.manifest,
        "product_url": world.url,
        "now": NOW,
        "dbt_invocation_id": "killed",
        "pipelines_dir": world.folder / "pipelines",
    }
    child = CHILDREN.Process(target=publish_and_die, args=(arguments, world.file, step))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    world.open()


def change(world: World, version: int) -> None:
    """Some rows change, some go, some come. All of `daily` and one row of `usage` say which version this is."""
    chance = random.Random(version)  # noqa: S311 - no secret
    world.change(
        f"""update analytics.daily set dau = {version};
        update analytics.usage set active_days = {version} where hash(person_id) % 10 = {chance.randrange(10)};
        delete from analytics.usage where hash(person_id) % 50 = {chance.randrange(50)} and person_id <> 'person0';
        insert into analytics.usage (org_id, person_id) values ('org{chance.randrange(9)}', 'new{version}');
        update analytics.usage set active_days = {version} where person_id = 'person0'"""
    )


def watch(url: str, is_over: Any, wrong: Any) -> None:
    """Looks 50 times a second, each time in one snapshot, and notes what is not one whole generation."""
    while not is_over.is_set():
        with suppress(psycopg2.OperationalError), closing(psycopg2.connect(url)) as connection:  # a crash in between
            connection.autocommit = True
            while not is_over.wait(0.02):
                with connection.cursor() as cursor:
                    cursor.execute(
                        """select count(*), count(distinct d.dau), min(d.dau) = min(u.active_days),
                            min(u.generation_id) = (
                                select max(generation_id) from app_usage.generations where status = 'published'),
                            (select count(*) > 100 from app_usage.usage)
                        from app_usage.daily as d, app_usage.usage as u where u.person_id = 'person0'"""
                    )
                    if (seen := cursor.fetchone()) != (30, 1, True, True, True):
                        wrong.put(seen)
                        return


@contextmanager
def watched(world: World) -> Iterator[None]:
    """A process reads all the while, and the test fails where it has seen anything but whole generations."""
    is_over, wrong = CHILDREN.Event(), CHILDREN.Queue()
    reader = CHILDREN.Process(target=watch, args=(world.url, is_over, wrong))
    reader.start()
    try:
        yield
    finally:
        is_over.set()
        reader.join()
    assert reader.exitcode == 0
    assert wrong.empty(), wrong.get()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, product_server: PrivatePostgres) -> Iterator[World]:
    """A world that outlives one failed publish after the other; `version` counts its changes."""
    world = World(tmp_path_factory.mktemp("standing"), product_server.url("standing"))
    change(world, 1)
    world.publish()
    world.version = 1
    yield world
    world.warehouse.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_publish_killed_at_any_step_leaves_one_whole_generation(standing: World, step: str) -> None:
    """Five times; the second and the fourth find what the one before left, the others what a good publish did."""
    world, is_published = standing, STEPS.index(step) > STEPS.index("commit")
    shown = world.version
    ((generations,),) = world.query("select count(*) from app_usage.generations")
    with watched(world):
        for seed in range(5):
            world.version += 1
            change(world, world.version)
            publish_until(world, step)
            shown = world.version if is_published else shown
            assert world.query("select distinct dau from app_usage.daily") == [(shown,)]
            if seed in (0, 2, 4):
                assert world.publish(accept=True).changed is not is_published
                shown = world.version
            assert world.is_equal() is (shown == world.version)
    published = 5 if is_published else 3
    assert world.query("select count(*) from app_usage.generations") == [(generations + published,)]
    assert not world.publish().changed


@pytest.mark.parametrize("step", ["export", "stage", "finish", "write usage", "commit"])
def test_a_first_publish_killed_at_any_step_is_made_good_by_the_next(world: World, step: str) -> None:
    publish_until(world, step)
    world.publish()
    assert world.is_equal()
    assert world.query("select count(*) from app_usage.generations") == [(1,)]


@pytest.mark.parametrize("step", ["compare", "stage", "finish", "begin", "prove", "commit"])
def test_a_publish_whose_connection_is_cut_says_so_and_publishes_nothing(standing: World, step: str) -> None:
    world = standing
    world.version += 1
    change(world, world.version)

    def cut(at: str) -> None:
        if at == step:
            terminate = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like %s"
            assert world.query(terminate, f"app-usage publish%{os.getpid()}%")

    with watched(world):
        with pytest.raises(PublishError, match="publish again"):
            world.publish(progress=cut)
        assert world.query("select distinct dau from app_usage.daily") == [(world.version - 1,)]
        assert world.publish(accept=True).changed
    assert world.is_equal()


@pytest.fixture
def changed(world: World) -> World:
    """A published world with a second version to publish."""
    change(world, 1)
    world.publish()
    change(world, 2)
    return world


def test_a_write_of_somebody_else_during_a_publish_is_repaired_in_the_same_run(world: World) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    meddled: list[str] = []

    def meddle(step: str) -> None:
        if step == "begin" and not meddled:
            meddled.append(step)
            world.query("update app_usage.usage set active_days = -1 where person_id = 'person8'")

    generation = world.publish(progress=meddle)
    assert (generation.rows_upserted, generation.repaired) == (
        2,
        'somebody wrote to app_usage."usage" while it was published',
    )
    assert world.is_equal()
    assert world.query("select count(*) from app_usage.generations") == [(2,)]


def test_a_table_that_somebody_writes_to_again_and_again_is_not_published(world: World) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")

    def meddle(step: str) -> None:
        if step == "begin":
            world.query("update app_usage.usage set active_days = active_days - 1 where person_id = 'person8'")

    with pytest.raises(PublishError, match="somebody wrote to"):
        world.publish(progress=meddle)
    assert world.query("select count(*) from app_usage.generations") == [(1,)]
    assert world.publish().rows_upserted == 2
    assert world.is_equal()


def test_two_publishers_do_not_meet_and_the_second_says_who_is_there(
    changed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.publish.product.CLAIM_SECONDS", 0.0)
    said: list[str] = []

    def meet(step: str) -> None:
        if step == "stage":
            with pytest.raises(PublishError) as refused:
                changed.publish()
            said.append(str(refused.value))

    with watched(changed):
        assert changed.publish(progress=meet, accept=True).changed
    assert re.search(rf"process {os.getpid()} on .* is publishing", said[0])
    assert changed.is_equal()


def test_a_publish_gives_way_to_a_transaction_of_the_product(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the product holds its lock, nobody queues behind the publisher; once it is gone, the publish goes on."""
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    product = psycopg2.connect(world.url)
    product.cursor().execute("select * from app_usage.usage where person_id = 'person7' for update")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert run(world.url, "select count(*) from app_usage.usage") == [(300,)]
        if len(waits) == 2:
            product.rollback()

    monkeypatch.setattr("ingestion.publish.product.time.sleep", wait)
    assert world.publish().rows_upserted == 1
    assert waits == [1, 2]
    assert world.is_equal()
    product.close()


def test_a_lock_that_stays_ends_the_publish_with_the_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    monkeypatch.setattr("ingestion.publish.product.time.sleep", lambda _: None)
    with closing(psycopg2.connect(world.url)) as product, product.cursor() as cursor:
        cursor.execute("lock table app_usage.usage in share mode")
        with pytest.raises(PublishError, match="hold locks on the published tables"):
            world.publish()
    assert world.publish().rows_upserted == 1


def test_a_vacuum_of_postgres_itself_gives_way_to_a_new_column(world: World) -> None:
    """Of a large table it takes minutes, in which every publish would give up."""
    world.publish()
    slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
    world.query(
        f"alter table app_usage.usage set (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, {slow})"
    )
    with closing(psycopg2.connect(world.url)) as product, product.cursor() as cursor:
        cursor.execute("set app_usage.publisher = 'on'")
        for _ in range(20):  # pages that a slow vacuum is at for a while
            cursor.execute("update app_usage.usage set published_at = published_at")
        product.commit()
    world.change("alter table analytics.usage add column licence text; update analytics.usage set licence = 'pro'")
    world.model("usage", {**world.columns("usage"), "licence": "text"}, key=["org_id", "person_id"])
    world.query("alter system set autovacuum_naptime = '1s'")
    world.query("select pg_reload_conf()")
    try:
        at_work = "select 1 from pg_stat_progress_vacuum where relid = 'app_usage.usage'::regclass"
        wait_until(lambda: world.query(at_work))
        assert world.publish(accept=True).rows_upserted == 300
    finally:
        world.query("alter system reset autovacuum_naptime")
        world.query("select pg_reload_conf()")


def test_a_new_table_is_vacuumed_by_postgres_itself_once_it_is_shown(world: World) -> None:
    """Not before: a vacuum of a large one would be in the way of its being shown."""
    options = "select reloptions::text from pg_class where oid = to_regclass('{}.usage')"
    staged: list[str] = []

    def look(step: str) -> None:
        if step == "begin":
            staged.append(world.query(options.format("app_usage_staging"))[0][0])

    world.publish(progress=look)
    assert staged == ["{fillfactor=90,autovacuum_enabled=false}"]
    assert world.query(options.format("app_usage")) == [("{fillfactor=90}",)]


def test_a_deadlock_with_a_product_query_is_tried_again(changed: World) -> None:
    """The product locks a row of `usage` and then wants all of `daily`, which the publisher wrote before it."""
    product = psycopg2.connect(changed.url)
    product.cursor().execute("set lock_timeout = '20s'")
    product.cursor().execute("select * from app_usage.usage where person_id = 'person0' for update")
    want = "lock table app_usage.daily in exclusive mode"
    rest = threading.Thread(target=lambda: product.cursor().execute(want), daemon=True)

    def meet(step: str) -> None:
        if step == "write usage" and not rest.ident:
            rest.start()
            blocked = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like 'lock table%'"
            wait_until(lambda: bool(run(changed.url, blocked)))
        elif step == "begin" and rest.ident:
            rest.join()
            product.rollback()

    with watched(changed):
        assert changed.publish(progress=meet, accept=True).changed
    product.close()
    assert rest.ident
    assert changed.is_equal()


def test_a_crash_of_postgres_at_any_step_loses_nothing(tmp_path: Path) -> None:
    """Its processes notice the death of the first one when they next wait, so the publish may just get through."""
    postgres = PrivatePostgres(tmp_path / "postgres")
    postgres.start()
    try:
        world = World(tmp_path, postgres.url("product"))
        change(world, 1)
        world.publish()
        with watched(world):
            for version, at in enumerate(("compare", "stage", "finish", "write usage", "prove", "commit"), start=2):
                change(world, version)

                def crash(step: str, at: str = at) -> None:
                    if step == at:
                        os.kill(int((postgres.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

                with suppress(PublishError):
                    world.publish(progress=crash, accept=True)
                postgres.start()
                world.publish(accept=True)
                assert world.is_equal()
                assert world.query("select count(*) from app_usage.generations") == [(version,)]
        world.warehouse.close()
    finally:
        postgres.remove()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let files of this process, and of those that it starts, grow above `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_of_the_product_publishes_nothing(tmp_path: Path) -> None:
    """The staged rows find room and the table's new ones do not; then not even the staged ones do."""
    postgres = PrivatePostgres(tmp_path / "postgres")
    postgres.start()
    try:
        world = World(tmp_path, postgres.url("product"))
        world.model("daily", DAILY | {"report": "text"}, key=["org_id", "usage_date"])
        world.change("alter table analytics.daily add column report varchar")

        def fill(version: int, megabytes: int) -> None:
            change(world, version)
            world.change(
                "update analytics.daily set report = (select string_agg(md5(concat(usage_date, dau, i)), '') "
                f"from range({megabytes << 20} // 32 // 30) as t(i))"
            )

        fill(1, megabytes=10)
        world.publish()
        with watched(world):
            for version, (megabytes, last) in enumerate([(10, "write daily"), (20, "stage")], start=2):
                fill(version, megabytes)
                steps: list[str] = []
                postgres.stop()
                with largest_file(17 << 20):  # PostgreSQL's log comes in files of 16 MB
                    postgres.start()
                with pytest.raises(PublishError, match=r"could not extend file .*: File too large"):
                    world.publish(progress=steps.append, accept=True)
                assert steps[-1] == last
                assert world.query("select distinct dau from app_usage.daily") == [(version - 1,)]
                assert world.query("select to_regclass('app_usage_staging.daily')") == [(None,)]
                postgres.stop()
                postgres.start()
                assert world.publish(accept=True).changed
                assert not world.publish(reread=True).changed
                assert world.is_equal()
                assert world.query("select count(*) from app_usage.generations") == [(version,)]
        world.warehouse.close()
    finally:
        postgres.remove()


@pytest.mark.parametrize(("step", "size"), [("compare", 0), ("export", 0), ("stage", 0), ("clean", 1000)])
def test_a_full_disk_of_the_publisher_is_named_and_does_no_harm(changed: World, step: str, size: int) -> None:
    """Once the generation is committed, nothing that is written here matters any more."""
    with watched(changed), ExitStack() as disk:

        def fill(at: str) -> None:
            if at == step:
                disk.enter_context(largest_file(size))

        named = pytest.raises(PublishError, match=r"File too large.*publish again")
        with nullcontext() if step == "clean" else named:
            changed.publish(progress=fill, accept=True)
        disk.close()
        assert changed.query("select distinct dau from app_usage.daily") == [(2 if step == "clean" else 1,)]
        assert not (changed.folder / "pipelines" / "publishing").exists()
        assert changed.publish(accept=True).changed is (step != "clean")
    assert changed.is_equal()
