"""A warehouse for the tests of the models: landing tables written by hand, dbt in this process, rows read back.

The landing tables have the columns that the sources' yml declares, so that a test states only what it is about.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import yaml
from dbt.adapters.factory import reset_adapters
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from ingestion.build import stamp_of
from ingestion.dbt_speed import spare_dbt_idle_work
from tests.flow_support import PROJECT, parsed_once

EVENT_STREAMS = {
    "zoom": ("activities",),
    "okta": ("system_log",),
    "google_workspace": ("login", "saml", "token"),
    "slack": ("audit_logs",),
    "microsoft365": ("sign_ins",),
}
ACCOUNT_STREAMS = {
    "zoom": ("users",),
    "okta": ("users", "app_users"),
    "google_workspace": ("users", "licenses"),
    "slack": ("users", "billable_info"),
    "microsoft365": ("users", "licenses", "subscribed_skus"),
}
AS_TOLD = {"fct_restatements", "fct_offboarding_findings"}
Row = dict[str, Any]


def quoted(name: str) -> str:
    return f'"{name}"'


def declared_columns(project: Path = PROJECT) -> dict[tuple[str, str], dict[str, str]]:
    """(connector, table) -> column -> type, from the sources' yml."""
    tables = {}
    for file in sorted(project.glob("models/staging/*/_*__sources.yml")):
        for source in yaml.safe_load(file.read_text(encoding="utf-8"))["sources"]:
            for table in source["tables"]:
                columns = {column["name"]: column["data_type"] for column in table["columns"]}
                tables[source["name"], table["name"]] = columns
    return tables


