"""The published tables and those beside them: how they are made, and how they follow their marts."""

import re
from collections.abc import Container, Iterable, Sequence
from hashlib import sha256

from adbc_driver_manager import Error as DatabaseError

from ingestion.publish.guards import guard
from ingestion.publish.marts import Column, Mart, PublishError
from ingestion.publish.product import (
    BUSY,
    LEDGER,
    SCHEMA,
    STAGING,
    TABLE_LOCK_TIMEOUT,
    Product,
    give_way,
    literal,
    names,
    quoted,
)
from ingestion.publish.views import View, taken_away, views_of

# An index that is made concurrently waits for old transactions without holding anybody up.
INDEX_TIMEOUT = "10s"
# The end of the name of a column of a wider type, until it takes the place of the other one.
WIDENED = "__widened"
# What the ledger says in the place of a table's hash when no mart is published into it any more.
NO_MART = "no mart"
# Percent. In what is left of a page a changed row finds its place beside the old one, and no index is written.
FILL = 90


def columns_of(product: Product, schema: str, table: str) -> dict[str, str]:
    """The columns of a table and their types; empty where there is no such table."""
    rows = product.execute(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_attribute as a "
        "where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum",
        f"{schema}.{quoted(table)}",
    )
    return {name: kind.replace("timestamp with time zone", "timestamptz") for name, kind in rows}


def key_of(product: Product, table: str) -> tuple[str, ...]:
    """The columns of a published table's primary key, in order."""
    rows = product.execute(
        "select a.attname::text from pg_index as i "
        "cross join unnest(i.indkey) with ordinality as k(attnum, position) "
        "join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum "
        "where i.indisprimary and i.indrelid = to_regclass($1) order by k.position",
        f"{SCHEMA}.{quoted(table)}",
    )
    return tuple(row[0] for row in rows)


def left_behind(product: Product, marts: Iterable[Mart]) -> list[str]:
    """The tables that none of the marts is published into any more: they stay as they are, and the ledger says so.

    Something may read them, so only the product drops them; then the ledger forgets them, too.
    """
    product.execute(
        f"update {LEDGER}.tables set hash = $2 where hash <> $2 and table_name <> all(string_to_array($1, ','))",
        ",".join(mart.name for mart in marts),
        NO_MART,
    )
    left = []
    for (table,) in product.execute(f"select table_name from {LEDGER}.tables where hash = $1 order by 1", NO_MART):
        if columns_of(product, SCHEMA, table):
            left.append(table)
            continue
        with product.transaction():
            product.execute(f"drop table if exists {LEDGER}.{quoted('before_' + table)}")
            for noted in (f"{LEDGER}.orgs_before", f"{LEDGER}.orgs", f"{LEDGER}.tables"):
                product.execute(f"delete from {noted} where table_name = $1", table)
            product.execute(f"delete from {SCHEMA}.app_usage_rejected where table_name = $1", table)
    return left


def live(mart: Mart) -> str:
    return f"{SCHEMA}.{quoted(mart.name)}"


def staged(mart: Mart) -> str:
    return f"{STAGING}.{quoted(mart.name)}"


def before(mart: Mart) -> str:
    """The table of the ledger that keeps what the last generations overwrote."""
    return f"{LEDGER}.{quoted('before_' + mart.name)}"


def count(product: Product, mart: Mart, orgs: Iterable[str] | None = None) -> dict[str, int]:
    """How many rows each of these orgs has in the published table, or every org: to choose takes a third longer."""
    chosen = "" if orgs is None else f"where org_id in ({', '.join(literal(org) for org in orgs)})"
    return dict(product.execute(f"select org_id, count(*) from {live(mart)} {chosen} group by 1"))


def create_live_table(product: Product, mart: Mart, generation_id: str, published_at: str) -> None:
    """Makes a new table in the staging schema: all of it but what is cheaper once the rows are in.

    The stamps are defaults, so that the rows need not carry them. Until it is shown PostgreSQL does not vacuum it by
    itself: of a large one that takes minutes, in which nobody could move it.
    """
    defaults = {"generation_id": generation_id, "published_at": published_at}
    columns = [
        f"{quoted(column.name)} {column.type}"
        + (" not null" if column.name in mart.key else "")
        + (f" default {literal(defaults[column.name])}" if column.name in defaults else "")
        for column in mart.columns
    ]
    product.execute(f"drop table if exists {staged(mart)}")
    product.execute(
        f"create table {staged(mart)} ({', '.join(columns)}) with (fillfactor = {FILL}, autovacuum_enabled = false)"
    )


