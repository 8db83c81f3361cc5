"""What differs between the marts in the warehouse and their tables in the product.

Both sides' rows are hashed by one function in one place: DuckDB, in this process. A DuckDB warehouse is read
where it lies; the rows of other warehouses and those of the product arrive as Arrow streams. So no two engines
have to agree on how a number is spelled, and the hash of the product's side is one of the rows as they are stored.
The sum of the row hashes is the same in any order. It is kept per org, so an org in which nothing changed costs
its part of one scan of the mart, and nothing in the product.
"""

import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow as pa
from adbc_driver_postgresql import dbapi
from dlt.common.destination import Destination

from ingestion.publish.marts import STAMPS, Column, Mart, PublishError
from ingestion.publish.product import DriftError, Product, names, quoted
from ingestion.publish.tables import live

# So many groups of orgs are enough for a canary of a tenth of a percent.
SHARDS = 1024
COPY = "app_usage_published"
# Rows in memory at a time on the way from a warehouse that is not DuckDB, and in a Parquet row group.
BATCH_ROWS = 100_000

# What DuckDB holds and PostgreSQL does not. Infinity is outside, too: the two spell it differently.
_RANGES = {
    "date": "date '-4712-01-01' and date '5874897-12-31'",
    "timestamptz": "timestamp '-4712-01-01' and timestamp '294246-12-31'",
}
# The types of DuckDB that a type of the product may come from without losing anything.
_FAMILIES = {
    "text": "VARCHAR|ENUM|UUID",
    "bigint": "U?(TINYINT|SMALLINT|INTEGER|BIGINT)|HUGEINT",
    "double precision": "DOUBLE|FLOAT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamptz": "TIMESTAMP( WITH TIME ZONE)?$",
}


@dataclass(frozen=True)
class Sums:
    """The number of rows of one org, and the sum of their hashes."""

    rows: int
    content_hash: int


NOTHING = Sums(0, 0)


@dataclass(frozen=True)
class Scan:
    """A mart as it is in the warehouse now, by org, without the rows that PostgreSQL cannot hold."""

    orgs: dict[str, Sums]
    rejected_rows: int
    rejected_hash: str


@dataclass(frozen=True)
class Changes:
    """What has to happen to the rows of one org."""

    new: int
    changed: int
    gone: int
    before: int
    """Rows that the org had."""


def hash_of(mart: Mart) -> str:
    """What a mart's rows are hashed by; sums that were made by something else are not compared.

    DuckDB does not promise the same hash in another version.
    """
    columns = sha256(repr([(column.name, column.type) for column in mart.content]).encode())
    return f"duckdb {duckdb.__version__} {columns.hexdigest()[:16]}"


def shard_of(org_id: str) -> int:
    return int.from_bytes(sha256(org_id.encode()).digest()[:8], "big") % SHARDS