@dataclass
class Warehouse:
    """One warehouse of one engine, in `home`. `dsn` is PostgreSQL's; without one it is a DuckDB file."""

    home: Path
    dsn: str | None = None
    project: Path = PROJECT
    columns: dict[tuple[str, str], dict[str, str]] = field(default_factory=declared_columns)
    seeded: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return "postgres" if self.dsn else "duckdb"

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        if self.dsn:
            with psycopg2.connect(self.dsn) as connection, connection.cursor() as cursor:
                yield cursor
            connection.close()
        else:
            self.home.mkdir(parents=True, exist_ok=True)
            with duckdb.connect(str(self.home / "warehouse.duckdb")) as file:
                file.execute("set TimeZone = 'UTC'")
                yield file

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    def rows(self, relation: str, *columns: str, order_by: str = "") -> list[tuple[Any, ...]]:
        """Rows in the order of the given columns, if it says no other."""
        listed = ", ".join(columns)
        return self.query(f"select {listed} from {relation} order by {order_by or listed}")

    def row(self, table: str, condition: str = "1 = 1") -> Row:
        """The only row of a mart that fulfils a condition."""
        names = self._columns(table)
        [values] = self.rows(f"analytics.{table} where {condition}", *map(quoted, names))
        return dict(zip(names, values, strict=True))

    def contents(
        self, *marts: str, condition: str = "1 = 1", without: Sequence[str] = ("ledger_id",)
    ) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of marts, or of all that what landed decides; sorted here, for engines sort text differently.

        What builds told in between is not: the ledger of restatements, and findings with their time.
        """
        every = [path.stem for path in self.project.glob("models/marts/*/*.sql") if path.stem not in AS_TOLD]
        rows = {}
        for mart in marts or every:
            listed = ", ".join(quoted(name) for name in self._columns(mart) if name not in without)
            rows[mart] = sorted(self.query(f"select {listed} from analytics.{mart} where {condition}"), key=repr)
        return rows

    def _columns(self, mart: str) -> list[str]:
        columns = f"information_schema.columns where table_schema = 'analytics' and table_name = '{mart}'"
        return [name for (name,) in self.rows(columns, "column_name")]

    def execute(self, sql: str) -> None:
        with self._cursor() as cursor:
            cursor.execute(sql)

    def land(
        self, connector: str, load_id: str, tables: Mapping[str, Sequence[Row]], *, completes: bool = True
    ) -> None:
        """What a load of the connector leaves: rows, and the entry in `_dlt_loads` unless it was cut off."""
        loads = {"_dlt_loads": [{"load_id": load_id, "status": 0, "inserted_at": datetime(2026, 1, 1)}]}
        schema = f"landing_{connector}"
        with self._cursor() as cursor:
            cursor.execute(f"create schema if not exists {schema}")
            for table, rows in {**tables, **(loads if completes else {})}.items():
                columns = self.columns[connector, table]
                declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                cursor.execute(f"create table if not exists {schema}.{table} ({declared})")
                if connector == "product" and table != "_dlt_loads":
                    cursor.execute(f"delete from {schema}.{table}")
                marks = ", ".join(["%s" if self.dsn else "?"] * len(columns))
                for row in rows:
                    unknown = row.keys() - columns.keys()
                    assert not unknown, f"{schema}.{table} has no {unknown}"
                    values = {"_dlt_load_id": load_id, **row}
                    cursor.execute(
                        f"insert into {schema}.{table} values ({marks})",
                        [values.get(name) for name in columns],
                    )

    def dbt(self, *arguments: str, succeeds: bool = True) -> list[Any]:
        """Runs a dbt command; its node results."""
        os.environ["APP_USAGE_HOME"] = str(self.home)
        os.environ["DBT_TARGET"] = self.target
        if self.dsn:
            parts = psycopg2.extensions.parse_dsn(self.dsn)
            os.environ |= {
                "WAREHOUSE_HOST": parts["host"],
                "WAREHOUSE_USER": parts["user"],
                "WAREHOUSE_DATABASE": parts["dbname"],
            }
        profiles = self.home / "profiles"
        profiles.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.project / "profiles.example.yml", profiles / "profiles.yml")
        common = [
            *("--project-dir", str(self.project), "--profiles-dir", str(profiles)),
            *("--target-path", str(self.home / "target"), "--log-path", str(self.home / "logs")),
            *("--no-use-colors", "--quiet", "--log-level-file", "none"),
        ]

        def invoke(*words: str, manifest: Manifest | None = None) -> Any:
            outcome = dbtRunner(manifest=manifest).invoke([*words, *common])
            reset_adapters()  # type: ignore[no-untyped-call]
            if outcome.exception is not None:
                raise outcome.exception
            return outcome.result

        spare_dbt_idle_work()
        manifest = None
        if arguments[0] in ("build", "compile"):
            file = self.home / "target" / "manifest.json"
            target = arguments[arguments.index("--target") + 1] if "--target" in arguments else self.target
            parse = partial(invoke, "parse", "--target", target)
            manifest, _ = parsed_once(self.project, target, lambda: (parse(), file.read_bytes()))
            arguments = (*arguments, "--no-write-json")
        result = invoke(*arguments, manifest=manifest)
        results = list(getattr(result, "results", []))
        failed = [f"{result.node.name}: {result.message}" for result in results if result.status in ("error", "fail")]
        assert not (succeeds and failed), "\n".join(failed)
        return results

    def build(self, *arguments: str, of: str = "", tests: bool = False) -> list[Any]:
        """`dbt build` of what has landed, or of what the tables in `of` are made from; with the tests of the data if
        the test is about them. Seeds are loaded once, unless the project changes.
        """
        landed = {schema for (schema,) in self.query("select distinct table_schema from information_schema.tables")}
        folders = sorted(path for path in self.project.glob("models/staging/*/") if path.name != "product")
        others = [f"fqn:staging.{path.name}" for path in folders if f"landing_{path.name}" not in landed]
        without = ["--exclude-resource-type", "unit_test", *(() if tests else ("test",))]
        selected = ["--indirect-selection", "cautious", "--select", *(f"+{table}" for table in of.split())]
        stamp = stamp_of(self.project)
        known = [seed for seed, built in self.seeded.items() if built == stamp and not tests]
        left_out = ["--exclude", *others, *known] if others or known else []
        results = self.dbt("build", *without, *left_out, *(selected if of else []), *arguments)
        self.seeded |= {each.node.name: stamp for each in results if each.node.resource_type == "seed"}
        return results


def utc(text: str) -> datetime:
    """`2026-01-31 12:00` as the naive UTC that landing tables hold."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).replace(tzinfo=None)


