"""What the end-to-end tests share: places to run the real flow in, and its tables read back with their types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import duckdb
import psycopg2
import yaml
from click.testing import Result
from dbt.contracts.graph.manifest import Manifest
from dbt.parser.manifest import extended_mashumaro_encoder, extended_mashumuro_decoder
from filelock import FileLock
from typer.testing import CliRunner

from ingestion import flow as flow_module
from ingestion.build import Builder, stamp_of
from ingestion.cli import app
from ingestion.config import Settings
from ingestion.flow import Flow, Progress, Summary, prepared
from ingestion.postgres import SUPERUSER, PrivatePostgres
from ingestion.publish.marts import STAMPS, read_marts
from ingestion.sandbox import Options, Sandbox, Truth
from ingestion.sandbox.product import TABLES
from tests.recount import Recount

PROJECT = Path(__file__).resolve().parent.parent
FIXTURES = PROJECT / "tests" / "fixtures"
VENDORS = {"zoom", "okta", "google_workspace", "slack", "product"}
# Columns that say when and in which order loads were seen; all others say what happened.
BOOKKEEPING = {"ledger_id", "last_loaded_at", "evidence_load_id"}

# Says, also to child processes, where all of them share what dbt parsed.
PARSES = "TESTS_PARSES"
_PARSED: dict[str, tuple[Manifest, bytes]] = {}
_parse = Builder.parse

Rows = list[tuple[Any, ...]]
Keyed = dict[tuple[Any, ...], dict[str, Any]]


def copy_project(folder: Path, *, data_tests: bool = True) -> Path:
    """A copy of the dbt project with the sandbox's vendors alone, without unit tests, or any tests.

    A staging folder is all there is of a vendor in the models, so this is what an adopter of a few vendors may run.
    The empty models of all the others are most of a small world's build, and the tests of the data half of the rest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dbt_project.yml", "profiles.example.yml"):
        shutil.copyfile(PROJECT / name, folder / name)
    shutil.copyfile(PROJECT / "profiles.example.yml", folder / "profiles.yml")
    for name in ("models", "macros", "seeds", "snapshots", "tests/dbt"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("*__unit_tests.yml"))
    for staging in list((folder / "models" / "staging").iterdir()):
        if staging.is_dir() and staging.name not in VENDORS:
            shutil.rmtree(staging)
    if not data_tests:
        for claim in (folder / "tests" / "dbt").glob("*.sql"):
            claim.unlink()
        for properties in folder.rglob("_*.yml"):
            declared = yaml.safe_load(properties.read_text(encoding="utf-8"))
            properties.write_text(yaml.safe_dump(_untested(declared), sort_keys=False), encoding="utf-8")
    return folder


def _untested(declared: Any) -> Any:
    if isinstance(declared, dict):
        return {name: _untested(value) for name, value in declared.items() if name != "data_tests"}
    return [_untested(value) for value in declared] if isinstance(declared, list) else declared


def parsed_once(project: Path, target: str, parse: Callable[[], tuple[Manifest, bytes]]) -> tuple[Manifest, bytes]:
    """What dbt makes of a project as it is: the first of all workers who asks parses, for seconds, the others read.

    `parse` gives the manifest, and what dbt wrote of it.
    """
    clock = "told" if os.environ.get("APP_USAGE_NOW") else "looked up"  # which the models' references follow
    asked = sha256(f"{project} {target} {clock} {stamp_of(project)}".encode()).hexdigest()[:16]
    if asked not in _PARSED:
        parses = Path(os.environ[PARSES])
        kept, written = (parses / f"{asked}.{form}" for form in ("msgpack", "json"))
        with FileLock(parses / f"{asked}.lock"):
            if not kept.exists():
                manifest, text = parse()
                written.write_bytes(text)
                kept.write_bytes(manifest.to_msgpack(extended_mashumaro_encoder))
        manifest = Manifest.from_msgpack(kept.read_bytes(), decoder=extended_mashumuro_decoder)
        _PARSED[asked] = manifest, written.read_bytes()
    return _PARSED[asked]


def parse_once(builder: Builder) -> Path:
    """In place of Builder.parse. What dbt makes of a project for PostgreSQL holds the name of the database."""
    settings, stamp = builder._settings, stamp_of(builder._settings.project)
    if settings.target != "duckdb" or stamp == builder._stamp:
        return _parse(builder)

    def parse() -> tuple[Manifest, bytes]:
        text = _parse(builder).read_bytes()
        assert builder._manifest is not None
        return builder._manifest, text

    builder._manifest, text = parsed_once(settings.project, settings.target, parse)
    builder._stamp = stamp
    file = settings.target_path / "manifest.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)
    return file


