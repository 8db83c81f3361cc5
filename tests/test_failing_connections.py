"""A connection that fails takes nobody with it, and what it no longer tells is unknown, never idle."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from unittest import mock

import dlt
import pytest
from typer.testing import CliRunner

from ingestion import extract
from ingestion import flow as flow_module
from ingestion.cli import app
from ingestion.connectors import connectors
from ingestion.extract import ExtractError, Stragglers
from ingestion.flow import Progress, Summary
from ingestion.sandbox import Options, Sandbox
from ingestion.status import Gap, gaps, streams
from ingestion.terminal import out
from tests.flow_support import Keyed, NewSite, Site, differences, recounted, run, sandbox_of
from tests.support import NOW

HOUR = timedelta(hours=1)
LAST_READ = NOW - timedelta(days=6)
WORLD = Options(orgs=2, people=8, start=date(2025, 12, 22))
RUN = ("run", "--orgs", "2", "--people", "8", "--start", "2025-12-22", "--now", NOW.isoformat())
FAULTS = {"acme-zoom": "revoked", "globex-okta": "broken", "globex-slack": "malformed"}
FIGURES = (
    *("first_used_date", "last_used_date", "days_since_last_used", "active_day_rate_30"),
    *("active_days_7", "active_days_28", "active_days_30", "active_days_90"),
)
SILENT = {"acme-zoom": "zoom", "globex-okta": "okta"}  # connections that tell nothing, with the vendor's own app


@dataclass(frozen=True)
class Case:
    """A place after a run with the faults, and what it must publish."""

    site: Site
    last_read: datetime | None
    published: dict[str, Keyed]
    expected: dict[str, Keyed]
    slack_events: int


def case(site: Site, sandbox: Sandbox, last_read: datetime | None) -> Case:
    slack_events = sum(event.connection_id == "globex-slack" for event in sandbox.events())
    return Case(site, last_read, site.published(), recounted(sandbox, dict.fromkeys(SILENT, last_read)), slack_events)


@pytest.fixture(scope="module")
def from_the_start(new_site: NewSite) -> Case:
    """By the command line: nothing was ever read through the connections that fail."""
    site = new_site()
    done = site.invoke(*RUN, *(word for fault in FAULTS.items() for word in ("--fault", "=".join(fault))))
    assert done.exit_code == 3, done.output
    assert {line.split(",")[0] for line in done.stderr.splitlines()} == SILENT.keys()
    return case(site, Sandbox(replace(WORLD, faults=FAULTS), NOW), None)


@pytest.fixture(scope="module")
def from_a_later_day_on(new_site: NewSite) -> Case:
    """Everything was read for a month before the connections fail."""
    site = new_site()
    with site.flow(WORLD, LAST_READ) as flow:
        assert run(flow).extracted.failures == {}  # type: ignore[union-attr]
        for connection, fault in FAULTS.items():
            sandbox_of(flow).set_fault(connection, fault)
        flow.at(NOW)
        failures = run(flow).extracted.failures  # type: ignore[union-attr]
        assert {connection for connection, _ in failures} == SILENT.keys()
        return case(site, sandbox_of(flow), LAST_READ)


@pytest.fixture(params=["from_the_start", "from_a_later_day_on"])
def failing(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def test_everybody_elses_usage_is_published(failing: Case) -> None:
    assert differences(failing.published, failing.expected) == []


def test_what_a_failing_connection_showed_is_unknown_and_never_idle(failing: Case) -> None:
    """Unknown are exactly those whom a silent connection ever showed; of the others the usage is known."""
    users = failing.published["user_app_usage"]
    silent = {(connection.split("-")[0], connector) for connection, connector in SILENT.items()}
    unknown = {key for key, row in users.items() if not row["usage_known"]}
    assert unknown == {
        key
        for key, row in users.items()
        if any((key[0], connector) in silent for connector in row["sources"].split(","))
    }
    for key in unknown:
        row = users[key]
        assert {row[name] for name in FIGURES} == {None}
        assert row["usage_band"] == (None if row["person_class"] in ("service", "shared") else "unknown")
    shown = {(org_id, app_id) for org_id, _, app_id in users}
    days = [(key[2], row) for key, row in failing.published["app_usage_daily"].items() if key[:2] in silent]
    if failing.last_read is None:
        assert not unknown  # nobody was ever shown who could be taken for idle
        assert ("globex", "okta") not in shown
        return
    assert {(org_id, app_id) for org_id, _, app_id in unknown} > silent  # also the apps behind Okta
    last_known = failing.last_read.date() - timedelta(days=1)
    whole = [(day, row["dau"]) for day, row in days if day > date(2025, 12, 22)]  # which was not whole in every zone
    assert {day for day, dau in whole if dau is None} == {day for day, _ in whole if day > last_known}
    assert max(day for day, _ in days) == NOW.date() - timedelta(days=1)


def test_a_failure_is_in_the_fetch_log_with_its_reason(failing: Case) -> None:
    last_read = failing.last_read and failing.last_read.replace(tzinfo=None)
    for connection, stream, reason in (("acme-zoom", "activities", "401"), ("globex-okta", "system_log", "500")):
        log = failing.site.query(
            "select stream, outcome, error, complete_through, fetched_at"
            f" from landing_{SILENT[connection]}.fetch_log where connection_id = '{connection}' order by fetched_at"
        )
        failed = {row[0]: row for row in log if row[1] == "failed"}
        assert failed.keys() == {row[0] for row in log}  # every stream of the connection
        assert all(reason in error for _, _, error, _, _ in failed.values())
        assert {fetched_at for *_, fetched_at in failed.values()} == {NOW.replace(tzinfo=None)}
        assert failed["users"][3] == last_read  # a listing: when it was last whole
        through = failed[stream][3]
        assert (through is None) if last_read is None else (last_read - timedelta(hours=3) <= through <= last_read)


def test_a_malformed_record_is_set_aside_and_its_neighbours_are_not(failing: Case) -> None:
    rejected = failing.site.query(
        "select stream, reason, payload from landing_slack.rejected_records where connection_id = 'globex-slack'"
    )
    assert len(rejected) >= (30 if failing.last_read is None else 5)  # one a day
    assert all(stream == "audit_logs" and reason and payload for stream, reason, payload in rejected)
    objects = [payload for _, _, payload in rejected if payload.startswith("{")]
    assert len(set(objects)) == len(objects) > 0  # once each, however often it is read
    [(landed,)] = failing.site.query(
        "select count(distinct event_id) from landing_slack.audit_logs where connection_id = 'globex-slack'"
    )
    assert landed == failing.slack_events


def test_a_vendor_that_wants_a_pause_keeps_nobody_waiting_and_all_of_it_comes_with_the_same_run(
    new_site: NewSite,
) -> None:
    """And what failed in one round is the command's failure, though the next one brought it."""
    site, is_asleep, is_over, meanwhile = new_site(), Event(), Event(), list[dict[str, Keyed]]()

    def events_first(number: int, path: str) -> None:
        if path == "/v2/users":  # so that it is Zoom's events that come later, and its listing lands
            is_asleep.wait(60)

    faults = {"acme-zoom": "busy", "globex-slack": "revoked"}
    sandbox = Sandbox(replace(WORLD, faults=faults), NOW, on_request=events_first)

    def sleep(seconds: float) -> None:
        if seconds > 60:
            is_asleep.set()
            is_over.wait(300)

    def wait(stragglers: Stragglers, seconds: float) -> None:
        meanwhile.append(site.published())
        sandbox.set_fault("globex-slack", None)
        is_over.set()

    patient = partial(flow_module.extract, sleep=sleep)
    with (
        mock.patch.object(flow_module, "extract", patient),
        mock.patch.object(flow_module, "Sandbox", return_value=sandbox),
        mock.patch.object(Stragglers, "wait", wait),
    ):
        done = site.invoke(*RUN)
    assert done.exit_code == 3, done.output
    assert re.search(r"acme-zoom, \w+: still being read", done.stdout)
    unfinished, *_ = meanwhile  # a thread that is slow to wake up takes one round more
    judged = {key: row["usage_known"] for key, row in unfinished["user_app_usage"].items()}
    shown = {key for key, row in site.published()["user_app_usage"].items() if "zoom" in row["sources"]}
    waits = {key for key in shown & judged.keys() if key[0] == "acme"}
    assert len(waits) > 8
    assert {judged[key] for key in waits} == {False}, "who is read of for the first time is unknown until then"
    assert {judged[key] for key in judged.keys() - waits} == {True}
    first = min(day for *app, day in unfinished["app_usage_daily"] if app == ["acme", "zoom"])
    assert first == date(2025, 12, 22), "as Google and Okta tell, and not as old as the oldest account"
    assert differences(site.published(), recounted(Sandbox(WORLD, NOW))) == []


