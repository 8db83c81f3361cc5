"""Raw records in, Arrow tables out: typed columns, keys, and the reasons why a record cannot be typed.

DuckDB does it, in memory, a batch at a time: one pass over the JSON for all paths, no Python per value. A record that
cannot be typed is never dropped and never takes its neighbours with it: it comes out as a rejected row.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.connections import Connection
from ingestion.connector import Column, Stream
from ingestion.http import Record, Unreadable

LONGEST_RECORD = 8 * 1024 * 1024  # bytes; a Redshift SUPER holds 16 MB, and no vendor's event comes near either
CLOCK_SKEW = "interval 1 hour"  # an event may be this far ahead of the fetch: clocks differ, by seconds
FEW = 10_000  # records; planning is most of what they cost
EARLIEST = "timestamp '2000-01-01'"  # older than any SaaS audit log: a default date, not an event

_SQL_TYPES = {
    "text": "varchar",
    "bigint": "bigint",
    "double": "double",
    "bool": "boolean",
    "timestamp": "timestamp",
}
_ARROW_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
_EXTRACTED = re.compile(r"payload->>'(\$[^'*]+)'")
_PARAMETER = re.compile(r"\$(\w+)")
_KNOWN = pa.schema([("id", pa.string()), ("record_hash", pa.int64())])
_COUNTED = pa.schema([("key", pa.string()), ("n", pa.int64())])
_REJECTED = pa.schema(
    [
        ("connection_id", pa.string()),
        ("org_id", pa.string()),
        ("stream", pa.string()),
        ("record_hash", pa.int64()),
        ("reason", pa.string()),
        ("payload", pa.string()),
        ("parent", pa.string()),
        ("fetched_at", pa.timestamp("us")),
        ("window_start", pa.timestamp("us")),
        ("window_end", pa.timestamp("us")),
    ]
)


def landing_schema(stream: Stream) -> pa.Schema:
    """The Arrow schema of a stream's landing table, without what dlt adds. Timestamps are naive UTC."""
    typed = [(column.name, _ARROW_TYPES[column.type]) for column in stream.columns]
    if stream.kind == "events":
        head = [
            ("event_id", pa.string()),
            ("event_id_kind", pa.string()),
            ("occurred_at", pa.timestamp("us")),
        ]
    else:
        head = [("record_id", pa.string()), ("is_gone", pa.bool_()), ("is_complete_listing", pa.bool_())]
    return pa.schema(
        [
            ("connection_id", pa.string()),
            ("org_id", pa.string()),
            *head,
            ("fetched_at", pa.timestamp("us")),
            *typed,
            ("record_hash", pa.int64()),
            ("payload", pa.string()),
        ]
    )


@dataclass(frozen=True)
class Typed:
    """What one batch became: rows for the landing table, rows for `rejected_records`."""

    accepted: pa.Table
    rejected: pa.Table


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """One database in memory for all typers of the process; each works in temporary tables of its own."""
    engine = duckdb.connect(config={"memory_limit": "1GB"})
    engine.execute("set global timezone = 'UTC'")
    return engine


