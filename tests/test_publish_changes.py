"""What a change of the models would do to the tables that the product reads, by their declarations alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingestion.publish import Change, changes
from ingestion.publish.marts import Column, Mart

USAGE = Mart(
    name="usage",
    schema="analytics",
    columns=tuple(
        Column(*column)
        for column in (("org_id", "text"), ("app_id", "text"), ("users", "bigint"), ("price", "numeric(10,2)"))
    ),
    key=("org_id", "app_id"),
)


def of_type(kind: str, column: str = "users") -> Mart:
    columns = (replace(each, type=kind) if each.name == column else each for each in USAGE.columns)
    return replace(USAGE, columns=tuple(columns))


@pytest.mark.parametrize(
    ("mart", "expected"),
    [
        (USAGE, []),
        (replace(USAGE, description="Other words.", indexes=(("org_id", "users"),)), []),
        (replace(USAGE, columns=(*USAGE.columns, Column("since", "date"))), [("since", "a new column, date", False)]),
        (of_type("double precision"), [("users", "double precision, was bigint", False)]),
        (of_type("numeric(12,2)", "price"), [("price", "numeric(12,2), was numeric(10,2)", False)]),
        (of_type("numeric(12,4)", "price"), [("price", "numeric(12,4), was numeric(10,2)", False)]),
        (of_type("numeric(9,2)", "price"), [("price", "numeric(9,2), was numeric(10,2)", True)]),
        (of_type("text"), [("users", "text, was bigint", True)]),
        (replace(USAGE, columns=USAGE.columns[:-1]), [("price", "is gone", True)]),
        (replace(USAGE, columns=USAGE.columns[:-1], drop=("price",)), [("price", "is gone", False)]),
        (replace(USAGE, key=("org_id",)), [("", "the key is org_id and was org_id, app_id", True)]),
    ],
)
def test_only_what_a_reader_may_miss_is_a_break(mart: Mart, expected: list[tuple[str, str, bool]]) -> None:
    assert changes([mart], [USAGE]) == [Change("usage", *each) for each in expected]


def test_a_table_may_come_and_must_not_go() -> None:
    other = replace(USAGE, name="other")
    assert changes([USAGE, other], [USAGE]) == [Change("other", "", "a new table")]
    assert changes([USAGE], [USAGE, other]) == [Change("other", "", "is published no more", is_break=True)]
