"""The tables about apps and customers, on landing tables written by hand: what they say, and what they leave unsaid."""

from __future__ import annotations

from datetime import date

from tests.models_support import (
    GOOGLE,
    Row,
    Warehouse,
    employee,
    fetches,
    google_user,
    login,
    org,
    utc,
)

AS_OF = date(2026, 1, 31)
START = "2025-10-01 07:00"  # midnight in Los Angeles
USAGE = "app_usage org_usage app_retention"


def retention(warehouse: Warehouse) -> dict[date, tuple[int | None, ...]]:
    """Block -> active, retained, new, resurrected, churned."""
    columns = 'block_start_date, active, retained, "new", resurrected, churned'
    rows = warehouse.query(f"select {columns} from analytics.app_retention")
    return {block: tuple(figures) for block, *figures in rows}


def land_people(warehouse: Warehouse, *people: Row, **tables: list[Row]) -> None:
    warehouse.land("product", "p1", {"orgs": [org("acme")], "employees": list(people), **tables})


def land_logins(warehouse: Warehouse, load_id: str, at: str, *logins: Row, **tables: list[Row]) -> None:
    log = fetches("google_workspace", *GOOGLE, start=START, at=at)
    rows = [{**row, "fetched_at": utc(at)} for row in logins]
    warehouse.land("google_workspace", load_id, {"login": rows, "fetch_log": log, **tables})


def token(email: str, at: str, event_name: str, app_name: str) -> Row:
    """An entry of Google's token log."""
    return {
        "connection_id": GOOGLE[0],
        "org_id": GOOGLE[1],
        "event_id": f"token:{GOOGLE[0]}:{email} {app_name} {at}",
        "event_id_kind": "native",
        "occurred_at": utc(at),
        "fetched_at": utc("2026-02-01 20:00"),
        "event_name": event_name,
        "actor_email": email,
        "app_name": app_name,
        "payload": "{}",
    }


def test_a_late_use_makes_a_churned_person_a_retained_one(on_duckdb: Warehouse) -> None:
    land_people(on_duckdb, employee("acme", "ann"), employee("acme", "bob"))
    early = [login(*GOOGLE, f"{name}@acme.com", "2025-12-10 18:00") for name in ("ann", "bob")]
    land_logins(on_duckdb, "g1", "2026-02-01 20:00", *early, login(*GOOGLE, "ann@acme.com", "2026-01-10 18:00"))
    on_duckdb.build(of=USAGE)
    assert retention(on_duckdb)[date(2025, 12, 29)] == (1, 1, 0, 0, 1)
    before = on_duckdb.row("app_usage")["mau_30"]

    land_logins(on_duckdb, "g2", "2026-02-01 21:00", login(*GOOGLE, "bob@acme.com", "2026-01-25 18:00"))
    on_duckdb.build(of=USAGE)
    assert retention(on_duckdb)[date(2025, 12, 29)] == (2, 2, 0, 0, 0)
    assert on_duckdb.row("app_usage")["mau_30"] == before + 1
    step_by_step = on_duckdb.contents(*USAGE.split())
    on_duckdb.build("--full-refresh", of=USAGE)
    assert on_duckdb.contents(*USAGE.split()) == step_by_step


def test_two_accounts_of_one_person_are_one_in_every_table(on_duckdb: Warehouse) -> None:
    logins = [
        login(*GOOGLE, "ann@acme.com", "2025-12-10 18:00"),
        login(*GOOGLE, "ann@acme.com", "2026-01-27 18:00"),
        login(*GOOGLE, "a.nn@acme.com", "2026-01-10 18:00"),
    ]
    land_people(on_duckdb, employee("acme", "ann"), employee("acme", "anna", email="a.nn@acme.com"))
    land_logins(on_duckdb, "g1", "2026-02-01 20:00", *logins)
    on_duckdb.build(of=USAGE)
    assert [on_duckdb.row(table)["mau_30"] for table in ("app_usage", "org_usage")] == [2, 2]
    assert retention(on_duckdb)[date(2025, 12, 29)] == (1, 0, 1, 0, 1)

    land_people(on_duckdb, employee("acme", "ann", alias_emails='["a.nn@acme.com"]'))
    on_duckdb.build(of=USAGE)
    assert [on_duckdb.row(table)["mau_30"] for table in ("app_usage", "org_usage")] == [1, 1]
    assert retention(on_duckdb)[date(2025, 12, 29)] == (1, 1, 0, 0, 0)