class RecordTyper:
    """Types the records of one stream of one connection.

    `known` are the ids and hashes that the landing table already holds: such records are dropped, so that re-reading
    a window costs no space. A hash that changes with DuckDB's version does no harm: the record lands once more, and
    staging keeps one.
    """

    def __init__(self, stream: Stream, connection: Connection, fetched_at: datetime) -> None:
        self._stream = stream
        self._connection = connection
        self._fetched_at = fetched_at.replace(tzinfo=None)
        self._duckdb = _engine().cursor()
        self._is_counted = stream.key.kind == "content_hash"
        self.new_window(None, None)

    def close(self) -> None:
        """Free the memory."""
        self._duckdb.close()

    def new_window(self, start: datetime | None, end: datetime | None, known: pa.Table | None = None) -> None:
        """Start counting identical records anew; `known` has the columns `id` (text) and `record_hash`."""
        self._window = tuple(bound and bound.replace(tzinfo=None) for bound in (start, end))
        self._known = _KNOWN.empty_table() if known is None else known.select(_KNOWN.names).cast(_KNOWN)
        self._counted = _COUNTED.empty_table()
        self.ids = pa.chunked_array([], pa.string())
        self.has_nameless = False

    def tick(self) -> None:
        """What is typed from now on was fetched after all that was typed before, by the least that a clock can tell."""
        self._fetched_at += timedelta(microseconds=1)

    def type(self, records: Iterable[Record], parent: Mapping[str, str]) -> Typed:
        """Type a batch. `parent` holds the fields of the listing that the records hang under."""
        payloads, unreadable = _text(records)
        constants = {
            "connection_id": self._connection.connection_id,
            "org_id": self._connection.org_id,
            "stream": self._stream.name,
            "fetched_at": self._fetched_at,
            "time_zone": self._connection.time_zone.key,
            **{f"parent_{name}": value for name, value in parent.items()},
        }
        schema = landing_schema(self._stream)
        self.ids, self.has_nameless = pa.chunked_array([], pa.string()), unreadable.num_rows > 0
        if self._known.num_rows and not self._is_counted:
            payloads = self._unknown(payloads, constants)
        if not len(payloads):
            return Typed(schema.empty_table(), self._rejected(unreadable, parent))
        is_compared = bool(self._known.num_rows or self._counted.num_rows)
        typed = self._query(_typing_sql(self._stream, is_compared=is_compared), payloads, constants)
        is_good = pc.is_null(typed["_reason"])
        bad = typed.filter(pc.invert(is_good)) if pc.any(pc.invert(is_good)).as_py() else typed.slice(0, 0)
        good = typed.filter(is_good) if bad.num_rows else typed
        if self._is_counted:
            keys = good.select(["_key"]).group_by("_key").aggregate([([], "count_all")])
            self._counted = pa.concat_tables([self._counted, keys.rename_columns(_COUNTED.names).cast(_COUNTED)])
            good = good.filter(pc.invert(good["_is_known"]))
        if self._stream.kind == "accounts":
            self.ids = pa.chunked_array(
                [*self.ids.chunks, *typed["_key"].drop_null().chunks]
            )  # what is bad is not gone
            self.has_nameless |= typed["_key"].null_count > 0
        rejected = bad.select(["record_hash", "_reason", "payload"]).rename_columns(
            ["record_hash", "reason", "payload"]
        )
        rejected = pa.concat_tables([rejected.cast(unreadable.schema), unreadable])
        return Typed(good.select(schema.names).cast(schema), self._rejected(rejected, parent))

    def _unknown(self, payloads: pa.Array, constants: Mapping[str, Any]) -> pa.Array:
        """The payloads that have not landed. Most were read before, and typing costs more than this."""
        hashes = self._query(f"select {_hash_sql(self._stream)} as record_hash from batch", payloads, constants)
        is_known = pc.is_in(hashes["record_hash"], value_set=self._known["record_hash"])
        is_listed = pc.is_in(self._known["record_hash"], value_set=hashes["record_hash"])
        self.ids = self._known["id"].filter(is_listed)
        return payloads.filter(pc.invert(is_known.combine_chunks()))

    def _query(self, sql: str, payloads: pa.Array, constants: Mapping[str, Any]) -> pa.Table:
        tables = {"batch": pa.table({"payload": payloads}), "known": self._known, "counted": self._counted}
        for name, table in tables.items():
            if f" from {name}" in sql:
                self._duckdb.register(name, table)
        used = {name: constants[name] for name in {*_PARAMETER.findall(sql)} & constants.keys()}
        if len(payloads) < FEW:
            return self._duckdb.execute(sql, used).to_arrow_table()
        return self._duckdb.sql(sql, params=used).to_arrow_table()  # planned twice, but all cores make the Arrow table

    def _rejected(self, rows: pa.Table, parent: Mapping[str, str]) -> pa.Table:
        start, end = self._window
        constants = {
            "parent": msgspec.json.encode(parent).decode(),
            "connection_id": self._connection.connection_id,
            "org_id": self._connection.org_id,
            "stream": self._stream.name,
            "fetched_at": self._fetched_at,
            "window_start": start,
            "window_end": end,
        }
        for name, value in constants.items():
            rows = rows.append_column(name, pa.array([value] * rows.num_rows, _REJECTED.field(name).type))
        return rows.select(_REJECTED.names)


