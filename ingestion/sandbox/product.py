"""The product database's input tables as the sandbox's world has them.

A table is made where there is none, and marked as the sandbox's by its comment. One that bears another comment, or
none, is somebody's own and is left exactly as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extras import execute_values

from ingestion.sandbox.world import APPS, Org, Person, World, fraction, key, mix

MARK = "Made by the app-usage sandbox; it may be changed or emptied at any run."
FILLED, NOT_OURS = "filled", "left alone: the sandbox did not make this table"

Row = dict[str, Any]

TABLES: dict[str, str] = {
    "orgs": """
        org_id text primary key,
        name text not null,
        timezone text not null,
        email_domains text[] not null,
        created_at timestamptz not null""",
    "employees": """
        org_id text not null,
        person_id text not null,
        email text,
        alias_emails text[],
        full_name text,
        department text,
        started_on date,
        left_on date,
        on_leave_from date,
        on_leave_to date,
        primary key (org_id, person_id)""",
    "app_contracts": """
        org_id text not null,
        app_id text not null,
        license_name text not null,
        purchased int not null,
        annual_price numeric(12,2),
        currency text,
        starts_on date not null,
        ends_on date,
        primary key (org_id, app_id, license_name, starts_on)""",
    "app_states": """
        org_id text not null,
        app_id text not null,
        state text not null,
        changed_at timestamptz not null""",
    "license_exemptions": """
        org_id text not null,
        app_id text not null,
        account_email text not null,
        reason text,
        expires_on date""",
    "usage_settings": """
        org_id text not null,
        app_id text,
        license_name text,
        idle_after_days int,
        grace_days int,
        underused_ratio numeric""",
}

# What a product may have beside: further columns of these tables, and further tables.
EXTRA_COLUMNS: dict[str, str] = {
    "orgs": "currency text, working_days int[]",
    "employees": "garden_leave_from date",
    "app_contracts": "minimum_purchased int, billing_period text",
}
EXTRA_TABLES: dict[str, str] = {
    "app_target_groups": """
        org_id text not null,
        app_id text not null,
        department text not null,
        primary key (org_id, app_id, department)""",
    "org_holidays": """
        org_id text not null,
        holiday_on date not null,
        primary key (org_id, holiday_on)""",
    "exchange_rates": """
        currency text not null,
        starts_on date not null,
        rate double precision not null,
        primary key (currency, starts_on)""",
}

# What a unit of each currency was worth in euros, one after another: francs are paid in, but nobody says what they are.
_RATES = {"EUR": (1.0,), "USD": (1.1, 1.17), "JPY": (158.0, 171.5)}
# Whom some apps are for, not always as HR writes it.
_TARGETS = {"github": ("Engineering", "Design"), "salesforce": ("sales",), "figma": ("Design ",), "slack": ("Support",)}
_WORKING_DAYS = {"Europe/Berlin": [1, 2, 3, 4], "Asia/Tokyo": [7, 1, 2, 3, 4]}
# What is sold of the apps that are connected directly: licence, share of the headcount that is bought, price a year.
_LICENSES = {
    "zoom": (("licensed", 0.8, "159.90"),),
    "okta": (("Workforce Identity", 1.2, "72.00"),),
    "google_workspace": (
        ("Google Workspace Business Standard", 1.1, "144.00"),
        ("Google Workspace Business Plus", 0.2, "216.00"),
    ),
    "slack": (("Enterprise Grid", 1.0, None),),
}
# HR announces who comes a week before, and who goes two weeks before.
_ANNOUNCED_COMING, _ANNOUNCED_GOING = 7, 14


def product_rows(world: World, now: datetime) -> dict[str, list[Row]]:
    """The rows of every input table at an instant, by table, with the columns in order."""
    today = now.astimezone(UTC).date()
    has_extras = world.options.extras
    rows: dict[str, list[Row]] = {table: [] for table in (*TABLES, *(EXTRA_TABLES if has_extras else ()))}
    for org in world.orgs:
        rows["orgs"].append(
            {
                "org_id": org.org_id,
                "name": org.name,
                "timezone": org.timezone,
                "email_domains": list(org.email_domains),
                "created_at": org.created_at,
                **({"currency": org.currency, "working_days": _WORKING_DAYS.get(org.timezone)} if has_extras else {}),
            }
        )
        rows["employees"].extend(
            _employee(person, today) | (_garden_leave(person, today) if has_extras else {})
            for person in org.people
            if person.kind == "employee" and person.first_day <= today.toordinal() + _ANNOUNCED_COMING
        )
        contracts = _contracts(org, world.options.people, today)
        rows["app_contracts"].extend(_with_terms(row, today) if has_extras else row for row in contracts)
        rows["app_states"].extend(_states(org, today))
        rows["license_exemptions"].extend(_exemptions(org))
        rows["usage_settings"].extend(_settings(org))
        if has_extras:
            rows["org_holidays"].extend(
                {"org_id": org.org_id, "holiday_on": date(year, month, day)}
                for year in range(org.created_at.year, today.year + 1)
                for month, day in ((1, 1), (1, 19 + org.index), (7, 14), (10, 3), (12, 25))
            )
            rows["app_target_groups"].extend(
                {"org_id": org.org_id, "app_id": app_id, "department": department}
                for app_id, departments in _TARGETS.items()
                for department in departments
                if app_id in org.apps
            )
    if has_extras:
        rows["exchange_rates"] = list(_rates())
    return rows


def fill_product(url: str, world: World, now: datetime) -> dict[str, str]:
    """Brings the tables to where they are at an instant, in one transaction. Returns table -> what was done.

    Safe to repeat: a table whose rows are as they should be is not written to.
    """
    done = {}
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("set local timezone to 'UTC'")
        cursor.execute("select pg_advisory_xact_lock(hashtext('app-usage sandbox'))")
        for table, rows in product_rows(world, now).items():
            cursor.execute(
                "select to_regclass(%s), obj_description(to_regclass(%s), 'pg_class')", [f"public.{table}"] * 2
            )
            there, comment = cursor.fetchone() or (None, None)
            name = sql.Identifier("public", table)
            if there is None:
                columns = TABLES.get(table) or EXTRA_TABLES[table]
                cursor.execute(sql.SQL("create table {} (" + columns + ")").format(name))
                cursor.execute(sql.SQL("comment on table {} is %s").format(name), [MARK])
            elif comment != MARK and table == "orgs":
                return dict.fromkeys(TABLES, NOT_OURS)  # a product with customers of its own: nothing here is for play
            elif comment != MARK:
                done[table] = NOT_OURS
                continue
            if world.options.extras and table in EXTRA_COLUMNS:
                further = EXTRA_COLUMNS[table].replace(", ", ", add column if not exists ")
                cursor.execute(sql.SQL("alter table {} add column if not exists " + further).format(name))
            _replace(cursor, name, rows)
            done[table] = FILLED
    return done


def _replace(cursor: Any, name: sql.Identifier, rows: Sequence[Row]) -> None:
    columns = list(rows[0]) if rows else ["org_id"]
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    cursor.execute(sql.SQL("select {} from {}").format(listed, name))
    wanted = [tuple(row.values()) for row in rows]
    if sorted(map(repr, cursor.fetchall())) == sorted(map(repr, wanted)):
        return
    # Not truncate: a reader of the product's must never wait, nor see an empty table.
    cursor.execute(sql.SQL("delete from {}").format(name))
    execute_values(cursor, sql.SQL("insert into {} ({}) values %s").format(name, listed), wanted, page_size=1000)


def _employee(person: Person, today: date) -> Row:
    leave = None
    for year in (today.year - 1, today.year):
        drawn = person.leave(year)
        if drawn and drawn[0] <= today.toordinal() + _ANNOUNCED_GOING:
            leave = drawn
    left = person.left_day
    is_announced = left is not None and left <= today.toordinal() + _ANNOUNCED_GOING
    return {
        "org_id": person.org.org_id,
        "person_id": person.person_id,
        "email": person.email,
        "alias_emails": list(person.aliases),
        "full_name": person.name,
        "department": person.department,
        "started_on": date.fromordinal(person.first_day),
        "left_on": date.fromordinal(left) if left is not None and is_announced else None,
        "on_leave_from": date.fromordinal(leave[0]) if leave else None,
        "on_leave_to": date.fromordinal(leave[1]) if leave else None,
    }


def _garden_leave(person: Person, today: date) -> Row:
    """Many who go are sent home before, which is told on the day; not that they would log out."""
    first = None
    if person.left_day is not None and mix(person.key ^ 4) % 4:
        first = max(person.first_day, person.left_day - 20 - person.key % 70)
    return {"garden_leave_from": date.fromordinal(first) if first and first <= today.toordinal() else None}


def _contracts(org: Org, people: int, today: date) -> Iterator[Row]:
    """A year's term each, the running one and the one before it, renewed on the first of a month of the app's own."""
    direct = [(app, *licence) for app in org.connectors for licence in _LICENSES.get(app, ())]
    behind = [
        (app.app_id, "Standard", 0.3 + fraction(mix(key(org.key, "bought", app.app_id))) * 0.5, None)
        for app in APPS
        if app.app_id in org.apps and app.app_id not in org.connectors
    ]
    for app_id, license_name, share, price in direct + behind:
        root = key(org.key, "contract", app_id, license_name)
        month = 1 + root % 12
        year = today.year if today.month >= month else today.year - 1
        listed = price or (None if root % 4 == 0 else f"{60 + root % 900}.00")
        for start in (date(year - 1, month, 1), date(year, month, 1)):
            yield {
                "org_id": org.org_id,
                "app_id": app_id,
                "license_name": license_name,
                "purchased": max(1, math.ceil(people * share)),
                "annual_price": Decimal(listed) if listed else None,
                "currency": org.currency,
                "starts_on": start,
                "ends_on": date(start.year + 1, month, 1) - timedelta(days=1),
            }


def _with_terms(contract: Row, today: date) -> Row:
    """A contract in a currency that may not be the customer's; the present one may be open, the last one bigger."""
    draw = key(contract["org_id"], contract["app_id"], contract["license_name"], "terms")
    is_present, is_open = contract["ends_on"] >= today, draw % 3 == 0
    currency = {"okta": "USD", "google_workspace": "USD", "salesforce": "CHF"}.get(contract["app_id"])
    return contract | {
        "purchased": contract["purchased"] + (0 if is_present else draw % 5),
        "currency": currency or contract["currency"],
        "ends_on": None if is_present and is_open else contract["ends_on"],
        "minimum_purchased": contract["purchased"] * 3 // 4 if draw % 2 else None,
        "billing_period": ("month", "year")[draw % 2] if is_open else None,
    }


