"""The tables about apps and customers, on landing tables written by hand: what they say, and what they leave unsaid."""

from __future__ import annotations

from datetime import date

import pytest

from tests.models_support import (
    GOOGLE,
    Row,
    Warehouse,
    employee,
    ended,
    fetches,
    google_user,
    login,
    org,
    utc,
)

AS_OF = date(2026, 1, 31)
START = "2025-10-01 07:00"  # midnight in Los Angeles
USAGE = "app_usage org_usage app_retention"
DAYS = ("app_usage_daily", "app_usage_daily_classes", "app_usage_periods")
OKTA = ("acme-okta", "acme")
ZOOM = ("acme-zoom", "acme")
Contents = dict[str, list[tuple[object, ...]]]


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


def zoom_use(email: str, at: str) -> Row:
    """An entry of Zoom's activities."""
    return {
        "connection_id": ZOOM[0],
        "org_id": ZOOM[1],
        "event_id": f"activities:{ZOOM[0]}:{email} {at}",
        "event_id_kind": "native",
        "occurred_at": utc(at),
        "fetched_at": utc(at),
        "email": email,
        "activity_type": "Sign in",
        "payload": "{}",
    }


def okta_use(email: str, at: str, app_name: str) -> Row:
    """A sign-in to an app, of Okta's log."""
    return {
        "connection_id": OKTA[0],
        "org_id": OKTA[1],
        "event_id": f"system_log:{OKTA[0]}:{email} {app_name} {at}",
        "event_id_kind": "native",
        "occurred_at": utc(at),
        "fetched_at": utc("2026-01-20 12:00"),
        "event_type": "user.authentication.sso",
        "actor_type": "User",
        "outcome": "SUCCESS",
        "actor_email": email,
        "actor_id": email,
        "app_name": app_name,
        "payload": "{}",
    }


def land_silent_zoom(warehouse: Warehouse) -> None:
    """Okta told of two days in November nothing, Zoom nothing since Christmas; somebody outside uses Zoom, too."""
    land_people(warehouse, employee("acme", "ann"))
    uses = ("2025-10-15 18:00", "2025-11-20 18:00", "2025-11-21 18:00", "2026-01-10 18:00")
    signed_in = [okta_use("ann@acme.com", at, "Zoom") for at in uses]
    log = fetches("okta", *OKTA, start=START, at="2025-11-10 12:00")
    log += fetches("okta", *OKTA, start="2025-11-12 12:00", at="2026-01-20 12:00")
    warehouse.land("okta", "o1", {"system_log": signed_in, "fetch_log": log})
    used = [zoom_use("ann@acme.com", "2025-10-20 18:00"), zoom_use("eve@else.com", "2025-12-01 18:00")]
    log = fetches("zoom", *ZOOM, start=START, at="2025-12-24 12:00")
    warehouse.land("zoom", "z1", {"activities": used, "fetch_log": log})


def test_apps_that_came_today_make_no_day_count_anew_and_an_edit_makes_all(on_duckdb: Warehouse) -> None:
    """An identity provider that is connected shows many apps at once, none of which has a day that is over."""

    def counted_anew(*arguments: str) -> bool:
        table = "select table_oid from duckdb_tables() where table_name = 'int_app_class_days'"
        before = on_duckdb.query(table)
        on_duckdb.build(*arguments, of="int_app_class_days")
        return before != on_duckdb.query(table)

    land_people(on_duckdb, employee("acme", "ann"))
    used = login(*GOOGLE, "ann@acme.com", "2026-01-18 18:00")
    log = fetches("google_workspace", *GOOGLE, start="2025-12-01 08:00", at="2026-01-20 12:00")
    on_duckdb.land("google_workspace", "g0", {"login": [used], "fetch_log": log})
    assert counted_anew()
    uses = [okta_use("ann@acme.com", "2026-01-20 11:00", app) for app in ("Zoom", "Figma", "Asana")]
    log = fetches("okta", *OKTA, start="2026-01-20 08:00", at="2026-01-20 12:00")
    on_duckdb.land("okta", "o0", {"system_log": uses, "fetch_log": log})
    assert not counted_anew()
    assert on_duckdb.query("select count(distinct app_id) from analytics_intermediate.int_app_inputs") == [(4,)]
    assert counted_anew("--vars", "{min_complete_ratio: 0.8}")


