"""Rows that PostgreSQL refuses for a reason that no rule of ours foresees: a constraint or a trigger of the product,
the encoding of its database, a key too long for an index. They are found by halving what was refused."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_manager import Error as DatabaseError

from ingestion.publish import tables
from ingestion.publish.comparison import Comparison
from ingestion.publish.marts import Mart, PublishError
from ingestion.publish.product import Product, give_way, literal, names
from ingestion.publish.transaction import Plan, Stamp, delete_gone, upsert

# data_exception, integrity_constraint_violation, with_check_option_violation, program_limit_exceeded, raise_exception:
# what PostgreSQL says of a row, and not of itself.
OF_A_ROW = ("22", "23", "44", "54", "P0")
# More are no odd rows, but a mistake in the model or in the constraint, and each costs a dozen statements.
MOST = 1000
# A page of 8 kB has fewer rows than this, so that page * ROWS_OF_A_PAGE + row is a place in a table.
ROWS_OF_A_PAGE = 512


def set_aside(
    error: Exception, plans: Sequence[Plan], product: Product, comparison: Comparison, stamp: Stamp, folder: Path
) -> bool:
    """Finds the rows because of which a publish failed, and sets them aside with PostgreSQL's reason.

    `folder`: the Parquet files that were to be loaded. Nothing of what is tried here stays. Returns False where the
    error is not one of rows; raises PublishError where they are more than MOST.
    """
    if isinstance(error, DatabaseError) and not _is_of_a_row(error):
        return False
    found = False
    for plan in plans:
        if not plan.is_changed:
            continue
        file = folder / f"{plan.mart.name}.parquet"
        if isinstance(error, DatabaseError):
            rows = give_way(partial(_unwritable, plan, product, stamp))
        else:
            rows = _unloadable(plan.mart, product, file)
        if rows.num_rows:
            comparison.set_aside(plan.mart, rows)
            found = True
    return found


def _unloadable(mart: Mart, product: Product, file: Path) -> pa.Table:
    """Key and reason of the rows of a file that do not get into the staging table."""
    rows = pq.read_table(file)
    with product.rehearsal():
        places = _refused(product, mart, rows.num_rows, lambda start, stop: product.ingest(mart.name, rows[start:stop]))
    return (
        rows.select(mart.key)
        .take(pa.array(places, pa.int64()))
        .append_column("_reason", pa.array(places.values(), pa.string()))
    )


def _unwritable(plan: Plan, product: Product, stamp: Stamp) -> pa.Table:
    """Key and reason of the staged rows that do not get into the table."""
    mart, staged = plan.mart, tables.staged(plan.mart)
    with product.rehearsal():
        if plan.is_new:
            product.execute(f"create temp table rehearsed (like {staged}) on commit drop")
            tables.add_indexes(product, mart, "rehearsed")
        else:
            delete_gone(plan, product, stamp)

        def write(start: int, stop: int) -> None:
            where = f"s.ctid >= {_place(start)} and s.ctid < {_place(stop)}"
            if plan.is_new:
                product.execute(f"insert into rehearsed select s.* from {staged} as s where {where}")
            else:
                product.table(upsert(mart, stamp, where))

        pages = product.value(f"select pg_relation_size('{staged}') / current_setting('block_size')::int")
        places = _refused(product, mart, pages * ROWS_OF_A_PAGE, write)
    reasons = ", ".join(f"({_place(place)}, {literal(reason)})" for place, reason in places.items())
    if not reasons:
        return pa.table({})
    return product.table(
        f"select {names(mart.key, 's')}, r.reason as _reason from {staged} as s "
        f"join (values {reasons}) as r(place, reason) on s.ctid = r.place"
    )


def _refused(product: Product, mart: Mart, stop: int, write: Callable[[int, int], None]) -> dict[int, str]:
    refused = dict(islice(_halved(product, 0, stop, write), MOST + 1))
    if len(refused) > MOST:
        raise PublishError(
            f"PostgreSQL refuses more than {MOST:,} rows of {mart.name}, nothing was published: "
            f"{next(iter(refused.values()))}"
        )
    return refused


def _halved(product: Product, start: int, stop: int, write: Callable[[int, int], None]) -> Iterator[tuple[int, str]]:
    """Writes what can be written, and yields the places of the rows that cannot, each with the reason."""
    try:
        with product.savepoint():
            return write(start, stop)
    except DatabaseError as error:
        if not _is_of_a_row(error):
            raise
        if stop - start == 1:
            said = re.search(r"ERROR: +(.+)", str(error))
            yield start, said[1] if said else str(error)
            return None
    middle = (start + stop) // 2
    yield from _halved(product, start, middle, write)
    yield from _halved(product, middle, stop, write)


def _is_of_a_row(error: DatabaseError) -> bool:
    return (error.sqlstate or "")[:2] in OF_A_ROW


def _place(number: int) -> str:
    return f"'({number // ROWS_OF_A_PAGE},{number % ROWS_OF_A_PAGE})'::tid"