class Comparison:
    def __init__(self, connection: duckdb.DuckDBPyConnection, relations: dict[str, str]) -> None:
        """`connection`: DuckDB in UTC; `relations`: how it names each mart, by the mart's name."""
        self._connection = connection
        self._relations = relations
        self._refused: set[str] = set()

    def scan(self, mart: Mart) -> Scan:
        """Reads the mart once. Raises PublishError where it is not what its contract says."""
        self._make_view(mart)
        rows = self._rows(
            f"""select org_id, count(*) filter (_reason is null), sum({_hash(mart)}) filter (_reason is null),
                count(*) filter (_reason is not null), sum({_hash(mart)}) filter (_reason is not null),
                count(*) filter (_reason is null and not ({_has_key(mart)}))
            from {_view(mart)} group by all order by all"""
        )
        if without_key := sum(row[5] for row in rows):
            raise PublishError(
                f"{mart.name} has {without_key} rows without a value in its key ({', '.join(mart.key)}): "
                "run `app-usage build`, whose tests say which"
            )
        rejected = [(org, count, total) for org, _, _, count, total, _ in rows if count]
        return Scan(
            orgs={org: Sums(count, int(total)) for org, count, total, *_ in rows if count},
            rejected_rows=sum(count for _, count, _ in rejected),
            rejected_hash=sha256(repr(rejected).encode()).hexdigest() if rejected else "",
        )

    def compare(self, mart: Mart, was: dict[str, Sums], will_be: dict[str, Sums]) -> dict[str, Changes]:
        """Finds the rows that differ, in the orgs whose sums differ, and counts them by org.

        After `refresh_copy`. `was`: the sums of the product's rows, `will_be`: those of the mart's. The other methods
        then speak of the rows that were found.
        """
        _, chosen = _differing(was, will_be)
        # The hash covers the key, too: one join on it finds what is apart, and few rows are left to join by key. It is
        # built on hashes alone, which are small, and looks up later which keys they are of.
        self._connection.execute(
            f"""create or replace temp table {_apart(mart)} as select n.*, w.row_hash as _was_hash
            from (select *, case when _reason is null then {_hash(mart)} end as _now_hash
                from {_view(mart)} where true{chosen}) as n
            full join (select row_hash from {_copy(mart)} where true{chosen}) as w on n._now_hash = w.row_hash
            where (n._now_hash is null) <> (w.row_hash is null)"""
        )
        self._connection.execute(
            f"""create or replace temp table {_difference(mart)} as
            select {names(mart.key)}, n._now_hash as now_hash, w.row_hash as was_hash
            from (select * from {_apart(mart)} where _now_hash is not null) as n
            full join (select * from {_copy(mart)} where row_hash in
                (select _was_hash from {_apart(mart)} where _was_hash is not null)) as w using ({names(mart.key)})"""
        )
        # Rows to write of one key, or one beside a row of that key that stays.
        self._refuse_repeated_keys(
            mart,
            f"(select {names(mart.key)} from {_difference(mart)} where now_hash is not null union all "
            f"select {names(mart.key)} from {_copy(mart)} as c semi join (select * from {_difference(mart)} "
            f"where was_hash is null) as d using ({names(mart.key)}))",
        )
        rows = self._rows(
            "select org_id, count(now_hash), count(was_hash), count(*), coalesce(sum(now_hash), 0), "
            f"coalesce(sum(was_hash), 0) from {_difference(mart)} group by all"
        )
        changes = {}
        for org, written, taken, touched, now_hash, was_hash in rows:
            before, after = was.get(org, NOTHING), will_be.get(org, NOTHING)
            changes[org] = Changes(
                new=touched - taken, changed=written + taken - touched, gone=touched - written, before=before.rows
            )
            if after != Sums(before.rows - taken + written, before.content_hash - int(was_hash) + int(now_hash)):
                raise PublishError(f"the rows of {org} in {mart.name} changed while they were compared: publish again")
        return changes

    def _now(self, mart: Mart, chosen: str) -> str:
        return f"select {names(mart.key)}, {_hash(mart)} as row_hash from {_view(mart)} where _reason is null{chosen}"

    def _refuse_repeated_keys(self, mart: Mart, rows: str) -> None:
        """Raises PublishError where two of the rows (of a table expression) have the same key."""
        twice = self._rows(
            f"select {names(mart.key)}, count(*) from {rows} as r group by all having count(*) > 1 order by all limit 1"
        )
        if twice:
            key = dict(zip(mart.key, twice[0], strict=False))
            raise PublishError(
                f"{mart.name} has {twice[0][-1]} rows with the key {key}: run `app-usage build`, whose tests say more"
            )

    def copy_all(self, mart: Mart, orgs: Iterable[str]) -> None:
        """Notes that the product has, from now on, these rows of the mart."""
        self._connection.execute(f"create or replace table {_copy(mart)} as {self._now(mart, _filter(orgs))}")

    def copy_difference(self, mart: Mart) -> None:
        """Notes that the product has, from now on, the rows that the last `compare` found."""
        self._connection.execute(
            f"delete from {_copy(mart)} where row_hash in (select was_hash from {_difference(mart)})"
        )
        self._connection.execute(
            f"insert into {_copy(mart)} select {names(mart.key)}, now_hash from {_difference(mart)} "
            "where now_hash is not null"
        )

    def refresh_copy(self, mart: Mart, product: Product, was: dict[str, Sums], will_be: dict[str, Sums]) -> None:
        """Makes the copy hold what the product does, of the orgs whose sums differ, before `compare`.

        Rows whose sums say that it does are not read again.
        """
        orgs, chosen = _differing(was, will_be)
        was = {org: sums for org, sums in was.items() if org in orgs}
        self._connection.execute(f"create table if not exists {_copy(mart)} as {self._now(mart, ' and false')}")
        sums = f"select org_id, count(*), sum(row_hash) from {_copy(mart)} where true{chosen} group by all"
        held = _sums(self._rows(sums))
        if stale := {org for org in held | was if held.get(org) != was.get(org)}:
            of_these = "" if not chosen and stale == held.keys() | was.keys() else _filter(stale)
            self._connection.execute(f"delete from {_copy(mart)} where true{of_these}")
            query = f"select {names(mart.content)} from {live(mart)} where true{of_these}"
            with product.arrow(query) as stored:
                self._connection.register("stored", stored)
                self._connection.execute(
                    f"insert into {_copy(mart)} select {names(mart.key)}, {_hash(mart)} from ({_typed(mart, 'stored')})"
                )
                self._connection.unregister("stored")
            if _sums(self._rows(sums)) != was:
                raise DriftError(f"{live(mart)} is not what was published")

    def differences(self, mart: Mart, limit: int) -> list[tuple[dict[str, Any], str]]:
        """The keys of some rows that the last `compare` found, and whether they are missing, extra or different."""
        rows = self._rows(
            f"select {names(mart.key)}, case when was_hash is null then 'missing' when now_hash is null then "
            f"'extra' else 'different' end from {_difference(mart)} order by all limit {limit}"
        )
        return [(dict(zip(mart.key, row[:-1], strict=True)), row[-1]) for row in rows]

    def export_difference(self, mart: Mart, path: Path) -> None:
        """Writes what the last `compare` found as Parquet: rows to write, and keys to delete (`_is_gone`)."""
        self._export(
            mart,
            f"select {names(mart.content)}, false as _is_gone from {_apart(mart)} where _now_hash is not null "
            "union all by name "
            f"select {names(mart.key)}, true as _is_gone from {_difference(mart)} where now_hash is null",
            path,
        )

    def export_all(self, mart: Mart, orgs: Iterable[str], path: Path) -> None:
        """Writes the rows of these orgs as Parquet. Raises PublishError where two have the same key."""
        orgs = list(orgs)
        self._refuse_repeated_keys(mart, f"({self._now(mart, _filter(orgs))})")
        self._export(
            mart, f"select {names(mart.content)} from {_view(mart)} where _reason is null{_filter(orgs)}", path
        )

    def expected(self, mart: Mart) -> dict[str, Sums]:
        """Of the rows that the last `compare` found to be new or changed: the sums in the warehouse."""
        return _sums(
            self._rows(
                f"select org_id, count(*), sum(now_hash) from {_difference(mart)} "
                "where now_hash is not null group by all"
            )
        )

    def sums(self, mart: Mart, stored: pa.Table | pa.RecordBatchReader) -> dict[str, Sums]:
        """The sums of rows of the product (the content columns, in order)."""
        self._connection.register("stored", stored)
        rows = self._rows(f"select org_id, count(*), sum({_hash(mart)}) from ({_typed(mart, 'stored')}) group by all")
        self._connection.unregister("stored")
        return _sums(rows)

    def set_aside(self, mart: Mart, refused: pa.Table) -> None:
        """Takes rows that PostgreSQL refused (the key and `_reason`) for rows that it cannot hold, from now on."""
        self._connection.register("refused", refused)
        rows = f"select {_casts(mart, mart.key)}, _reason from refused"
        self._connection.execute(f"create temp table if not exists {_refused(mart)} as {rows} where false")
        self._connection.execute(f"insert into {_refused(mart)} {rows}")
        self._connection.unregister("refused")
        self._refused.add(mart.name)

    def rejected(self, mart: Mart) -> list[dict[str, str]]:
        """The rows that PostgreSQL cannot hold, as org_id, row_key, reason, row_json: JSON spells a NUL out.

        A mistake in a model may spoil every row, and ten thousand of them show it as well as all.
        """
        content, key = (
            "to_json({" + ", ".join(f"{quoted(name)}: {quoted(name)}" for name in columns) + "})::varchar"
            for columns in ([column.name for column in mart.content], mart.key)
        )
        rows = self._rows(
            f"select replace(coalesce(org_id, ''), chr(0), ''), {key}, min(_reason), min({content}) "
            f"from {_view(mart)} where _reason is not null group by 1, 2 order by 1, 2 limit 10000"
        )
        return [
            # The product's encoding may lack a letter, which is why a row is here: JSON spells them all in ASCII.
            {"org_id": org, "row_key": _ascii(key), "reason": reason, "row_json": _ascii(content)}
            for org, key, reason, content in rows
        ]

    def _make_view(self, mart: Mart) -> None:
        relation = self._relations[mart.name]
        actual = {name: kind for name, kind, *_ in self._rows(f"describe {relation}")}
        declared = {column.name for column in mart.content}
        if wrong := declared.symmetric_difference(actual) - set(STAMPS):
            raise PublishError(
                f"{mart.name} in the warehouse and its contract differ in {', '.join(sorted(wrong))}: "
                "run `app-usage build`, then publish again"
            )
        tests = [test for column in mart.content for test in _tests(mart, column, actual[column.name])]
        reason = f"case {' '.join(tests)} end" if tests else "null::varchar"
        rows = _typed(mart, relation, f", {reason} as _reason")
        if mart.name in self._refused:
            rows = (
                f"select m.* replace (coalesce(m._reason, r._reason) as _reason) from ({rows}) as m "
                f"left join {_refused(mart)} as r using ({names(mart.key)})"
            )
        self._connection.execute(f"create or replace temp view {_view(mart)} as {rows}")

    def _export(self, mart: Mart, query: str, path: Path) -> None:
        """In the order of the key: rows that lie together there lie together in the product's table and index."""
        self._connection.execute(
            f"copy ({query} order by {names(mart.key)}) to {_text(path)} "
            f"(format parquet, compression lz4, row_group_size {BATCH_ROWS})"
        )

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query).fetchall()


