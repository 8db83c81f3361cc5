"""What is published: the marts that declare it in their yml, read from dbt's manifest.

    config:
      contract: {enforced: true}
      meta:
        publish:
          key: [org_id, app_id]                 # the primary key, org_id first
          indexes: [[org_id, usage_band]]       # more indexes, for how the product reads the table
          breaker: {deleted: 0.2, changed: 0.9} # see `Breaker`
          canary: 10                            # percent of the orgs that get a change of this mart
          drop: [old_column]                    # columns that may go from the product's table

The contract gives the columns and their types, the descriptions become the comments of table and columns.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# The publisher fills these columns of a mart by itself: the generation in which the row last changed.
STAMPS = {"generation_id": "text", "published_at": "timestamptz"}

_TYPES = {
    "text": ("text", "string", "varchar", "character varying", "char"),
    "bigint": ("bigint", "int8", "integer", "int", "int4", "smallint"),
    "double precision": ("double precision", "double", "float8", "float"),
    "boolean": ("boolean", "bool"),
    "date": ("date",),
    # Warehouses hold UTC without saying so; the product's columns say so.
    "timestamptz": ("timestamp", "timestamptz", "timestamp without time zone", "timestamp with time zone"),
}
_PRODUCT_TYPE = {name: product_type for product_type, names in _TYPES.items() for name in names}
# The names that come out of dlt's and PostgreSQL's naming rules as they went in.
_NAME = re.compile(r"(?=.{1,63}$)[a-z]+(_?[a-z0-9]+)*")


class PublishError(Exception):
    """Nothing was published: the cause, and the next command. The product still has its last generation."""


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    """As PostgreSQL's `format_type` spells it, `timestamptz` apart."""
    description: str = ""


@dataclass(frozen=True)
class Breaker:
    """When a change is too large to go live unseen. The shares are of the rows that an org had before."""

    deleted: float = 0.5
    """More of an org's rows vanish than a normal day takes: a source that reported nothing, a broken join."""
    changed: float = 1.0
    """Off by default: when the day turns, every trailing-window row of an org changes."""
    min_rows: int = 100
    """An org with fewer rows is not judged by shares: half of five rows is two people who left."""
    may_be_empty: bool = False
    """For lists of findings, which are at their best when empty."""


@dataclass(frozen=True)
class Mart:
    """A published table: `schema.name` of the warehouse becomes `app_usage.name` of the product."""

    name: str
    schema: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    description: str = ""
    indexes: tuple[tuple[str, ...], ...] = ()
    breaker: Breaker = field(default_factory=Breaker)
    canary: int = 100
    drop: tuple[str, ...] = ()

    @cached_property
    def content(self) -> tuple[Column, ...]:
        """The columns that come from the warehouse, and that make a row new or changed."""
        return tuple(column for column in self.columns if column.name not in STAMPS)

    @cached_property
    def stamps(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.name in STAMPS)


def read_marts(manifest: Path) -> list[Mart]:
    """The published marts, by name. Raises PublishError for a declaration that cannot be followed."""
    try:
        nodes = json.loads(manifest.read_text())["nodes"].values()
    except FileNotFoundError as error:
        raise PublishError(f"dbt has left no {manifest}: run `app-usage build` first") from error
    published = [node for node in nodes if node["resource_type"] == "model" and _declaration(node)]
    return sorted((_mart(node) for node in published), key=lambda mart: mart.name)


def _declaration(node: dict[str, Any]) -> dict[str, Any]:
    return (node["config"].get("meta") or {}).get("publish") or {}


def _mart(node: dict[str, Any]) -> Mart:
    name, declared = node.get("alias") or node["name"], dict(_declaration(node))
    where = f"{node.get('patch_path') or node['original_file_path']}: model {name}"
    if not (node["config"].get("contract") or {}).get("enforced"):
        raise PublishError(f"{where} is published without an enforced contract: set contract.enforced to true")
    columns = tuple(
        Column(
            column["name"],
            STAMPS.get(column["name"]) or _product_type(where, column),
            column.get("description") or "",
        )
        for column in node["columns"].values()
    )
    try:
        mart = Mart(
            name=name,
            schema=node["schema"],
            columns=columns,
            description=node.get("description") or "",
            key=tuple(declared.pop("key", ())),
            indexes=tuple(tuple(index) for index in declared.pop("indexes", ())),
            breaker=Breaker(**declared.pop("breaker", {})),
            canary=int(declared.pop("canary", 100)),
            drop=tuple(declared.pop("drop", ())),
        )
    except (TypeError, ValueError) as error:
        raise PublishError(f"{where}: meta.publish cannot be read: {error}") from error
    if declared:
        raise PublishError(f"{where}: meta.publish does not know {', '.join(sorted(declared))}")
    if mart.key[:1] != ("org_id",):
        raise PublishError(f"{where}: meta.publish.key must begin with org_id, it is {list(mart.key)}")
    names = {column.name for column in mart.content}
    for used in (mart.key, *mart.indexes):
        if unknown := set(used) - names:
            raise PublishError(f"{where}: the contract has no column {', '.join(sorted(unknown))}")
    for identifier in (name, *(column.name for column in columns)):
        if not _NAME.fullmatch(identifier):
            raise PublishError(f"{where}: {identifier!r} is not a snake_case name of at most 63 letters")
    return mart


def _product_type(where: str, column: dict[str, Any]) -> str:
    declared = (column.get("data_type") or "").lower().strip()
    if exact := re.fullmatch(r"(?:numeric|decimal)\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)", declared):
        return f"numeric({exact[1]},{exact[2]})"
    product_type = _PRODUCT_TYPE.get(re.sub(r"\s*\(.*\)", "", declared))
    if not product_type:
        raise PublishError(
            f"{where}: column {column['name']} has the type {declared or '(none)'}, which is not published; "
            f"use {', '.join(_TYPES)} or numeric(precision, scale)"
        )
    return product_type
