"""After a publish: what the product shows, whether it is what the warehouse has, the way back, and the way out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from dlt.common.destination import Destination

from ingestion.publish import guards, tables
from ingestion.publish.comparison import SHARDS, open_comparison, shard_of
from ingestion.publish.marts import PublishError, read_marts
from ingestion.publish.product import LEDGER, SCHEMA, STAGING, Product, give_way, literal, matches, names, quoted
from ingestion.publish.product import migrate as prepare
from ingestion.publish.publication import as_publish_error
from ingestion.publish.transaction import GENERATIONS_KEPT, oldest_way_back

# More keys than these tell nothing new about what is wrong with a table.
KEYS_NAMED = 20
REASONS_SHOWN = 5


@dataclass(frozen=True)
class TableStatus:
    name: str
    generation_id: str
    """The generation in which the table last changed."""
    changed_at: datetime | None
    rows: int
    rejected: int
    reasons: tuple[str, ...]
    """Why rows of the mart are not in the table, up to REASONS_SHOWN."""
    percent: int
    """Of the shards that get the changes of its mart: less than 100 for a canary."""
    is_left: bool
    """Whether no model publishes it any more: it stays as it is, and grows old, until somebody drops it."""


@dataclass(frozen=True)
class Status:
    """What the product shows, as the product database itself says."""

    generation_id: str | None
    published_at: datetime | None
    held: str | None
    """Why nothing is published until somebody accepts it, after a rollback."""
    tables: tuple[TableStatus, ...]
    complete_through: dict[str, date | None]
    """Per org of `data_freshness`, the last day for which all its apps are complete; None where one never was."""
    unguarded: tuple[str, ...] = ()
    """What the tables lost that keeps readers to their org, or tells of foreign writes, until the next publish."""


@dataclass(frozen=True)
class Difference:
    """A row of a published table that is not as in its mart."""

    table: str
    key: dict[str, Any]
    kind: str
    """missing, extra or different"""


@dataclass(frozen=True)
class Verified:
    rows: int
    """Rows that were compared, in all tables."""
    differing: dict[str, int]
    """How many rows differ, by table; tables that are equal are not in it."""
    differences: tuple[Difference, ...]
    """Some of them, by table and key."""
    outside: int = 0
    """Customers some of whose rows were not compared, for a canary does not reach them."""
    held: str = ""
    """Why the product does not get what the marts have, after a rollback."""
    lost: tuple[str, ...] = ()
    """What tables are without: as in `Status.unguarded`, and columns, without which no row of a table is compared."""


def migrate(product_url: str) -> None:
    """Makes the schemas and roles, as a user who may: what the first publish does by itself where it may.

    The user that publishes from then on needs the role `app_usage_publisher` and nothing else.
    """
    with as_publish_error(), Product(product_url) as product:
        product.claim()
        prepare(product)


def status(product_url: str) -> Status:
    """Reads the ledger; works while a publish runs. Raises PublishError where the database does not answer."""
    with as_publish_error(), Product(product_url) as product:
        if not product.value(f"select to_regclass('{LEDGER}.migrations') is not null"):
            return Status(None, None, None, (), {})
        product.become_owner()
        current = product.execute(
            f"select generation_id, published_at from {SCHEMA}.generations where status = 'published' "
            "order by generation_id desc limit 1"
        )
        rows = product.execute(
            f"select t.table_name, t.generation_id, g.published_at, t.shards, t.hash = '{tables.NO_MART}', "
            f"(select coalesce(sum(o.rows), 0)::bigint from {LEDGER}.orgs as o where o.table_name = t.table_name), "
            f"(select count(*) from {SCHEMA}.app_usage_rejected as r where r.table_name = t.table_name) "
            f"from {LEDGER}.tables as t left join {SCHEMA}.generations as g using (generation_id) "
            f"where to_regclass(format('%I.%I', '{SCHEMA}', t.table_name)) is not null order by 1"
        )
        reasons = product.execute(
            f"select table_name, reason from {SCHEMA}.app_usage_rejected group by 1, 2 order by 1, count(*) desc, 2"
        )
        held = product.execute(f"select reason from {LEDGER}.hold")
        fresh = tables.columns_of(product, SCHEMA, "data_freshness")
        complete = (
            product.execute(
                "select org_id, case when count(*) = count(complete_through) then min(complete_through) end "
                f"from {SCHEMA}.data_freshness group by 1 order by 1"
            )
            if {"org_id", "complete_through"} <= fresh.keys()
            else []
        )
        return Status(
            generation_id=current[0][0] if current else None,
            published_at=current[0][1] if current else None,
            held=held[0][0] if held else None,
            tables=tuple(
                TableStatus(
                    name=name,
                    generation_id=generation,
                    changed_at=changed_at,
                    rows=count,
                    rejected=rejected,
                    reasons=tuple(reason for table, reason in reasons if table == name)[:REASONS_SHOWN],
                    percent=shards * 100 // SHARDS,
                    is_left=is_left,
                )
                for name, generation, changed_at, shards, is_left, count, rejected in rows
            ),
            complete_through=dict(complete),
            unguarded=tuple(guards.told(guards.missing(product))),
        )


def verify(manifest: Path, warehouse: Destination[Any, Any], product_url: str, pipelines_dir: Path) -> Verified:
    """Reads every published row and every row of the marts, and compares them; changes nothing.

    What was built since the last publish differs, too. Orgs outside a canary are counted and not compared.
    """
    compared, differing, differences, outside = 0, {}, [], set()
    marts = read_marts(manifest)
    with as_publish_error(), Product(product_url) as product:
        product.claim()
        prepare(product)
        product.become_owner()
        held = product.execute(f"select reason from {LEDGER}.hold")
        lost = guards.told(guards.missing(product))
        with open_comparison(warehouse, marts, pipelines_dir / "published.duckdb") as comparison:
            for mart in marts:
                now = comparison.scan(mart).orgs
                actual = tables.columns_of(product, SCHEMA, mart.name)
                if not actual:
                    differing[mart.name] = sum(sums.rows for sums in now.values())
                    continue
                if gone := [column.name for column in mart.content if column.name not in actual]:
                    lost.append(f"{SCHEMA}.{mart.name} has no column {', '.join(gone)}")
                    continue
                shards = product.execute(f"select shards from {LEDGER}.tables where table_name = $1", mart.name)
                inside = shards[0][0] if shards else SHARDS
                with product.arrow(f"select {names(mart.content)} from {tables.live(mart)}") as stored:
                    was = comparison.sums(mart, stored)
                beyond = {org for org in was | now if inside < SHARDS and shard_of(org) >= inside}
                compared += sum(sums.rows for org, sums in was.items() if org not in beyond)
                outside |= beyond
                # they are to be as they are: their rows lie in the same table
                now = {org: sums for org, sums in now.items() if org not in beyond}
                now |= {org: was[org] for org in was.keys() & beyond}
                if was == now:
                    continue
                comparison.refresh_copy(mart, product, was, now)
                changes = comparison.compare(mart, was, now)
                differing[mart.name] = sum(c.new + c.changed + c.gone for c in changes.values())
                differences += [
                    Difference(mart.name, key, kind) for key, kind in comparison.differences(mart, KEYS_NAMED)
                ]
    return Verified(compared, differing, tuple(differences), len(outside), held[0][0] if held else "", tuple(lost))


def rollback(product_url: str, generation_id: str | None = None) -> str:
    """Gives the product the tables of an earlier generation (None: the one before), in one transaction.

    Returns its id. Until somebody publishes with `accept`, nothing else is published: the next run would only bring
    back what was taken away. Raises PublishError where the generation is not kept any more.
    """
    with as_publish_error(), Product(product_url) as product:
        product.claim()
        prepare(product)
        product.become_owner()
        newest = product.value(f"select coalesce(max(generation_id), '0') from {SCHEMA}.generations")
        reachable = product.execute(
            f"select generation_id from {SCHEMA}.generations where status = 'published' and generation_id >= $1 "
            "order by 1 desc offset 1",
            oldest_way_back(newest),
        )
        ids = [row[0] for row in reachable]
        target = generation_id or (ids[0] if ids else "")
        if target not in ids:
            if not ids:
                raise PublishError("there is no earlier generation to go back to")
            raise PublishError(
                f"there is no way back to generation {target}, only to {', '.join(ids)}: "
                f"the last {GENERATIONS_KEPT} are kept"
            )
        give_way(lambda: _undo(product, target))
    return target


def _undo(product: Product, target: str) -> None:
    """Of each row that a later generation wrote, the first one to do so kept what the target showed."""
    with product.transaction():
        product.execute("set local app_usage.publisher = 'on'")
        changed = product.execute(
            f"select distinct b.table_name, t.created_in from {LEDGER}.orgs_before as b "
            f"join {LEDGER}.tables as t using (table_name) where b.generation_id > $1 "
            # what no model published any more may have been dropped since
            f"and to_regclass(format('%I.%I', '{SCHEMA}', t.table_name)) is not null order by 1",
            target,
        )
        for table, created_in in changed:
            live = f"{SCHEMA}.{quoted(table)}"
            if created_in > target:
                # The target had no such table. An empty one keeps the product's views on it alive.
                product.execute(f"delete from {live}")
                product.execute(f"delete from {LEDGER}.{quoted('before_' + table)}")
            else:
                _undo_rows(product, table, target)
            product.execute(
                f"delete from {LEDGER}.orgs as o using {LEDGER}.orgs_before as b "
                "where b.table_name = $1 and b.generation_id > $2 and o.table_name = $1 and o.org_id = b.org_id",
                table,
                target,
            )
            product.execute(
                f"insert into {LEDGER}.orgs select * from (select distinct on (org_id) table_name, org_id, rows, "
                f"content_hash from {LEDGER}.orgs_before where table_name = $1 and generation_id > $2 "
                "order by org_id, generation_id) as b where rows is not null",
                table,
                target,
            )
            counted = dict(product.execute(f"select org_id, count(*) from {live} group by 1"))
            noted = dict(product.execute(f"select org_id, rows from {LEDGER}.orgs where table_name = $1", table))
            if counted != noted:
                raise PublishError(f"{live} did not come out as it was in generation {target}: nothing was changed")
            product.execute(f"update {LEDGER}.tables set generation_id = $2 where table_name = $1", table, target)
        product.execute(f"delete from {LEDGER}.orgs_before where generation_id > $1", target)
        product.execute(
            f"update {SCHEMA}.generations set status = 'rolled_back' where generation_id > $1 and status = 'published'",
            target,
        )
        product.execute(f"delete from {LEDGER}.hold")
        product.execute(
            f"insert into {LEDGER}.hold values ($1)",
            f"the product was rolled back to generation {target}, and nothing newer is published",
        )


def _undo_rows(product: Product, table: str, target: str) -> None:
    live, before = f"{SCHEMA}.{quoted(table)}", f"{LEDGER}.{quoted('before_' + table)}"
    key = tables.key_of(product, table)
    if not key:
        raise PublishError(f"{SCHEMA}.{table} lost its primary key: nothing was changed; publish, then roll back")
    columns = list(tables.columns_of(product, SCHEMA, table))
    first = (
        f"(select distinct on ({names(key)}) * from {before} where _generation_id > {literal(target)} "
        f"order by {names(key)}, _generation_id)"
    )
    others = [name for name in columns if name not in key]
    updates = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in others)
    product.execute(f"delete from {live} as t using {first} as b where not b._existed and {matches(key, 't', 'b')}")
    product.execute(
        f"insert into {live} ({names(columns)}) select {names(columns, 'b')} from {first} as b where b._existed "
        f"on conflict ({names(key)}) do {f'update set {updates}' if updates else 'nothing'}"
    )
    product.execute(f"delete from {before} where _generation_id > $1", target)


def rows_of(product_url: str, org: str) -> dict[str, int]:
    """How many rows of a customer the publisher's schemas hold, by table: shown, overwritten, rejected."""
    with as_publish_error(), Product(product_url) as product:
        if not product.value(f"select to_regclass('{LEDGER}.migrations') is not null"):
            return {}
        product.become_owner()
        sql = "select count(*) from {} where org_id = $1"
        counts = {table: product.value(sql.format(table), org) for table in _tables(product)}
        return {table: count for table, count in counts.items() if count}


def forget(product_url: str, org: str) -> None:
    """Deletes a customer's rows from all of the publisher's tables at once; no rollback brings them back."""
    with as_publish_error(), Product(product_url) as product:
        product.claim()
        prepare(product)
        product.become_owner()

        def delete() -> None:
            with product.transaction():
                product.execute("set local app_usage.publisher = 'on'")
                for table in _tables(product):
                    product.execute(f"delete from {table} where org_id = $1", org)

        give_way(delete)


def _tables(product: Product) -> list[str]:
    """The tables that have customers, as SQL names them."""
    return [
        table
        for (table,) in product.execute(
            "select format('%I.%I', n.nspname, c.relname) from pg_class as c join pg_namespace as n on n.oid ="
            " c.relnamespace join pg_attribute as a on a.attrelid = c.oid where c.relkind = 'r' and a.attname ="
            f" 'org_id' and n.nspname in ('{SCHEMA}', '{STAGING}', '{LEDGER}') order by 1"
        )
    ]
