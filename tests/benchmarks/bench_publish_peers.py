"""The same mart into the same PostgreSQL by other open tools: a first load, and again after 1 % of its rows changed.

    uv run python -m tests.benchmarks.bench_publish_peers [--rows 200000] [--tools publish,ingestr]

Each tool runs as a new process, ours too, and start-up counts. uv puts each into a virtual environment of its own. None
finds the difference in a DuckDB mart, takes away what is gone, or proves what it wrote: all send every row again.

    drt               drt-core 1.2.1 from Parquet, upsert (its `diff` wants a mart in Postgres or Snowflake)
    ingestr           0.15.9 from a Postgres, merge (1.x is on PyPI as a downloader of a program from GitHub)
    sling             1.3.5 from a Postgres, incremental by key (later ones are downloaders, too)
    target-postgres   0.8.1, Meltano's, from Singer messages that lie ready
    dlt               its `merge`, upsert, of the mart as an Arrow table

Seconds on 2 idle cores, but for drt and target-postgres, beside which others worked; "key" says whether the table has
the unique index that a product reads by:

                     200,000 rows          2,000,000 rows
                   first    1 % changed   first    1 % changed   key
    publish          2.5            1.2    11.1            2.5   yes
    dlt              2.1            2.9    10.4           26.5    no
    drt             36.2           37.5                          yes
    ingestr          2.1            2.4    17.7           23.3   yes
    sling            2.1            3.8    18.5           46.1    no
    target-postgres 29.8           29.9                          yes

Of a first publish of 200,000 rows 0.65 s go into importing dlt and the rest, 0.2 into comparing, 0.2 into the file that
dlt takes to PostgreSQL in 0.6, and 0.45 into the index and the proof: what depends on the rows is less than half of it.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import dlt
import duckdb
import psycopg2
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi

from ingestion.postgres import PrivatePostgres
from ingestion.publish import publish
from tests.benchmarks.bench_publish import COLUMNS, KEY, POSTGRES_COLUMNS, ROWS, write_manifest

PACKAGES = {
    "drt": ["drt-core[duckdb,postgres]==1.2.1"],
    "ingestr": ["ingestr==0.15.9"],
    "sling": ["sling==1.3.5", "sling-linux-amd64==1.3.5"],
    "target-postgres": ["meltanolabs-target-postgres==0.8.1"],
}
# Some know no sockets. An address of this machine that nobody else listens on.
ADDRESS = "127.0.0.77"
SINGER = {"text": "string", "date": "string", "bigint": "integer", "double": "number", "boolean": "boolean"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--tools", help="Only these.")
    arguments = parser.parse_args()
    only = arguments.tools.split(",") if arguments.tools else None
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = PrivatePostgres(folder / "postgres")
        postgres.start()
        try:
            listen(postgres)
            bench(folder, postgres, arguments.rows, only)
        finally:
            postgres.remove()


def bench(folder: Path, postgres: PrivatePostgres, rows: int, only: list[str] | None) -> None:
    mart, warehouse = folder / "usage.parquet", folder / "warehouse.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f"create schema analytics; create table analytics.usage as {ROWS.format(rows=rows)}")
    write_manifest(folder / "manifest.json")
    table = f"create table usage ({POSTGRES_COLUMNS}, primary key ({', '.join(KEY)}))"
    with psycopg2.connect(url(postgres, "drt")) as session:
        session.cursor().execute(table)

    tools: dict[str, Callable[[], None]] = {  # each by the name of its database
        "publish": lambda: in_new_process(ours, folder, postgres.url("publish")),
        "dlt": lambda: in_new_process(dlt_merge, folder, postgres.url("dlt")),
        "drt": lambda: drt(folder, mart, url(postgres, "drt")),
        "ingestr": lambda: ingestr(folder, url(postgres, "source"), url(postgres, "ingestr")),
        "sling": lambda: sling(folder, url(postgres, "source"), url(postgres, "sling")),
        "target-postgres": lambda: target_postgres(folder, url(postgres, "target-postgres")),
    }
    for program, packages in PACKAGES.items():
        call(["uv", "venv", "--quiet", "--python", "3.11", str(folder / program)])
        call(["uv", "pip", "install", "--quiet", "--python", str(folder / program / "bin" / "python"), *packages])
    seconds: dict[str, list[str]] = {name: [] for name in tools}
    for turn in range(2):
        with duckdb.connect(str(warehouse)) as connection:
            if turn:
                connection.execute(
                    "update analytics.usage set active_days_90 = 99 where hash(person_id, app_id) % 100 = 0"
                )
            connection.execute(f"copy analytics.usage to '{mart}' (row_group_size 100000)")
        write_source(mart, postgres.url("source"))
        if not only or "target-postgres" in only:
            write_singer(mart, folder / "singer.jsonl")
        for name, load in tools.items():
            if only and name not in only:
                continue
            started = time.perf_counter()
            try:
                load()
            except subprocess.CalledProcessError as error:
                seconds[name].append("failed")
                print(f"{name}: {(error.stderr or error.stdout)[-2000:]}", flush=True)
            else:
                seconds[name].append(f"{time.perf_counter() - started:.1f} s")
    print(f"{rows:,} rows       first load   1 % changed   has its key")
    for name, (first, again) in ((name, each) for name, each in seconds.items() if each):
        print(f"{name:16} {first:>12} {again:>13}   {'yes' if has_key(postgres.url(name)) else 'no'}")


def in_new_process(work: Callable[[Path, str], None], folder: Path, to: str) -> None:
    process = multiprocessing.get_context("spawn").Process(target=work, args=(folder, to))
    process.start()
    process.join()
    if process.exitcode:
        raise subprocess.CalledProcessError(process.exitcode, work.__name__, "", "")


def ours(folder: Path, to: str) -> None:
    warehouse = dlt.destinations.duckdb(str(folder / "warehouse.duckdb"))
    publish(folder / "manifest.json", warehouse, to, datetime.now(UTC), "benchmark", folder / "pipelines")


def dlt_merge(folder: Path, to: str) -> None:
    pipeline = dlt.pipeline(
        "merge", pipelines_dir=str(folder / "dlt"), destination=dlt.destinations.postgres(to), dataset_name="merged"
    )
    pipeline.run(
        [pq.read_table(folder / "usage.parquet")],
        table_name="usage",
        primary_key=KEY,
        write_disposition={"disposition": "merge", "strategy": "upsert"},
        loader_file_format="parquet",
    )


def drt(folder: Path, mart: Path, to: str) -> None:
    project = folder / "drt-project"
    for path, content in {
        "drt_project.yml": {"name": "bench", "version": "0.1", "profile": "bench"},
        ".drt/profiles.yml": {"bench": {"type": "duckdb", "database": ":memory:"}},
        "syncs/usage.yml": {
            "name": "usage",
            "model": f"select * from '{mart}'",
            "destination": {
                "type": "postgres",
                "connection_string_env": "TO",
                "table": "public.usage",
                "upsert_key": KEY,
            },
            "sync": {"mode": "full", "batch_size": 10_000},
        },
    }.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(json.dumps(content))  # JSON is YAML
    call([str(folder / "drt" / "bin" / "drt"), "run"], cwd=project, env={"HOME": str(project), "TO": to})


def ingestr(folder: Path, source: str, to: str) -> None:
    words = ["--source-uri", source, "--source-table", "public.usage", "--dest-uri", to, "--dest-table", "public.usage"]
    keys = [word for column in KEY for word in ("--primary-key", column)]
    program = str(folder / "ingestr" / "bin" / "ingestr")
    call([program, "ingest", "--yes", *words, *keys, "--incremental-strategy", "merge"])


def sling(folder: Path, source: str, to: str) -> None:
    words = [
        "--src-conn",
        "SOURCE",
        "--src-stream",
        "public.usage",
        "--tgt-conn",
        "TARGET",
        "--tgt-object",
        "public.usage",
    ]
    keys = ["--mode", "incremental", "--primary-key", ",".join(KEY)]
    call([str(folder / "sling" / "bin" / "sling"), "run", *words, *keys], env={"SOURCE": source, "TARGET": to})


def target_postgres(folder: Path, to: str) -> None:
    config = folder / "singer.json"
    config.write_text(
        json.dumps(
            {"sqlalchemy_url": to.replace("postgresql:", "postgresql+psycopg:"), "default_target_schema": "public"}
        )
    )
    with (folder / "singer.jsonl").open() as messages:
        call([str(folder / "target-postgres" / "bin" / "target-postgres"), "--config", str(config)], stdin=messages)


def call(
    words: list[str], cwd: Path | None = None, env: dict[str, str] | None = None, stdin: IO[str] | None = None
) -> None:
    environment = os.environ | {"DO_NOT_TRACK": "1"} | (env or {})
    subprocess.run(words, cwd=cwd, env=environment, stdin=stdin, check=True, capture_output=True, text=True)  # noqa: S603


def write_source(mart: Path, to: str) -> None:
    with dbapi.connect(to) as connection, connection.cursor() as cursor:
        cursor.execute("drop table if exists usage")
        cursor.execute(f"create table usage ({POSTGRES_COLUMNS})")
        cursor.adbc_ingest("usage", pq.read_table(mart), mode="append")
        connection.commit()


def write_singer(mart: Path, messages: Path) -> None:
    formats = {"date": {"format": "date"}, "timestamp": {"format": "date-time"}}
    properties: dict[str, Any] = {
        name: {"type": [SINGER.get(kind, "string"), "null"]} | formats.get(kind, {}) for name, kind in COLUMNS.items()
    }
    schema = {"type": "object", "properties": properties}
    with messages.open("w") as out:
        head = {"type": "SCHEMA", "stream": "usage", "schema": schema, "key_properties": KEY}
        out.write(json.dumps(head) + "\n")
        for batch in pq.ParquetFile(mart).iter_batches():
            for record in batch.to_pylist():
                out.write(json.dumps({"type": "RECORD", "stream": "usage", "record": record}, default=str) + "\n")


def has_key(database: str) -> bool:
    """Whether a table of this name has a unique index, without which a product's point reads scan it."""
    with closing(psycopg2.connect(database)) as session, session.cursor() as cursor:
        cursor.execute("select 1 from pg_index where indisunique and indrelid::regclass::text like '%usage'")
        return cursor.fetchone() is not None


def url(postgres: PrivatePostgres, database: str) -> str:
    postgres.url(database)
    return f"postgresql://postgres:postgres@{ADDRESS}:5432/{database}?sslmode=disable"


def listen(postgres: PrivatePostgres) -> None:
    """Lets the private server be reached by TCP, too, from this machine."""
    with closing(psycopg2.connect(postgres.url("postgres"))) as session:
        session.autocommit = True
        session.cursor().execute(f"alter system set listen_addresses = '{ADDRESS}'")
    rules = postgres.data / "pg_hba.conf"
    rules.write_text(f"host all all 127.0.0.0/8 trust\n{rules.read_text()}")
    postgres.stop()
    postgres.start()


if __name__ == "__main__":
    main()
