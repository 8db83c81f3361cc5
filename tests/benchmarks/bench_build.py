"""What a build and a publish cost with much history: first, with a little that is new, and with nothing new.

    uv run python -m tests.benchmarks.bench_build [--events 10000000] [--days 2000] [--new 0.001] [--memory 6GB]
    uv run python -m tests.benchmarks.bench_build --growth 200 [--events 1000000]
    uv run python -m tests.benchmarks.bench_build --events 14600000 --days 730 --orgs 200 --apps 100 --apps-each 100 \
        --events-a-day 1

Events are made in SQL, in the landing tables. Everyone uses Google and one more app through Okta, ten events a day in
each, or as many apps as is asked for; of the new ones a tenth is up to 30 days late. The same people and the same new
events come upon a tenth of the days, and upon all of them, of which there are still more than any window reaches back;
or so many builds follow one another on one file. SQL time is dbt's own, by model, without the tests of the data, and
every size is built in a process of its own. What the product shows is asked of the mart, of the table that a private
PostgreSQL has of it, which is where the product asks, and of a view over the events. Compare ratios: seconds are the
machine's.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dlt
import duckdb
import psycopg2

from ingestion.build import let_go_of_duckdb
from ingestion.postgres import PrivatePostgres
from ingestion.publish import publish
from tests import flow_support
from tests.flow_support import copy_project
from tests.models_support import Row, Warehouse, fetches, org, utc

NOBODY = 100  # one in so many accounts is nobody's, and used at another person's address each day
END = "2026-02-01 12:00"  # of the history; what is new comes in the hours after it
APPS = ("Slack", "Zoom", "Figma", "Notion", "Asana")  # and others after them
SOURCES = ("google_workspace", "okta")
ARRIVAL = """
    insert into landing_{connector}.{table} by name
    select
        'org-' || person % {orgs} || '-{connector}' as connection_id,
        'org-' || person % {orgs} as org_id,
        '{table}:{load}:' || number as event_id,
        'native' as event_id_kind,
        occurred_at,
        {fetched_at} as fetched_at,
        'person' || person || '@org-' || person % {orgs} || '.com' as actor_email,
        'id of ' || person as actor_id,
        '10.0.' || case
            when person // {orgs} % {nobody} > 0 then person
            else hash(person, occurred_at::date) % {people} // {orgs} * {orgs} + person % {orgs}
        end as ip_address,
        {columns},
        '{{}}' as payload,
        {load_id} as _dlt_load_id
    from ({events})
    """
COLUMNS = {
    "google_workspace": "'login_success' as event_name",
    "okta": "'user.authentication.sso' as event_type, 'User' as actor_type, 'SUCCESS' as outcome, "
    "{apps}[1 + (person // {orgs} + number % {apps_each}) % len({apps})] as app_name",
}
TABLES = {"google_workspace": "login", "okta": "system_log"}
# What the product shows, from a mart, and the same from the events, as a view would have it.
PAGES = {
    "an app's users of a month": (
        """
        select usage_date, dau, mau_30 from analytics.app_usage_daily
        where org_id = 'org-1' and app_id = 'zoom' and usage_date between date '2026-01-02' and date '2026-01-31'
        order by usage_date
        """,
        """
        with uses as (
            select distinct accounts.person_id, events.usage_date
            from analytics_intermediate.int_events as events
            inner join analytics.dim_accounts as accounts using (connection_id, account_key)
            where events.org_id = 'org-1' and events.app_id = 'zoom' and events.is_activity
                and accounts.person_class = 'human'
        )
        select
            days.calendar_date,
            count(distinct case when uses.usage_date = days.calendar_date then uses.person_id end),
            count(distinct uses.person_id)
        from analytics_intermediate.int_calendar as days
        inner join uses on uses.usage_date between days.calendar_date - 29 and days.calendar_date
        where days.calendar_date between date '2026-01-02' and date '2026-01-31'
        group by all
        order by all
        """,
    ),
    "who uses what": (
        """
        select person_id, app_id, last_used_date, active_days_30 from analytics.user_app_usage
        where org_id = 'org-1' and last_used_date is not null
        order by person_id, app_id
        """,
        """
        select
            accounts.person_id,
            events.app_id,
            max(events.usage_date),
            count(distinct case when events.usage_date > apps.as_of_date - 30 then events.usage_date end)
        from analytics_intermediate.int_events as events
        inner join analytics.dim_accounts as accounts using (connection_id, account_key)
        inner join analytics_intermediate.int_apps as apps
            on events.org_id = apps.org_id and events.app_id = apps.app_id
        where events.org_id = 'org-1' and events.is_activity and events.usage_date <= apps.as_of_date
        group by all
        order by all
        """,
    ),
}


@dataclass(frozen=True)
class Size:
    days: int
    people: int
    orgs: int
    apps: int
    apps_each: int  # that a person uses through Okta
    events_a_day: int  # of a person, half of them through Okta

    @property
    def events(self) -> int:
        return self.days * self.people * self.events_a_day


@dataclass
class Figures:
    """Of one size. SQL is the sum of the models' seconds; CPU is the process's."""

    first: dict[str, float] = field(default_factory=dict)
    runs: list[dict[str, float]] = field(default_factory=list)
    first_wall: float = 0
    first_cpu: float = 0
    run_walls: list[float] = field(default_factory=list)
    run_cpus: list[float] = field(default_factory=list)
    idle_walls: list[float] = field(default_factory=list)
    publishes: list[float] = field(default_factory=list)  # the first one makes the tables
    tests_wall: float = 0  # of all
    tested_wall: float = 0  # of a build with new events, and the tests of what is new
    memory_gb: float = 0
    file_gb: float = 0
    # from the mart, from the published table, from the events
    pages: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def run_sql(self) -> float:
        return statistics.median(sum(run.values()) for run in self.runs)


class Bench:
    def __init__(self, folder: Path, size: Size, memory: str) -> None:
        project = copy_project(folder / "project")
        os.environ[flow_support.PARSES] = str(folder)
        profile = project / "profiles.example.yml"
        text = profile.read_text(encoding="utf-8").replace(
            "TimeZone: UTC", f"memory_limit: {memory}\n        TimeZone: UTC"
        )
        # one model at a time: beside others, a model's seconds would be theirs too
        profile.write_text(text.replace("threads: 4", "threads: 1"), encoding="utf-8")
        self.warehouse = Warehouse(folder / "home", project=project)
        self.size = size
        self.product = PrivatePostgres(folder / "product")

    def land_history(self) -> None:
        size = self.size
        start = str(utc(END) - timedelta(days=size.days))
        orgs = [org(f"org-{number}", "UTC") for number in range(size.orgs)]
        self.warehouse.land("product", "p1", {"orgs": orgs, "employees": []})
        with self.connection() as connection:
            connection.execute(
                "insert into landing_product.employees by name"
                " select 'org-' || i % $1 as org_id, 'person' || i as person_id,"
                " 'person' || i || '@org-' || i % $1 || '.com' as email, '[]' as alias_emails, 'p1' as _dlt_load_id"
                " from range($2) as people (i) where i // $1 % $3 > 0",
                [size.orgs, size.people, NOBODY],
            )
        self._land(
            "history",
            start=start,
            at=END,
            load_id="'load ' || strftime(occurred_at, '%Y%m%d')",
            fetched_at="occurred_at + interval 1 hour",
            events=f"""
                select
                    number,
                    cast(hash(number, '{{connector}}') % {size.people} as bigint) as person,
                    timestamp '{start}'
                    + to_microseconds(cast(number * {86_400e6 * size.days} / {size.events / 2} as bigint))
                        as occurred_at
                from range({size.events // 2}) as events (number)
                """,
        )

    def land_new(self, number: int, count: int) -> None:
        """An hour's events, for all connections, one in ten of them late."""
        start, at = (str(utc(END) + timedelta(hours=hours)) for hours in (number, number + 1))
        self._land(
            f"new-{number}",
            start=start,
            at=at,
            load_id=f"'new {number:03}'",
            fetched_at=f"timestamp '{at}'",
            events=f"""
                select
                    number,
                    cast(hash(number, {number}, '{{connector}}') % {self.size.people} as bigint) as person,
                    timestamp '{start}' + to_microseconds(cast(number * 3600e6 / {count / 2} as bigint))
                    - case when number % 10 = 0 then to_days(cast(hash(number) % 30 as integer)) else interval 0 day end
                        as occurred_at
                from range({count // 2}) as events (number)
                """,
        )

    def connection(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(str(self.warehouse.home / "warehouse.duckdb"))
        connection.execute("set enable_progress_bar = false")
        return connection

    def _land(self, load: str, *, start: str, at: str, load_id: str, fetched_at: str, events: str) -> None:
        size = self.size
        apps = [*APPS, *(f"App {number}" for number in range(len(APPS), size.apps))][: size.apps]
        for connector in SOURCES:
            table = TABLES[connector]
            log: list[Row] = []
            for number in range(size.orgs):
                log += fetches(connector, f"org-{number}-{connector}", f"org-{number}", start=start, at=at)
            self.warehouse.land(connector, f"log {load}", {"fetch_log": log, table: []})
            arrival = ARRIVAL.format(
                connector=connector,
                table=table,
                orgs=size.orgs,
                people=size.people,
                nobody=NOBODY,
                load=load,
                fetched_at=fetched_at,
                columns=COLUMNS[connector].format(apps=apps, orgs=size.orgs, apps_each=size.apps_each),
                load_id=load_id,
                events=events.format(connector=connector),
            )
            with self.connection() as connection:
                connection.execute(arrival)
                connection.execute(
                    f"insert into landing_{connector}._dlt_loads by name"
                    f" select distinct _dlt_load_id as load_id, 0 as status, now()::timestamp as inserted_at"
                    f" from landing_{connector}.{table}"
                    f" where _dlt_load_id not in (select load_id from landing_{connector}._dlt_loads)"
                )

    def build(self, *arguments: str) -> tuple[dict[str, float], float, float]:
        """Seconds by model, of the whole and of the CPU."""
        wall, cpu = time.perf_counter(), time.process_time()
        results = self.warehouse.build(*arguments)
        seconds = {r.node.name: r.execution_time for r in results if r.node.resource_type in ("model", "snapshot")}
        return seconds, time.perf_counter() - wall, time.process_time() - cpu

    def remember_that_all_is_tested(self) -> None:
        """As `app-usage` does: from here on what is new is tested."""
        ledgers = {"ledger_id": "int_days_touched", "identity_id": "int_identities"}
        with self.connection() as connection:
            newest = {
                column: connection.execute(f"select max({column}) from analytics_intermediate.{name}").fetchall()[0][0]
                for column, name in ledgers.items()
            }
        os.environ["APP_USAGE_TESTED"] = json.dumps(newest)

    def publish(self, number: int) -> float:
        """Seconds."""
        let_go_of_duckdb()  # as `app-usage` does
        home = self.warehouse.home
        generation = publish(
            home / "target" / "manifest.json",
            dlt.destinations.duckdb(str(home / "warehouse.duckdb")),
            self.product.url("product"),
            utc(END) + timedelta(hours=number),
            f"build {number}",
            home / "pipelines",
        )
        return generation.seconds


def measure(folder: Path, size: Size, new: int, memory: str, repeats: int) -> Figures:
    bench, figures = Bench(folder, size, memory), Figures()
    bench.land_history()
    bench.warehouse.dbt("parse")
    bench.product.start()
    figures.first, figures.first_wall, figures.first_cpu = bench.build()
    figures.publishes.append(bench.publish(0))
    for number in range(repeats):
        bench.land_new(number, new)
        seconds, wall, cpu = bench.build()
        figures.runs.append(seconds)
        figures.run_walls.append(wall)
        figures.run_cpus.append(cpu)
        figures.publishes.append(bench.publish(number + 1))
    figures.idle_walls = [bench.build()[1] for _ in range(repeats)]
    started = time.perf_counter()
    bench.warehouse.build(tests=True)
    figures.tests_wall = time.perf_counter() - started - statistics.median(figures.idle_walls)
    bench.remember_that_all_is_tested()
    bench.land_new(repeats, new)
    started = time.perf_counter()
    bench.warehouse.build(tests=True)
    figures.tested_wall = time.perf_counter() - started
    bench.publish(repeats + 1)
    figures.memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    figures.file_gb = (bench.warehouse.home / "warehouse.duckdb").stat().st_size / 1e9
    with (
        bench.connection() as warehouse,
        closing(psycopg2.connect(bench.product.url("product"))) as connection,
        connection.cursor() as product,
    ):
        for page, (of_mart, of_events) in PAGES.items():
            quick, mart = timed(warehouse, of_mart, 50)
            quicker, table = timed(product, of_mart.replace("analytics.", "app_usage."), 50)
            slow, view = timed(warehouse, of_events, 3)
            assert mart == table == view, (mart[:3], table[:3], view[:3])
            figures.pages[page] = quick, quicker, slow
    bench.product.remove()
    return figures


def growth(folder: Path, size: Size, new: int, memory: str, builds: int) -> tuple[float, float]:
    """MB of the file after so many builds with new events, and of one that is built from the same landing tables.

    The file is closed after each build, as `app-usage` does, which writes DuckDB's log into it.
    """
    bench, fresh = Bench(folder / "grown", size, memory), Bench(folder / "fresh", size, memory)
    bench.land_history()
    bench.warehouse.dbt("parse")
    bench.build()
    for number in range(builds):
        bench.land_new(number, new)
        bench.build()
        let_go_of_duckdb()
    files = [each.warehouse.home / "warehouse.duckdb" for each in (bench, fresh)]
    fresh.warehouse.home.mkdir()
    with bench.connection() as connection:
        connection.execute(f"attach '{files[1]}' as fresh")
        landed = "select table_schema, table_name from information_schema.tables where table_schema like 'landing_%'"
        for schema, table in connection.execute(landed).fetchall():
            connection.execute(f"create schema if not exists fresh.{schema}")
            connection.execute(f"create table fresh.{schema}.{table} as from {schema}.{table}")
        connection.execute("detach fresh")
    fresh.build()
    let_go_of_duckdb()
    return files[0].stat().st_size / 1e6, files[1].stat().st_size / 1e6


def timed(connection: Any, sql: str, times: int) -> tuple[float, list[tuple[object, ...]]]:
    """Seconds, and the rows."""
    seconds, rows = [], []
    for _ in range(times):
        started = time.perf_counter()
        connection.execute(sql)
        rows = connection.fetchall()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=2000)
    parser.add_argument("--orgs", type=int, default=10)
    parser.add_argument("--apps", type=int, default=len(APPS), help="of a customer")
    parser.add_argument("--apps-each", type=int, default=1, help="of a person")
    parser.add_argument("--events-a-day", type=int, default=20, help="of a person")
    parser.add_argument("--new", type=float, default=0.001, help="share of the events that comes after the first build")
    parser.add_argument("--memory", default="6GB", help="DuckDB's limit")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", type=int, metavar="BUILDS", help="how the file grows over so many builds")
    parser.add_argument("--folder", type=Path, help="where there is room for the files, which are deleted")
    options = parser.parse_args()

    def size(days: int) -> Size:
        people = options.events // (options.days * options.events_a_day)
        return Size(days, people, options.orgs, options.apps, options.apps_each, options.events_a_day)

    new = round(options.events * options.new)
    if options.growth:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        grown, fresh = growth(folder, size(options.days), new, options.memory, options.growth)
        shutil.rmtree(folder)
        print(
            f"the file: {grown:.0f} MB after {options.growth} builds with {new:,} new events each,"
            f" {fresh:.0f} MB built at once: {grown / fresh:.2f} times (goal: 1.5)"
        )
        return
    sizes: dict[int, Figures] = {}
    for days in (options.days // 10, options.days):
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            measured = process.submit(measure, folder, size(days), new, options.memory, options.repeats)
            sizes[days] = measured.result()
        shutil.rmtree(folder)
        show(size(days).events, sizes[days])
    small, large = sizes.values()
    slowest = sorted(large.runs[-1], key=lambda name: small.runs[-1].get(name, 0) - large.runs[-1][name])[:8]
    print("the models that history slows most, seconds with a tenth of it and with all:")
    for name in slowest:
        print(f"{small.runs[-1].get(name, 0):8.2f} {large.runs[-1][name]:8.2f}  {name}")
    print(f"incremental SQL with ten times the history: {large.run_sql / small.run_sql:.2f} times (goal: 1.2)")
    print(f"incremental SQL of the full rebuild's: 1/{sum(large.first.values()) / large.run_sql:.0f} (goal: 1/20)")
    print(f"the whole process: 1/{large.first_wall / statistics.median(large.run_walls):.0f} (goal: 1/5)")
    slower = large.first_wall / small.first_wall / (options.days / (options.days // 10))
    print(f"first build, time per event with ten times the events: {slower:.2f} times (goal: 1.2)")
    for page, (mart, table, view) in large.pages.items():
        print(
            f"{page}, quicker than by a view over the events: {view / mart:,.0f} times from the mart,"
            f" {view / table:,.0f} times from the product's table (goal: 1,000)"
        )


def show(events: int, figures: Figures) -> None:
    print(f"{events:,} events; seconds")
    print(
        f"  first build: {figures.first_wall:.1f}, CPU {figures.first_cpu:.1f}, SQL {sum(figures.first.values()):.1f},"
        f" {figures.memory_gb:.1f} GB of memory, {figures.file_gb:.2f} GB of file"
    )
    print(
        f"  with new events: {statistics.median(figures.run_walls):.2f},"
        f" CPU {statistics.median(figures.run_cpus):.2f}, SQL {figures.run_sql:.2f}"
    )
    slowest = sorted(figures.runs[-1].items(), key=lambda run: -run[1])[:5]
    print("    most of it: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in slowest))
    print(f"  with nothing new: {statistics.median(figures.idle_walls):.2f}")
    print(f"  tests of all data: {figures.tests_wall:.1f}")
    print(f"  with new events and the tests of those: {figures.tested_wall:.1f}")
    print(f"  published: {figures.publishes[0]:.2f}, then {statistics.median(figures.publishes[1:]):.2f}")
    for page, (mart, table, view) in figures.pages.items():
        print(
            f"  {page}: mart {mart * 1000:.2f} ms, product's table {table * 1000:.2f} ms, view {view * 1000:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
