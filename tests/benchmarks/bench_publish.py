"""How fast a publish is, beside the least that PostgreSQL itself needs for the same rows, in one run.

    uv run python tests/benchmarks/bench_publish.py [--rows 2000000] [--repeats 3]

A mart of 12 columns in DuckDB, a private PostgreSQL on the same machine. Compare ratios: seconds are the machine's.
"""

import argparse
import json
import multiprocessing
import os
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dlt
import duckdb
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi

from ingestion.cli import PRIORITY
from ingestion.postgres import PrivatePostgres
from ingestion.publish import publish

COLUMNS = {
    "org_id": "text",
    "person_id": "text",
    "app_id": "text",
    "user_email": "text",
    "first_used_date": "date",
    "last_used_date": "date",
    "active_days_30": "bigint",
    "active_days_90": "bigint",
    "active_day_rate_30": "double",
    "usage_band": "text",
    "usage_known": "boolean",
    "loaded_at": "timestamp",
}
KEY = ["org_id", "person_id", "app_id"]
ROWS = """
    select
        'org-' || (i % 50) as org_id, 'person-' || (i // 1000) as person_id, 'app-' || (i // 50 % 20) as app_id,
        'person' || (i // 1000) || '@org' || (i % 50) || '.example' as user_email,
        date '2025-01-01' + (hash(i) % 300)::int as first_used_date,
        date '2025-11-01' + (hash(i + 1) % 300)::int as last_used_date,
        (hash(i + 2) % 30)::bigint as active_days_30, (hash(i + 3) % 90)::bigint as active_days_90,
        (hash(i + 2) % 30) / 30.0::double as active_day_rate_30,
        case hash(i + 4) % 4 when 0 then 'daily' when 1 then 'weekly' when 2 then 'rare' end as usage_band,
        hash(i + 5) % 10 > 0 as usage_known, timestamp '2026-01-31 06:00:00' as loaded_at
    from range({rows}) as t(i)
"""
POSTGRES_COLUMNS = ", ".join(
    f"{name} {kind.replace('double', 'double precision').replace('timestamp', 'timestamptz')}"
    for name, kind in COLUMNS.items()
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-publish-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = PrivatePostgres(folder / "postgres")
        postgres.start()
        try:
            bench(folder, postgres, arguments.rows, arguments.repeats)
        finally:
            postgres.remove()


def bench(folder: Path, postgres: PrivatePostgres, rows: int, repeats: int) -> None:
    warehouse = duckdb.connect(str(folder / "warehouse.duckdb"))
    warehouse.execute("create schema analytics")
    warehouse.execute(f"create table analytics.usage as {ROWS.format(rows=rows)}")
    write_manifest(folder / "manifest.json")

    def publish_to(database: str) -> float:
        url = postgres.url(database)
        started = time.perf_counter()
        publish_mart(folder, url)
        return time.perf_counter() - started

    def bare_copy(number: int) -> float:
        """The rows lie ready as Parquet; the table has its key."""
        with dbapi.connect(postgres.url(f"bare_{number}")) as connection, connection.cursor() as cursor:
            cursor.execute(f"create table usage ({POSTGRES_COLUMNS}, primary key ({', '.join(KEY)}))")
            connection.commit()
            file = pq.ParquetFile(folder / "usage.parquet")
            started = time.perf_counter()
            reader = pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(100_000))
            cursor.adbc_ingest("usage", reader, mode="append")
            connection.commit()
            return time.perf_counter() - started

    def changed(number: int) -> float:
        change(warehouse, number)
        return publish_to("first_0")

    def bare_upsert(number: int) -> float:
        """The changed rows are known and lie ready as Arrow; no comparison, no proof, no way back."""
        known = warehouse.sql(
            "select * replace (active_days_90 + 1 as active_days_90) from analytics.usage "
            f"where hash(org_id, person_id, app_id) % 100 = {50 + number}"
        ).to_arrow_table()
        values = [name for name in COLUMNS if name not in KEY]
        with dbapi.connect(postgres.url("bare_0")) as connection, connection.cursor() as cursor:
            started = time.perf_counter()
            cursor.execute(f"create temp table changed ({POSTGRES_COLUMNS})")
            cursor.adbc_ingest("changed", known, mode="append", temporary=True)
            cursor.execute(
                f"insert into usage select * from changed on conflict ({', '.join(KEY)}) do update set "
                + ", ".join(f"{name} = excluded.{name}" for name in values)
            )
            connection.commit()
            return time.perf_counter() - started

    def dlt_merge(number: int) -> float:
        """What dlt does by itself: the whole mart into a staging table, and an upsert of all its rows."""
        table = pq.read_table(folder / "usage.parquet")
        pipeline = dlt.pipeline(
            f"merge_{number}",
            pipelines_dir=str(folder / "pipelines"),
            destination=dlt.destinations.postgres(postgres.url("merged")),
            dataset_name="merged",
        )
        started = time.perf_counter()
        pipeline.run(
            [table],
            table_name="usage",
            primary_key=KEY,
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            loader_file_format="parquet",
        )
        return time.perf_counter() - started

    def settle() -> None:
        """Nothing but the product's database is left, and that without the work that a first load leaves behind."""
        with closing(psycopg2.connect(postgres.url("postgres"))) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            for number in range(1, repeats):
                cursor.execute(f"drop database bare_{number}")
                cursor.execute(f"drop database first_{number}")
        for database in ("bare_0", "first_0"):
            with closing(psycopg2.connect(postgres.url(database))) as connection, connection.cursor() as cursor:
                connection.autocommit = True
                cursor.execute("vacuum analyze")
                cursor.execute("checkpoint")

    def reads(seconds: int) -> tuple[float, float]:
        """The 95th percentile of the product's point reads, 100 a second, in milliseconds: from when pgbench sends it,
        and from when pgbench should have sent it, had it got a processor at once.
        """
        script, log = folder / "read.sql", folder / f"reads_{time.time_ns()}"
        script.write_text(
            f"\\set i random(0, {rows - 1})\n"
            "select * from app_usage.usage where org_id = 'org-' || (:i % 50) "
            "and person_id = 'person-' || (:i / 1000) and app_id = 'app-' || (:i / 50 % 20);\n"
        )
        program = Path(shlex.split(postgres.psql("first_0"))[0]).with_name("pgbench")
        command = [str(program), "--no-vacuum", "--file", str(script), "--rate", "100", "--time", str(seconds)]
        command += ["--log", "--log-prefix", str(log), "--host", str(postgres.socket_folder), "--username", "postgres"]
        subprocess.run([*command, "first_0"], check=True, capture_output=True)  # noqa: S603
        lines = [line.split() for path in folder.glob(f"{log.name}.*") for line in path.read_text().splitlines()]
        since_due = [int(line[2]) / 1000 for line in lines]
        since_sent = [time - int(line[6]) / 1000 for time, line in zip(since_due, lines, strict=True)]
        return statistics.quantiles(since_sent, n=20)[-1], statistics.quantiles(since_due, n=20)[-1]

    warehouse.execute(f"copy analytics.usage to '{folder / 'usage.parquet'}' (row_group_size 100000)")
    print(f"{rows:,} rows of {len(COLUMNS)} columns; seconds, medians of {repeats}, taken in turn", flush=True)
    copy, first = measure(
        repeats,
        ("bare ADBC COPY into the indexed table", bare_copy),
        ("first publish", lambda number: publish_to(f"first_{number}")),
    )
    settle()
    publish_to("first_0")
    (nothing,) = measure(repeats, ("publish, nothing changed", lambda _: publish_to("first_0")))
    upsert, delta = measure(
        repeats, ("bare upsert of 1 % known rows", bare_upsert), ("publish, 1 % changed since", changed)
    )
    dlt_merge(0)
    (merge,) = measure(1, ("dlt's own merge of the mart, 1 % changed", dlt_merge))
    idle, idle_due = reads(10)
    warehouse.close()
    spawned = multiprocessing.get_context("spawn")
    is_over, published = spawned.Event(), spawned.Value("i")
    publisher = spawned.Process(target=publish_on_and_on, args=(folder, postgres.url("first_0"), is_over, published))
    publisher.start()
    while not published.value:
        time.sleep(0.1)
    during, during_due = reads(20)
    is_over.set()
    publisher.join()
    print(f"first publish: {copy / first:.2f} of the speed of the bare COPY (goal: 0.6)")
    print(f"nothing changed: {nothing:.2f} s (goal: 0.5)")
    print(f"1 % changed: {delta:.2f} s (goal: 1.5): {delta / upsert:.1f} bare upserts, {delta / merge:.2f} dlt merges")
    print(
        f"point reads, 95th percentile: {idle:.2f} ms idle, {during:.2f} ms while one publish follows another: "
        f"{during / idle:.1f} times (goal: 1.5); with the time that pgbench waits for a processor "
        f"{idle_due:.2f} and {during_due:.2f} ms"
    )