def finish_live_table(product: Product, mart: Mart) -> None:
    """Key, indexes, comments, protection and grants of a new table whose rows are in."""
    table = staged(mart)
    add_indexes(product, mart, table)
    for column in mart.stamps:
        product.execute(f"alter table {table} alter column {quoted(column.name)} drop default")
    comment(product, STAGING, mart)
    guard(product, table)
    product.execute(f"analyze {table}")
    columns = ", ".join(f"{quoted(column.name)} {column.type}" for column in mart.columns)
    product.execute(f"drop table if exists {before(mart)}")
    product.execute(f"create table {before(mart)} (_generation_id text, _existed boolean, {columns})")
    product.execute(f"create index on {before(mart)} (_generation_id)")


def add_indexes(product: Product, mart: Mart, table: str) -> None:
    product.execute(f"alter table {table} add primary key ({names(mart.key)})")
    for index in mart.indexes:
        product.execute(f"create index {quoted(index_name(mart, index))} on {table} ({names(index)})")


def create_delta_table(product: Product, mart: Mart) -> None:
    """Makes the staging table of the rows to write and the keys to delete. A crash may empty it."""
    columns = ", ".join(f"{quoted(column.name)} {column.type}" for column in mart.content)
    product.execute(f"drop table if exists {staged(mart)}")
    product.execute(f"create unlogged table {staged(mart)} ({columns}, _is_gone boolean not null)")


def follow_columns(product: Product, mart: Mart) -> list[str]:
    """Gives a published table the columns and wider types that its mart has got since.

    The table is locked for a moment, in which its catalogue changes and no row. Raises PublishError for what would
    break a reader: a column that is gone and not declared as such, a type that holds less, another key. Returns what
    nobody had declared, and was put right: a primary key that somebody dropped.
    """
    actual = columns_of(product, SCHEMA, mart.name)
    if not actual:
        return []
    key = key_of(product, mart.name)
    if not key:
        _give_key_back(product, mart, actual)
    elif key != mart.key:
        raise PublishError(
            f"{live(mart)} has the key {list(key)}, its mart the key {list(mart.key)}: publish it under another name"
        )
    declared = {column.name: column for column in mart.columns}
    half_done = {name for name in actual if name.endswith(WIDENED)}
    if lost := actual.keys() - declared.keys() - half_done - set(mart.drop):
        raise PublishError(
            f"{live(mart)} has columns that its mart has lost: {', '.join(sorted(lost))}. The product may read "
            "them: bring them back, or declare them under meta.publish.drop"
        )
    other = [column for column in mart.columns if actual.get(column.name, column.type) != column.type]
    for column in other:
        if column.name in mart.key or not is_wider(actual[column.name], column.type):
            raise PublishError(
                f"{live(mart)}: {column.name} is {actual[column.name]} and would be {column.type}, which may hold "
                "less or break the product: publish it under another name"
            )
    unwanted = _unwanted(mart, actual)
    if readers := views_of(product, live(mart), unwanted):
        raise PublishError(
            f"{live(mart)}: {_listed(readers)} of the product reads {', '.join(sorted(unwanted))}, which is declared "
            "under meta.publish.drop: change the view first, then publish"
        )
    views = views_of(product, live(mart), [column.name for column in other])
    if lost_views := [view for view in views if not view.is_restorable]:
        raise PublishError(
            f"{live(mart)}: {_listed(lost_views)} of the product reads {names(other)}, whose type becomes wider, and "
            "cannot be made again by the user of PRODUCT_DB_URL: drop it, publish, and make it again, or publish once "
            "as its owner"
        )
    if lost_things := _hanging_on(product, mart, [column.name for column in other]):
        raise PublishError(
            f"{live(mart)}: {', '.join(lost_things)} hang on {names(other)}, whose type becomes wider, and would go "
            "with the narrow one: drop, publish, and make them again"
        )
    # A column that somebody dropped from the table is still in the one beside it.
    changes = [f"drop column if exists {quoted(name)}" for name in half_done]
    added = declared.keys() - actual.keys()
    changes += [f"add column if not exists {quoted(name)} {declared[name].type}" for name in added]
    changes += [f"add column {quoted(column.name + WIDENED)} {column.type}" for column in other]
    if changes:
        give_way(lambda: _alter(product, mart, changes))
    if other:
        _widen(product, mart, other, views)
    described = product.execute(
        "select a.attname::text, col_description(a.attrelid, a.attnum) from pg_attribute as a "
        "where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped "
        "union all select '', obj_description(to_regclass($1), 'pg_class')",
        live(mart),
    )
    wanted = {column.name: column.description for column in mart.columns} | {"": mart.description}
    if {name: text or "" for name, text in described} != wanted:
        give_way(lambda: _describe(product, mart))
    return [] if key else [f"{SCHEMA}.{mart.name} lost its primary key"]


