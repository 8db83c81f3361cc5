"""The product's side: one session of the publisher, the schemas and roles it needs, and the tables it makes.

app_usage           what the product reads: the published tables, `generations`, `app_usage_rejected`
app_usage_staging   what is on its way there: dlt loads into it, every publish empties it
app_usage_ledger    what is published, by table and org, and what was there before (for the way back)

app_usage_owner      owns the three schemas and all in them; nobody logs in as it
app_usage_publisher  may act as the owner: grant it to the user in PRODUCT_DB_URL
app_usage_reader     reads `app_usage`, of the org in the setting `app_usage.org_id` alone
"""

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pyarrow as pa
from adbc_driver_manager import Error as DatabaseError
from adbc_driver_postgresql import dbapi
from dlt.common.data_writers.escape import escape_postgres_identifier, escape_postgres_literal

from ingestion.publish.marts import Column, Mart, PublishError

SCHEMA, STAGING, LEDGER = "app_usage", "app_usage_staging", "app_usage_ledger"
OWNER, PUBLISHER, READER = "app_usage_owner", "app_usage_publisher", "app_usage_reader"
# Longer than the server needs to notice that a killed publisher is gone (client_connection_check_interval).
CLAIM_SECONDS = 5.0
# A lock that is not there by then makes the product's next query wait behind the publisher: give way instead.
LOCK_TIMEOUT = "500ms"
# An index that is made concurrently waits for old transactions without holding anybody up.
INDEX_TIMEOUT = "10s"
# Far above what two million changed rows take; a statement that runs on for longer is stuck.
STATEMENT_TIMEOUT = "15min"
# lock_not_available, deadlock_detected, serialization_failure: somebody else was first, and is soon done.
BUSY = {"55P03", "40P01", "40001"}

# A publish that meets a lock of the product gives way, and comes back after 1, 2, 4 and 8 seconds.
ATTEMPTS = 5
# The end of the name of a column of a wider type, until it takes the place of the other one.
WIDENED = "__widened"

quoted = escape_postgres_identifier
literal = escape_postgres_literal


def names(columns: Iterable[str | Column], of: str = "") -> str:
    """A list of quoted column names, each with the table alias `of` before it."""
    prefix = f"{of}." if of else ""
    return ", ".join(prefix + quoted(column if isinstance(column, str) else column.name) for column in columns)


def matches(key: Sequence[str], left: str, right: str) -> str:
    return " and ".join(f"{left}.{quoted(column)} = {right}.{quoted(column)}" for column in key)


class DriftError(PublishError):
    """A published table is not what the ledger says of it. The next publish believes its rows, not the ledger."""


class Product:
    """A session of the product database. Statements commit one by one, but inside `transaction()`."""

    def __init__(self, url: str) -> None:
        """`url`: any libpq URL of a database. Raises PublishError where it does not lead to one."""
        self._connection = _connect(url)
        name = f"app-usage publish, process {os.getpid()} on {socket.gethostname()}"
        self.execute("select set_config('application_name', $1, false)", name[:63])
        # So that a long statement of a publisher that was killed ends, too, and with it its locks.
        with suppress(DatabaseError):
            self.execute("set client_connection_check_interval = '1s'")
        self.execute("set timezone = 'UTC'")
        self.execute(f"set statement_timeout = '{STATEMENT_TIMEOUT}'")
        if self.value("select current_setting('server_version_num')::int") < 140000:
            raise PublishError("the product database is older than PostgreSQL 14: upgrade it")
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The server ends an open transaction and frees the session's locks by itself.
        with suppress(DatabaseError):
            self._connection.close()

    def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Runs one statement; `$1` and so on stand for the parameters. Returns the rows, if it has any."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def change(self, statement: str) -> int:
        """Runs one statement that writes rows, and returns how many. It takes no parameters."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.rowcount)

    def value(self, query: str, *parameters: Any) -> Any:
        return self.execute(query, *parameters)[0][0]

    @contextmanager
    def arrow(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """The rows of a query as a stream of Arrow batches."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            yield cursor.fetch_record_batch()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction that waits for no lock longer than LOCK_TIMEOUT."""
        self.execute("begin")
        try:
            self.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
            yield
        except BaseException:
            with suppress(DatabaseError):
                self.execute("rollback")
            raise
        self.execute("commit")

    def claim(self) -> None:
        """Makes this session the only one that publishes; it ends with the session, however that ends."""
        deadline = time.monotonic() + CLAIM_SECONDS
        while not self.value("select pg_try_advisory_lock(hashtext($1))", SCHEMA):
            if time.monotonic() > deadline:
                holders = self.execute(
                    "select coalesce(a.application_name, ''), l.pid from pg_locks as l "
                    "left join pg_stat_activity as a on a.pid = l.pid "
                    "where l.locktype = 'advisory' and l.granted and l.objsubid = 1 "
                    "and l.database = (select oid from pg_database where datname = current_database()) "
                    "and l.objid::bigint = hashtext($1)::bigint & 4294967295",
                    SCHEMA,
                )
                holder = ", ".join(f"{name} (backend {pid})" for name, pid in holders) or "somebody"
                raise PublishError(f"{holder} is publishing to this database: wait for it, then run again")
            time.sleep(0.1)

    def become_owner(self) -> None:
        """Gives up every right but the owner's, and makes what the publisher makes the owner's."""
        if self.value("select exists (select from pg_roles where rolname = $1)", OWNER):
            try:
                self.execute(f"set role {OWNER}")
            except DatabaseError as error:
                raise PublishError(
                    f"the user of PRODUCT_DB_URL may not publish: {error}. Grant it the role {PUBLISHER}"
                ) from error
            self.url = _with_role(self.url, OWNER)


