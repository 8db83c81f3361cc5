"""How far each stream is complete, what failed and what was rejected: the newest entries of the fetch logs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
    error: str | None


def streams(warehouse: Warehouse) -> list[StreamStatus]:
    """The newest fetch of every stream that was ever read, and how many of its records are still rejected."""
    found: list[StreamStatus] = []
    with warehouse.pipeline("product").sql_client() as client:
        for dataset in _datasets(client, "fetch_log"):
            newest = _rows(
                client,
                "select connection_id, stream, outcome, complete_through, fetched_at, error from (select *,"
                " row_number() over (partition by connection_id, stream order by fetched_at desc, window_start desc)"
                f" as newest from {dataset}.fetch_log) as fetches where newest = 1 order by connection_id, stream",
            )
            rejected = {
                (connection, stream): count
                for rejects in set(_datasets(client, "rejected_records")) & {dataset}
                for connection, stream, count in _rows(
                    client,
                    "select connection_id, stream, count(distinct record_hash)"
                    f" from {rejects}.rejected_records as rejected where true{_still_rejected(client, dataset)}"
                    " group by connection_id, stream",
                )
            }
            found += [
                StreamStatus(connection, stream, outcome, through, at, rejected.get((connection, stream), 0), error)
                for connection, stream, outcome, through, at, error in newest
            ]
    return found


def _still_rejected(client: Any, dataset: str) -> str:
    if dataset not in _datasets(client, "replayed_records"):
        return ""
    return (
        f" and not exists (select 1 from {dataset}.replayed_records as replayed"
        " where replayed.record_hash = rejected.record_hash"
        " and replayed.connection_id = rejected.connection_id and replayed.stream = rejected.stream)"
    )


def _datasets(client: Any, table: str) -> list[str]:
    rows = _rows(
        client,
        "select table_schema from information_schema.tables"
        f" where table_name = '{table}' and table_schema like 'landing!_%' escape '!' order by 1",
    )
    return [row[0] for row in rows]


def _rows(client: Any, sql: str) -> list[tuple[Any, ...]]:
    with client.execute_query(sql) as cursor:
        return [tuple(row) for row in cursor.fetchall()]
