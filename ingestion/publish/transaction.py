"""The one transaction in which a generation becomes what the product shows, and what is written down with it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ingestion.publish import tables
from ingestion.publish.comparison import NOTHING, Changes, Comparison, Scan, Sums, hash_of
from ingestion.publish.marts import Mart, PublishError
from ingestion.publish.product import LEDGER, SCHEMA, DriftError, Product, literal, matches, names, quoted

# What these last generations overwrote is kept, for the way back.
GENERATIONS_KEPT = 10


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

    @property
    def rows(self) -> int:
        """Rows of the table after this publish."""
        return sum(sums.rows for sums in self.will_be.values())


@dataclass(frozen=True)
class Stamp:
    """What every row and note of a generation is marked with. Instants are ISO 8601, UTC."""

    generation_id: str
    started_at: str
    published_at: str
    dbt_invocation_id: str


def apply(
    plans: Sequence[Plan], product: Product, comparison: Comparison, stamp: Stamp, step: Callable[[str], None]
) -> None:
    """The rows of all tables, the proof that they are right, and the generation; or nothing of it.

    Raises DriftError where a table is not what the ledger says, PublishError where it does not store what it is sent.
    """
    step("begin")
    with product.transaction():
        product.execute("set local app_usage.publisher = 'on'")
        # The changed rows are few and lie anywhere: by the key's index, not by a scan of the table for each.
        product.execute("set local random_page_cost = 1.1")
        for plan in plans:
            _refuse_foreign_write(plan.mart, product)
        for plan in plans:
            step(f"write {plan.mart.name}")
            if plan.is_new:
                product.execute(f"alter table {tables.staged(plan.mart)} reset (autovacuum_enabled)")
                product.execute(f"alter table {tables.staged(plan.mart)} set schema {SCHEMA}")
            elif plan.orgs:
                delete_gone(plan, product, stamp)
                stored = comparison.sums(plan.mart, product.table(upsert(plan.mart, stamp)))
                refuse_other_rows(plan.mart, comparison.expected(plan.mart), stored)
                _refuse_drift(plan, product, stamp)
        step("prove")
        for plan in plans:
            # A trigger of the product's own may have written to one of the tables meanwhile.
            _refuse_foreign_write(plan.mart, product)
        step("note")
        note(plans, product, comparison, stamp)
        product.execute(
            f"insert into {SCHEMA}.generations values ($1, $2::timestamptz, $3::timestamptz, 'published', $4, "
            "$5, $6, $7)",
            stamp.generation_id,
            stamp.started_at,
            stamp.published_at,
            stamp.dbt_invocation_id,
            sum(plan.upserted for plan in plans),
            sum(plan.deleted for plan in plans),
            _content_hash(plans),
        )
        product.execute(f"delete from {LEDGER}.hold")
        _forget(plans, product, stamp.generation_id)
        step("commit")
    step("committed")


def _refuse_foreign_write(mart: Mart, product: Product) -> None:
    """Raises DriftError where somebody wrote; who has not committed yet holds the ledger's row, and is waited for."""
    if product.execute(f"select 1 from {LEDGER}.tables where table_name = $1 and is_touched", mart.name):
        raise DriftError(f"somebody wrote to {tables.live(mart)} while it was published")


def delete_gone(plan: Plan, product: Product, stamp: Stamp) -> None:
    """Deletes the vanished rows, and keeps them for the way back."""
    if not plan.deleted:
        return
    mart = plan.mart
    columns = names(mart.columns)
    product.execute(
        f"with gone as (delete from {tables.live(mart)} as t using {tables.staged(mart)} as s "
        f"where s._is_gone and {matches(mart.key, 't', 's')} returning t.*) "
        f"insert into {tables.before(mart)} (_generation_id, _existed, {columns}) "
        f"select {literal(stamp.generation_id)}, true, {columns} from gone"
    )