def fetches(
    connector: str,
    connection_id: str,
    org_id: str,
    *,
    start: str,
    at: str,
    outcome: str = "complete",
    complete_through: str | None = None,
    lag: timedelta = timedelta(hours=1),
    streams: Sequence[str] | None = None,
) -> list[Row]:
    """A run's fetch log of one connection: every stream from `start` to `at`, complete but for the usual lag."""
    through = utc(complete_through) if complete_through else utc(at) - lag
    common = {
        "connection_id": connection_id,
        "org_id": org_id,
        "connector": connector,
        "outcome": outcome,
        "row_count": 0,
        "rejected_count": 0,
        "fetched_at": utc(at),
        "expected_lag_seconds": int(lag.total_seconds()),
        "restate_days": 3,
    }
    events = [
        {
            **common,
            "stream": stream,
            "stream_kind": "events",
            "window_start": utc(start),
            "window_end": utc(at),
            "complete_through": through,
        }
        for stream in EVENT_STREAMS[connector]
    ]
    listings = [
        {
            **common,
            "stream": stream,
            "stream_kind": "accounts",
            "complete_through": utc(complete_through) if complete_through else utc(at),
        }
        for stream in ACCOUNT_STREAMS[connector]
    ]
    return [row for row in events + listings if streams is None or row["stream"] in streams]


def ended(connector: str, connection_id: str, org_id: str, *, on: str, at: str) -> list[Row]:
    """What a run says of a connection that was taken away."""
    span = {"window_start": utc(on), "window_end": utc(on) + timedelta.resolution}
    told = fetches(connector, connection_id, org_id, start=on, at=at, outcome="ended", complete_through=on)
    return [{**row, **span, "complete_through": None} for row in told]


def login(
    connection_id: str,
    org_id: str,
    email: str,
    at: str,
    *,
    key: str | None = None,
    fetched: str = "",
    **columns: Any,
) -> Row:
    """A log-in to Google, of `landing_google_workspace.login`."""
    return {
        "connection_id": connection_id,
        "org_id": org_id,
        "event_id": f"login:{connection_id}:{key or f'{email} {at}'}",
        "event_id_kind": "native",
        "occurred_at": utc(at),
        "fetched_at": utc(fetched or at),
        "event_name": "login_success",
        "actor_email": email,
        "payload": "{}",
        **columns,
    }


def google_user(connection_id: str, org_id: str, email: str, *, created: str, fetched: str, **columns: Any) -> Row:
    """A user of `landing_google_workspace.users`."""
    return {
        "connection_id": connection_id,
        "org_id": org_id,
        "record_id": f"id of {email}",
        "account_id": f"id of {email}",
        "email": email,
        "fetched_at": utc(fetched),
        "created_at": utc(created),
        "is_gone": False,
        "is_complete_listing": True,
        "is_suspended": False,
        "is_archived": False,
        "payload": "{}",
        **columns,
    }


def org(org_id: str, time_zone: str | None = "America/Los_Angeles", domains: str | None = None) -> Row:
    return {
        "org_id": org_id,
        "name": org_id.title(),
        "timezone": time_zone,
        "email_domains": domains or f'["{org_id}.com"]',
        "created_at": utc("2025-01-01"),
    }


def employee(org_id: str, name: str, **columns: Any) -> Row:
    return {
        "org_id": org_id,
        "person_id": name,
        "email": f"{name}@{org_id}.com",
        "alias_emails": "[]",
        "full_name": name.title(),
        "started_on": date(2025, 1, 1),
        **columns,
    }


def contract(
    org_id: str, app_id: str, license_name: str, purchased: int | None, annual_price: str | None, **columns: Any
) -> Row:
    return {
        "org_id": org_id,
        "app_id": app_id,
        "license_name": license_name,
        "purchased": purchased,
        "annual_price": Decimal(annual_price) if annual_price else None,
        "currency": "USD",
        "starts_on": date(2025, 6, 1),
        **columns,
    }


def google_license(connection_id: str, org_id: str, email: str, name: str, *, fetched: str, **columns: Any) -> Row:
    """A licence of `landing_google_workspace.licenses`."""
    return {
        "connection_id": connection_id,
        "org_id": org_id,
        "record_id": f"{name} of {email}",
        "account_email": email,
        "sku_name": name,
        "fetched_at": utc(fetched),
        "is_gone": False,
        "is_complete_listing": True,
        "payload": "{}",
        **columns,
    }


GOOGLE = ("acme-google", "acme")
PLAN = "Business Standard"