@contextmanager
def open_comparison(warehouse: Destination[Any, Any], marts: Iterable[Mart], copy: Path) -> Iterator[Comparison]:
    """Opens the warehouse, whatever engine it is; others than DuckDB are read in full, into a file beside `copy`.

    `copy`: a DuckDB file with the keys and hashes of what is published, which spares reading that again. It is
    checked against the ledger whenever it is used, so it may be lost, old, or of another product database.
    """
    marts = list(marts)
    schema, folder = marts[0].schema, copy.with_name("marts")
    with dlt.dataset(warehouse, schema, schema=dlt.Schema("marts")) as dataset, ExitStack() as at_the_end:
        shutil.rmtree(folder, ignore_errors=True)  # who was killed left all of the marts there
        client = dataset.sql_client
        relations = {mart.name: f"{quoted(mart.schema)}.{quoted(mart.name)}" for mart in marts}
        if isinstance(client.native_connection, duckdb.DuckDBPyConnection):
            # A cursor is a session of its own: its settings and temporary tables are not the owner's.
            connection = client.native_connection.cursor()
        else:
            folder.mkdir(parents=True)
            at_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
            connection = duckdb.connect(str(folder / "marts.duckdb"))
            connection.execute("set TimeZone = 'UTC'")
            for mart in marts:
                with _stream(client, mart) as rows:
                    connection.register("mart", rows)
                    connection.execute(f"create table {quoted(mart.name)} as select * from mart")
                    connection.unregister("mart")
                relations[mart.name] = quoted(mart.name)
        with closing(connection), _sparing_processor(connection):
            connection.execute("set TimeZone = 'UTC'")
            _attach(connection, copy)
            try:
                yield Comparison(connection, relations)
            finally:
                # It writes what memory holds, which a full disk may refuse; by then all is published or has failed.
                with suppress(duckdb.IOException):
                    connection.execute(f"detach {COPY}")


