"""One publish: from the marts of the warehouse to one new generation of the product's tables, or to none.

1. Claim the product database, prepare it, put back what guards its tables, and follow the marts' columns.
2. Scan the marts; where the sums of an org differ from the ledger's, compare row by row.
3. Stop where the change is too large (the breaker), before the product can see any of it.
4. Stage the changed rows with dlt, and count what the product has. A new table is made there, key and all, and checked.
5. In one transaction write all tables, compare what they then store, note the generation (transaction.py).

Until the commit of step 5 readers see the generation before, after it the new one, in all tables. A publish that
ends anywhere leaves nothing that the next one does not clear away, for what is published is known from the
product database alone. Where that turns out not to be so, or PostgreSQL refuses rows, it begins again at step 2:
with all published rows read, or without the refused ones.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dlt
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_manager import Error as DatabaseError
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import DestinationException
from dlt.destinations.impl.postgres.configuration import PostgresCredentials
from dlt.pipeline.exceptions import PipelineStepFailed
from psycopg2.extensions import parse_dsn

from ingestion.config import settled
from ingestion.publish import guards, refusal, tables
from ingestion.publish.comparison import SHARDS, Comparison, Sums, hash_of, open_comparison, shard_of
from ingestion.publish.marts import Mart, PublishError, read_marts
from ingestion.publish.product import LEDGER, SCHEMA, STAGING, DriftError, Product, give_way, migrate, names
from ingestion.publish.transaction import Plan, Stamp, apply, note, refuse_other_counts, refuse_other_rows

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TableResult:
    name: str
    rows: int
    upserted: int
    deleted: int
    rejected: int


@dataclass(frozen=True)
class Canary:
    """Tables of which some customers get the changes, and the others keep the rows that they have."""

    tables: tuple[str, ...]
    percent: int
    chosen: tuple[str, ...]
    customers: int
    """Of the tables and their marts, chosen or not."""
    least: int
    """The percent that is enough for one customer."""


@dataclass(frozen=True)
class Generation:
    """What a publish did."""

    generation_id: str
    """The generation that the product shows now: a new one if `changed`, else the one that it showed before."""
    changed: bool
    seconds: float
    tables: tuple[TableResult, ...]
    repaired: str = ""
    """What was found in the product that nobody had published, and was put right; empty if nothing was."""
    left: tuple[str, ...] = ()
    """Tables that no model publishes any more, and that are still there, as they were last published."""
    canaries: tuple[Canary, ...] = ()

    @property
    def rows_upserted(self) -> int:
        return sum(table.upserted for table in self.tables)

    @property
    def rows_deleted(self) -> int:
        return sum(table.deleted for table in self.tables)


def publish(
    manifest: Path,
    warehouse: Destination[Any, Any],
    product_url: str,
    now: datetime,
    dbt_invocation_id: str,
    pipelines_dir: Path,
    progress: Progress | None = None,
    *,
    accept: bool = False,
    percent: int = 100,
    reread: bool = False,
) -> Generation:
    """Publishes all marts that declare it as one generation, or writes no row where nothing changed.

    The caller has seen every test of dbt's build pass. `now`: the run's clock. `progress` is called with the name
    of each step, before it is done. `accept`: publish even what the breaker would stop, or after a rollback.
    `percent`: of the orgs' shards; the other orgs keep the rows that they have. `reread`: read all published rows
    and compare them, instead of believing the ledger.

    Raises PublishError with nothing published.
    """
    started, step = time.perf_counter(), progress or (lambda _: None)
    marts = read_marts(manifest)
    if not marts:
        raise PublishError(f"no model in {manifest} declares meta.publish: nothing to publish")

    def stamp(generation_id: str) -> Stamp:
        """The run's clock may be another than the machine's; it moves on by the time that passes."""
        at = now + timedelta(seconds=time.perf_counter() - started)
        return Stamp(generation_id, now.isoformat(), at.isoformat(), dbt_invocation_id)

    current, repaired, folder = "", "", pipelines_dir / "publishing"
    with as_publish_error(), Product(product_url) as product:
        step("claim")
        product.claim()
        step("prepare")
        migrate(product)
        product.become_owner()
        # first of all, for whatever stops this publish, what customers may see does not wait for it
        put_back = guards.put_back(product)
        _refuse_while_held(product, accept)
        for mart in marts:
            put_back += tables.follow_columns(product, mart)
        with (
            open_comparison(warehouse, marts, pipelines_dir / "published.duckdb") as comparison,
            _room_given_back(marts, product, folder),
        ):
            while True:
                plans: list[Plan] = []
                try:
                    step("compare")
                    plans += [_plan(mart, product, comparison, percent, reread or bool(repaired)) for mart in marts]
                    step("break")
                    if not accept:
                        _break(plans)
                    current = _current_generation(product)
                    if not any(plan.is_changed for plan in plans):
                        if not all(plan.is_noted for plan in plans):
                            with product.transaction():
                                note(plans, product, comparison, stamp(current))
                        break
                    current = f"{int(_newest_generation(product)) + 1:08d}"
                    _stage(plans, product, comparison, pipelines_dir, folder, stamp(current), step)
                    give_way(partial(apply, plans, product, comparison, stamp(current), step))
                    step("clean")
                    _clean(plans, product, comparison, folder)
                    break
                except DriftError as error:
                    product.execute(f"update {LEDGER}.tables set is_touched = true")
                    if repaired:
                        raise PublishError(
                            f"{error}, and again after it was repaired: nothing was published"
                        ) from error
                    repaired = str(error)
                except (DatabaseError, PipelineStepFailed) as error:
                    if not refusal.set_aside(error, plans, product, comparison, stamp(current), folder):
                        raise
        step("index")
        for mart in marts:
            tables.make_indexes(product, mart)
            tables.drop_columns(product, mart)
        left = tables.left_behind(product, marts)
    return Generation(
        generation_id=current,
        changed=any(plan.is_changed for plan in plans),
        seconds=time.perf_counter() - started,
        tables=tuple(
            TableResult(plan.mart.name, plan.rows, plan.upserted, plan.deleted, plan.scan.rejected_rows)
            for plan in plans
        ),
        repaired="; ".join(filter(None, [*put_back, repaired])),
        left=tuple(left),
        canaries=tuple(_canaries(plans)),
    )


def _clean(plans: Sequence[Plan], product: Product, comparison: Comparison, folder: Path) -> None:
    """What is left undone here the next publish does: the generation is published."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(DatabaseError, duckdb.Error):
        for plan in plans:
            product.execute(f"drop table if exists {tables.staged(plan.mart)}")
            if plan.is_new:
                comparison.copy_all(plan.mart, plan.will_be)
            elif plan.orgs:
                comparison.copy_difference(plan.mart)


