"""One publish: from the marts of the warehouse to one new generation of the product's tables, or to none.

1. Claim the product database, prepare it, and follow what changed in the marts' columns.
2. Scan the marts; where the sums of an org differ from the ledger's, compare row by row.
3. Stop where the change is too large (the breaker), before the product can see any of it.
4. Stage the changed rows with dlt. A table that is new is made there, with its key and all, and checked.
5. In one transaction write all tables, read the written rows back and compare, note the generation.

Until the commit of step 5 readers see the generation before, after it the new one, in all tables. A publish that
ends anywhere leaves nothing that the next one does not clear away, for what is published is known from the
product database alone.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dlt
import duckdb
import pyarrow.parquet as pq
from adbc_driver_manager import Error as DatabaseError
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import DestinationException
from dlt.destinations.impl.postgres.configuration import PostgresCredentials
from dlt.pipeline.exceptions import PipelineStepFailed
from psycopg2.extensions import parse_dsn

from ingestion.publish import product as tables
from ingestion.publish.comparison import (
    NOTHING,
    SHARDS,
    Changes,
    Comparison,
    Scan,
    Sums,
    hash_of,
    open_comparison,
    shard_of,
)
from ingestion.publish.marts import Mart, PublishError, read_marts
from ingestion.publish.product import (
    LEDGER,
    SCHEMA,
    STAGING,
    DriftError,
    Product,
    give_way,
    literal,
    matches,
    names,
    quoted,
)

# What these last generations overwrote is kept, for the way back.
GENERATIONS_KEPT = 10

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TableResult:
    name: str
    rows: int
    upserted: int
    deleted: int
    rejected: int


@dataclass(frozen=True)
class Generation:
    """What a publish did."""

    generation_id: str
    """The generation that the product shows now: a new one if `changed`, else the one that it showed before."""
    changed: bool
    seconds: float
    tables: tuple[TableResult, ...]

    @property
    def rows_upserted(self) -> int:
        return sum(table.upserted for table in self.tables)

    @property
    def rows_deleted(self) -> int:
        return sum(table.deleted for table in self.tables)


@dataclass
class Plan:
    """What one publish does to one table."""

    mart: Mart
    scan: Scan
    is_new: bool
    was: dict[str, Sums]
    """The sums of the table as it is, by org."""
    will_be: dict[str, Sums]
    """The sums of the table after this publish, by org."""
    shards: int
    is_noted: bool
    """Whether the ledger says all this already, so that without changes there is nothing to write."""
    changes: dict[str, Changes] = field(default_factory=dict)

    @property
    def orgs(self) -> set[str]:
        """The orgs whose rows change."""
        return {org for org in self.was | self.will_be if self.was.get(org) != self.will_be.get(org)}

    @property
    def is_changed(self) -> bool:
        return self.is_new or bool(self.orgs)

    @property
    def upserted(self) -> int:
        if self.is_new:
            return sum(sums.rows for sums in self.will_be.values())
        return sum(changes.new + changes.changed for changes in self.changes.values())

    @property
    def deleted(self) -> int:
        return sum(changes.gone for changes in self.changes.values())

    def result(self) -> TableResult:
        rows = sum(sums.rows for sums in self.will_be.values())
        return TableResult(self.mart.name, rows, self.upserted, self.deleted, self.scan.rejected_rows)


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
    clock, step = _Clock(now), progress or (lambda _: None)
    marts = read_marts(manifest)
    if not marts:
        raise PublishError(f"no model in {manifest} declares meta.publish: nothing to publish")
    with as_publish_error(), Product(product_url) as product, _noting_drift(product):
        step("claim")
        product.claim()
        step("prepare")
        tables.migrate(product)
        product.become_owner()
        _refuse_while_held(product, accept)
        for mart in marts:
            tables.follow_columns(product, mart)
        with open_comparison(warehouse, marts, pipelines_dir / "published.duckdb") as comparison:
            step("compare")
            plans = [_plan(mart, product, comparison, percent, reread) for mart in marts]
            step("break")
            if not accept:
                _break(plans)
            current = _current_generation(product)
            if any(plan.is_changed for plan in plans):
                current = f"{int(_newest_generation(product)) + 1:08d}"
                _stage(plans, product, comparison, pipelines_dir, current, clock, step)
                give_way(lambda: _apply(plans, product, comparison, current, clock, dbt_invocation_id, step))
                step("clean")
                _clean(plans, product, comparison)
            elif not all(plan.is_noted for plan in plans):
                with product.transaction():
                    _note(plans, product, comparison, current, clock)
        step("index")
        for mart in marts:
            tables.make_indexes(product, mart)
    changed = any(plan.is_changed for plan in plans)
    return Generation(current, changed, clock.elapsed, tuple(plan.result() for plan in plans))


def _clean(plans: Sequence[Plan], product: Product, comparison: Comparison) -> None:
    """What is left undone here the next publish does: the generation is published."""
    with suppress(DatabaseError, duckdb.Error):
        for plan in plans:
            product.execute(f"drop table if exists {tables.staged(plan.mart)}")
            if plan.is_new:
                comparison.copy_all(plan.mart, plan.will_be)
            elif plan.orgs:
                comparison.copy_difference(plan.mart)


class _Clock:
    """The run's clock, which may be another than the machine's, moved on by the time that passes."""

    def __init__(self, now: datetime) -> None:
        self.started_at = now
        self._started = time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._started

    def now(self) -> str:
        return (self.started_at + timedelta(seconds=self.elapsed)).isoformat()


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
    except (duckdb.Error, DestinationException) as error:
        raise PublishError(f"the marts cannot be read: {error}. Run `app-usage build`, then publish again") from error


@contextmanager
def _noting_drift(product: Product) -> Iterator[None]:
    try:
        yield
    except DriftError:
        product.execute(f"update {LEDGER}.tables set is_touched = true")
        raise


def _refuse_while_held(product: Product, accept: bool) -> None:
    if (held := product.execute(f"select reason from {LEDGER}.hold")) and not accept:
        raise PublishError(f"{held[0][0]}: `app-usage publish --accept` publishes again")


def _newest_generation(product: Product) -> str:
    return str(product.value(f"select coalesce(max(generation_id), '0') from {SCHEMA}.generations"))


def _current_generation(product: Product) -> str:
    query = f"select coalesce(max(generation_id), '') from {SCHEMA}.generations where status = 'published'"
    return str(product.value(query))


def _plan(mart: Mart, product: Product, comparison: Comparison, percent: int, reread: bool) -> Plan:
    scan = comparison.scan(mart)
    shards = -(-SHARDS * min(percent, mart.canary) // 100)
    noted = product.execute(
        f"select hash, is_touched, shards, rejected from {LEDGER}.tables where table_name = $1", mart.name
    )
    is_new = not tables.columns_of(product, SCHEMA, mart.name)
    was: dict[str, Sums] = {}
    is_noted = False
    if not is_new and noted and noted[0][:2] == (hash_of(mart), False) and not reread:
        rows = product.execute(
            f"select org_id, rows, content_hash::text from {LEDGER}.orgs where table_name = $1", mart.name
        )
        was = {org: Sums(count, int(content_hash)) for org, count, content_hash in rows}
        is_noted = noted[0][2:] == (shards, scan.rejected_hash)
    elif not is_new:
        # From here on a write of somebody else is noticed again; until the ledger is written nobody believes it.
        product.execute(
            f"insert into {LEDGER}.tables values ($1, '', '', '', false, 0, '') on conflict (table_name) "
            "do update set hash = '', is_touched = false",
            mart.name,
        )
        was = comparison.stored(mart, product, f"select {names(mart.content)} from {tables.live(mart)}")
    will_be = scan.orgs
    if shards < SHARDS:
        will_be = {org: sums for org, sums in was.items() if shard_of(org) >= shards} | {
            org: sums for org, sums in scan.orgs.items() if shard_of(org) < shards
        }
    plan = Plan(mart, scan, is_new, was, will_be, shards, is_noted)
    if plan.orgs and not is_new:
        plan.changes = comparison.compare(mart, product, was, will_be)
    return plan


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
    generation_id: str,
    clock: _Clock,
    step: Progress,
) -> None:
    """Moves the changed rows to the product's staging schema, and finishes the tables that are new."""
    pipeline = dlt.pipeline(
        "publish",
        pipelines_dir=str(pipelines_dir),
        destination=dlt.destinations.postgres(_credentials(product.url)),
        dataset_name=STAGING,
    )
    # What an earlier publish left, here or there, is of no use to this one.
    pipeline.drop()
    pipeline.config.restore_from_destination = False
    folder = Path(pipeline.working_dir) / "marts"
    folder.mkdir()
    resources = []
    step("export")
    for plan in (plan for plan in plans if plan.is_changed):
        mart, path = plan.mart, folder / f"{plan.mart.name}.parquet"
        if plan.is_new:
            tables.create_live_table(product, mart, generation_id, clock.now())
            comparison.export_all(mart, plan.will_be, path)
        else:
            tables.create_delta_table(product, mart)
            comparison.export_difference(mart, path)
        if pq.read_metadata(path).num_rows:  # dlt's way into Postgres takes no file without rows
            resources.append(_resource(mart.name, path))
    step("stage")
    if resources:
        pipeline.run(resources)
    shutil.rmtree(folder)
    step("finish")
    for plan in (plan for plan in plans if plan.is_changed):
        if plan.is_new:
            tables.finish_live_table(product, plan.mart)
            stored = comparison.stored(
                plan.mart, product, f"select {names(plan.mart.content)} from {tables.staged(plan.mart)}"
            )
            _compare_sums(plan.mart, plan.will_be, stored)
        else:
            product.execute(f"analyze {tables.staged(plan.mart)}")