def _connect(url: str) -> dbapi.Connection:
    try:
        return dbapi.connect(url, autocommit=True)
    except DatabaseError as error:
        raise PublishError(f"the product database does not answer: {error}. Check PRODUCT_DB_URL") from error


def _with_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -c role={role}".strip()
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def give_way(apply: Callable[[], None]) -> None:
    """Applies; where the product's own work is in the way, lets it pass and tries again."""
    for attempt in range(ATTEMPTS):
        try:
            return apply()
        except DatabaseError as error:
            if error.sqlstate not in BUSY:
                raise
            if attempt == ATTEMPTS - 1:
                raise PublishError(
                    f"the product's own transactions hold locks on the published tables: {error}. "
                    "Nothing was published; publish again"
                ) from error
        time.sleep(2**attempt)
    return None


# One statement each; all of them may run again at any time. The version is the number of the last change to
# them, so that a publish that finds it written need not run them.
MIGRATION_VERSION = 1
MIGRATION = (
    f"create table if not exists {SCHEMA}.generations ("
    "generation_id text primary key, started_at timestamptz not null, published_at timestamptz not null, "
    "status text not null, dbt_invocation_id text, rows_upserted bigint not null, "
    "rows_deleted bigint not null, content_hash text not null)",
    f"comment on table {SCHEMA}.generations is 'A row per publish that changed something. The newest one with "
    "status published is what the other tables show; rolled_back ones were taken back.'",
    f"create table if not exists {SCHEMA}.app_usage_rejected ("
    "org_id text not null, table_name text not null, row_key text not null, reason text not null, "
    "row_json text not null, generation_id text not null, rejected_at timestamptz not null, "
    "primary key (org_id, table_name, row_key))",
    f"comment on table {SCHEMA}.app_usage_rejected is 'Rows of the marts that PostgreSQL cannot hold. The "
    "published tables are without them; every publish tries them again.'",
    f"create table if not exists {LEDGER}.tables ("
    "table_name text primary key, generation_id text not null, created_in text not null, "
    "hash text not null, is_touched boolean not null, shards bigint not null, rejected text not null)",
    f"create table if not exists {LEDGER}.orgs ("
    "table_name text, org_id text, rows bigint not null, content_hash numeric not null, "
    "primary key (table_name, org_id))",
    f"create table if not exists {LEDGER}.orgs_before ("
    "generation_id text, table_name text, org_id text, rows bigint, content_hash numeric, "
    "primary key (generation_id, table_name, org_id))",
    f"create table if not exists {LEDGER}.hold (reason text not null)",
    f"""create or replace function {LEDGER}.note_foreign_write() returns trigger language plpgsql
        security definer set search_path = pg_catalog as $$
        begin
            if current_setting('app_usage.publisher', true) is distinct from 'on' then
                update {LEDGER}.tables set is_touched = true where table_name = tg_table_name;
            end if;
            return null;
        end $$""",
    f"create table if not exists {LEDGER}.migrations (version bigint primary key)",
)


