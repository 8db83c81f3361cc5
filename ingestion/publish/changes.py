"""What a change of the models would do to the published tables, before it is merged: by the declarations alone.

Additions and wider types reach the product by themselves. All else may break a reader of the product, so it has to be
declared (`meta.publish.drop`), or published under another name beside the old table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    found += [Change(name, "", "is published no more", is_break=True) for name in old.keys() - new.keys()]
    for name in new.keys() & old.keys():
        found += _of_table(new[name], old[name])
    return sorted(found, key=lambda change: (change.table, change.column))


def _of_table(new: Mart, old: Mart) -> list[Change]:
    name, found = new.name, []
    if new.key != old.key:
        key = f"the key is {', '.join(new.key)} and was {', '.join(old.key)}"
        found.append(Change(name, "", key, is_break=True))
    now, was = ({column.name: column.type for column in mart.columns} for mart in (new, old))
    found += [Change(name, column, f"a new column, {now[column]}") for column in now.keys() - was.keys()]
    for column in was.keys() - now.keys():
        found.append(Change(name, column, "is gone", is_break=column not in new.drop))
    for column in now.keys() & was.keys():
        if now[column] != was[column]:
            is_break = column in new.key or not is_wider(was[column], now[column])
            found.append(Change(name, column, f"{now[column]}, was {was[column]}", is_break=is_break))
    return found