def _rates() -> Iterator[Row]:
    for currency, rates in _RATES.items():
        for since, rate in zip((date(2015, 1, 1), date(2025, 7, 1)), rates, strict=False):
            yield {"currency": currency, "starts_on": since, "rate": rate}


def _states(org: Org, today: date) -> Iterator[Row]:
    for app_id in dict.fromkeys((*org.connectors, *org.apps)):
        draw = key(org.key, "state", app_id)
        others = ("discovered", "in_review", "evaluation", "need_to_close", "closed")
        is_sanctioned = app_id in org.connectors or fraction(mix(draw)) < 0.6
        changed = org.created_at + timedelta(days=draw % 700)
        yield {
            "org_id": org.org_id,
            "app_id": app_id,
            "state": "sanctioned" if is_sanctioned else others[draw % len(others)],
            "changed_at": min(changed, datetime.combine(today, time(), UTC)),
        }


def _exemptions(org: Org) -> Iterator[Row]:
    def exempt(person: Person, app_id: str, reason: str, expires: int | None = None) -> Row:
        return {
            "org_id": org.org_id,
            "app_id": app_id,
            "account_email": person.email if person.kind == "service" else org.vendor_email(person, app_id),
            "reason": reason,
            "expires_on": None if expires is None else date.fromordinal(expires),
        }

    for person in org.people:
        if person.kind == "service" and "slack" in org.connectors:
            yield exempt(person, "slack", "service account")
        if person.kind == "employee" and mix(person.key ^ 2) % 9 == 0:
            yield exempt(person, "zoom", "on call")
        if person.left_day is not None and mix(person.key ^ 3) % 4 == 0:
            yield exempt(person, "zoom", "legal hold", person.left_day + 30 + person.key % 60)


def _settings(org: Org) -> Iterator[Row]:
    # The first org lives with the defaults.
    for app_id, days in ((None, 45), ("zoom", 30)) if org.index % 2 else ():
        yield {
            "org_id": org.org_id,
            "app_id": app_id,
            "license_name": None,
            "idle_after_days": days,
            "grace_days": 60,
            "underused_ratio": Decimal("0.3"),
        }