def from_rows(rows: pa.RecordBatch) -> list[Record]:
    """Rows as JSON records. JSON has no NaN and no infinity: they become null."""
    names = ['"' + column.name.replace('"', '""') + '"' for column in rows.schema if pa.types.is_floating(column.type)]
    finite = ", ".join(f"case when isfinite({name}) then {name} end as {name}" for name in names)
    columns = f"* replace ({finite})" if names else "*"
    texts = _bytes_of(rows, f"select cast(to_json(rows) as varchar) from (select {columns} from batch) as rows")
    # DuckDB has no text for a row that holds text that is none
    return [text or Unreadable(rows.slice(n, 1).serialize()) for n, text in enumerate(texts)]


def within(records: list[Record], path: str) -> list[Record]:
    """Of each record what is at the JSON path; a record without it as it is."""
    wrapped = [n for n, record in enumerate(records) if not isinstance(record, Unreadable)]
    try:
        batch = pa.table({"payload": pa.array([records[n] for n in wrapped], pa.string())})
    except pa.ArrowInvalid:
        return records  # some are no text: all come out as rejected or as they are, and none is lost
    found = _bytes_of(batch, f"select coalesce(json_extract(payload, {_quote(path)}), payload) from batch")
    unwrapped = dict(zip(wrapped, found, strict=True))
    return [unwrapped.get(n, record) for n, record in enumerate(records)]


def _bytes_of(batch: pa.Table | pa.RecordBatch, sql: str) -> list[bytes]:
    with _engine().cursor() as cursor:
        cursor.register("batch", batch)
        (column,) = cursor.sql(sql).to_arrow_table().columns
    texts: list[bytes] = column.cast(pa.binary()).to_pylist()
    return texts


def _text(records: Iterable[Record]) -> tuple[pa.Array, pa.Table]:
    """The records as Arrow text, and apart from them those that no text column can hold."""
    raw: list[bytes] = []
    reasons: list[tuple[str, str]] = []
    for record in records:
        if isinstance(record, Unreadable):
            text = bytes(record).decode(errors="backslashreplace").replace("\0", "\\0")  # Postgres holds no NUL in text
            reasons.append(("not readable as JSON", text))
        else:
            raw.append(record)
    try:
        payloads = pa.array(raw, pa.string())
    except pa.ArrowInvalid:
        readable = []
        for payload in raw:
            try:
                payload.decode()
                readable.append(payload)
            except UnicodeDecodeError as error:
                reasons.append((f"invalid UTF-8: {error.reason}", payload.decode(errors="backslashreplace")))
        payloads = pa.array(readable, pa.string())
    too_long = pc.greater(pc.binary_length(payloads), LONGEST_RECORD)
    if pc.any(too_long).as_py():
        longest = payloads.filter(too_long).to_pylist()
        reasons += [(f"longer than {LONGEST_RECORD} bytes", payload) for payload in longest]
        payloads = payloads.filter(pc.invert(too_long))
    unreadable = pa.table(
        {
            "record_hash": pa.array([zlib.crc32(payload.encode()) for _, payload in reasons], pa.int64()),
            "reason": pa.array([reason for reason, _ in reasons], pa.string()),
            "payload": pa.array([payload for _, payload in reasons], pa.string()),
        }
    )
    return payloads, unreadable


