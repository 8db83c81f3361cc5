"""How far each stream is complete, what failed, what was rejected, and which days are missing.

The newest entries of the fetch logs say the first three, as of now; the mart `source_gaps` the last, as of its build.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from ingestion.extract import Warehouse


@dataclass(frozen=True)
class StreamStatus:
    """A stream of a connection. Instants are naive UTC; None: never."""

    connection_id: str
    stream: str
    outcome: str
    complete_through: datetime | None
    fetched_at: datetime | None
    rejected: int
    reason: str | None
    """Why, of the most of them."""
    errors: tuple[str, ...]
    """All that the last fetch noted, whatever its outcome: a file is corrupt while the others are read."""
    ended_on: datetime | None = None
    """Since when the vendor is not asked any more, for the connection was taken away."""


@dataclass(frozen=True)
class Gap:
    """Local days, both included, that a stream should have told of by now and has not, and what is to be done.

    An `open` gap can still be closed; of a `lost` one the vendor had forgotten when it was asked.
    """

    connection_id: str
    stream: str
    first_date: date
    last_date: date
    state: str
    advice: str


def streams(warehouse: Warehouse) -> list[StreamStatus]:
    """The newest fetch of every stream that was ever read, and how many of its records are still rejected."""
    found: list[StreamStatus] = []
    with warehouse.pipeline("product").sql_client() as client:
        with_rejects, with_replays = _datasets(client, "rejected_records"), _datasets(client, "replayed_records")
        for dataset in _datasets(client, "fetch_log"):
            fetches = f"select * from {dataset}.fetch_log where {_has_landed(dataset)}"
            newest = _rows(
                client,
                "select connection_id, stream, outcome, complete_through, fetched_at,"
                " case when outcome = 'ended' then window_start end as ended_on from (select *,"
                # of what it noted last: that it failed, else how far it came, else that it was begun
                " row_number() over (partition by connection_id, stream order by fetched_at desc, _dlt_load_id desc,"
                " case outcome when 'failed' then 1 when 'reading' then 3 else 2 end, window_start desc nulls last)"
                f" as newest from ({fetches}) as fetches) as fetches where newest = 1 order by connection_id, stream",
            )
            errors: dict[tuple[str, str], list[str]] = defaultdict(list)
            for connection, stream, error in _rows(
                client,
                "select distinct connection_id, stream, error from (select *,"
                " max(fetched_at) over (partition by connection_id, stream) as newest"
                f" from ({fetches}) as fetches) as fetches where fetched_at = newest and error is not null"
                " order by connection_id, stream, error",
            ):
                errors[connection, stream].append(error)
            rejected = _rejected(client, dataset, with_replays) if dataset in with_rejects else {}
            for connection, stream, outcome, through, at, ended_on in newest:
                count, reason = rejected.get((connection, stream), (0, None))
                noted = tuple(errors[connection, stream])
                found.append(StreamStatus(connection, stream, outcome, through, at, count, reason, noted, ended_on))
    return found


def _rejected(client: Any, dataset: str, with_replays: list[str]) -> dict[tuple[str, str], tuple[int, str]]:
    """How many records of a stream are still rejected, and the commonest reason, by connection and stream."""
    still = f"{dataset}.rejected_records as rejected where {_has_landed(dataset)}"
    if dataset in with_replays:
        still += (
            f" and not exists (select 1 from {dataset}.replayed_records as replayed"
            " where replayed.record_hash = rejected.record_hash"
            " and replayed.connection_id = rejected.connection_id and replayed.stream = rejected.stream"
            f" and {_has_landed(dataset)})"
        )
    of_reasons = (
        "select connection_id, stream, reason, row_number() over (partition by connection_id, stream"
        " order by records desc, reason) as place from (select connection_id, stream, reason,"
        f" count(distinct record_hash) as records from {still} group by connection_id, stream, reason) as counted"
    )
    counts = f"select connection_id, stream, count(distinct record_hash) as records from {still} group by 1, 2"
    rows = _rows(
        client,
        f"select connection_id, stream, records, reason from ({counts}) as counts"
        f" join ({of_reasons}) as reasons using (connection_id, stream) where place = 1",
    )
    return {(connection, stream): (count, reason) for connection, stream, count, reason in rows}


def gaps(warehouse: Warehouse, schema: str, statuses: list[StreamStatus]) -> list[Gap]:
    """The missing days of every stream, none before a build; `schema` is the marts', `statuses` of `streams`."""
    through = {(status.connection_id, status.stream): status.complete_through for status in statuses}
    ended = {status.connection_id for status in statuses if status.ended_on}
    with warehouse.pipeline("product").sql_client() as client:
        if not _rows(
            client,
            "select 1 from information_schema.tables where table_name = 'source_gaps' and table_schema = %s",
            schema,
        ):
            return []
        rows = _rows(
            client,
            "select connection_id, stream, first_date, last_date, gap_state, connector"
            f" from {client.escape_column_name(schema)}.source_gaps order by connection_id, stream, first_date",
        )
    found = []
    for connection, stream, first, last, state, connector in rows:
        advice = "nobody is asked for them any more: the connection has ended"
        if connection not in ended:
            advice = _advice(connection, connector, first, last, state, through.get((connection, stream)))
        found.append(Gap(connection, stream, first, last, state, advice))
    return found


def _advice(connection: str, connector: str, first: date, last: date, state: str, through: datetime | None) -> str:
    if state == "lost" and connector == "files":
        return "replace the corrupt file, which the table files names"
    if state == "lost":
        return "the vendor has forgotten them; event files can bring them"
    if through is None or last >= through.date() - timedelta(days=1):
        return "closes by itself as soon as the vendor answers"
    # days are the customer's own and the command's are UTC: one more on either side
    begin, end = first - timedelta(days=1), last + timedelta(days=2)
    return f"app-usage backfill --connection {connection} --from {begin} --to {end}"


def _has_landed(dataset: str) -> str:
    """Of a row of a dataset: whether its load was completed, and not cut off."""
    return f"_dlt_load_id in (select load_id from {dataset}._dlt_loads where status = 0)"


def _datasets(client: Any, table: str) -> list[str]:
    rows = _rows(
        client,
        "select table_schema from information_schema.tables"
        f" where table_name = '{table}' and table_schema like 'landing!_%' escape '!' order by 1",
    )
    return [row[0] for row in rows]


def _rows(client: Any, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with client.execute_query(sql, *parameters) as cursor:
        return [tuple(row) for row in cursor.fetchall()]