@contextmanager
def _room_given_back(marts: Sequence[Mart], product: Product, folder: Path) -> Iterator[None]:
    """A publish that failed, perhaps because a disk is full, leaves what it staged neither here nor in the product."""
    try:
        yield
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(DatabaseError):  # of a session that was cut off, say; the error that is known comes first
            for mart in marts:
                product.execute(f"drop table if exists {tables.staged(mart)}")
        raise


@contextmanager
def as_publish_error() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise PublishError(
            f"the product database failed: {error}. The product still has its last generation; publish again"
        ) from error
    except PipelineStepFailed as error:
        # dlt's own message is a page long, and advises to resume a load that the next publish starts anew.
        cause = getattr(error.exception, "client_exception", error.exception)
        raise PublishError(
            f"the rows did not get into {STAGING}: {cause}. The product still has its last generation; publish again"
        ) from error
    except (OSError, duckdb.IOException) as error:
        raise PublishError(
            f"a file on this machine cannot be read or written: {error}. The product still has its last generation; "
            "see whether the disk is full, then publish again"
        ) from error
    except (duckdb.Error, DestinationException) as error:
        raise PublishError(f"the marts cannot be read: {error}. Run `app-usage build`, then publish again") from error


def _refuse_while_held(product: Product, accept: bool) -> None:
    if (held := product.execute(f"select reason from {LEDGER}.hold")) and not accept:
        raise PublishError(f"{held[0][0]}: `app-usage publish --accept` publishes again")


