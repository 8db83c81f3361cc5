"""One run of the whole flow, and what it stands on: the lock, the sandbox, the private Postgres.

Steps raise exceptions of their own (`FlowErrors`), each of which says the cause and the next command, and those of
files and of a warehouse that cannot be opened.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, Self

import psycopg2
from dlt.common.destination.exceptions import DestinationException
from filelock import FileLock, Timeout

from ingestion.build import Builder, BuildError, Built, stamp_of
from ingestion.config import ConfigError, Settings
from ingestion.connections import Connection, ConnectionsError, read_connections
from ingestion.connectors import connectors
from ingestion.connectors.product import ProductError, make_missing_tables, try_tables
from ingestion.extract import Extracted, ExtractError, Stragglers, Warehouse, extract, extract_product
from ingestion.forget import ForgetError, Held, erase, forget_copies, held, refuse_if_served
from ingestion.postgres import SUPERUSER, PostgresError, PrivatePostgres
from ingestion.publish import (
    Change,
    Generation,
    PublishError,
    changes,
    forget,
    kept_as_built,
    publish,
    read_marts,
    rows_of,
)
from ingestion.publish import status as status_of_product
from ingestion.sandbox import Options, OptionsError, Sandbox
from ingestion.sandbox.product import NOT_OURS


class LockedError(Exception):
    """Another run holds the lock."""


FlowErrors = (
    BuildError,
    ConfigError,
    ConnectionsError,
    DestinationException,
    ExtractError,
    ForgetError,
    LockedError,
    OSError,
    PostgresError,
    ProductError,
    PublishError,
)


@dataclass
class Progress:
    """Where a run tells what it does; the command line shows it."""

    step: Callable[[str], None] = lambda name: None
    rows: Callable[[str, int], None] = lambda connector, rows: None
    node: Callable[[str, str], None] = lambda kind, name: None
    table: Callable[[str], None] = lambda name: None


@dataclass
class Summary:
    """What a run did; a step that did not run is None. Seconds by step."""

    extracted: Extracted | None = None
    built: Built | None = None
    is_part_built: bool = False
    is_built_before: bool = False
    generation: Generation | None = None
    seconds: dict[str, float] = field(default_factory=dict)


class Lock:
    """Only one run at a time works in a data folder. The lock goes with its process, however that ends."""

    def __init__(self, settings: Settings, command: str, *, is_reading: bool = False) -> None:
        """`is_reading`: the command leaves everything as it is."""
        self._home, self._command, self._is_reading = settings.home, command, is_reading
        self._lock, self._holder = FileLock(settings.home / "lock"), settings.home / "lock.json"
        self._before = b""

    def __enter__(self) -> Self:
        """Raises LockedError where another process works."""
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            who = _read(self._holder)
            raise LockedError(
                f"`app-usage {who.get('command', '?')}` (process {who.get('pid', '?')}, since {who.get('since', '?')}) "
                f"is working in {self._home}; wait for it, or end that process"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"the data folder {self._home} cannot be used: {error.strerror}; set APP_USAGE_HOME to another"
            ) from error
        self._before = self._told()
        self._tell()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._is_reading:
                _write(self._holder, self._before)
        finally:
            self._lock.release()

    def lend(self, seconds: float, stop: Event) -> bool:
        """Lets others work for a while, and waits for who still does; whether somebody changed something.

        Once `stop` is set it waits for nobody, and does not have the lock.
        """
        told = self._told()
        self._lock.release()
        if not stop.wait(seconds):
            with suppress(Timeout):
                self._lock.acquire(cancel_check=stop.is_set)
        is_changed = self._told() != told
        if self._lock.is_locked:
            self._tell()
        return is_changed

    def _told(self) -> bytes:
        return self._holder.read_bytes() if self._holder.exists() else b""

    def _tell(self) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        told = {"pid": os.getpid(), "command": self._command, "since": since}
        _write(self._holder, json.dumps(told).encode())


class Flow:
    """The steps of a run over one set of connections. Keep it for the next run: it stays warm."""

    def __init__(
        self,
        settings: Settings,
        connections: list[Connection],
        sandbox: Sandbox | None,
        server: PrivatePostgres | None = None,
    ) -> None:
        self.settings = settings
        self.sandbox = sandbox
        self.server = server
        self.connections = connections
        self.stragglers = Stragglers()
        self._builder = Builder(settings)

    def close(self) -> None:
        """Waits for no straggler; what one has not brought yet, the next process reads."""
        self.stragglers.drop()

    @property
    def product_url(self) -> str:
        """The product database of this run."""
        if self.settings.product_db_url is None:
            raise ConfigError("no product database: set PRODUCT_DB_URL")
        return self.settings.product_db_url

    @cached_property
    def warehouse(self) -> Warehouse:
        """Where dlt writes."""
        return Warehouse(self.settings.destination(), self.settings.pipelines_dir)

    def at(self, now: datetime) -> None:
        """Move the clock, the sandbox's too."""
        self.settings = replace(self.settings, now=now)
        if self.sandbox is not None:
            self.sandbox.move(now)
            fill_product(self.sandbox, self.product_url)

    def distrust(self) -> None:
        """Nothing in memory is trusted any more: somebody else worked in the data folder, or a load failed."""
        self.stragglers.drop()
        self._builder = Builder(self.settings)
        self.__dict__.pop("warehouse", None)

    def run(self, summary: Summary, progress: Progress, *, now: datetime | None = None) -> None:
        """Extract, build, publish, at another time than the run before. What was done before an exception is in
        `summary`.

        Stragglers are waited for by none of these; as long as there are some, to run again takes what they brought.
        """
        if self.server is not None:
            self.server.start()  # if somebody has stopped it
        if now is not None:
            self.at(now)
        self.extract(summary, progress, stragglers=self.stragglers)
        self.build(summary, progress)
        self.publish(summary, progress)

    def _inputs(self, landed: Mapping[str, str]) -> dict[str, object]:
        """All that a build's result depends on: the completed loads, the project's files, the clock if it is given.

        A build from the same inputs gives the same tables and the same test results, so it need not be made again.
        The clock counts in quarters of an hour: every time zone's midnight is on one.
        """
        now = self.settings.now.replace(minute=self.settings.now.minute // 15 * 15, second=0, microsecond=0)
        return {
            "loads": landed,
            "project": stamp_of(self.settings.project),
            "target": self.settings.target,
            "now": now.isoformat() if self.settings.is_now_given else None,
        }

    @property
    def _built_file(self) -> Path:
        """Says what the marts were built from; there while every model and test of the last build is good."""
        return self.settings.target_path / "built.json"

    @property
    def built_manifest(self) -> Path:
        """What the last build was made by; dbt's own is of the project as it was last looked at, as by `check`."""
        return self.settings.target_path / "built_manifest.json"

    def _last_build(self) -> dict[str, Any]:
        build = _read(self._built_file)
        inputs = build.get("inputs")
        is_whole = (
            "invocation_id" in build and isinstance(inputs, dict) and inputs.keys() >= {"project", "target", "loads"}
        )
        return build if is_whole and self.built_manifest.exists() else {}

    def _is_last(self, build: Mapping[str, Any]) -> bool:
        """Whether nobody, such as an analyst's own dbt, has written to the models since."""
        signed = self.warehouse.newest("invocation_id", build["signature"]) if "signature" in build else None
        return bool(signed == build["invocation_id"])

    def extract(self, summary: Summary, progress: Progress, *, stragglers: Stragglers | None = None) -> None:
        """Vendors and product database into the landing tables; all of it, or all but what `stragglers` still read."""
        progress.step("extract")
        with _timed(summary, "extract"):
            try_tables(self.product_url)  # before hours may go into reading the vendors
            try:
                summary.extracted = self._extract(progress, self.connections, stragglers=stragglers)
                extract_product(self.warehouse, self.product_url, summary.extracted)
            except (DestinationException, ExtractError, OSError):
                self.distrust()  # dlt's state in memory is that of rows that did not land
                raise

    def backfill(
        self, summary: Summary, progress: Progress, *, only: Mapping[str, str], span: tuple[datetime, datetime]
    ) -> None:
        """The events of a time again, from the vendors; what has landed does not land twice."""
        progress.step("extract")
        with _timed(summary, "backfill"):
            summary.extracted = self._extract(progress, self._connections_of(only), span=span)

    def replay(self, summary: Summary, progress: Progress, *, only: Mapping[str, str]) -> None:
        """Rejected events again, as the connectors type them now."""
        progress.step("extract")
        with _timed(summary, "replay"):
            summary.extracted = self._extract(progress, self._connections_of(only), is_replay=True)

    def _extract(self, progress: Progress, connections: list[Connection], **mode: Any) -> Extracted:
        return extract(self.warehouse, connections, connectors(), now=self.settings.now, on_rows=progress.rows, **mode)

    def _connections_of(self, only: Mapping[str, str]) -> list[Connection]:
        """The connections whose attributes have these values, but for those that have ended; ConfigError for none."""
        found = [c for c in self.connections if all(getattr(c, name) == value for name, value in only.items())]
        if not found:
            asked = ", ".join(f"{name} {value}" for name, value in only.items()) or "any"
            listed = ", ".join(c.connection_id for c in self.connections) or "none"
            raise ConfigError(f"no connection of {asked}; the connections are {listed}")
        living = [c for c in found if not c.has_ended(self.settings.now)]
        if not living:
            ended = ", ".join(c.connection_id for c in found)
            raise ConfigError(f"nothing is read, or typed again, of what has ended: {ended}")
        return living

    def build(
        self, summary: Summary, progress: Progress, *, select: str | None = None, full_refresh: bool = False
    ) -> None:
        """Landing tables into tested marts; nothing, where these were made of the same."""
        progress.step("build")
        with _timed(summary, "build"):
            landed = self.warehouse.landed()
            inputs = self._inputs(landed)
            last = self._last_build()
            is_last = bool(last) and self._is_last(last)
            if select is None and not full_refresh and is_last and last["inputs"] == inputs:
                summary.is_built_before = True
                return
            is_same_project = is_last and all(last["inputs"][key] == inputs[key] for key in ("project", "target"))
            self._built_file.unlink(missing_ok=True)
            done: list[str] = []

            def on_node(kind: str, name: str) -> None:
                done.append(name)
                progress.node(kind, name)

            built = self._builder.build(
                landed=landed,
                staged=last["inputs"]["loads"] if is_same_project else None,
                now=self.settings.now if self.settings.is_now_given else None,
                select=select,
                full_refresh=full_refresh,
                tested=last.get("tested") if is_same_project else None,
                on_node=on_node,
            )
            if select is not None and not done:
                if is_same_project:  # and so are the tables
                    _write(self._built_file, json.dumps(last).encode())
                raise BuildError(
                    f"nothing was built: --select {select} names nothing that has data; `uv run dbt ls` lists all names"
                )
            summary.built, summary.is_part_built = built, select is not None
            if select is None:
                build = {
                    "invocation_id": built.invocation_id,
                    "signature": self._builder.signature,
                    "inputs": inputs,
                    "tested": {
                        column: newest
                        for column, table in self._builder.ledgers.items()
                        if (newest := self.warehouse.newest(column, table)) is not None
                    },
                }
                _write(self.built_manifest, (self.settings.target_path / "manifest.json").read_bytes())
                _write(self._built_file, json.dumps(build).encode())

    def publish(
        self,
        summary: Summary,
        progress: Progress,
        *,
        accept: bool = False,
        percent: int = 100,
        reread: bool = False,
    ) -> None:
        """Marts into the product database, of the last build; the options are those of `ingestion.publish.publish`."""
        progress.step("publish")
        build = self._last_build()
        if not build:
            raise PublishError(
                "the last build failed, was killed or built only a part, and what is not tested is not published: "
                "run `app-usage build` first"
            )
        if not self._is_last(build):
            raise PublishError(
                "another dbt has written to the warehouse since the last build, and what is not tested is not"
                " published: run `app-usage build` first"
            )
        with _timed(summary, "publish"):
            summary.generation = publish(
                manifest=self.built_manifest,
                warehouse=self.settings.destination(),
                product_url=self.product_url,
                now=self.settings.now,
                dbt_invocation_id=build["invocation_id"],
                pipelines_dir=self.settings.pipelines_dir,
                progress=progress.table,
                accept=accept,
                percent=percent,
                reread=reread,
            )
        self.published_state.mkdir(exist_ok=True)
        _write(self.published_state / "manifest.json", self.built_manifest.read_bytes())
        _write(self.published_state / "at", self.settings.now.isoformat().encode())

    def held(self, org: str) -> Held:
        """What there is of a customer. Raises ConfigError where the next run would read it again."""
        refuse_if_served(org, self.connections, self.product_url)
        manifest = json.loads(self._builder.parse().read_bytes())
        found = held(self.warehouse, manifest, org)
        by_name = {f"{schema}.{name}": rows for (schema, name), rows in found.items()}
        return Held(by_name, rows_of(self.product_url, org))

    def forget(self, summary: Summary, progress: Progress, *, org: str) -> None:
        """Deletes all that there is of a customer. Killed at any moment, it is safe to repeat, and has to be."""
        refuse_if_served(org, self.connections, self.product_url)
        progress.step("forget")
        with _timed(summary, "forget"):
            self._built_file.unlink(missing_ok=True)
            extract_product(self.warehouse, self.product_url, Extracted())
            erase(self.warehouse, json.loads(self._builder.parse().read_bytes()), org)
        self.build(summary, progress, full_refresh=True)
        progress.step("forget")
        forget(self.product_url, org)
        forget_copies(self.settings.pipelines_dir)
        if (left := self.held(org)).rows:
            tables = ", ".join([*left.warehouse, *left.product])
            raise ForgetError(f"{left.rows:,} rows of {org!r} are left, in {tables}")

    @property
    def published_state(self) -> Path:
        """dbt's state as it was last published: what a change is compared with (`check`, `dbt --state`)."""
        return self.settings.home / "published"

    @property
    def proven_at(self) -> datetime | None:
        """When the last publish of this folder ended, which proved the product to be as the marts, changed or not."""
        try:
            return datetime.fromisoformat((self.published_state / "at").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def check(self, state: Path | None) -> list[Change]:
        """What the project as it is would change of the published tables. Raises PublishError without a `state`.

        Without the name of one the product is asked, too: for tables that an earlier change has left behind in it.
        """
        os.environ["APP_USAGE_HOME"] = str(self.settings.home)
        published = (state or self.published_state) / "manifest.json"
        if not published.exists():
            raise PublishError(f"there is no {published} to compare with: publish once, or name a folder with --state")
        manifest = self._builder.parse()
        marts = read_marts(manifest)
        found = changes(marts, read_marts(published, is_published=True)) + kept_as_built(manifest, published)
        if state is None:
            names = {mart.name for mart in marts}
            left = [table for table in status_of_product(product_database(self.settings)).tables if table.is_left]
            what = "is published no more, and grows old: `drop table app_usage.{}` once nobody reads it"
            found += [Change(t.name, "", what.format(t.name), is_break=True) for t in left if t.name not in names]
        return found


def product_database(settings: Settings) -> str:
    """The URL of the product database: the given one, else that of a private Postgres, which is started."""
    if settings.product_db_url is not None:
        return settings.product_db_url
    server = PrivatePostgres(settings.home / "postgres")
    server.start()
    return server.url("product")


def fill_product(sandbox: Sandbox, url: str) -> dict[str, str]:
    """The sandbox's tables in the product database; what was done with each. Raises ProductError."""
    try:
        return sandbox.fill_product(url)
    except psycopg2.Error as error:
        reason = str(error).split("\n")[0]
        raise ProductError(
            f"the sandbox cannot fill its tables in the product database: {reason}. Check PRODUCT_DB_URL"
        ) from error


@contextmanager
def prepared(settings: Settings, sandbox_options: Options | None) -> Iterator[Flow]:
    """A flow with all it stands on: the product database or a private one, connections or the sandbox.

    Without connections and without `sandbox_options` there is nothing to extract from, and the other steps work.
    """
    if settings.connections_file is not None and settings.now > datetime.now(UTC) + timedelta(days=1):
        raise ConfigError(
            f"--now {settings.now.isoformat()} is in the future, of which vendors cannot tell yet: what they did not"
            " tell would count as read"
        )
    os.environ["APP_USAGE_HOME"] = str(settings.home)
    has_private_product = settings.product_db_url is None
    has_private_warehouse = settings.target == "postgres" and "WAREHOUSE_HOST" not in os.environ
    server = PrivatePostgres(settings.home / "postgres") if has_private_product or has_private_warehouse else None
    settings = replace(settings, product_db_url=product_database(settings))
    product_url = settings.product_db_url or ""
    if server is not None and has_private_warehouse:
        server.start()
        server.url("warehouse")
        os.environ.update(WAREHOUSE_HOST=str(server.socket_folder), WAREHOUSE_USER=SUPERUSER)
    if settings.connections_file is not None:
        if has_private_product:
            make_missing_tables(product_url)
        connections = read_connections(settings.connections_file, connectors())
        _keep_apart(settings.home, "connections")
        with closing(Flow(settings, connections, None, server)) as flow:
            yield flow
    elif sandbox_options is None:
        yield Flow(settings, [], None)
    else:
        try:
            sandbox = Sandbox(sandbox_options, now=settings.now)
        except OptionsError as error:
            raise ConfigError(f"the sandbox: {error}") from error
        with sandbox:
            os.environ.update(sandbox.secrets())
            if fill_product(sandbox, product_url)["orgs"] == NOT_OURS:
                raise ConfigError(
                    "the product database has customers of its own, and the sandbox would show them made-up ones: list"
                    " connections in .dlt/connections.toml, or give the sandbox another database (see README)"
                )
            _keep_apart(settings.home, "the sandbox")
            with closing(Flow(settings, _sandbox_connections(sandbox), sandbox, server)) as flow:
                yield flow


def _keep_apart(home: Path, source: str) -> None:
    """What the sandbox makes up is never published beside what is so."""
    note = home / "read_from"
    if not note.exists():
        home.mkdir(parents=True, exist_ok=True)
        _write(note, source.encode())
    elif (other := note.read_text()) != source:
        raise ConfigError(
            f"what is in {home} was read from {other}, and {source} would be published beside it: delete the folder, or"
            " set APP_USAGE_HOME to another"
        )


def _sandbox_connections(sandbox: Sandbox) -> list[Connection]:
    return [
        Connection(
            connection_id=entry["connection_id"],
            org_id=entry["org_id"],
            connector=entry["connector"],
            base_url=entry["base_url"],
            start_date=datetime.fromisoformat(str(entry["start_date"])).replace(tzinfo=UTC),
            settings=entry["settings"],
        )
        for entry in sandbox.connections()
    ]


def _write(file: Path, content: bytes) -> None:
    """All or nothing: what a full disk leaves of a plain write, the next run would read."""
    draft = file.with_name(f"{file.name}.new")
    try:
        draft.write_bytes(content)
        draft.replace(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; one that was cut off, or is something else, is as none."""
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def _timed(summary: Summary, step: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        summary.seconds[step] = time.perf_counter() - started