@dataclass(frozen=True)
class Site:
    """Where a flow runs: a project, a data folder, and databases of its own on a server."""

    project: Path
    home: Path
    server: PrivatePostgres
    database: str
    target: str = "duckdb"

    @property
    def product_url(self) -> str:
        return self.server.url(self.database)

    @property
    def warehouse_url(self) -> str:
        return self.server.url(f"{self.database}_warehouse")

    def environment(self) -> dict[str, str]:
        """What a process must be told to work here."""
        told = {"APP_USAGE_HOME": str(self.home), "PRODUCT_DB_URL": self.product_url, "DBT_TARGET": self.target}
        if self.target == "postgres":
            self.server.url(f"{self.database}_warehouse")  # makes it
            told |= {
                "WAREHOUSE_HOST": str(self.server.socket_folder),
                "WAREHOUSE_USER": SUPERUSER,
                "WAREHOUSE_DATABASE": f"{self.database}_warehouse",
            }
        return told

    @contextmanager
    def flow(
        self, options: Options | None, now: datetime, *, is_now_given: bool = True, connections: Path | None = None
    ) -> Iterator[Flow]:
        """A flow over a sandbox, or over connections. Pauses that a vendor asks for are not waited for."""
        os.environ.update(self.environment())
        settings = Settings(self.project, self.home, self.target, now, is_now_given, self.product_url, connections)
        unhurried = partial(flow_module.extract, sleep=lambda seconds: None)
        with mock.patch.object(flow_module, "extract", unhurried), prepared(settings, options) as flow:
            yield flow

    def invoke(self, *words: str) -> Result:
        """`app-usage` in this process: for what a new one, which takes seconds to start, would not do otherwise."""
        with chdir(self.project):
            return CliRunner().invoke(app, words, env=self.environment() | {"COLUMNS": "200"})

    def command(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of this environment (`app-usage`, `dbt`, …) as a user gives it, in the project's folder."""
        with self.start(*words, output=subprocess.PIPE, errors=subprocess.PIPE, **environment) as process:
            said, complained = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, said, complained)

    def start(
        self, *words: str, output: Any, errors: Any = subprocess.STDOUT, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603
            [str(Path(sys.executable).with_name(words[0])), *words[1:]],
            cwd=self.project,
            env=os.environ | self.environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            text=True,
        )

    def fill_product(self, orgs: Mapping[str, str], people: Mapping[str, str]) -> None:
        """Orgs with their zones, and people with their addresses, all of them in the first org."""
        with closing(psycopg2.connect(self.product_url)) as connection, connection, connection.cursor() as cursor:
            for table, columns in TABLES.items():
                cursor.execute(f"create table public.{table} ({columns})")
            for org_id, zone in orgs.items():
                cursor.execute("insert into orgs values (%s, %s, %s, '{}', '2020-01-01')", (org_id, org_id, zone))
            for person_id, email in people.items():
                values = (next(iter(orgs)), person_id, email)
                cursor.execute("insert into employees (org_id, person_id, email) values (%s, %s, %s)", values)

    def run(self, options: Options, now: datetime) -> Sandbox:
        """One plain run; the sandbox, stopped, which goes on knowing the truth."""
        with self.flow(options, now) as flow:
            run(flow)
            return sandbox_of(flow)

    def write_connections(self, *entries: Mapping[str, Any]) -> Path:
        """A connections file of connector, base_url and start_date each, with settings; the org is acme."""
        lines: list[str] = []
        for entry in entries:
            settings = entry.get("settings", {})
            connection_id = f"acme-{entry['connector'].replace('_', '-')}"
            named = {"connection_id": connection_id, "org_id": "acme", **entry}
            lines += ["[[connections]]", *(f"{k} = {json.dumps(v)}" for k, v in named.items() if k != "settings")]
            lines += ["[connections.settings]", *(f"{k} = {json.dumps(v)}" for k, v in settings.items())]
        path = self.home / "connections.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def copy(self, home: Path, database: str) -> Site:
        """Another place, as this one is now."""
        shutil.copytree(self.home, home, dirs_exist_ok=True)
        with closing(psycopg2.connect(self.server.url("postgres"))) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(f'create database "{database}" template "{self.database}"')
        return replace(self, home=home, database=database)

    # ---- what is there

    def query(self, sql: str) -> Rows:
        """Rows of the warehouse."""
        if self.target == "postgres":
            return _rows(self.warehouse_url, sql)
        with duckdb.connect(str(self.home / "warehouse.duckdb")) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.execute(sql).fetchall()

    def product(self, sql: str) -> Rows:
        """Rows of the product database."""
        return _rows(self.product_url, sql)

    def marts(self) -> dict[str, Rows]:
        """The rows of every relation of the marts."""
        columns: dict[str, list[str]] = {}
        for table, column in self.query(
            "select table_name, column_name from information_schema.columns"
            " where table_schema = 'analytics' order by table_name, ordinal_position"
        ):
            columns.setdefault(table, []).extend({column} - BOOKKEEPING)
        return {
            table: self.query(f"select {', '.join(listed)} from analytics.{table}") for table, listed in columns.items()
        }

    def published(self) -> dict[str, Keyed]:
        """Every published table by its key, without the columns that say when a row arrived or was written."""
        tables: dict[str, Keyed] = {}
        for mart in read_marts(self.home / "target" / "manifest.json"):
            others = [c.name for c in mart.columns if c.name not in {*STAMPS, *BOOKKEEPING, *mart.key}]
            rows = self.product(f"select {', '.join([*mart.key, *others])} from app_usage.{mart.name}")
            width = len(mart.key)
            tables[mart.name] = {row[:width]: dict(zip(others, row[width:], strict=True)) for row in rows}
        return tables