@pytest.mark.stress
def test_days_long_over_are_counted_anew_when_what_is_told_of_them_changes(on_duckdb: Warehouse) -> None:
    """No load touches those days: a source, a setting or the clock does."""

    def read(connector: str, connection: tuple[str, str], start: str, at: str, **told: int) -> None:
        log = [{**row, **told} for row in fetches(connector, *connection, start=start, at=at)]
        on_duckdb.land(connector, f"{connector} {start} {at}", {"fetch_log": log})

    def ends(connector: str, connection: tuple[str, str], on: str, at: str) -> None:
        on_duckdb.land(connector, f"{connector} {at}", {"fetch_log": ended(connector, *connection, on=on, at=at)})

    def calendar(working_days: str, *holidays: date) -> None:
        orgs = [{**org("acme"), "working_days": working_days}]
        listed = [{"org_id": "acme", "holiday_on": day} for day in holidays]
        on_duckdb.land("product", f"p {working_days}", {"orgs": orgs, "org_holidays": listed})

    def a_day_passes() -> None:
        for connector, connection in (("okta", OKTA), ("zoom", ZOOM)):
            read(connector, connection, "2026-01-20 12:00", "2026-01-21 12:00")

    def okta_shows_figma() -> None:
        use = {**okta_use("ann@acme.com", "2025-10-25 18:00", "Figma"), "fetched_at": utc("2026-01-26 12:00")}
        on_duckdb.land("okta", "figma", {"system_log": [use]})

    def google_lists_ann() -> None:
        at = "2026-01-20 13:00"  # from then on there are days
        users = [google_user(*GOOGLE, "ann@acme.com", created="2025-12-05 12:00", fetched=at)]
        log = fetches("google_workspace", *GOOGLE, start=START, at=at, streams=("users",))
        on_duckdb.land("google_workspace", "g0", {"users": users, "fetch_log": log})

    def google_shows_zoom() -> None:
        log = fetches("google_workspace", *GOOGLE, start="2025-12-01 08:00", at="2026-01-26 13:00")
        use = {**token("ann@acme.com", "2026-01-12 18:00", "activity", "Zoom"), "fetched_at": utc("2026-01-26 13:00")}
        on_duckdb.land("google_workspace", "g1", {"token": [use], "fetch_log": log})

    def equals_a_full_refresh(*arguments: str) -> Contents:
        on_duckdb.build(*arguments, of=" ".join(DAYS))
        counted = on_duckdb.contents(*DAYS)
        on_duckdb.build("--full-refresh", *arguments, of=" ".join(DAYS))
        assert on_duckdb.contents(*DAYS) == counted
        return counted

    land_silent_zoom(on_duckdb)
    told = equals_a_full_refresh()
    # a clock that goes back takes days away
    assert len(equals_a_full_refresh("--vars", '{"now": "2026-01-05T12:00:00Z"}')[DAYS[0]]) == len(told[DAYS[0]]) - 15
    changes = (
        lambda: read("okta", OKTA, "2025-11-10 12:00", "2025-11-12 12:00"),  # the days in November are told
        lambda: read("zoom", ZOOM, "2025-12-24 12:00", "2026-01-20 12:00"),  # Zoom speaks again
        a_day_passes,  # what was not final is
        lambda: read("okta", OKTA, "2026-01-21 12:00", "2026-01-24 12:00", restate_days=20),
        lambda: read("okta", OKTA, "2026-01-24 12:00", "2026-01-24 13:00"),  # with 3 again
        lambda: calendar("[7,1,2,3,4]"),
        lambda: calendar("[7,1,2,3,4]", date(2026, 1, 1), date(2025, 11, 20)),
        okta_shows_figma,
        google_lists_ann,
        google_shows_zoom,
        lambda: read("google_workspace", GOOGLE, START, "2025-12-01 08:00"),  # and has since October
        lambda: read("okta", OKTA, "2026-01-24 12:00", "2026-02-10 12:00"),  # and Zoom is silent again
        lambda: ends("zoom", ZOOM, "2026-01-28 08:00", "2026-02-10 12:30"),  # for it has ended since,
        lambda: ends("zoom", ZOOM, "2026-01-12 08:00", "2026-02-10 13:00"),  # long ago,
        lambda: ends("zoom", ZOOM, "2025-12-20 08:00", "2026-02-10 14:00"),  # even longer,
        lambda: ends("zoom", ZOOM, "2026-01-12 08:00", "2026-02-10 15:00"),  # or no longer
        lambda: read("zoom", ZOOM, "2026-01-24 12:00", "2026-02-10 16:00"),  # and goes on
        lambda: ends("okta", OKTA, "2026-01-12 08:00", "2026-02-10 17:00"),  # and Okta, which had told of all
    )
    for change in changes:
        before, _ = told, change()
        told = equals_a_full_refresh()
        assert told != before