@contextmanager
def _sparing_processor(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Leaves one processor to the product's queries. The setting is that of all who have the file open: put back."""
    [(threads,)] = connection.execute("select current_setting('threads')").fetchall()
    connection.execute(f"set threads = {max(threads - 1, 1)}")
    try:
        yield
    finally:
        connection.execute(f"set threads = {threads}")


def _attach(connection: duckdb.DuckDBPyConnection, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection.execute(f"attach {_text(copy)} as {COPY}")
    except duckdb.Error:
        # Written by another version of DuckDB, or torn.
        for file in (copy, copy.with_name(f"{copy.name}.wal")):
            file.unlink(missing_ok=True)
        connection.execute(f"attach {_text(copy)} as {COPY}")


@contextmanager
def _stream(client: Any, mart: Mart) -> Iterator[pa.RecordBatchReader]:
    """The rows of a mart in a PostgreSQL or a Redshift, a batch at a time."""
    query = f"select {names(mart.content)} from {quoted(mart.schema)}.{quoted(mart.name)}"
    if client.capabilities.sqlglot_dialect == "postgres":
        url = client.credentials.to_native_representation()
        with closing(dbapi.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("set client_encoding = 'UTF8'")  # Arrow's, whatever the database's is
            cursor.execute(query)
            yield cursor.fetch_record_batch()
    else:
        # Redshift has no COPY to the client. A named cursor is one on the server, so that memory stays flat.
        schema = pa.schema([(column.name, _arrow_type(column)) for column in mart.content])
        with client.begin_transaction(), client.native_connection.cursor(name="publish") as cursor:
            cursor.execute(query)
            yield pa.RecordBatchReader.from_batches(schema, _batches(cursor, schema))


def _batches(cursor: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while rows := cursor.fetchmany(BATCH_ROWS):
        columns = zip(*rows, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        yield pa.record_batch(arrays, schema=schema)


def _arrow_type(column: Column) -> pa.DataType:
    if exact := re.fullmatch(r"numeric\((\d+),(\d+)\)", column.type):
        return pa.decimal128(int(exact[1]), int(exact[2]))
    kinds: dict[str, pa.DataType] = {
        "text": pa.string(),
        "bigint": pa.int64(),
        "double precision": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamptz": pa.timestamp("us"),
    }
    return kinds[column.type]


def _type(column: Column) -> str:
    """DuckDB's type for a column: the connection's time zone is UTC, so no timestamp needs one."""
    spelled = {"text": "varchar", "double precision": "double", "timestamptz": "timestamp"}
    return spelled.get(column.type, column.type)


def _typed(mart: Mart, relation: str, more: str = "") -> str:
    return f"select {_casts(mart, [column.name for column in mart.content])}{more} from {relation}"


def _casts(mart: Mart, columns: Collection[str]) -> str:
    return ", ".join(
        f"try_cast({quoted(column.name)} as {_type(column)}) as {quoted(column.name)}"
        for column in mart.content
        if column.name in columns
    )


def _hash(mart: Mart) -> str:
    # The outer hash: in the inner one alone, the last column is a mere XOR, which a sum may cancel out.
    return f"hash(hash({names(mart.content)}))"


def _tests(mart: Mart, column: Column, actual: str) -> Iterator[str]:
    """The branches of a case that say why PostgreSQL cannot hold a value of this column.

    Raises PublishError where the whole column is of another type than its contract says: a cast would round.
    """
    name, kind = quoted(column.name), _FAMILIES.get(column.type, "DECIMAL|VARCHAR")
    if not re.match(kind, actual):
        raise PublishError(
            f"{mart.name}.{column.name} is {actual.lower()} in the warehouse and {column.type} in its contract: "
            "run `app-usage build`, then publish again"
        )
    if column.type == "text":
        yield f"when contains({name}, chr(0)) then '{column.name} contains a NUL character'"
    elif column.type in _RANGES:
        yield f"when {name} not between {_RANGES[column.type]} then '{column.name} is out of range'"
    elif actual in ("HUGEINT", "UBIGINT") or column.type.startswith("numeric"):
        fits = f"try_cast({name} as {_type(column)}) is not null"
        yield f"when {name} is not null and not {fits} then '{column.name} is out of range'"


def _has_key(mart: Mart) -> str:
    return " and ".join(f"{quoted(column)} is not null" for column in mart.key)


def _differing(was: dict[str, Sums], will_be: dict[str, Sums]) -> tuple[set[str], str]:
    """The orgs whose sums differ, and the condition that chooses their rows: none if they are all."""
    orgs = {org for org in was | will_be if was.get(org) != will_be.get(org)}
    return orgs, "" if orgs == was.keys() | will_be.keys() else _filter(orgs)


def _filter(orgs: Iterable[str] | None) -> str:
    """One more condition, in words that both PostgreSQL and DuckDB understand."""
    if orgs is None:
        return ""
    listed = ", ".join(_text(org) for org in orgs)
    return f" and org_id in ({listed})" if listed else " and false"


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _ascii(document: str) -> str:
    return json.dumps(json.loads(document))


def _sums(rows: list[tuple[Any, ...]]) -> dict[str, Sums]:
    return {org: Sums(count, int(total)) for org, count, total in rows}


def _view(mart: Mart) -> str:
    return quoted(f"mart_{mart.name}")


def _refused(mart: Mart) -> str:
    return quoted(f"refused_{mart.name}")


def _copy(mart: Mart) -> str:
    return f"{COPY}.{quoted(mart.name)}"


def _apart(mart: Mart) -> str:
    return quoted(f"apart_{mart.name}")


def _difference(mart: Mart) -> str:
    return quoted(f"difference_{mart.name}")
