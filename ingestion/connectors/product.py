"""The product's own Postgres: its customers, their people, what they bought. Read in full, as Arrow, at every run.

The tables are those of schema `public`; they are small. Timestamps come as naive UTC, arrays as JSON text. An adopter
whose product has other tables changes this file's queries or the staging models on top of them. What `OPTIONAL` names
may be absent: a column is then read as null, and a table as empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi
import pyarrow as pa

TEXT, DATE, INT, FLOAT = pa.string(), pa.date32(), pa.int64(), pa.float64()
INSTANT, MONEY = pa.timestamp("us"), pa.decimal128(12, 2)

TABLES: Mapping[str, Mapping[str, pa.DataType]] = {
    "orgs": {
        "org_id": TEXT,
        "name": TEXT,
        "timezone": TEXT,
        "email_domains": TEXT,
        "created_at": INSTANT,
        "currency": TEXT,
        "working_days": TEXT,
    },
    "employees": {
        "org_id": TEXT,
        "person_id": TEXT,
        "email": TEXT,
        "alias_emails": TEXT,
        "full_name": TEXT,
        "department": TEXT,
        "started_on": DATE,
        "left_on": DATE,
        "on_leave_from": DATE,
        "on_leave_to": DATE,
        "garden_leave_from": DATE,
    },
    "app_contracts": {
        "org_id": TEXT,
        "app_id": TEXT,
        "license_name": TEXT,
        "purchased": INT,
        "annual_price": MONEY,
        "currency": TEXT,
        "starts_on": DATE,
        "ends_on": DATE,
        "minimum_purchased": INT,
        "billing_period": TEXT,
    },
    "app_states": {"org_id": TEXT, "app_id": TEXT, "state": TEXT, "changed_at": INSTANT},
    "license_exemptions": {
        "org_id": TEXT,
        "app_id": TEXT,
        "account_email": TEXT,
        "reason": TEXT,
        "expires_on": DATE,
    },
    "usage_settings": {
        "org_id": TEXT,
        "app_id": TEXT,
        "license_name": TEXT,
        "idle_after_days": INT,
        "grace_days": INT,
        "underused_ratio": FLOAT,
    },
    "app_target_groups": {"org_id": TEXT, "app_id": TEXT, "department": TEXT},
    "org_holidays": {"org_id": TEXT, "holiday_on": DATE},
    "exchange_rates": {"currency": TEXT, "starts_on": DATE, "rate": FLOAT},
}
# A table, or columns of one.
OPTIONAL: Mapping[str, set[str]] = {
    "orgs": {"currency", "working_days"},
    "employees": {"garden_leave_from"},
    "app_contracts": {"minimum_purchased", "billing_period"},
    "app_target_groups": set(TABLES["app_target_groups"]),
    "org_holidays": set(TABLES["org_holidays"]),
    "exchange_rates": set(TABLES["exchange_rates"]),
}
_ARRAYS = {"email_domains": "text[]", "alias_emails": "text[]", "working_days": "int[]"}


class ProductError(Exception):
    """The product database cannot be read; the message says why, without its password."""


def read_tables(url: str) -> dict[str, pa.Table]:
    """Every table of `TABLES`, of one snapshot of the product database. Raises ProductError."""
    with _reading(url) as cursor:
        return {table: _read(cursor, table) for table in TABLES}


def read_customers(url: str) -> set[str]:
    """The ids that the product lists. Raises ProductError."""
    with _reading(url) as cursor:
        return set(_read(cursor, "orgs")["org_id"].to_pylist())


def try_tables(url: str) -> None:
    """Raises ProductError where `read_tables` would, and reads no row."""
    with _reading(url) as cursor:
        for table in TABLES:
            _read(cursor, table, "limit 0")


@contextmanager
def _reading(url: str) -> Iterator[Any]:
    with _connected(url) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("set transaction isolation level repeatable read, read only")
            yield cursor
        except adbc_driver_postgresql.dbapi.Error as error:
            needed = ", ".join(table for table, columns in TABLES.items() if OPTIONAL.get(table) != set(columns))
            raise ProductError(
                f"cannot read the product database: {_reason(error)}; it needs the tables {needed} in schema public "
                "(without PRODUCT_DB_URL, and without connections, the sandbox makes them)"
            ) from error


def _connected(url: str) -> adbc_driver_postgresql.dbapi.Connection:
    try:
        return adbc_driver_postgresql.dbapi.connect(url)
    except adbc_driver_postgresql.dbapi.Error as error:
        reason = _reason(error).replace(url, "the product database")
        raise ProductError(f"the product database does not answer: {reason}. Check PRODUCT_DB_URL") from error


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0]


def make_missing_tables(url: str) -> None:
    """Empty tables where there are none: for a private product database, so that accounts can be read without one."""
    names = {TEXT: "text", DATE: "date", INT: "bigint", FLOAT: "double precision", MONEY: "numeric(12, 2)"}
    with _connected(url) as connection, connection.cursor() as cursor:
        for table, columns in TABLES.items():
            typed = (f"{name} {_ARRAYS.get(name) or names.get(kind, 'timestamptz')}" for name, kind in columns.items())
            cursor.execute(f"create table if not exists public.{table} ({', '.join(typed)})")
        connection.commit()


def hints(table: str) -> dict[str, Any]:
    """dlt column hints of a table."""
    kinds: dict[pa.DataType, dict[str, Any]] = {
        TEXT: {"data_type": "text"},
        DATE: {"data_type": "date"},
        INT: {"data_type": "bigint"},
        FLOAT: {"data_type": "double"},
        INSTANT: {"data_type": "timestamp", "timezone": False, "precision": 6},
        MONEY: {"data_type": "decimal", "precision": 12, "scale": 2},
    }
    return {column: kinds[kind] for column, kind in TABLES[table].items()}


def _read(cursor: Any, table: str, limit: str = "") -> pa.Table:
    schema = pa.schema(list(TABLES[table].items()))
    order = ", ".join(str(position) for position in range(1, len(schema) + 1))
    absent = OPTIONAL[table] - _columns(cursor, table) if table in OPTIONAL else set()
    if len(absent) == len(schema):
        return schema.empty_table()
    listed = (f"null as {column.name}" if column.name in absent else _expression(column) for column in schema)
    cursor.execute(f"select {', '.join(listed)} from public.{table} order by {order} {limit}")
    try:
        return cursor.fetch_arrow_table().cast(schema)
    except pa.ArrowInvalid as error:
        raise ProductError(f"cannot read the product's table {table}: {error}") from error


def _columns(cursor: Any, table: str) -> set[str]:
    """The columns that a table has; none if there is no such table."""
    cursor.execute(
        f"select attname::text from pg_attribute where attrelid = to_regclass('public.{table}') and not attisdropped"
    )
    return {name for (name,) in cursor.fetchall()}


def _expression(column: pa.Field) -> str:
    name: str = column.name
    if name in _ARRAYS:
        return f"cast(to_json({name}) as text) as {name}"
    if column.type == INSTANT:
        return f"case when isfinite({name}) then {name} at time zone 'UTC' end as {name}"
    if column.type == DATE:  # infinity, which is PostgreSQL's alone, is no end
        return f"case when isfinite(cast({name} as date)) then cast({name} as date) end as {name}"
    if column.type == MONEY:
        amount = f"cast(round(cast({name} as numeric), 2) as text)"
        return f"case when {amount} not in ('NaN', 'Infinity', '-Infinity') then {amount} end as {name}"
    if column.type in (INT, FLOAT):
        return f"cast({name} as {'bigint' if column.type == INT else 'double precision'}) as {name}"
    return f"cast({name} as text) as {name}"