def test_what_an_identity_provider_showed_is_told_by_others_once_it_has_ended(on_duckdb: Warehouse) -> None:
    """Okta failed for twelve days before it is said to be gone since. Zoom goes on, of Figma nobody else tells."""
    end, failing, told_at = "2026-01-20 08:00", "2026-02-01 19:00", "2026-02-01 20:00"  # midnight in Los Angeles
    built = "user_app_usage app_usage app_retention org_usage data_freshness dim_accounts fct_restatements " + " ".join(
        DAYS
    )

    def read(connector: str, connection: tuple[str, str], start: str, at: str, **how: str) -> None:
        log = fetches(connector, *connection, start=start, at=at, **how)
        on_duckdb.land(connector, f"{connector} {at}", {"fetch_log": log})

    def known() -> dict[tuple[str, str], tuple[object, ...]]:
        on_duckdb.build(of=built)
        columns = "person_id, app_id, usage_known, active_days_30, has_access, as_of_date"
        return {row[:2]: row[2:] for row in on_duckdb.query(f"select {columns} from analytics.user_app_usage")}

    def past() -> Contents:
        days = ("fct_app_usage_daily", "app_usage_daily", "app_usage_daily_classes")
        of_days = on_duckdb.contents(*days, condition="usage_date < '2026-01-20'", without=("ledger_id", "is_final"))
        return of_days | on_duckdb.contents("dim_accounts")

    land_people(on_duckdb, employee("acme", "ann"), employee("acme", "bob"))
    signed_in = [okta_use("ann@acme.com", f"2026-01-{day} 18:00", "Zoom") for day in (10, 15)]
    signed_in += [okta_use("bob@acme.com", f"2026-01-{day} 18:00", "Figma") for day in (10, 19)]
    user = {"account_id": "bob@acme.com", "email": "bob@acme.com", "status": "ACTIVE", "payload": "{}"}
    user |= {"connection_id": OKTA[0], "org_id": OKTA[1], "fetched_at": utc("2026-01-20 12:00"), "record_id": "1"}
    figma = {**user, "is_gone": False, "is_complete_listing": True, "app_id": "0oa1", "app_name": "Figma"}
    on_duckdb.land("okta", "o1", {"system_log": signed_in, "app_users": [figma]})
    read("okta", OKTA, START, "2026-01-20 12:00")
    used = [zoom_use("ann@acme.com", "2026-01-15 18:00"), zoom_use("ann@acme.com", "2026-01-28 18:00")]
    on_duckdb.land("zoom", "z1", {"activities": used})
    read("zoom", ZOOM, START, failing)
    read("okta", OKTA, "2026-01-20 12:00", failing, outcome="failed", complete_through="2026-01-20 11:00")
    through, last = date(2026, 1, 31), date(2026, 1, 19)
    assert known() == {
        ("ann", "zoom"): (False, None, True, through),
        ("bob", "figma"): (False, None, True, last),
    }
    before = past()

    read("zoom", ZOOM, failing, told_at)
    on_duckdb.land("okta", "ended", {"fetch_log": ended("okta", *OKTA, on=end, at=told_at)})
    after = {("ann", "zoom"): (True, 3, True, through), ("bob", "figma"): (False, None, False, last)}
    assert known() == after
    assert past() == before
    assert on_duckdb.query("select * from analytics.fct_restatements where usage_date < '2026-01-20'") == []
    days = (
        "select app_id, max(dau) from analytics.app_usage_daily where usage_date between '2026-01-20' and '2026-01-31'"
    )
    assert dict(on_duckdb.query(f"{days} group by 1")) == {"zoom": 1, "figma": None}
    months = "select app_id, mau_30 from analytics.app_usage_daily where usage_date = '2026-01-31'"
    assert dict(on_duckdb.query(months)) == {"zoom": 1, "figma": None}
    freshness = ("app_id", "complete_through")
    assert on_duckdb.rows("analytics.data_freshness", *freshness) == [("figma", last), ("zoom", through)]
    step_by_step = on_duckdb.contents(*built.replace("fct_restatements ", "").split())
    on_duckdb.build("--full-refresh", of=built)
    assert on_duckdb.contents(*step_by_step) == step_by_step

    read("okta", OKTA, "2026-01-20 12:00", "2026-02-01 21:00")  # it is taken up again
    assert known() == {("ann", "zoom"): (True, 3, True, through), ("bob", "figma"): (True, 2, True, through)}