def upsert(mart: Mart, stamp: Stamp, where: str = "true") -> str:
    """The statement that writes the new and the changed rows, keeps what they overwrite, and returns what is stored.

    All three of a row before the next row: its page is read once. `where` chooses among the staged rows `s`.
    """
    live = tables.live(mart)
    others = [column.name for column in mart.columns if column.name not in mart.key]
    stamps = {"generation_id": literal(stamp.generation_id), "published_at": literal(stamp.published_at)}
    was = [f"_was_{number}" for number in range(len(others))]
    kept = "".join(f", t.{quoted(name)} as {before}" for name, before in zip(others, was, strict=True))
    updates = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in others)
    return (
        f"with changed as (select s.*, t.org_id is not null as _existed{kept} from {tables.staged(mart)} as s "
        f"left join {live} as t on {matches(mart.key, 't', 's')} where not s._is_gone and {where}), "
        f"kept as (insert into {tables.before(mart)} (_generation_id, _existed, {names([*mart.key, *others])}) "
        f"select {literal(stamp.generation_id)}, _existed, {names([*mart.key, *was])} from changed) "
        f"insert into {live} as t ({names([*mart.key, *others])}) "
        f"select {', '.join([names(mart.key), *(stamps.get(name, quoted(name)) for name in others)])} from changed "
        f"on conflict ({names(mart.key)}) do {f'update set {updates}' if updates else 'nothing'} "
        f"returning {names(mart.content, 't')}"
    )


def refuse_other_rows(mart: Mart, expected: Mapping[str, Sums], stored: Mapping[str, Sums]) -> None:
    """Raises PublishError where the rows that a table stores are not those that it was sent."""
    if expected != stored:
        wrong = sorted(org for org in {*expected, *stored} if expected.get(org) != stored.get(org))
        raise PublishError(
            f"the rows of {mart.name} that the product stored are not those that were sent, of {_some(wrong)}: "
            "nothing was published. A trigger on the table may change rows; `app-usage verify` compares all"
        )


def _refuse_drift(plan: Plan, product: Product, stamp: Stamp) -> None:
    """Raises DriftError where other rows were new, changed or gone than the comparison found."""
    found = product.execute(
        "select count(*) filter (where not _existed), count(*) filter (where _existed) "
        f"from {tables.before(plan.mart)} where _generation_id = $1",
        stamp.generation_id,
    )
    changes = plan.changes.values()
    if found != [(sum(c.new for c in changes), sum(c.changed + c.gone for c in changes))]:
        raise DriftError(f"{tables.live(plan.mart)} is not what was published")


def refuse_other_counts(plan: Plan, counted: Mapping[str, int]) -> None:
    """Raises DriftError where the changed orgs have more or fewer rows in the product than the ledger says."""
    wrong = [org for org in sorted(plan.orgs) if counted.get(org, 0) != plan.was.get(org, NOTHING).rows]
    if wrong:
        raise DriftError(f"{tables.live(plan.mart)} has other rows of {_some(wrong)} than were published")


def _some(orgs: Sequence[str]) -> str:
    return ", ".join(orgs[:5]) + (f" and {len(orgs) - 5} more orgs" if len(orgs) > 5 else "")


def note(plans: Iterable[Plan], product: Product, comparison: Comparison, stamp: Stamp) -> None:
    """Writes the ledger, and the rows that PostgreSQL cannot hold."""
    for plan in plans:
        if plan.is_noted and not plan.is_changed:
            continue
        table = plan.mart.name
        if plan.is_changed:
            product.execute(
                f"insert into {LEDGER}.orgs_before select $1::text, $2::text, o.* from {_org_rows('$3')}",
                stamp.generation_id,
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
            stamp.generation_id,
            stamp.published_at,
            json.dumps(comparison.rejected(plan.mart) if plan.scan.rejected_rows else []),
        )
        product.execute(
            f"insert into {LEDGER}.tables as l values ($1, $2, $2, $3, false, $4, $5) on conflict (table_name) "
            "do update set generation_id = case when $6 then excluded.generation_id else l.generation_id end, "
            "created_in = case when $7 then excluded.generation_id else l.created_in end, hash = excluded.hash, "
            "shards = excluded.shards, rejected = excluded.rejected",
            table,
            stamp.generation_id,
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
