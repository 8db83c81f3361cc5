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
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

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
    readers: tuple[str, ...] = ()
    """The exposures that name it, each with its owner."""

    @cached_property
    def content(self) -> tuple[Column, ...]:
        """The columns that come from the warehouse, and that make a row new or changed."""
        return tuple(column for column in self.columns if column.name not in STAMPS)

    @cached_property
    def stamps(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.name in STAMPS)


def read_marts(manifest: Path, *, is_published: bool = False) -> list[Mart]:
    """The published marts, by name. Raises PublishError for a declaration that cannot be followed.

    `is_published`: what was published is not judged again, for nobody can change it any more.
    """
    try:
        document = json.loads(manifest.read_text())
    except FileNotFoundError as error:
        raise PublishError(f"dbt has left no {manifest}: run `app-usage build` first") from error
    except ValueError as error:  # a full disk cut it off
        raise PublishError(f"{manifest} cannot be read: run `app-usage build` again") from error
    readers: dict[str, list[str]] = {}
    for exposure in document.get("exposures", {}).values():
        owner, label = exposure["owner"], exposure.get("label") or exposure["name"]
        for node_id in exposure["depends_on"]["nodes"]:
            readers.setdefault(node_id, []).append(f"{label!r} of {owner.get('name') or owner.get('email')}")
    published = {
        node_id: node
        for node_id, node in document["nodes"].items()
        if node["resource_type"] == "model" and _declaration(node) not in (None, False)
    }
    marts = (_mart(node, readers.get(node_id, []), is_published) for node_id, node in published.items())
    return sorted(marts, key=lambda mart: mart.name)


def _declaration(node: dict[str, Any]) -> Any:
    return (node["config"].get("meta") or {}).get("publish")


def _mart(node: dict[str, Any], readers: Iterable[str], is_published: bool) -> Mart:
    name, declared = node.get("alias") or node["name"], _declaration(node)
    where = f"{node.get('patch_path') or node['original_file_path']}: model {name}"
    if not is_published:
        _refuse_odd(where, declared)
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
    mart = Mart(
        name=name,
        schema=node["schema"],
        columns=columns,
        description=node.get("description") or "",
        key=tuple(declared.get("key", ())),
        indexes=tuple(tuple(index) for index in declared.get("indexes", ())),
        breaker=Breaker(**declared.get("breaker", {})),
        canary=declared.get("canary", 100),
        drop=tuple(declared.get("drop", ())),
        readers=tuple(sorted(readers)),
    )
    if mart.key[:1] != ("org_id",):
        raise PublishError(f"{where}: meta.publish.key must begin with org_id, it is {list(mart.key)}")
    names = {column.name for column in mart.content}
    for entry, used in (("key", mart.key), *(("indexes", index) for index in mart.indexes)):
        if unknown := set(used) - names:
            raise PublishError(
                f"{where}: meta.publish.{entry} names {', '.join(sorted(unknown))}: the contract has no such column "
                f"from the warehouse, write some of {', '.join(sorted(names))}"
            )
    for identifier in (name, *(column.name for column in columns)):
        if not _NAME.fullmatch(identifier):
            raise PublishError(f"{where}: {identifier!r} is not a snake_case name of at most 63 letters")
    return mart


def _refuse_odd(where: str, declared: Any) -> None:
    """Raises PublishError for an entry that there is none of, or of another form than this file's first lines show.

    A string is a list of letters, too, which would be taken for columns that nobody has.
    """

    def refuse(entry: str, value: object, wanted: str) -> NoReturn:
        raise PublishError(f"{where}: {entry} is {value!r}: write {wanted}")

    def refuse_unknown(entry: str, value: dict[Any, Any], known: Iterable[str]) -> None:
        if unknown := sorted(map(str, value.keys() - set(known))):
            raise PublishError(f"{where}: {entry} does not know {', '.join(unknown)}, only {', '.join(known)}")

    if not isinstance(declared, dict):
        refuse("meta.publish", declared, "at least {key: [org_id, …]}")
    refuse_unknown("meta.publish", declared, ("key", "indexes", "breaker", "canary", "drop"))
    for entry, example in (("key", "org_id, app_id"), ("drop", "old_column")):
        value = declared.get(entry, [])
        if not _are_names(value):
            refuse(f"meta.publish.{entry}", value, f"a list, [{value if isinstance(value, str) else example}]")
    indexes = declared.get("indexes", [])
    if not isinstance(indexes, list) or not all(index and _are_names(index) for index in indexes):
        flat = [indexes] if isinstance(indexes, str) else indexes
        example = ", ".join(flat) if flat and _are_names(flat) else "org_id, usage_band"
        refuse("meta.publish.indexes", indexes, f"a list of lists, [[{example}]]")
    breaker, canary = declared.get("breaker", {}), declared.get("canary", 100)
    if not isinstance(breaker, dict):
        refuse("meta.publish.breaker", breaker, "what it limits, {deleted: 0.2}")
    refuse_unknown("meta.publish.breaker", breaker, [limit.name for limit in fields(Breaker)])
    for entry in ("deleted", "changed"):
        share = breaker.get(entry, 0)
        if type(share) not in (int, float) or not 0 <= share <= 1:
            refuse(f"meta.publish.breaker.{entry}", share, "a share of the rows, from 0 to 1")
    if type(breaker.get("min_rows", 0)) is not int:
        refuse("meta.publish.breaker.min_rows", breaker["min_rows"], "a number of rows")
    if type(breaker.get("may_be_empty", False)) is not bool:
        refuse("meta.publish.breaker.may_be_empty", breaker["may_be_empty"], "true or false")
    if type(canary) is not int or not 0 <= canary <= 100:
        refuse("meta.publish.canary", canary, "a percentage without a fraction, from 0 to 100")


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


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