def test_who_came_after_the_first_listing_is_new_where_no_vendor_says_so(on_duckdb: Warehouse) -> None:
    """bob is listed since the 25th, and by another name since the 30th; nobody says when any account was made."""
    land_people(on_duckdb, employee("acme", "ann"), employee("acme", "bob", alias_emails='["bo@acme.com"]'))
    listings = {"2026-01-05": "ann@acme.com", "2026-01-25": "bo@acme.com", "2026-01-30": "bob@acme.com"}
    for day, email in listings.items():
        at = f"{day} 20:00"
        user = google_user(*GOOGLE, email, created=START, fetched=at, account_id=email[:2], record_id=email[:2])
        land_logins(on_duckdb, day, at, users=[{**user, "created_at": None}])
    land_logins(on_duckdb, "now", "2026-02-01 20:00")
    on_duckdb.build(of="user_app_usage")
    bands = on_duckdb.rows("analytics.user_app_usage", "person_id", "usage_band", "is_never_used")
    assert bands == [("ann", "not_used", False), ("bob", "new", True)]


def test_days_that_are_over_are_left_as_they_are(on_duckdb: Warehouse) -> None:
    """A use of yesterday costs the newest days and not the years before them."""
    land_silent_zoom(on_duckdb)
    on_duckdb.build(of=" ".join(DAYS))
    used = {**okta_use("ann@acme.com", "2026-01-21 18:00", "Zoom"), "fetched_at": utc("2026-01-22 12:00")}
    log = fetches("okta", *OKTA, start="2026-01-20 12:00", at="2026-01-22 12:00")
    on_duckdb.land("okta", "o2", {"system_log": [used], "fetch_log": log})
    on_duckdb.build(of=" ".join(DAYS))
    days = "select ledger_id, max(usage_date) from analytics_intermediate.int_app_class_days group by 1 order by 1"
    assert on_duckdb.query(days) == [(1, date(2026, 1, 9)), (2, date(2026, 1, 21))]


def test_days_before_an_end_are_counted_anew_when_it_is_told_and_not_again(on_duckdb: Warehouse) -> None:
    land_silent_zoom(on_duckdb)
    told_at, later = "2026-01-22 12:00", "2026-02-05 12:00"
    log = fetches("zoom", *ZOOM, start="2025-12-24 12:00", at=told_at)
    on_duckdb.land("zoom", "z2", {"fetch_log": log})
    on_duckdb.land("okta", "ended", {"fetch_log": ended("okta", *OKTA, on="2026-01-22 08:00", at=told_at)})
    on_duckdb.build(of=" ".join(DAYS))
    use = {**zoom_use("ann@acme.com", "2026-02-03 18:00"), "fetched_at": utc(later)}
    log = fetches("zoom", *ZOOM, start=told_at, at=later)
    on_duckdb.land("zoom", "z3", {"activities": [use], "fetch_log": log})
    on_duckdb.build(of=" ".join(DAYS))
    days = "select ledger_id, max(usage_date) from analytics_intermediate.int_app_class_days group by 1 order by 1"
    assert on_duckdb.query(days) == [(1, date(2026, 1, 11)), (2, date(2026, 2, 4))]