def publish_mart(folder: Path, url: str) -> None:
    publish(
        folder / "manifest.json",
        dlt.destinations.duckdb(str(folder / "warehouse.duckdb")),
        url,
        datetime.now(UTC),
        "benchmark",
        folder / "pipelines",
    )


def change(warehouse: duckdb.DuckDBPyConnection, number: int) -> None:
    warehouse.execute(
        "update analytics.usage set active_days_90 = active_days_90 + 1 "
        f"where hash(org_id, person_id, app_id) % 100 = {number}"
    )


def publish_on_and_on(folder: Path, url: str, is_over: Any, published: Any) -> None:
    """As `app-usage` does it: with less right to the processors than others have."""
    os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    with duckdb.connect(str(folder / "warehouse.duckdb")) as warehouse:
        while not is_over.is_set():
            change(warehouse, published.value % 100)
            publish_mart(folder, url)
            published.value += 1


def measure(repeats: int, *works: tuple[str, Callable[[int], float]]) -> list[float]:
    """Does the works in turn, so that what else the machine does falls on all of them; returns the medians."""
    seconds = [[work(number) for _, work in works] for number in range(repeats)]
    medians = []
    for (what, _), each in zip(works, zip(*seconds, strict=True), strict=True):
        medians.append(statistics.median(each))
        print(f"{medians[-1]:8.2f}  {what} ({', '.join(f'{second:.2f}' for second in each)})", flush=True)
    return medians


def write_manifest(path: Path) -> None:
    model = {
        "resource_type": "model",
        "name": "usage",
        "schema": "analytics",
        "original_file_path": "usage.sql",
        "config": {"contract": {"enforced": True}, "meta": {"publish": {"key": KEY}}},
        "columns": {name: {"name": name, "data_type": kind} for name, kind in COLUMNS.items()},
    }
    path.write_text(json.dumps({"nodes": {"model.usage": model}}))


if __name__ == "__main__":
    main()
