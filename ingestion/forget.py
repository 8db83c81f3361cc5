"""Forgets a customer: what was read of it, all that was computed from that, and what the product shows of it.

Landing tables, snapshots and the ledgers that dbt never makes anew lose the customer's rows; all other models are made
anew from what is left. What lies outside of both databases stays, such as backups and event files; so do the names of
its connections in dlt's schemas, and what an engine leaves in the free space of its files.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from dlt.destinations.sql_client import SqlClientBase

from ingestion.config import ConfigError
from ingestion.connections import Connection
from ingestion.connectors import product
from ingestion.extract import Warehouse, drop_cursors

Table = tuple[str, str]  # schema and name


class ForgetError(Exception):
    """Something is left of a customer that should be forgotten; the message says where."""


@dataclass(frozen=True)
class Held:
    """How many rows of a customer there are, by table as SQL names it."""

    warehouse: Mapping[str, int]
    product: Mapping[str, int]

    @property
    def rows(self) -> int:
        return sum(self.warehouse.values()) + sum(self.product.values())


def refuse_if_served(org: str, connections: list[Connection], product_url: str) -> None:
    """Raises ConfigError where the next run would bring the customer back."""
    if listed := [connection.connection_id for connection in connections if connection.org_id == org]:
        it = "it" if len(listed) == 1 else "them"
        raise ConfigError(f"the connections file still lists {', '.join(listed)} of {org!r}: take {it} out of it first")
    if there := [
        f"public.{name}"
        for name, rows in product.read_tables(product_url).items()
        if "org_id" in rows.column_names and pc.any(pc.equal(rows["org_id"], org)).as_py()
    ]:
        raise ConfigError(
            f"the product database still has {org!r} in {', '.join(there)}, and the next run would read it again:"
            " delete it there first"
        )


def held(warehouse: Warehouse, manifest: Mapping[str, Any], org: str) -> dict[Table, int]:
    """The warehouse's tables with rows of a customer, and how many: the project's, and those that dlt has landed."""
    found: dict[Table, int] = {}
    with warehouse.pipeline("product").sql_client() as client:
        quoted = client.capabilities.escape_identifier
        for (schema, name), own in _tables(client, {node["schema"] for node in _relations(manifest)}).items():
            with client.execute_query(
                f"select count(*) from {quoted(schema)}.{quoted(name)} where {own}", org
            ) as cursor:
                if rows := cursor.fetchall()[0][0]:
                    found[schema, name] = rows
    return found


def _tables(client: SqlClientBase[Any], schemas: Collection[str]) -> dict[Table, str]:
    """The tables that have customers, and which rows are one's: `%s` stands for it."""
    quoted = client.capabilities.escape_identifier
    with client.execute_query(
        "select columns.table_schema, columns.table_name,"
        " max(case when columns.column_name = 'org_id' then 1 else 0 end)"
        " from information_schema.columns as columns"
        " inner join information_schema.tables as tables on columns.table_schema = tables.table_schema"
        " and columns.table_name = tables.table_name"
        " where columns.column_name in ('org_id', 'connection_id') and tables.table_type = 'BASE TABLE'"
        " group by 1, 2 order by 1, 2"
    ) as cursor:
        listed = cursor.fetchall()
    found: dict[Table, str] = {}
    for schema, name, has_org in listed:
        is_landed = schema.startswith("landing_")
        if has_org and (is_landed or schema in schemas):
            found[schema, name] = "org_id = %s"
        elif is_landed:
            log = f"{quoted(schema)}.{quoted('fetch_log')}"
            found[schema, name] = f"connection_id in (select connection_id from {log} where org_id = %s)"
    return found


def erase(warehouse: Warehouse, manifest: Mapping[str, Any], org: str) -> None:
    """Deletes a customer's cursors, and its rows from all tables that a full refresh does not make anew."""
    for connector in warehouse.landed():
        drop_cursors(warehouse.pipeline(connector), org)
    remade = {
        (node["schema"], node["alias"])
        for node in _relations(manifest)
        if node["resource_type"] == "model" and node["config"].get("full_refresh") is not False
    }
    with warehouse.pipeline("product").sql_client() as client, client.begin_transaction():
        quoted = client.capabilities.escape_identifier
        tables = _tables(client, {node["schema"] for node in _relations(manifest)})
        # the fetch log last: it says whose the connections are
        for schema, name in sorted(tables.keys() - remade, key=lambda table: (table[1] == "fetch_log", table)):
            own = tables[schema, name]
            client.execute_sql(f"delete from {quoted(schema)}.{quoted(name)} where {own}", org)


def forget_copies(pipelines_dir: Path) -> None:
    """The publisher's copies of what is published, which the next publish makes anew."""
    for file in pipelines_dir.glob("published.duckdb*"):
        file.unlink()
    shutil.rmtree(pipelines_dir / "marts", ignore_errors=True)


def _relations(manifest: Mapping[str, Any]) -> Iterator[Any]:
    return (node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "snapshot"))