def test_every_instant_of_the_status_for_programs_says_that_it_is_utc(from_a_later_day_on: Case) -> None:
    told = from_a_later_day_on.site.invoke("status", "--json")
    assert told.exit_code == 0, told.output
    instants = [value for value in re.findall(r'"([^"]*)"', told.stdout) if re.match(r"\d{4}-\d\d-\d\d[T ]", value)]
    assert {datetime.fromisoformat(instant).utcoffset() for instant in instants} == {timedelta(0)}
    document = json.loads(told.stdout)
    through = {(s["connection_id"], s["stream"]): s["complete_through"] for s in document["streams"]}
    assert through["acme-zoom", "users"] == LAST_READ.isoformat()
    assert document["published"]["proven_at"] in instants


def test_connections_that_have_ended_leave_others_to_tell_of_now_and_keep_what_they_told(
    from_a_later_day_on: Case, tmp_path: Path
) -> None:
    """On the second day on which they failed: what they should have told until then, nobody told."""
    site, end = from_a_later_day_on.site.copy(tmp_path / "home", "ended"), LAST_READ + timedelta(days=1)
    before = from_a_later_day_on.published
    with site.flow(WORLD, NOW) as flow:
        flow.connections = [replace(c, ended_on=end) if c.connection_id in SILENT else c for c in flow.connections]
        assert run(flow).extracted.failures == {}  # type: ignore[union-attr]
        ended = dict.fromkeys(SILENT, end)
        expected = recounted(sandbox_of(flow), dict.fromkeys(SILENT, LAST_READ), ended)
        advice = {gap.connection_id: gap.advice for gap in gaps(flow.warehouse, "analytics", streams(flow.warehouse))}
        assert advice == dict.fromkeys(SILENT, "nobody is asked for them any more: the connection has ended")
    published = site.published()
    assert differences(published, expected) == []
    known = {key for key, row in published["user_app_usage"].items() if row["usage_known"]}
    assert known > {key for key, row in before["user_app_usage"].items() if row["usage_known"]}
    last_told = LAST_READ.date() - timedelta(days=2)  # in every zone
    days = {key: row for key, row in published["app_usage_daily"].items() if key[2] <= last_told}
    assert days == {key: row for key, row in before["app_usage_daily"].items() if key[2] <= last_told}