def migrate(product: Product) -> None:
    """Makes schemas, roles and the publisher's own tables; does nothing where that was done.

    Where the user may not make roles, and nobody has made them, the user itself owns everything, and there is
    no reader role. Raises PublishError where it may not make schemas either.
    """
    if product.value(f"select to_regclass('{LEDGER}.migrations') is not null") and product.execute(
        f"select version from {LEDGER}.migrations where version = {MIGRATION_VERSION}"
    ):
        return
    try:
        with product.transaction():
            _migrate(product)
    except DatabaseError as error:
        if error.sqlstate != "42501":
            raise
        raise PublishError(
            f"the user of PRODUCT_DB_URL may not prepare the product database: {error}. Run `app-usage migrate` "
            f"as a user who may, once, and grant {PUBLISHER} to this one"
        ) from error


def _migrate(product: Product) -> None:
    missing = [
        role
        for role in (OWNER, PUBLISHER, READER)
        if not product.value("select exists (select from pg_roles where rolname = $1)", role)
    ]
    may_make_roles, is_superuser = product.execute(
        "select rolcreaterole or rolsuper, rolsuper from pg_roles where rolname = current_user"
    )[0]
    has_roles = may_make_roles or not missing
    if may_make_roles:
        for role in missing:
            product.execute(f"create role {role} nologin")
        product.execute(f"grant {OWNER} to {PUBLISHER}")
        if not is_superuser:
            product.execute(f"grant {OWNER}, {PUBLISHER} to current_user")
    for schema in (SCHEMA, STAGING, LEDGER):
        authorization = f" authorization {OWNER}" if has_roles else ""
        product.execute(f"create schema if not exists {schema}{authorization}")
    if has_roles:
        product.execute(f"grant usage on schema {SCHEMA} to {READER}")
        product.execute(f"set local role {OWNER}")
    for statement in MIGRATION:
        product.execute(statement)
    protect(product, f"{SCHEMA}.app_usage_rejected")
    if has_roles:
        product.execute(f"grant select on {SCHEMA}.generations, {SCHEMA}.app_usage_rejected to {READER}")
    product.execute(f"insert into {LEDGER}.migrations values ({MIGRATION_VERSION}) on conflict do nothing")


def protect(product: Product, table: str) -> None:
    """Row-level security: a session reads the org of its setting, and without the setting nothing.

    The owner is not subject to it, and so neither is the publisher.
    """
    product.execute(f"alter table {table} enable row level security")
    product.execute(f"drop policy if exists one_org on {table}")
    product.execute(
        f"create policy one_org on {table} for select "
        "using (org_id = nullif(current_setting('app_usage.org_id', true), ''))"
    )


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


def live(mart: Mart) -> str:
    return f"{SCHEMA}.{quoted(mart.name)}"


def staged(mart: Mart) -> str:
    return f"{STAGING}.{quoted(mart.name)}"


def before(mart: Mart) -> str:
    """The table of the ledger that keeps what the last generations overwrote."""
    return f"{LEDGER}.{quoted('before_' + mart.name)}"


def create_live_table(product: Product, mart: Mart, generation_id: str, published_at: str) -> None:
    """Makes a new table in the staging schema: all of it but what is cheaper once the rows are in.

    The stamps are defaults, so that the rows need not carry them.
    """
    defaults = {"generation_id": generation_id, "published_at": published_at}
    columns = [
        f"{quoted(column.name)} {column.type}"
        + (" not null" if column.name in mart.key else "")
        + (f" default {literal(defaults[column.name])}" if column.name in defaults else "")
        for column in mart.columns
    ]
    product.execute(f"drop table if exists {staged(mart)}")
    product.execute(f"create table {staged(mart)} ({', '.join(columns)})")


def finish_live_table(product: Product, mart: Mart) -> None:
    """Key, indexes, comments, protection and grants of a new table whose rows are in."""
    table = staged(mart)
    product.execute(f"alter table {table} add primary key ({names(mart.key)})")
    for column in mart.stamps:
        product.execute(f"alter table {table} alter column {quoted(column.name)} drop default")
    for index in mart.indexes:
        product.execute(f"create index {quoted(index_name(mart, index))} on {table} ({names(index)})")
    comment(product, STAGING, mart)
    protect(product, table)
    if product.value("select exists (select from pg_roles where rolname = $1)", READER):
        product.execute(f"grant select on {table} to {READER}")
    product.execute(
        f"create trigger note_foreign_write after insert or update or delete or truncate on {table} "
        f"for each statement execute function {LEDGER}.note_foreign_write()"
    )
    product.execute(f"analyze {table}")
    columns = ", ".join(f"{quoted(column.name)} {column.type}" for column in mart.columns)
    product.execute(f"drop table if exists {before(mart)}")
    product.execute(f"create table {before(mart)} (_generation_id text, _existed boolean, {columns})")
    product.execute(f"create index on {before(mart)} (_generation_id)")