def _typing_sql(stream: Stream, *, is_compared: bool) -> str:
    """The query over `batch (payload)` that gives a row per record or exploded element, with `_reason` if it is bad.

    What has no id `is_compared` with `known` and `counted`, if there is anything in them.
    """
    columns = [*([stream.occurred_at] if stream.occurred_at else []), *stream.columns]
    record_paths = [column.path for column in columns if column.of == "record" and not column.sql]
    record_paths += [path for path in stream.key.paths if path.startswith("$")]
    record_paths += [path for column in columns for path in _EXTRACTED.findall(column.sql)]
    record_paths = list(dict.fromkeys(record_paths))
    item_paths = [column.path for column in columns if column.of == "item" and not column.sql]
    item_keys = [path.removeprefix("item ") for path in stream.key.paths if path.startswith("item ")]
    item_paths = list(dict.fromkeys([*item_paths, *item_keys]))

    def raw(column: Column) -> str:
        if column.sql:
            # one pass over the JSON for all paths, those of expressions included
            return "(" + _EXTRACTED.sub(lambda path: f"_values[{record_paths.index(path[1]) + 1}]", column.sql) + ")"
        if column.of == "parent":
            return f"cast($parent_{column.path} as varchar)"
        paths, values = (item_paths, "_item_values") if column.of == "item" else (record_paths, "_values")
        return f"{values}[{paths.index(column.path) + 1}]"

    def part(path: str) -> str:
        if path.startswith("item "):
            return f"_item_values[{item_paths.index(path.removeprefix('item ')) + 1}]"
        return (
            f"_values[{record_paths.index(path) + 1}]" if path.startswith("$") else f"cast($parent_{path} as varchar)"
        )

    parts = [part(path) for path in stream.key.paths]
    if stream.explode and not item_keys:
        parts.append("cast(_item_no as varchar)")
    if stream.key.kind == "content_hash":
        key = f"md5(concat_ws(chr(31), {', '.join(f'coalesce({part}, chr(30))' for part in parts)}))"
    else:
        # || and not concat: a missing part makes the key NULL, and the record is rejected
        is_aggregate = stream.key.kind == "aggregate_key"
        key = " || '/' || ".join(f"coalesce({part}, '')" if is_aggregate else part for part in parts)
    # text is there at once, not once more under another name: to plan this is most of what a small batch costs
    raws = "".join(f', {raw(column)} as "{"" if column.type == "text" else "raw_"}{column.name}"' for column in columns)
    casts = "".join(f', {_cast(column)} as "{column.name}"' for column in columns if column.type != "text")
    identity = (
        _event_identity(stream, is_compared=is_compared)
        if stream.kind == "events"
        else "_key as record_id, false as is_gone, cast(null as boolean) as is_complete_listing"
    )
    wanted = ", ".join(f'"{name}"' for name in ["_reason", "_key", *landing_schema(stream).names])
    if stream.key.kind == "content_hash":
        is_known = """exists (select 1 from known
            where known.id = typed.event_id and known.record_hash = typed.record_hash)"""
        wanted += f", {is_known if is_compared else 'false'} as _is_known"
    return f"""
        with records as ({_records_sql(stream, record_paths, item_paths)}),
        raws as (select *, {key} as _key{raws} from records),
        casts as (select *{casts} from raws),
        judged as (select *, {_reason_sql(stream, columns)} as _reason from casts),
        typed as (
            select *, $connection_id as connection_id, $org_id as org_id,
                cast($fetched_at as timestamp) as fetched_at, {identity}
            from judged)
        select {wanted} from typed"""


def _records_sql(stream: Stream, record_paths: list[str], item_paths: list[str]) -> str:
    """A row per record or per element of its exploded list; one without elements keeps a row, to be rejected."""
    values = f"json_extract_string(payload, [{', '.join(map(_quote, record_paths))}]) as _values"
    numbered = "row_number() over () as _n, " if stream.key.kind == "content_hash" else "0 as _n, "
    sql = f"select {numbered}payload, {_hash_sql(stream)} as record_hash, {values} from batch"
    if not stream.explode:
        return sql
    elements = f"json_extract(payload, {_quote(stream.explode + '[*]')})"
    nothing = "[cast(null as json)]"
    if stream.may_be_empty:
        nothing = f"case json_type(payload) when 'OBJECT' then [] else {nothing} end"
    return f"""
        select *, json_extract_string(item, [{", ".join(map(_quote, item_paths))}]) as _item_values from (
            select *, unnest(_items) as item, generate_subscripts(_items, 1) as _item_no from (
                select *, case when len({elements}) > 0 then {elements} else {nothing} end as _items
                from ({sql})))"""


