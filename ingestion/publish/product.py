"""The product's side: one session of the publisher, and the schemas and roles that it needs.

app_usage           what the product reads: the published tables, `generations`, `app_usage_rejected`
app_usage_staging   what is on its way there: dlt loads into it, every publish empties it
app_usage_ledger    what is published, by table and org, and what was there before (for the way back)

app_usage_owner      owns the three schemas and all in them; nobody logs in as it
app_usage_publisher  may act as the owner: grant it to the user in PRODUCT_DB_URL
app_usage_reader     reads `app_usage`, of the org in the setting `app_usage.org_id` alone
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pyarrow as pa
from adbc_driver_manager import Error as DatabaseError
from adbc_driver_postgresql import dbapi
from dlt.common.data_writers.escape import escape_postgres_identifier, escape_postgres_literal

from ingestion.publish.marts import Column, PublishError

SCHEMA, STAGING, LEDGER = "app_usage", "app_usage_staging", "app_usage_ledger"
OWNER, PUBLISHER, READER = "app_usage_owner", "app_usage_publisher", "app_usage_reader"
# Longer than the server needs to notice that a killed publisher is gone (client_connection_check_interval).
CLAIM_SECONDS = 5.0
# A lock that is not there by then makes the product's next query wait behind the publisher: give way instead.
LOCK_TIMEOUT = "500ms"
# A vacuum of PostgreSQL's own ends for who waits for it, after deadlock_timeout: a second, unless the server says so.
TABLE_LOCK_TIMEOUT = "1500ms"
# Far above what two million changed rows take; a statement that runs on for longer is stuck.
STATEMENT_TIMEOUT = "15min"
# lock_not_available, deadlock_detected, serialization_failure: somebody else was first, and is soon done.
BUSY = {"55P03", "40P01", "40001"}

# A publish that meets a lock of the product gives way, and comes back after 1, 2, 4 and 8 seconds.
ATTEMPTS = 5

T = TypeVar("T")

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


class _RehearsedError(Exception):
    """Ends a transaction that was only tried."""


class Product:
    """A session of the product database. Statements commit one by one, but inside `transaction()`."""

    def __init__(self, url: str) -> None:
        """`url`: any libpq URL of a database. Raises PublishError where it does not lead to one."""
        # Arrow's text is UTF-8. PostgreSQL takes it for the encoding of its database unless it is told.
        self.url = _with(url, "client_encoding", "UTF8")
        self._connection = _connect(self.url)
        name = f"app-usage publish, process {os.getpid()} on {socket.gethostname()}"
        self.execute("select set_config('application_name', $1, false)", name[:63])
        # So that a long statement of a publisher that was killed ends, too, and with it its locks.
        with suppress(DatabaseError):
            self.execute("set client_connection_check_interval = '1s'")
        self.execute("set timezone = 'UTC'")
        self.execute(f"set statement_timeout = '{STATEMENT_TIMEOUT}'")
        # The other processors are the product's.
        self.execute("set max_parallel_workers_per_gather = 0")
        if self.value("select current_setting('server_version_num')::int") < 140000:
            raise PublishError("the product database is older than PostgreSQL 14: upgrade it")

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

    def value(self, query: str, *parameters: Any) -> Any:
        return self.execute(query, *parameters)[0][0]

    def table(self, query: str) -> pa.Table:
        """The rows that a statement returns, all of them in memory."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetch_arrow_table()

    def ingest(self, table: str, rows: pa.Table) -> None:
        """Copies rows into a table of the staging schema."""
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append", db_schema_name=STAGING)

    @contextmanager
    def arrow(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """The rows of a query as a stream of Arrow batches."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            yield cursor.fetch_record_batch()

    @contextmanager
    def transaction(self, lock_timeout: str = LOCK_TIMEOUT) -> Iterator[None]:
        """One transaction that waits for no lock longer than this; TABLE_LOCK_TIMEOUT where it alters a table."""
        self.execute("begin")
        try:
            self.execute(f"set local lock_timeout = '{lock_timeout}'")
            yield
        except BaseException:
            with suppress(DatabaseError):
                self.execute("rollback")
            raise
        self.execute("commit")

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """A transaction of which nothing stays."""
        with suppress(_RehearsedError), self.transaction():
            self.execute("set local app_usage.publisher = 'on'")
            yield
            raise _RehearsedError

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of a transaction that may fail without it."""
        self.execute("savepoint part")
        try:
            yield
        except DatabaseError:
            self.execute("rollback to savepoint part")
            raise
        self.execute("release savepoint part")

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
            self.url = _with(self.url, "options", f"-c role={OWNER}")


def _connect(url: str) -> dbapi.Connection:
    try:
        return dbapi.connect(url, autocommit=True)
    except DatabaseError as error:
        raise PublishError(f"the product database does not answer: {error}. Check PRODUCT_DB_URL") from error


def _with(url: str, option: str, value: str) -> str:
    """The URL with one more libpq option; `options` are added to those that it has."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query[option] = f"{query.get(option, '')} {value}".strip() if option == "options" else value
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def give_way(apply: Callable[[], T]) -> T:
    """Applies; where the product's own work is in the way, lets it pass and tries again."""
    for attempt in count():
        try:
            return apply()
        except DatabaseError as error:
            if error.sqlstate not in BUSY:
                raise
            if attempt + 1 == ATTEMPTS:
                raise PublishError(
                    f"the product's own transactions hold locks on the published tables: {error}. "
                    "Nothing was published; publish again"
                ) from error
        time.sleep(2**attempt)
    raise AssertionError("unreachable")


NOTE_FOREIGN_WRITE = f"""create or replace function {LEDGER}.note_foreign_write() returns trigger language plpgsql
    security definer set search_path = pg_catalog as $$
    begin
        -- Deeper than one: a trigger of the product writes, though the publisher's own write set it off.
        if current_setting('app_usage.publisher', true) is distinct from 'on' or pg_trigger_depth() > 1 then
            update {LEDGER}.tables set is_touched = true where table_name = tg_table_name;
        end if;
        return null;
    end $$"""

# One statement each; all of them may run again at any time. The version is the number of the last change to
# them, so that a publish that finds it written need not run them.
MIGRATION_VERSION = 2
MIGRATION = (
    f"create table if not exists {SCHEMA}.generations ("
    "generation_id text primary key, started_at timestamptz not null, published_at timestamptz not null, "
    "status text not null, dbt_invocation_id text, rows_upserted bigint not null, "
    "rows_deleted bigint not null, content_hash text not null)",
    f"comment on table {SCHEMA}.generations is 'A row per publish that changed something. The newest one with "
    "status published is what the other tables show; rolled_back ones were taken back.'",
    f"create table if not exists {SCHEMA}.app_usage_rejected ("
    "org_id text not null, table_name text not null, row_key text not null, reason text not null, "
    "row_json text not null, generation_id text not null, rejected_at timestamptz not null)",
    # A key that is too long for the table's index would be too long for this one's.
    f"alter table {SCHEMA}.app_usage_rejected drop constraint if exists app_usage_rejected_pkey",
    f"create index if not exists app_usage_rejected_idx on {SCHEMA}.app_usage_rejected (table_name)",
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
    NOTE_FOREIGN_WRITE,
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