def test_a_gap_closes_when_the_vendor_answers_again_and_is_lost_when_it_has_forgotten(
    from_a_later_day_on: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = from_a_later_day_on.site.copy(tmp_path / "home", "healed")
    okta = connectors()["okta"]
    log, *others = okta.streams
    assert log.window is not None
    forgetful = replace(log, window=replace(log.window, retention=timedelta(days=3)))
    known = {**connectors(), "okta": replace(okta, streams=(forgetful, *others))}
    first, last = LAST_READ.date(), NOW.date() - timedelta(days=1)
    with site.flow(WORLD, NOW + HOUR) as flow, mock.patch("ingestion.flow.connectors", return_value=known):
        advice = "closes by itself as soon as the vendor answers"
        assert gaps(flow.warehouse, "analytics", streams(flow.warehouse)) == [
            Gap("acme-zoom", "activities", first, last, "open", advice),
            Gap("globex-okta", "system_log", first, last, "open", advice),
        ]
        assert run(flow).extracted.failures == {}  # type: ignore[union-attr]
        advice = "the vendor has forgotten them; event files can bring them"
        forgotten = Gap("globex-okta", "system_log", first, date(2026, 1, 28), "lost", advice)
        assert gaps(flow.warehouse, "analytics", streams(flow.warehouse)) == [forgotten]
    monkeypatch.setattr(out, "width", 200)
    told = " ".join(CliRunner().invoke(app, ["status"], env=site.environment()).output.split())
    assert f"globex-okta system_log {first} to 2026-01-28 lost {advice}" in told


def test_the_products_tables_whose_load_failed_land_with_the_next_run_of_the_process(new_site: NewSite) -> None:
    """Which asks whether they have changed since they were read, and they have not."""
    site, load = new_site(), extract._load_pending

    def fail(pipeline: dlt.Pipeline) -> None:
        if pipeline.pipeline_name == "product":
            raise ExtractError("no space left")
        load(pipeline)

    with site.flow(WORLD, NOW) as flow:
        with mock.patch.object(extract, "_load_pending", fail), pytest.raises(ExtractError):
            flow.extract(Summary(), Progress())
        flow.extract(Summary(), Progress())
    assert site.query("select count(*) from landing_product.orgs") == [(2,)]