def _hash_sql(stream: Stream) -> str:
    """Of what makes a record what it is: two parents may list the same text. And a listing, of which nothing else comes
    again, lands once more when a connector reads it otherwise.
    """
    more = [f", cast($parent_{path} as varchar)" for path in stream.key.paths if not path.startswith(("$", "item "))]
    if stream.kind == "accounts":
        more.append(f", '{sha256(repr(stream.columns).encode()).hexdigest()[:16]}'")
    return f"cast(hash(payload{''.join(more)}) >> 1 as bigint)"


def _reason_sql(stream: Stream, columns: list[Column]) -> str:
    """Why a row can't be typed, in the order in which a person would look; NULL where it can."""
    suspect = "_key is null" if stream.kind == "accounts" else "(_key is null or occurred_at is null)"
    suspect = "true" if stream.key.kind == "aggregate_key" else suspect  # its key is never NULL
    cases = [f"when {suspect} and json_type(payload) <> 'OBJECT' then 'not a JSON object'"]  # a parse more, if need be
    if stream.explode:
        cases.append(f"when item is null then 'no elements in {stream.explode}'")
    cases += [
        f"""when "{column.name}" is null and nullif(trim("raw_{column.name}"), '') is not null
            then '{column.name} is no {column.type}: ' || left(replace("raw_{column.name}", chr(0), ''), 80)"""
        for column in columns
        if column.type != "text"
    ]
    cases.append("when _key is null then 'no id'")
    if stream.kind == "events":
        cases += [
            "when occurred_at is null then 'no occurred_at'",
            f"when occurred_at > cast($fetched_at as timestamp) + {CLOCK_SKEW} then 'occurred_at is in the future'",
            f"when occurred_at < {EARLIEST} then 'occurred_at is before 2000'",
        ]
    # Postgres holds no NUL, neither in text nor in jsonb; a backslash that is itself escaped escapes nothing
    nul = r"contains(payload, '\u0000') and regexp_matches(payload, '(^|[^\\])(\\\\)*\\u0000')"
    cases.append(f"when {nul} then 'NUL character in text'")
    return f"case {' '.join(cases)} end"


def _event_identity(stream: Stream, *, is_compared: bool) -> str:
    ordinal = ""
    before = "(select sum(counted.n) from counted where counted.key = judged._key)" if is_compared else "null"
    if stream.key.kind == "content_hash":
        # among records that are alike, in the order in which the window gave them
        ordinal = f""" || '-' || (
            row_number() over (partition by _key, _reason is null order by _n) - 1
            + coalesce({before}, 0))"""
    return f"""
            $stream || ':' || $connection_id || ':' || _key{ordinal} as event_id,
            '{stream.key.kind}' as event_id_kind"""


def _cast(column: Column) -> str:
    text = f"nullif(trim(\"raw_{column.name}\"), '')"
    if column.type == "bigint":
        # a plain cast would round 4.5 to 5
        return f"case when try_cast({text} as double) = try_cast({text} as bigint) then try_cast({text} as bigint) end"
    if column.type == "timestamp":
        if column.format == "iso":
            return f"cast(try_cast({text} as timestamptz) as timestamp)"
        if column.format == "naive":
            return f"timezone('UTC', timezone($time_zone, try_cast({text} as timestamp)))"
        scale = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}[column.format]
        return f"try(make_timestamp(cast(try_cast({text} as decimal(28, 6)) * {scale} as bigint)))"
    return f"try_cast({text} as {_SQL_TYPES[column.type]})"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