def _resource(table: str, path: Path) -> Any:
    file = pq.ParquetFile(path)

    def rows() -> Iterator[Any]:
        yield dlt.mark.with_file_import(
            str(path), "parquet", file.metadata.num_rows, hints=file.schema_arrow.empty_table()
        )

    return dlt.resource(rows, name=table, write_disposition="append", file_format="parquet")


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


def _apply(
    plans: Sequence[Plan],
    product: Product,
    comparison: Comparison,
    generation_id: str,
    clock: _Clock,
    dbt_invocation_id: str,
    step: Progress,
) -> None:
    """The one transaction: the rows of all tables, the proof that they are right, and the generation."""
    step("begin")
    with product.transaction():
        product.execute("set local app_usage.publisher = 'on'")
        # The changed rows are few and lie anywhere: by the key's index, not by a scan of the table for each.
        product.execute("set local random_page_cost = 1.1")
        published_at = clock.now()
        for plan in plans:
            _refuse_foreign_write(product, plan.mart)
        for plan in plans:
            step(f"write {plan.mart.name}")
            if plan.is_new:
                product.execute(f"alter table {tables.staged(plan.mart)} set schema {SCHEMA}")
            elif plan.orgs:
                _write(plan, product, generation_id, published_at)
        step("prove")
        changed = [plan for plan in plans if plan.orgs and not plan.is_new]
        for plan in changed:
            _prove_rows(plan, product, comparison)
        product.execute("set local random_page_cost to default")
        for plan in changed:
            _prove_counts(plan, product)
        step("note")
        _note(plans, product, comparison, generation_id, clock)
        product.execute(
            f"insert into {SCHEMA}.generations values ($1, $2::timestamptz, $3::timestamptz, 'published', $4, "
            "$5, $6, $7)",
            generation_id,
            clock.started_at.isoformat(),
            published_at,
            dbt_invocation_id,
            sum(plan.upserted for plan in plans),
            sum(plan.deleted for plan in plans),
            _content_hash(plans),
        )
        product.execute(f"delete from {LEDGER}.hold")
        _forget(plans, product, generation_id)
        step("commit")
    step("committed")


