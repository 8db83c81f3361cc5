"""What a change of the models would do to the published tables, before it is merged: by the declarations alone.

Additions and wider types reach the product by themselves. All else may break a reader of the product, so it has to be
declared (`meta.publish.drop`), or published under another name beside the old table.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion.publish.marts import Mart
from ingestion.publish.tables import is_wider


@dataclass(frozen=True)
class Change:
    table: str
    column: str
    """Empty where it is about the whole table."""
    what: str
    is_break: bool = False
    """Whether something may read what is no longer there, and nothing declares it."""

    def __str__(self) -> str:
        return f"{self.table}{'.' if self.column else ''}{self.column}: {self.what}"


def changes(marts: Sequence[Mart], published: Sequence[Mart]) -> list[Change]:
    """What `marts` would change of the tables that were published from `published`, by table and column."""
    new, old = ({mart.name: mart for mart in each} for each in (marts, published))
    found = [Change(name, "", "a new table") for name in new.keys() - old.keys()]
    found += [
        Change(name, "", f"is published no more{_read_by(old[name])}", is_break=True)
        for name in old.keys() - new.keys()
    ]
    for name in new.keys() & old.keys():
        found += _of_table(new[name], old[name])
    return sorted(found, key=lambda change: (change.table, change.column))


def _of_table(new: Mart, old: Mart) -> list[Change]:
    name, found = new.name, []
    if new.key != old.key:
        key = f"the key is {', '.join(new.key)} and was {', '.join(old.key)}{_read_by(old)}"
        found.append(Change(name, "", key, is_break=True))
    now, was = ({column.name: column.type for column in mart.columns} for mart in (new, old))
    found += [Change(name, column, f"a new column, {now[column]}") for column in now.keys() - was.keys()]
    for column in was.keys() - now.keys():
        found.append(Change(name, column, f"is gone{_read_by(old)}", is_break=column not in new.drop))
    for column in now.keys() & was.keys():
        if now[column] != was[column]:
            is_break = column in new.key or not is_wider(was[column], now[column])
            told = f"{now[column]}, was {was[column]}{_read_by(old) if is_break else ''}"
            found.append(Change(name, column, told, is_break=is_break))
    return found


def _read_by(mart: Mart) -> str:
    return f"; read by {', '.join(mart.readers)}" if mart.readers else ""


def kept_as_built(manifest: Path, published: Path) -> list[Change]:
    """Edited models of which a build keeps the rows that there are, as what was edited had made them.

    Those that count days know their own code and count anew; others are asked to.
    """
    now, was = (json.loads(path.read_text())["nodes"] for path in (manifest, published))
    return [
        Change(
            node["name"],
            "",
            "is edited, and keeps the rows that it has: `app-usage build --full-refresh --select"
            f" {node['name']}+`, and then `app-usage run`, makes them anew",
        )
        for node_id, node in sorted(now.items())
        if "incremental" in node["config"].get("materialized", "")
        and node["config"].get("full_refresh") is not False
        and not any(macro.endswith(".definition_of_usage") for macro in node["depends_on"]["macros"])
        and node_id in was
        and node["checksum"] != was[node_id]["checksum"]
    ]