def _newest_generation(product: Product) -> str:
    return str(product.value(f"select coalesce(max(generation_id), '0') from {SCHEMA}.generations"))


def _current_generation(product: Product) -> str:
    query = f"select coalesce(max(generation_id), '') from {SCHEMA}.generations where status = 'published'"
    return str(product.value(query))


def _plan(mart: Mart, product: Product, comparison: Comparison, percent: int, reread: bool) -> Plan:
    """Raises DriftError where the product has other rows than the ledger says."""
    scan = comparison.scan(mart)
    shards = -(-SHARDS * min(percent, mart.canary) // 100)
    noted = product.execute(
        f"select hash, is_touched, shards, rejected from {LEDGER}.tables where table_name = $1", mart.name
    )
    is_new = not tables.columns_of(product, SCHEMA, mart.name)
    was: dict[str, Sums] = {}
    is_noted = False
    if not is_new and noted and noted[0][:2] == (hash_of(mart), False) and not reread:
        sums = product.execute(
            f"select org_id, rows, content_hash::text from {LEDGER}.orgs where table_name = $1", mart.name
        )
        was = {org: Sums(count, int(content_hash)) for org, count, content_hash in sums}
        is_noted = noted[0][2:] == (shards, scan.rejected_hash)
    elif noted or not is_new:
        # From here on a write of somebody else is noticed again; until the ledger is written nobody believes it.
        product.execute(
            f"insert into {LEDGER}.tables values ($1, '', '', '', false, 0, '') on conflict (table_name) "
            "do update set hash = '', is_touched = false",
            mart.name,
        )
        if not is_new:
            with product.arrow(f"select {names(mart.content)} from {tables.live(mart)}") as rows:
                was = comparison.sums(mart, rows)
    will_be = scan.orgs
    if shards < SHARDS:
        will_be = {org: sums for org, sums in was.items() if shard_of(org) >= shards} | {
            org: sums for org, sums in scan.orgs.items() if shard_of(org) < shards
        }
    plan = Plan(mart, scan, is_new, was, will_be, shards, is_noted)
    if plan.orgs and not is_new:
        comparison.refresh_copy(mart, product, was, will_be)
        with ThreadPoolExecutor(1) as beside:  # the product counts what it has while DuckDB compares
            chosen = None if plan.orgs >= was.keys() else plan.orgs
            counted = beside.submit(tables.count, product, mart, chosen)
            plan.changes = comparison.compare(mart, was, will_be)
            refuse_other_counts(plan, counted.result())
    return plan


def _canaries(plans: Sequence[Plan]) -> Iterator[Canary]:
    for shards in sorted({plan.shards for plan in plans if plan.shards < SHARDS}):
        chosen = [plan for plan in plans if plan.shards == shards]
        orgs = {org: shard_of(org) for plan in chosen for org in plan.was | plan.scan.orgs}
        if orgs:
            yield Canary(
                tables=tuple(plan.mart.name for plan in chosen),
                percent=shards * 100 // SHARDS,
                chosen=tuple(sorted(org for org, shard in orgs.items() if shard < shards)),
                customers=len(orgs),
                least=min(orgs.values()) * 100 // SHARDS + 1,
            )


def _break(plans: Sequence[Plan]) -> None:
    """Raises PublishError where a change is larger than the mart's breaker lets through."""
    reasons = []
    for plan in plans:
        breaker, table = plan.mart.breaker, plan.mart.name
        if plan.was and not plan.will_be and not breaker.may_be_empty:
            reasons.append(f"{table} would be empty, it has {sum(s.rows for s in plan.was.values())} rows")
            continue
        for org, changes in sorted(plan.changes.items()):
            if changes.before < breaker.min_rows:
                continue
            touched = changes.changed + changes.gone
            for what, count, limit in (
                ("deleted", changes.gone, breaker.deleted),
                ("changed or deleted", touched, breaker.changed),
            ):
                if count > limit * changes.before:
                    reasons.append(
                        f"{table}: {count} of the {changes.before} rows of {org} would be {what}, "
                        f"the limit is {limit:.0%}"
                    )
                    break
    if reasons:
        more = f"\nand {len(reasons) - 10} more" if len(reasons) > 10 else ""
        raise PublishError(
            "the change is larger than the breaker lets through, and nothing was published:\n"
            + "\n".join(reasons[:10])
            + f"{more}\nIf it is right, `app-usage publish --accept` publishes it"
        )


def _stage(
    plans: Sequence[Plan],
    product: Product,
    comparison: Comparison,
    pipelines_dir: Path,
    folder: Path,
    stamp: Stamp,
    step: Progress,
) -> None:
    """Moves the changed rows, as Parquet files in `folder`, to the staging schema; finishes the tables that are new."""
    pipeline = dlt.pipeline(
        "publish",
        pipelines_dir=str(pipelines_dir),
        destination=settled(dlt.destinations.postgres(_credentials(product.url))),
        dataset_name=STAGING,
    )
    # What an earlier publish left, here or there, is of no use to this one.
    pipeline.drop()
    pipeline.config.restore_from_destination = False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    resources = []
    step("export")
    for plan in (plan for plan in plans if plan.is_changed):
        mart, path = plan.mart, folder / f"{plan.mart.name}.parquet"
        if plan.is_new:
            tables.create_live_table(product, mart, stamp.generation_id, stamp.published_at)
            comparison.export_all(mart, plan.will_be, path)
        else:
            tables.create_delta_table(product, mart)
            comparison.export_difference(mart, path)
        if pq.read_metadata(path).num_rows:  # dlt's way into Postgres takes no file without rows
            resources.append(_resource(mart.name, path))
    step("stage")
    if resources:
        pipeline.run(resources)
    step("finish")
    for plan in (plan for plan in plans if plan.is_changed):
        if plan.is_new:
            tables.finish_live_table(product, plan.mart)
            with product.arrow(f"select {names(plan.mart.content)} from {tables.staged(plan.mart)}") as rows:
                refuse_other_rows(plan.mart, plan.will_be, comparison.sums(plan.mart, rows))
        else:
            product.execute(f"analyze {tables.staged(plan.mart)} ({names(plan.mart.key)})")


def _resource(table: str, path: Path) -> Any:
    file = pq.ParquetFile(path)

    def rows() -> Iterator[Any]:
        yield dlt.mark.with_file_import(
            str(path), "parquet", file.metadata.num_rows, hints=file.schema_arrow.empty_table()
        )

    # For columns that it takes to have a zone, dlt would write the whole file anew.
    naive: Any = {field.name: {"timezone": False} for field in file.schema_arrow if pa.types.is_timestamp(field.type)}
    return dlt.resource(rows, name=table, write_disposition="append", columns=naive, file_format="parquet")


def _credentials(url: str) -> PostgresCredentials:
    """A libpq URL in the form that dlt resolves, which wants a host, a user and a password, be they empty.

    libpq takes an empty one for none: sockets, a password in `~/.pgpass` and all its options work as in psql.
    """
    given = parse_dsn(url)
    credentials = PostgresCredentials()
    credentials.update(
        {
            "host": quote(given.pop("host", ""), safe=""),
            "username": given.pop("user", ""),
            "password": given.pop("password", ""),
            "database": given.pop("dbname", ""),
            # dlt writes a space as `+`, which libpq takes for itself; between options a tab is as good.
            "query": {name: value.replace(" ", "\t") for name, value in given.items()},
        }
    )
    return credentials
