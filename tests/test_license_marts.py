"""Seats, licences and the access of people who left: on landing tables written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from tests.flow_support import PROJECT
from tests.models_support import (
    GOOGLE,
    PLAN,
    Row,
    Warehouse,
    contract,
    employee,
    ended,
    fetches,
    google_license,
    google_user,
    login,
    org,
    utc,
)

AS_OF = date(2026, 1, 31)
START = "2025-10-01 07:00"
SEATS = "license_seats license_utilization fct_seat_days fct_license_days offboarded_access"


def listing(
    at: str, users: Sequence[Row] = (), licenses: Sequence[Row] = (), logins: Sequence[Row] = ()
) -> dict[str, list[Row]]:
    """What a run of the connector brings: changes of its listings, log-ins, and how far it read."""
    return {
        "users": list(users),
        "licenses": list(licenses),
        "login": [{**row, "fetched_at": utc(at)} for row in logins],
        "fetch_log": fetches("google_workspace", *GOOGLE, start=START, at=at),
    }


def user(name: str, at: str, **columns: Any) -> Row:
    return google_user(*GOOGLE, f"{name}@acme.com", created="2025-10-01 12:00", fetched=at, **columns)


def held(name: str, at: str, plan: str = PLAN, **columns: Any) -> Row:
    return google_license(*GOOGLE, f"{name}@acme.com", plan, fetched=at, **columns)


def product(warehouse: Warehouse, load_id: str, *contracts: Row, people: Sequence[Row] = (), **tables: Any) -> None:
    everybody = [*people, *(employee("acme", name) for name in ("ann", "bo", "cy"))]
    listed = {row["person_id"]: row for row in reversed(everybody)}
    rows = {"orgs": [org("acme", "UTC")], "employees": list(listed.values()), "app_contracts": list(contracts)}
    warehouse.land("product", load_id, {**rows, **tables})


@pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)
def test_seats_and_contracts_are_told_for_every_day_as_they_were(warehouse: Warehouse, on_duckdb: Warehouse) -> None:
    """bo is suspended on the 12th, cy's licence is taken away on the 14th and ann's account gone on the 16th.

    The contract, told in other letters and with another first day, is corrected twice: it is one contract all the time.
    """
    plan = contract("acme", "google_workspace", PLAN, 7, "365.00", ends_on=date(2026, 5, 31))
    told = {
        "2026-01-10 12:00": {"license_name": PLAN.lower(), "purchased": 5, "starts_on": date(2025, 12, 1)},
        "2026-01-12 12:00": {"license_name": PLAN.lower(), "starts_on": date(2025, 12, 1)},
        "2026-01-14 12:00": {"starts_on": date(2025, 12, 1)},
        "2026-01-16 12:00": {},
    }
    at = "2026-01-10 12:00"
    names = ("ann", "bo", "cy")
    tombstone = {**user("ann", "2026-01-16 12:00", is_gone=True), "email": None}  # which may carry nothing but its key
    steps = {
        at: {"users": [user(name, at) for name in names], "licenses": [held(name, at) for name in names]},
        "2026-01-12 12:00": {"users": [user("bo", "2026-01-12 12:00", is_suspended=True)]},
        "2026-01-14 12:00": {"licenses": [held("cy", "2026-01-14 12:00", is_gone=True, sku_name=None)]},
        "2026-01-16 12:00": {"users": [tombstone]},
        "2026-01-18 12:00": {},
    }
    for day, changes in steps.items():
        warehouse.land("google_workspace", day, listing(day, **changes))
        if day in told:
            product(warehouse, day, plan | told[day])
        warehouse.build(of=SEATS)

    days = warehouse.rows("analytics.fct_license_days", "license_date", "purchased", "assigned", "suspended")
    assert days == [
        (date(2026, 1, day), 5 if day < 12 else 7, assigned, 1 if day >= 12 else 0)
        for day, assigned in ((day, 3 if day < 14 else 2 if day < 16 else 1) for day in range(1, 18))
    ]
    [(wasted, saved)] = warehouse.rows("analytics.license_utilization", "wasted_spend_month", "realised_seats")
    assert saved == 0
    # nobody ever used it: what is not unassigned is idle
    assert wasted == pytest.approx(5 * 11 + 7 * 6)

    step_by_step = warehouse.contents(*SEATS.split())
    warehouse.build("--full-refresh", of=SEATS)
    assert warehouse.contents(*SEATS.split()) == step_by_step

    at_once = on_duckdb
    product(at_once, "p1", plan)
    for day, changes in steps.items():
        at_once.land("google_workspace", day, listing(day, **changes))
    at_once.build(of=SEATS)
    # accounts can be told again from what has landed; what a contract was before it changed, only a snapshot knows
    assert at_once.contents("fct_seat_days") == warehouse.contents("fct_seat_days")
    assert at_once.rows("analytics.fct_license_days", "min(purchased)", order_by="1") == [(7,)]


def test_a_snapshot_records_changes_and_deletions_by_the_builds_clock(on_duckdb: Warehouse) -> None:
    sanctioned = {
        "org_id": "acme",
        "app_id": "google_workspace",
        "state": "sanctioned",
        "changed_at": utc("2026-01-02"),
    }
    kept = contract("acme", "google_workspace", PLAN, 5, "10.00")
    dropped = contract("acme", "figma", "Editor", 3, None)
    product(on_duckdb, "p1", kept, dropped, app_states=[sanctioned])
    on_duckdb.land("google_workspace", "g1", listing("2026-01-10 12:00", [user("ann", "2026-01-10 12:00")]))
    on_duckdb.build(of="fct_license_days app_states_snapshot accounts_snapshot")
    first = on_duckdb.rows("analytics_snapshots.contracts_snapshot", "app_id", "dbt_valid_from", "dbt_valid_to")
    assert first == [("figma", datetime(2026, 1, 10, 12), None), ("google_workspace", datetime(2026, 1, 10, 12), None)]

    on_duckdb.build("--full-refresh", of="contracts_snapshot")  # no snapshot is made anew
    assert first == on_duckdb.rows("analytics_snapshots.contracts_snapshot", "app_id", "dbt_valid_from", "dbt_valid_to")

    closed = {**sanctioned, "state": "closed", "changed_at": utc("2026-01-12")}
    product(on_duckdb, "p2", {**kept, "annual_price": 20}, app_states=[sanctioned, closed])
    gone = user("ann", "2026-01-12 12:00", is_suspended=True)
    on_duckdb.land("google_workspace", "g2", listing("2026-01-12 12:00", [gone]))
    on_duckdb.build(of="fct_license_days app_states_snapshot accounts_snapshot")
    then, now = datetime(2026, 1, 10, 12), datetime(2026, 1, 12, 12)
    assert on_duckdb.rows(
        "analytics_snapshots.contracts_snapshot", "app_id", "annual_price", "dbt_valid_from", "dbt_valid_to"
    ) == [("figma", None, then, now), ("google_workspace", 10, then, now), ("google_workspace", 20, now, None)]
    assert on_duckdb.rows(
        "analytics_snapshots.app_states_snapshot", "app_state", "dbt_valid_from", "dbt_valid_to", order_by="2"
    ) == [("sanctioned", then, now), ("closed", now, None)]
    assert on_duckdb.rows(
        "analytics_snapshots.accounts_snapshot", "account_status", "dbt_valid_from", "dbt_valid_to", order_by="2"
    ) == [("active", then, now), ("suspended", now, None)]
    figma = "analytics.fct_license_days where app_id = 'figma'"
    assert on_duckdb.query(f"select max(license_date) from {figma}") == [(date(2026, 1, 11),)]


def test_what_breaks_no_rule_is_counted_beside_contracts_that_do(on_duckdb: Warehouse) -> None:
    """Each row that is bad is named by a test of its own, and all others are counted.

    A date that says "never" is none: the good contract has no end, and ann has not left.
    """
    at = "2026-01-20 12:00"
    good = contract("acme", "google_workspace", PLAN, 8, "120.00", ends_on=date(9999, 12, 31))
    product(
        on_duckdb,
        "p1",
        good,
        contract("acme", "google_workspace", "Negative", -3, "10.00"),
        contract("acme", "google_workspace", "Overlapping", 2, "10.00"),
        contract("acme", "google_workspace", "Overlapping", 6, "30.00", starts_on=date(2026, 1, 1)),
        contract("acme", "google_workspace", "No currency", 4, "10.00", currency=None),
        contract("acme", "google_workspace", "No number", None, "10.00"),
        contract("acme", "nobody_knows", "Pro", 4, "10.00"),
        people=[employee("acme", "ann", email="ann@acme.com", department="Sales"), employee("acme", "bo")],
    )
    never, ever = date(1970, 1, 1), date(2020, 7, 30)  # which a vendor calls never, and people do not
    ann = employee("acme", "ann", left_on=never)
    twice = [ann, {**ann, "email": "ann@acme.net"}, employee("acme", "bo", left_on=ever)]
    shared = [employee("acme", "cy", email="bo@acme.com", left_on=date(2030, 12, 31))]
    orgs = [org("acme", "UTC"), org("globex", "Mars/Olympus"), org("initech", None)]
    contracts = on_duckdb.query("select * from landing_product.app_contracts")
    names = list(on_duckdb.columns["product", "app_contracts"])
    on_duckdb.land(
        "product",
        "p2",
        {
            "orgs": orgs,
            "employees": [*twice, *shared],
            "app_contracts": [{**dict(zip(names, row, strict=True)), "_dlt_load_id": "p2"} for row in contracts],
        },
    )
    on_duckdb.land("google_workspace", "g1", listing(at, [user("ann", at)], [held("ann", at)]))
    results = on_duckdb.build(tests=True)
    warned = {result.node.name: result.failures for result in results if result.status == "warn"}
    assert warned == {
        "assert_no_contract_is_of_fewer_than_no_seats": 1,
        "assert_contracts_of_a_licence_do_not_overlap": 1,
        "assert_a_price_has_a_currency": 1,
        "assert_a_contract_says_what_was_bought": 1,
        "assert_a_contract_is_of_a_known_app": 1,
        "assert_a_person_is_listed_once": 1,
        "assert_an_email_is_one_persons": 1,
        "assert_every_org_has_a_known_time_zone": 2,
    }
    assert on_duckdb.rows(
        "analytics.license_utilization",
        *("license_name", "purchased", "assigned", "unassigned", "potential_annual_savings"),
    ) == [
        (PLAN, 8, 1, 7, 8 * 120),
        ("No currency", 4, 0, 4, None),
        ("No number", None, 0, None, None),
        ("Overlapping", 8, 0, 8, 2 * 10 + 6 * 30),
        ("Pro", 4, None, None, None),
    ]
    terms = on_duckdb.query("select count(realisable_on), count(realised_savings) from analytics.license_utilization")
    assert terms == [(0, 0)]
    left = on_duckdb.rows("analytics.dim_people", "person_id", "left_on")
    assert left == [("ann", None), ("bo", ever), ("cy", date(2030, 12, 31))]


def test_a_contract_whose_licence_the_vendor_calls_otherwise_is_named_and_no_waste(on_duckdb: Warehouse) -> None:
    at = "2026-01-20 12:00"
    product(on_duckdb, "p1", contract("acme", "google_workspace", "Our plan", 2, "120.00"))
    on_duckdb.land(
        "google_workspace",
        "g1",
        listing(at, [user("ann", at), user("bo", at)], [held("ann", at), held("bo", at, "Vault")]),
    )
    results = on_duckdb.build(of="license_utilization", tests=True)
    warned = {result.node.name: result.failures for result in results if result.status == "warn"}
    assert warned == {"assert_a_contract_names_a_listed_licence": 2}
    assert on_duckdb.rows(
        "analytics.license_utilization",
        *("license_name", "purchased", "assigned", "unassigned", "potential_annual_savings", "usage_known"),
    ) == [
        (PLAN, None, 1, None, None, True),
        ("Our plan", 2, None, None, None, False),
        ("Vault", None, 1, None, None, True),
    ]


def test_a_first_listing_that_breaks_off_makes_nobody_new_to_the_next_one(on_duckdb: Warehouse) -> None:
    """bo, whom only the second listing shows, was there before it as ann was; cy is new to the third."""
    product(on_duckdb, "p1", contract("acme", "google_workspace", PLAN, 4, "365.00"))
    whole = {"ann": False, "bo": True, "cy": True}
    for hour, (name, is_complete) in enumerate(whole.items(), 12):
        at = f"2026-01-20 {hour}:00"
        shown = {"is_complete_listing": is_complete}
        changes = listing(at, [user(name, at, **shown)], [held(name, at, **shown)])
        on_duckdb.land("google_workspace", f"g{hour}", changes)
    on_duckdb.land("google_workspace", "g15", listing("2026-01-25 12:00"))
    on_duckdb.build(of=SEATS)
    assert on_duckdb.rows("analytics.license_seats", "user_email", "seat_state", "assigned_on") == [
        ("ann@acme.com", "idle", date(2025, 10, 1)),
        ("bo@acme.com", "idle", date(2025, 10, 1)),
        ("cy@acme.com", "grace", date(2026, 1, 20)),
    ]
    days = on_duckdb.rows("analytics.fct_license_days", "license_date", "assigned")
    assert days == [(date(2026, 1, day), 2 if day < 20 else 3) for day in range(1, 25)]


def test_a_renewal_under_another_name_leaves_the_days_before_it_as_they_were(on_duckdb: Warehouse) -> None:
    old = contract("acme", "google_workspace", "Plan 2025", 2, "365.00", ends_on=date(2026, 1, 15))
    new = contract("acme", "google_workspace", "Plan 2026", 2, "365.00", starts_on=date(2026, 1, 16))
    product(on_duckdb, "p1", old, new)
    before, after = "2026-01-14 12:00", "2026-01-20 12:00"
    names = ("ann", "bo")
    changes = listing(before, [user(name, before) for name in names], [held(name, before, "Sku") for name in names])
    on_duckdb.land("google_workspace", "g1", changes)
    on_duckdb.build(of=SEATS)
    day = ("license_date", "license_name", "assigned", "unassigned", "wasted_annual_price")
    told = on_duckdb.rows("analytics.fct_license_days", *day)
    assert told == [(date(2026, 1, n), "Plan 2025", 2, 0, 2 * 365) for n in range(1, 14)]

    on_duckdb.land("google_workspace", "g2", listing(after))
    on_duckdb.build(of=SEATS)
    days = on_duckdb.rows("analytics.fct_license_days", *day)
    assert days[: len(told)] == told
    assert [row[:4] for row in days[len(told) :]] == [
        (date(2026, 1, n), "Plan 2025" if n < 16 else "Plan 2026", 2, 0) for n in range(14, 20)
    ]
    assert on_duckdb.rows("analytics.license_seats", "license_name") == [("Plan 2026",)] * 2


def test_a_contract_that_is_ended_late_or_named_anew_is_one_contract_and_saves_what_fell(on_duckdb: Warehouse) -> None:
    """Told on the 16th: it ended on the 12th, and 3 of 5 seats were bought anew from the 10th on."""
    old = contract("acme", "google_workspace", PLAN, 5, "365.00", ends_on=date(2026, 5, 31))
    new = contract("acme", "google_workspace", PLAN, 3, "365.00", starts_on=date(2026, 1, 10), ends_on=date(2027, 1, 9))
    renamed = new | {"license_name": "Plan of 2026"}
    at, told, later = "2026-01-10 12:00", "2026-01-16 12:00", "2026-01-18 12:00"
    bought = ("license_name", "purchased", "assigned", "unassigned", "realised_seats", "realised_savings")
    product(on_duckdb, "p1", old)
    on_duckdb.land("google_workspace", "g1", listing(at, [user("ann", at)], [held("ann", at, "Sku")]))
    on_duckdb.build(of=SEATS)
    assert on_duckdb.rows("analytics.license_utilization", *bought) == [(PLAN, 5, 1, 4, 0, 0)]

    product(on_duckdb, "p2", old | {"ends_on": date(2026, 1, 12)}, new)
    on_duckdb.land("google_workspace", "g2", listing(told))
    on_duckdb.build(of=SEATS)
    saved = 2 * 365 * 365 / 365  # two seats, for the year of the term that is left when the first of them fell
    assert on_duckdb.rows("analytics.license_utilization", *bought) == [(PLAN, 3, 1, 2, 2, saved)]
    days = on_duckdb.rows("analytics.fct_license_days", "license_date", "purchased")
    assert days == [(date(2026, 1, day), 5 if day < 10 else 8 if day < 13 else 3) for day in range(1, 16)]

    product(on_duckdb, "p3", old | {"ends_on": date(2026, 1, 12)}, renamed)
    on_duckdb.land("google_workspace", "g3", listing(later))
    on_duckdb.build(of=SEATS)
    assert on_duckdb.rows("analytics.license_utilization", *bought) == [("Plan of 2026", 3, 1, 2, 0, 0)]
    assert on_duckdb.rows("analytics.license_seats", "license_name") == [("Plan of 2026",)]


def test_a_seat_behind_a_source_that_fails_is_unknown_and_costs_nothing(on_duckdb: Warehouse) -> None:
    product(on_duckdb, "p1", contract("acme", "google_workspace", PLAN, 1, "365.00"))
    at = "2026-01-10 12:00"
    on_duckdb.land("google_workspace", "g1", listing(at, [user("ann", at)], [held("ann", at)]))
    on_duckdb.build(of="license_utilization")
    state = ("seat_state", "usage_known")
    assert on_duckdb.rows("analytics.license_seats", *state) == [("idle", True)]
    assert on_duckdb.rows("analytics.license_utilization", "utilization_rate", "potential_annual_savings") == [(0, 365)]

    failing = fetches(
        "google_workspace", *GOOGLE, start=at, at="2026-01-20 12:00", outcome="failed", complete_through=at
    )
    okta = fetches("okta", "acme-okta", "acme", start=START, at="2026-01-20 12:00")
    on_duckdb.land("google_workspace", "g2", {"fetch_log": failing})
    on_duckdb.land("okta", "o1", {"fetch_log": okta})
    on_duckdb.build(of="license_utilization")
    assert on_duckdb.rows("analytics.license_seats", *state) == [("unknown", False)]
    columns = ("unknown", "utilization_rate", "reclaimable_seats", "potential_annual_savings", "data_complete_ratio")
    assert on_duckdb.rows("analytics.license_utilization", *columns) == [(1, None, 0, 0, 0)]


def test_accounts_of_a_connection_that_has_ended_are_no_seats_no_saving_and_no_offboarding(
    on_duckdb: Warehouse,
) -> None:
    """Nobody else lists them. bo had given his licence back before; ann, who left, still had an account."""
    year = {"starts_on": date(2026, 1, 1), "ends_on": date(2026, 12, 31)}
    plan = contract("acme", "google_workspace", PLAN, 2, "365.00", **year)
    product(on_duckdb, "p1", plan, people=[employee("acme", "ann", left_on=date(2026, 1, 5))])
    first, back, then, at = "2026-01-08 12:00", "2026-01-10 12:00", "2026-01-12 12:00", "2026-01-20 12:00"
    names = ("ann", "bo", "cy")
    changes = listing(first, [user(name, first) for name in names], [held(name, first) for name in names])
    on_duckdb.land("google_workspace", "g1", changes)
    on_duckdb.land("google_workspace", "g2", listing(back, licenses=[held("bo", back, is_gone=True)]))
    on_duckdb.land("google_workspace", "g3", listing(then))
    built = "license_utilization fct_offboarding_findings user_app_usage"
    on_duckdb.build(of=built)
    figures = ("purchased", "assigned", "unassigned", "undeprovisioned", "reclaimable_seats", "realised_seats")
    assert on_duckdb.rows("analytics.license_utilization", *figures) == [(2, 2, 0, 1, 2, 1)]
    found = ("person_id", "severity", "detected_at")
    finding = [("ann", 2, datetime(2026, 1, 8, 12))]
    assert on_duckdb.rows("analytics.offboarded_access", *found) == finding
    owners = on_duckdb.rows("analytics.dim_accounts", "account_key", "person_id")

    on_duckdb.land("google_workspace", "g4", {"fetch_log": ended("google_workspace", *GOOGLE, on=then, at=at)})
    on_duckdb.land("okta", "o1", {"fetch_log": fetches("okta", "acme-okta", "acme", start=START, at=at)})
    on_duckdb.build(of=built)
    assert on_duckdb.rows("analytics.license_seats", "account_id") == []
    assert on_duckdb.rows("analytics.license_utilization", *figures) == [(2, None, None, None, None, 1)]
    assert on_duckdb.query("select distinct has_access, usage_known from analytics.user_app_usage") == [(False, False)]
    assert on_duckdb.rows("analytics.offboarded_access", *found) == finding
    assert on_duckdb.rows("analytics.fct_offboarding_findings", "person_id", "closed_at") == [("ann", None)]
    assert on_duckdb.rows("analytics.dim_accounts", "account_key", "person_id") == owners


@pytest.mark.parametrize(("signed_in_at", "state"), [("2026-01-12 09:00", "idle"), (None, "unknown")])
def test_a_tenant_that_is_told_of_no_sign_in_has_no_idle_seats(
    on_duckdb: Warehouse, signed_in_at: str | None, state: str
) -> None:
    """Microsoft 365 tells tenants without Entra P1 of none; told of ann's, it would have told of bo's."""
    whole, at = replace(on_duckdb, project=PROJECT), "2026-01-20 12:00"
    told = {"connection_id": "acme-m365", "org_id": "acme", "fetched_at": utc(at), "is_complete_listing": True}
    told |= {"is_gone": False, "payload": "{}"}
    users = [
        {**told, "record_id": name, "account_id": name, "email": f"{name}@acme.com", "is_enabled": True}
        for name in ("ann", "bo")
    ]
    users[0]["last_successful_login_at"] = utc(signed_in_at) if signed_in_at else None
    listings = ("users", "licenses", "subscribed_skus")
    tables = {
        "users": [{**user, "created_at": utc("2025-06-01")} for user in users],
        "licenses": [{**told, "record_id": name, "account_id": name, "sku_id": "e3"} for name in ("ann", "bo")],
        "subscribed_skus": [{**told, "record_id": "e3", "sku_id": "e3", "sku_name": "SPE_E3"}],
    }
    for day in (at, "2026-01-22 12:00"):
        log = fetches("microsoft365", "acme-m365", "acme", start=START, at=day, streams=listings)
        whole.land("microsoft365", day, {**(tables if day == at else {}), "fetch_log": log})
    product(whole, "p", contract("acme", "microsoft_365", "SPE_E3", 2, "30.00"))
    whole.build(of="license_seats")
    seats = dict(whole.rows("analytics.license_seats", "account_id", "seat_state"))
    assert seats == {"ann": "active" if signed_in_at else "unknown", "bo": state}


def test_who_may_have_used_it_on_days_that_nobody_told_of_is_not_called_idle(on_duckdb: Warehouse) -> None:
    """The connection failed for a week. ann's last use is older than 30 days, bo's is not, cy's account is new."""
    product(on_duckdb, "p1", contract("acme", "google_workspace", PLAN, 3, "365.00"))
    before, now = "2026-01-10 12:00", "2026-01-31 12:00"
    first = {
        "users": [user("ann", before), user("bo", before), {**user("cy", before), "created_at": utc("2026-01-05")}],
        "licenses": [held(name, before) for name in ("ann", "bo", "cy")],
        "logins": [login(*GOOGLE, "ann@acme.com", "2025-12-20 12:00")],
    }
    on_duckdb.land("google_workspace", "g1", listing(before, **first))
    logins = [login(*GOOGLE, "bo@acme.com", "2026-01-25 12:00", fetched=now)]
    since = fetches("google_workspace", *GOOGLE, start="2026-01-17 12:00", at=now)
    on_duckdb.land("google_workspace", "g2", {"login": logins, "fetch_log": since})
    on_duckdb.build(of="license_utilization app_usage_bands")
    seats, known = ("seat_state", "last_used_date"), ("active_days_7", "active_days_30", "usage_band", "unknown_reason")
    assert on_duckdb.rows("analytics.license_seats", *seats, order_by="user_email") == [
        ("unknown", date(2025, 12, 20)),
        ("active", date(2026, 1, 25)),
        ("grace", None),
    ]
    assert on_duckdb.rows("analytics.user_app_usage", *known, order_by="user_email") == [
        (0, None, "unknown", "incomplete_window"),
        (1, None, "unknown", "incomplete_window"),
        (0, None, "unknown", "incomplete_window"),
    ]
    assert on_duckdb.rows("analytics.license_utilization", "reclaimable_seats", "unknown") == [(0, 1)]

    healed = fetches("google_workspace", *GOOGLE, start=before, at=now)
    on_duckdb.land("google_workspace", "g3", {"fetch_log": healed})
    on_duckdb.build(of="license_utilization app_usage_bands")
    assert on_duckdb.rows("analytics.license_seats", *seats, order_by="user_email") == [
        ("idle", date(2025, 12, 20)),
        ("active", date(2026, 1, 25)),
        ("grace", None),
    ]
    assert on_duckdb.rows("analytics.user_app_usage", *known, order_by="user_email") == [
        (0, 0, "not_used", None),
        (1, 1, "low", None),
        (0, 0, "not_used", None),
    ]