def drop_columns(product: Product, mart: Mart) -> None:
    """Drops what the mart declares under meta.publish.drop: last of all, when nothing can stop the publish any more.

    Where the product's own work is in the way, the next publish tries again.
    """
    if not mart.drop or not (unwanted := _unwanted(mart, columns_of(product, SCHEMA, mart.name))):
        return
    changes = ", ".join(f"drop column if exists {quoted(name)}" for name in unwanted)
    try:
        with product.transaction(TABLE_LOCK_TIMEOUT):
            for table in (live(mart), before(mart)):
                product.execute(f"alter table {table} {changes}")
    except DatabaseError as error:
        if error.sqlstate not in BUSY:
            raise


def _unwanted(mart: Mart, actual: Iterable[str]) -> set[str]:
    return set(actual) & set(mart.drop) - {column.name for column in mart.columns}


def _give_key_back(product: Product, mart: Mart, actual: Container[str]) -> None:
    """Raises PublishError where the rows, or what is left of the columns, can have no key."""
    lost = f"{SCHEMA}.{mart.name} lost its primary key"
    anew = f"`drop table {SCHEMA}.{mart.name}` and publish: that makes it anew"
    if gone := [column for column in mart.key if column not in actual]:
        raise PublishError(f"{lost}, for somebody dropped {', '.join(gone)}: {anew}")
    index = index_name(mart, ("primary", "key"))
    try:
        give_way(lambda: _make_index(product, mart, index, mart.key, "unique"))
        give_way(lambda: _make_key(product, mart, index))
    except DatabaseError as error:
        product.execute(f"drop index concurrently if exists {SCHEMA}.{quoted(index)}")
        if not (error.sqlstate or "").startswith("23"):
            raise
        raise PublishError(f"{lost}, and has got rows since that no key can hold: {error}. {anew}") from error


def _make_key(product: Product, mart: Mart, index: str) -> None:
    with product.transaction(TABLE_LOCK_TIMEOUT):
        product.execute(f"alter table {live(mart)} add primary key using index {quoted(index)}")


def _hanging_on(product: Product, mart: Mart, columns: Sequence[str]) -> list[str]:
    """What the product has put on some columns beside views: indexes, constraints, triggers, statistics."""
    rows = product.execute(
        "select distinct pg_describe_object(d.classid, d.objid, 0) from pg_depend as d "
        "join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid "
        "where d.refclassid = 'pg_class'::regclass and d.refobjid = to_regclass($1) "
        "and a.attname = any(string_to_array($2, ',')) and d.classid <> 'pg_rewrite'::regclass "
        "and d.objid <> all(array(select oid from pg_class where relname = any(string_to_array($3, ',')))) order by 1",
        live(mart),
        ",".join(columns),
        ",".join(index_name(mart, index) for index in mart.indexes),
    )
    return [f"the {row[0]}" for row in rows]


def _describe(product: Product, mart: Mart) -> None:
    with product.transaction(TABLE_LOCK_TIMEOUT):
        comment(product, SCHEMA, mart)