def _refuse_foreign_write(product: Product, mart: Mart) -> None:
    """Locks the ledger's row, so that a foreign write from now on comes after this generation."""
    if product.execute(
        f"select is_touched from {LEDGER}.tables where table_name = $1 and is_touched for update", mart.name
    ):
        raise PublishError(
            f"somebody wrote to {tables.live(mart)} while it was compared: nothing was published; publish again"
        )


def _write(plan: Plan, product: Product, generation_id: str, published_at: str) -> None:
    """Keeps what is about to be overwritten, deletes the vanished rows, writes the new and the changed ones.

    Each statement has to meet the very rows that the comparison found.
    """
    mart, same = plan.mart, matches(plan.mart.key, "t", "s")
    live, staged = tables.live(mart), tables.staged(mart)
    others = [column.name for column in mart.columns if column.name not in mart.key]
    stamps = {"generation_id": literal(generation_id), "published_at": literal(published_at)}
    values = [stamps.get(name, f"s.{quoted(name)}") for name in others]
    kept = product.change(
        f"insert into {tables.before(mart)} (_generation_id, _existed, {names([*mart.key, *others])}) "
        f"select {literal(generation_id)}, t.org_id is not null, {names([*mart.key], 's')}"
        + "".join(f", t.{quoted(name)}" for name in others)
        + f" from {staged} as s left join {live} as t on {same}"
    )
    deleted = product.change(f"delete from {live} as t using {staged} as s where s._is_gone and {same}")
    updates = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in others)
    written = product.change(
        f"insert into {live} ({names([*mart.key, *others])}) "
        f"select {', '.join([names(mart.key, 's'), *values])} from {staged} as s where not s._is_gone "
        f"on conflict ({names(mart.key)}) do {f'update set {updates}' if updates else 'nothing'}"
    )
    if (kept, deleted, written) != (plan.upserted + plan.deleted, plan.deleted, plan.upserted):
        raise DriftError(
            f"{live} is not what was published: {deleted} of {plan.deleted} rows deleted, {written} of "
            f"{plan.upserted} written. Nothing was published; publish again, to compare and repair it"
        )