class NewSite(Protocol):
    def __call__(self, *, target: str = ..., project: Path = ...) -> Site: ...


def run(flow: Flow, progress: Progress | None = None) -> Summary:
    summary = Summary()
    flow.run(summary, progress or Progress())
    return summary


def sandbox_of(flow: Flow) -> Sandbox:
    assert flow.sandbox is not None
    return flow.sandbox


def recounted(
    sandbox: Sandbox,
    broken: Mapping[str, datetime | None] | None = None,
    ended: Mapping[str, datetime] | None = None,
) -> dict[str, Keyed]:
    """What the product's tables must hold, by name and key; `broken` and `ended` as in Recount."""
    recount = Recount.of(sandbox, broken, ended)
    emails = _emails(recount.truth)
    users: Keyed = {key: {"user_email": emails.get(key[:2]), **row} for key, row in recount.user_app_usage.items()}
    return {
        "user_app_usage": users,
        "app_usage_daily": dict(recount.app_usage_daily),
        "app_usage": dict(recount.app_usage),
        "app_usage_bands": dict(recount.app_usage_bands),
        "app_usage_classes": dict(recount.app_usage_classes),
        "app_usage_daily_classes": dict(recount.app_usage_daily_classes),
        "app_usage_periods": dict(recount.app_usage_periods),
        "app_cohorts": dict(recount.app_cohorts),
        "org_usage": dict(recount.org_usage),
        "app_retention": dict(recount.app_retention),
        "shadow_apps": dict(recount.shadow_apps),
        "data_freshness": dict(recount.data_freshness),
    }


def _emails(truth: Truth) -> dict[tuple[str, str], str | None]:
    """(org, person) -> the address that the product shows: HR's, else the account's."""
    emails: dict[tuple[str, str], str | None] = {}
    for thing in (*truth.events, *truth.accounts):
        is_slack_bot = thing.connector == "slack" and thing.account_kind == "service"  # which has no address there
        if thing.person_id is None and thing.account_email and not is_slack_bot:
            emails[thing.org_id, f"account:{thing.connector}:{thing.account_id}"] = thing.account_email.lower()
    for person in truth.product["employees"]:
        emails[person["org_id"], person["person_id"]] = person["email"].lower()
    return emails


def differences(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Where tables differ, to the type of a value: 1 is not 1.0. Tables that `expected` does not name do not count."""
    found: list[str] = []
    for table, rows in expected.items():
        mine = actual[table]
        if isinstance(rows, dict):
            found += [f"{table}: {key} is missing" for key in rows.keys() - mine.keys()]
            found += [f"{table}: {key} is too many" for key in mine.keys() - rows.keys()]
            found += [
                f"{table} {key}: {column} is {mine[key].get(column)!r} and should be {value!r}"
                for key in rows.keys() & mine.keys()
                for column, value in rows[key].items()
                if repr(mine[key].get(column)) != repr(value)
            ]
        else:
            left, right = Counter(map(repr, mine)), Counter(map(repr, rows))
            found += [f"{table}: {row} is too many" for row in left - right]
            found += [f"{table}: {row} is missing" for row in right - left]
    return sorted(found)


def _rows(url: str, sql: str) -> Rows:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("set timezone to 'UTC'")
        cursor.execute(sql)
        return cursor.fetchall()