def test_an_app_that_may_act_and_is_not_used_is_listed_until_the_grant_is_withdrawn(on_duckdb: Warehouse) -> None:
    ann = "ann@acme.com"
    states = [{"org_id": "acme", "app_id": "figma", "state": "in_review", "changed_at": utc("2025-11-01")}]
    land_people(on_duckdb, employee("acme", "ann"), app_states=states)
    tokens = [
        token(ann, "2026-01-10 18:00", "authorize", "Figma"),
        token(ann, "2026-01-11 18:00", "activity", "Some Tool"),
        token(ann, "2026-01-12 18:00", "request", "Miro"),
        token(ann, "2026-01-13 18:00", "authorize", "Asana"),
        token(ann, "2026-01-14 18:00", "revoke", "Asana"),
        token("svc@acme.com", "2026-01-14 18:00", "authorize", "Notion"),
    ]
    land_logins(on_duckdb, "g1", "2026-02-01 20:00", login(*GOOGLE, ann, "2026-01-10 17:00"), token=tokens)
    on_duckdb.build(of="shadow_apps", tests=True)
    listed = ("app_id", "app_state", "shadow_kind", "users_30", "first_discovered_on")
    assert on_duckdb.rows("analytics.shadow_apps", *listed) == [
        ("discovered:some tool", "discovered", "granted_not_used", 0, date(2026, 1, 11)),
        ("figma", "in_review", "granted_not_used", 0, date(2026, 1, 10)),
        ("google_workspace", "discovered", "in_use", 1, date(2026, 1, 10)),
    ]

    again = [token(ann, "2026-01-20 18:00", "revoke", "Figma")]
    land_logins(on_duckdb, "g2", "2026-02-01 21:00", token=again)
    land_people(on_duckdb, employee("acme", "ann"), app_states=[{**states[0], "app_id": "google_workspace"}])
    on_duckdb.build(of="shadow_apps", tests=True)
    assert on_duckdb.rows("analytics.shadow_apps", "app_id", "app_state") == [
        ("discovered:some tool", "discovered"),
        ("google_workspace", "in_review"),
    ]


def test_who_lost_the_account_did_not_lose_interest(on_duckdb: Warehouse) -> None:
    """By what the listing said when the block ended: an account that is taken away later was not why."""
    names = ("ann", "bob", "cid")
    land_people(on_duckdb, *(employee("acme", name) for name in names))
    made = "2025-10-01 12:00"
    users = {name: google_user(*GOOGLE, f"{name}@acme.com", created=made, fetched="2026-01-05 12:00") for name in names}
    used = [login(*GOOGLE, f"{name}@acme.com", "2025-12-10 18:00") for name in names]
    land_logins(on_duckdb, "g1", "2026-01-05 12:00", *used, users=list(users.values()))
    suspended = {**users["ann"], "is_suspended": True, "fetched_at": utc("2026-01-20 12:00")}
    land_logins(on_duckdb, "g2", "2026-01-20 12:00", users=[suspended])
    gone = {**users["bob"], "is_gone": True, "fetched_at": utc("2026-02-01 20:00")}
    land_logins(on_duckdb, "g3", "2026-02-01 20:00", users=[gone])
    on_duckdb.build(of="app_retention")
    block = on_duckdb.row("app_retention", "block_start_date = '2025-12-29'")
    assert block == block | {"churned": 3, "churned_lost_access": 1, "churned_stopped_using": 2}