def _prove_rows(plan: Plan, product: Product, comparison: Comparison) -> None:
    """Reads what was written, as it is stored; raises PublishError where it is not what the mart has."""
    mart = plan.mart
    written = comparison.stored(
        mart,
        product,
        f"select {names(mart.content, 't')} from {tables.live(mart)} as t join {tables.staged(mart)} as s "
        f"on {matches(mart.key, 't', 's')}",
    )
    _compare_sums(mart, comparison.expected(mart), written)


def _prove_counts(plan: Plan, product: Product) -> None:
    """Counts all rows of the changed orgs; raises DriftError where they are more or fewer than the mart's."""
    live = tables.live(plan.mart)
    counted = dict(product.execute(f"select org_id, count(*) from {live} group by 1"))
    wrong = [org for org in sorted(plan.orgs) if counted.get(org, 0) != plan.will_be.get(org, NOTHING).rows]
    if wrong:
        raise DriftError(
            f"{live} has other rows of {_some(wrong)} than were published. Nothing was published; publish again, "
            "to compare and repair it"
        )


def _compare_sums(mart: Mart, expected: Mapping[str, Sums], stored: Mapping[str, Sums]) -> None:
    if expected != stored:
        wrong = sorted(org for org in {*expected, *stored} if expected.get(org) != stored.get(org))
        raise PublishError(
            f"the rows of {mart.name} that the product stored are not those that were sent, of {_some(wrong)}: "
            "nothing was published. A trigger on the table may change rows; `app-usage verify` compares all"
        )