def test_access_after_leaving_is_found_and_closes_when_the_person_is_back(on_duckdb: Warehouse) -> None:
    """ann worked on; bo's log-in of his last days came late; cy is gone from a complete listing."""
    left = date(2026, 1, 9)
    leavers = [employee("acme", name, left_on=left) for name in ("ann", "bo", "cy")]
    product(on_duckdb, "p1", people=leavers)
    at = "2026-01-20 12:00"
    logins = [
        login(*GOOGLE, "ann@acme.com", "2026-01-10 23:59", key="grace"),
        login(*GOOGLE, "ann@acme.com", "2026-01-11 00:00", key="late"),
        login(*GOOGLE, "bo@acme.com", "2026-01-09 22:00", key="last day"),
    ]
    first = "2026-01-05 12:00"
    on_duckdb.land("google_workspace", "g1", listing(first, [user(name, first) for name in ("ann", "bo", "cy")]))
    closed = [user("bo", at, is_suspended=True), user("cy", at, is_gone=True)]
    on_duckdb.land("google_workspace", "g2", listing(at, closed, [held("bo", at)], logins))
    on_duckdb.build(of="offboarded_access_snapshot")
    found = ("person_id", "severity", "evidence_event_id", "evidence_at", "detected_at")
    evidence = ("login:acme-google:late", datetime(2026, 1, 11), datetime(2026, 1, 20, 12))
    assert on_duckdb.rows("analytics.offboarded_access", *found) == [
        ("ann", 1, *evidence),
        ("bo", 3, None, None, datetime(2026, 1, 20, 12)),
    ]
    before = on_duckdb.contents("offboarded_access")
    on_duckdb.build("--full-refresh", of="offboarded_access_snapshot")
    assert on_duckdb.contents("offboarded_access") == before

    back = employee("acme", "ann", left_on=left, started_on=date(2026, 1, 19))
    product(on_duckdb, "p2", people=[back, *leavers[1:]])
    on_duckdb.build(of="offboarded_access_snapshot")
    assert [row[0] for row in on_duckdb.rows("analytics.offboarded_access", *found)] == ["bo"]
    history = ("person_id", "severity", "dbt_valid_from", "dbt_valid_to")
    assert on_duckdb.rows("analytics_snapshots.offboarded_access_snapshot", *history) == [
        ("ann", 1, datetime(2026, 1, 20, 12), datetime(2026, 1, 20, 12)),
        ("bo", 3, datetime(2026, 1, 20, 12), None),
    ]

    closed = user("bo", "2026-01-22 15:00", is_gone=True)
    on_duckdb.land("google_workspace", "g3", listing("2026-01-22 15:00", [closed], [held("bo", at, is_gone=True)]))
    on_duckdb.build(of="fct_offboarding_findings")
    lasted = ("person_id", "worst_severity", "opened_at", "closed_at", "hours_to_close")
    span = (datetime(2026, 1, 20, 12), datetime(2026, 1, 22, 15))
    assert on_duckdb.rows("analytics.fct_offboarding_findings", *lasted) == [("bo", 3, *span, 51)]