def create_delta_table(product: Product, mart: Mart) -> None:
    """Makes the staging table of the rows to write and the keys to delete. A crash may empty it."""
    columns = ", ".join(f"{quoted(column.name)} {column.type}" for column in mart.content)
    product.execute(f"drop table if exists {staged(mart)}")
    product.execute(f"create unlogged table {staged(mart)} ({columns}, _is_gone boolean not null)")


def follow_columns(product: Product, mart: Mart) -> None:
    """Gives a published table the columns and wider types that its mart has got since, and drops what it declares.

    The table is locked for a moment, in which its catalogue changes and no row. Raises PublishError for what would
    break a reader: a column that is gone, a type that holds less, another key.
    """
    actual = columns_of(product, SCHEMA, mart.name)
    if not actual:
        return
    key = key_of(product, mart.name)
    if key != mart.key:
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
        if column.name in mart.key or not _is_wider(actual[column.name], column.type):
            raise PublishError(
                f"{live(mart)}: {column.name} is {actual[column.name]} and would be {column.type}, which may hold "
                "less or break the product: publish it under another name"
            )
    changes = [f"drop column {quoted(name)}" for name in half_done]
    changes += [f"drop column {quoted(name)}" for name in actual.keys() & set(mart.drop) - declared.keys()]
    changes += [f"add column {quoted(name)} {declared[name].type}" for name in declared.keys() - actual.keys()]
    changes += [f"add column {quoted(column.name + WIDENED)} {column.type}" for column in other]
    if changes:
        give_way(lambda: _alter(product, mart, changes))
    if other:
        _widen(product, mart, other)
    described = product.execute(
        "select a.attname::text, col_description(a.attrelid, a.attnum) from pg_attribute as a "
        "where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped "
        "union all select '', obj_description(to_regclass($1), 'pg_class')",
        live(mart),
    )
    wanted = {column.name: column.description for column in mart.columns} | {"": mart.description}
    if {name: text or "" for name, text in described} != wanted:
        give_way(lambda: _describe(product, mart))


def _describe(product: Product, mart: Mart) -> None:
    with product.transaction():
        comment(product, SCHEMA, mart)


def _alter(product: Product, mart: Mart, changes: Sequence[str]) -> None:
    with product.transaction():
        product.execute(f"alter table {live(mart)} {', '.join(changes)}")
        ours = [change for change in changes if WIDENED not in change]
        if ours:
            product.execute(f"alter table {before(mart)} {', '.join(ours)}")


def _widen(product: Product, mart: Mart, columns: Sequence[Column]) -> None:
    """Fills columns of the new types while the table is read, and puts them in the place of the old ones at once.

    PostgreSQL itself would rewrite the table with every reader locked out, and refuses where a view reads the column.
    """
    with product.transaction():
        product.execute("set local app_usage.publisher = 'on'")
        values = ", ".join(f"{quoted(c.name + WIDENED)} = {quoted(c.name)}::{c.type}" for c in columns)
        product.execute(f"update {live(mart)} set {values}")

    def swap() -> None:
        with product.transaction():
            for column in columns:
                name, wide = quoted(column.name), quoted(column.name + WIDENED)
                product.execute(f"alter table {live(mart)} drop column {name}")
                product.execute(f"alter table {live(mart)} rename column {wide} to {name}")
                product.execute(f"alter table {before(mart)} alter column {name} type {column.type}")

    try:
        give_way(swap)
    except DatabaseError as error:
        if error.sqlstate != "2BP01":
            raise
        raise PublishError(
            f"{live(mart)}: something of the product reads {names(columns)}, whose type becomes wider: {error}. "
            "Drop it, publish, and make it again"
        ) from error


def _is_wider(old: str, new: str) -> bool:
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
        product.execute(f"set lock_timeout = '{INDEX_TIMEOUT}'")
        try:
            product.execute(f"drop index concurrently if exists {SCHEMA}.{quoted(name)}")
            product.execute(f"create index concurrently {quoted(name)} on {live(mart)} ({names(index)})")
        except DatabaseError as error:
            if error.sqlstate not in BUSY:
                raise
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