def _some(orgs: Sequence[str]) -> str:
    return ", ".join(orgs[:5]) + (f" and {len(orgs) - 5} more orgs" if len(orgs) > 5 else "")


def _note(plans: Sequence[Plan], product: Product, comparison: Comparison, generation_id: str, clock: _Clock) -> None:
    """Writes the ledger, and the rows that PostgreSQL cannot hold."""
    for plan in plans:
        if plan.is_noted and not plan.is_changed:
            continue
        table = plan.mart.name
        if plan.is_changed:
            product.execute(
                f"insert into {LEDGER}.orgs_before select $1::text, $2::text, o.* from {_org_rows('$3')}",
                generation_id,
                table,
                _as_json({org: plan.was.get(org) for org in plan.orgs}),
            )
        product.execute(
            f"insert into {LEDGER}.orgs as l select $1::text, o.* from {_org_rows('$2')} "
            "on conflict (table_name, org_id) do update set rows = excluded.rows, content_hash = "
            "excluded.content_hash where (l.rows, l.content_hash) <> (excluded.rows, excluded.content_hash)",
            table,
            _as_json(plan.will_be),
        )
        product.execute(
            f"delete from {LEDGER}.orgs where table_name = $1 "
            f"and org_id not in (select o.org_id from {_org_rows('$2')})",
            table,
            _as_json(plan.will_be),
        )
        product.execute(f"delete from {SCHEMA}.app_usage_rejected where table_name = $1", table)
        product.execute(
            f"insert into {SCHEMA}.app_usage_rejected "
            "select r.org_id, $1::text, r.row_key, r.reason, r.row_json, $2::text, $3::timestamptz from "
            "jsonb_to_recordset($4::jsonb) as r(org_id text, row_key text, reason text, row_json text)",
            table,
            generation_id,
            clock.now(),
            json.dumps(comparison.rejected(plan.mart) if plan.scan.rejected_rows else []),
        )
        product.execute(
            f"insert into {LEDGER}.tables as l values ($1, $2, $2, $3, false, $4, $5) on conflict (table_name) "
            "do update set generation_id = case when $6 then excluded.generation_id else l.generation_id end, "
            "created_in = case when $7 then excluded.generation_id else l.created_in end, hash = excluded.hash, "
            "shards = excluded.shards, rejected = excluded.rejected",
            table,
            generation_id,
            hash_of(plan.mart),
            plan.shards,
            plan.scan.rejected_hash,
            plan.is_changed,
            plan.is_new,
        )


def _org_rows(parameter: str) -> str:
    return f"jsonb_to_recordset({parameter}::jsonb) as o(org_id text, rows bigint, content_hash numeric)"


def _as_json(orgs: Mapping[str, Sums | None]) -> str:
    return json.dumps(
        [
            {"org_id": org, "rows": sums and sums.rows, "content_hash": sums and str(sums.content_hash)}
            for org, sums in orgs.items()
        ]
    )


def _content_hash(plans: Sequence[Plan]) -> str:
    """The same for the same rows in the same tables, whatever their order."""
    content = sorted(
        (plan.mart.name, org, sums.rows, sums.content_hash) for plan in plans for org, sums in plan.will_be.items()
    )
    return sha256(repr(content).encode()).hexdigest()


def oldest_way_back(newest: str) -> str:
    """The oldest generation that `newest` can be rolled back to: what later ones overwrote is kept."""
    return f"{max(int(newest) - GENERATIONS_KEPT, 0):08d}"


def _forget(plans: Sequence[Plan], product: Product, generation_id: str) -> None:
    """Deletes what is only needed for the way back to still older generations."""
    oldest = oldest_way_back(generation_id)
    product.execute(f"delete from {LEDGER}.orgs_before where generation_id <= $1", oldest)
    for plan in plans:
        product.execute(f"delete from {tables.before(plan.mart)} where _generation_id <= $1", oldest)