def _alter(product: Product, mart: Mart, changes: Sequence[str]) -> None:
    with product.transaction(TABLE_LOCK_TIMEOUT):
        product.execute(f"alter table {live(mart)} {', '.join(changes)}")
        ours = [change for change in changes if WIDENED not in change]
        if ours:
            product.execute(f"alter table {before(mart)} {', '.join(ours)}")
            # The ledger may know the values of a column that was gone and is empty now.
            product.execute(f"update {LEDGER}.tables set is_touched = true where table_name = $1", mart.name)


def _widen(product: Product, mart: Mart, columns: Sequence[Column], views: list[View]) -> None:
    """Fills columns of the new types while the table is read, and puts them in the place of the old ones at once.

    PostgreSQL itself would rewrite the table with every reader locked out.
    """
    with product.transaction():
        product.execute("set local app_usage.publisher = 'on'")
        values = ", ".join(f"{quoted(c.name + WIDENED)} = {quoted(c.name)}::{c.type}" for c in columns)
        product.execute(f"update {live(mart)} set {values}")

    grants = product.execute(
        "select format('grant %s (%I) on %s to %s%s', g.privilege_type, a.attname, $1::text, "
        "case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end, "
        "case when g.is_grantable then ' with grant option' else '' end) "
        "from pg_attribute as a cross join aclexplode(a.attacl) as g "
        "where a.attrelid = to_regclass($1) and a.attname = any(string_to_array($2, ','))",
        live(mart),
        ",".join(column.name for column in columns),
    )

    def swap() -> None:
        with product.transaction(TABLE_LOCK_TIMEOUT), taken_away(product, views):
            for column in columns:
                name, wide = quoted(column.name), quoted(column.name + WIDENED)
                product.execute(f"alter table {live(mart)} drop column {name}")
                product.execute(f"alter table {live(mart)} rename column {wide} to {name}")
                product.execute(f"alter table {before(mart)} alter column {name} type {column.type}")
            for (grant,) in grants:
                product.execute(grant)

    give_way(swap)


def _listed(views: Iterable[View]) -> str:
    return ", ".join(f"the view {view.name}" for view in views)


def is_wider(old: str, new: str) -> bool:
    """Whether every value of the old type is one of the new."""
    if (old, new) in {("bigint", "double precision"), ("date", "timestamptz")}:
        return True
    digits = re.fullmatch(r"numeric\((\d+),(\d+)\)", new)
    if not digits:
        return False
    precision, scale = int(digits[1]), int(digits[2])
    if old == "bigint":
        return precision - scale >= 19
    narrow = re.fullmatch(r"numeric\((\d+),(\d+)\)", old)
    return narrow is not None and scale >= int(narrow[2]) and precision - scale >= int(narrow[1]) - int(narrow[2])


def make_indexes(product: Product, mart: Mart) -> None:
    """Makes the indexes that the mart declares and the table has not, while it is read and written.

    Such an index waits for every transaction that is older; where one takes too long, the next publish tries again.
    """
    for index in mart.indexes:
        name = index_name(mart, index)
        valid = product.execute(
            "select indisvalid from pg_index where indexrelid = to_regclass($1)", f"{SCHEMA}.{quoted(name)}"
        )
        if valid == [(True,)]:
            continue
        try:
            _make_index(product, mart, name, index)
        except DatabaseError as error:
            if error.sqlstate not in BUSY:
                raise


def _make_index(product: Product, mart: Mart, name: str, columns: Sequence[str], kind: str = "") -> None:
    product.execute(f"set lock_timeout = '{INDEX_TIMEOUT}'")
    try:
        product.execute(f"drop index concurrently if exists {SCHEMA}.{quoted(name)}")
        product.execute(f"create {kind} index concurrently {quoted(name)} on {live(mart)} ({names(columns)})")
    finally:
        product.execute("reset lock_timeout")


def comment(product: Product, schema: str, mart: Mart) -> None:
    table = f"{schema}.{quoted(mart.name)}"
    product.execute(f"comment on table {table} is {literal(mart.description)}")
    for column in mart.columns:
        product.execute(f"comment on column {table}.{quoted(column.name)} is {literal(column.description)}")


def index_name(mart: Mart, columns: Sequence[str]) -> str:
    name = "_".join((mart.name, *columns, "idx"))
    return name if len(name) <= 63 else f"{name[:54]}_{sha256(name.encode()).hexdigest()[:8]}"
