"""What the tests of publishing need: a PostgreSQL, and a warehouse with two marts and a manifest, made by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import dlt
import duckdb
import psycopg2

from ingestion.publish import Generation, publish
from tests.support import NOW

USAGE = {
    "org_id": "varchar(1024)",
    "person_id": "text",
    "active_days": "integer",
    "active_day_rate": "double",
    "first_used_on": "date",
    "is_known": "boolean",
    "seen_at": "timestamp",
    "monthly_price": "decimal(12, 2)",
    "generation_id": "text",
    "published_at": "timestamp",
}
DAILY = {"org_id": "text", "usage_date": "date", "dau": "bigint"}


class World:
    """A warehouse with two marts, `usage` and `daily`, a manifest that publishes both, and a product database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.version = 0
        self.file = folder / "warehouse.duckdb"
        self.open()
        self.warehouse.execute("create schema analytics")
        self.models: dict[str, dict[str, Any]] = {}
        self.model("usage", USAGE, key=["org_id", "person_id"])
        self.model("daily", DAILY, key=["org_id", "usage_date"])
        self.warehouse.execute(
            """create table analytics.usage as select
                'org' || i % 3 as org_id, 'person' || i as person_id, (i % 30)::integer as active_days,
                i / 7.0::double as active_day_rate, date '2025-01-01' + (i % 90)::int as first_used_on,
                case when i % 5 > 0 then i % 2 = 0 end as is_known,
                timestamp '2026-01-01 10:00:00.123456' + to_minutes(i) as seen_at,
                (i * 1.25)::decimal(12, 2) as monthly_price, null::varchar as generation_id,
                null::timestamp as published_at from range(300) as t(i)"""
        )
        self.warehouse.execute(
            "create table analytics.daily as select 'org' || i % 3 as org_id, date '2026-01-01' + (i // 3)::int as "
            "usage_date, i as dau from range(30) as t(i)"
        )

    def open(self) -> None:
        self.warehouse = duckdb.connect(str(self.file))
        self.warehouse.execute("set TimeZone = 'UTC'")

    def model(self, name: str, columns: dict[str, str], **declared: Any) -> None:
        self.models[name] = {
            "resource_type": "model",
            "name": name,
            "alias": name,
            "schema": "analytics",
            "description": f"The org's {name}.",
            "original_file_path": f"models/{name}.sql",
            "config": {"contract": {"enforced": True}, "meta": {"publish": declared}},
            "columns": {c: {"name": c, "data_type": t, "description": f"Its {c}."} for c, t in columns.items()},
        }

    def columns(self, name: str) -> dict[str, str]:
        return {column["name"]: column["data_type"] for column in self.models[name]["columns"].values()}

    @property
    def manifest(self) -> Path:
        path = self.folder / "manifest.json"
        other = {"resource_type": "model", "name": "dim_apps", "config": {"meta": {}}}
        path.write_text(json.dumps({"nodes": {"model.dim_apps": other} | self.models}))
        return path

    def publish(self, **options: Any) -> Generation:
        arguments: dict[str, Any] = {
            "warehouse": dlt.destinations.duckdb(str(self.file)),
            "product_url": self.url,
            "now": NOW,
            "dbt_invocation_id": "an-invocation",
            "pipelines_dir": self.folder / "pipelines",
        }
        return publish(manifest=self.manifest, **(arguments | options))

    def change(self, statements: str) -> None:
        self.warehouse.execute(statements)

    def query(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return run(self.url, query, *parameters)

    def is_equal(self) -> bool:
        """Whether every published row is its mart's row, value by value, and there is no other."""
        for name, columns in (("usage", list(USAGE)[:-2]), ("daily", list(DAILY))):
            listed = ", ".join(columns)
            mine = self.warehouse.execute(f"select {listed} from analytics.{name} order by all").fetchall()
            theirs = [
                tuple(value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row)
                for row in self.query(f"select {listed} from app_usage.{name}")
            ]
            if sorted(mine, key=repr) != sorted(theirs, key=repr):
                return False
        return True

    def row_versions(self, table: str) -> dict[tuple[Any, ...], str]:
        """Which transaction wrote each row: PostgreSQL's own account of what was rewritten."""
        key = "org_id, person_id" if table == "usage" else "org_id, usage_date"
        return {row[:2]: row[2] for row in self.query(f"select {key}, xmin::text from app_usage.{table}")}


def run(url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("set timezone = 'UTC'")
        cursor.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Until something is so, however slow the machine is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
