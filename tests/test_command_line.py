"""`app-usage`, dbt, dlt and sqlfluff as their users call them: what they say, how they end, what they leave alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from errno import ENOSPC
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from threading import Event
from unittest import mock

import psycopg2
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from ingestion.build import Built
from ingestion.cli import _fail, app
from ingestion.config import ConfigError, Settings
from ingestion.extract import Extracted
from ingestion.flow import Lock, LockedError, Summary
from ingestion.publish import Status, TableStatus
from ingestion.status import Gap, StreamStatus
from ingestion.terminal import err, out, print_status, print_summary
from tests.flow_support import PROJECT, VENDORS, NewSite, Rows, Site, copy_project, differences
from tests.models_support import Warehouse, fetches, utc
from tests.publish_support import wait_until
from tests.support import Answer, vendor

NOW = "2026-01-31T12:00:00Z"
WORLD = ("--orgs", "1", "--people", "6", "--start", "2026-01-02", "--now", NOW)
ALONE = ("run", "extract", "backfill", "replay", "connectors", "build", "check", "publish", "status")
COMMANDS = [*((name,) for name in ALONE), ("sandbox", "serve"), ("sandbox", "truth")]
# Everything but printable text and line ends.
CONTROL = re.compile(r"[^\n\x20-\x7e\u00a0-\uffff]")


@dataclass(frozen=True)
class Ran:
    site: Site
    first: CompletedProcess[str]


@pytest.fixture(scope="module")
def ran(new_site: NewSite) -> Ran:
    """The clone, after a newcomer's first command."""
    site = new_site(project=PROJECT)
    first = site.command("app-usage", "run", *WORLD)
    assert first.returncode == 0, first.stdout + first.stderr
    return Ran(site, first)


def written(site: Site) -> dict[str, Rows]:
    """Every published row with the transaction that wrote it, and how many rows each landing table has."""
    tables = [name for (name,) in site.product("select tablename from pg_tables where schemaname = 'app_usage'")]
    landing = site.query(
        "select table_schema || '.' || table_name from information_schema.tables where table_schema like 'landing_%'"
    )
    return {name: site.product(f"select xmin::text, t.* from app_usage.{name} as t order by 1") for name in tables} | {
        name: site.query(f"select count(*) from {name}") for (name,) in landing
    }


def test_the_summary_says_what_was_read_built_and_published(ran: Ran) -> None:
    said = ran.first.stdout
    for connector in VENDORS:
        assert re.search(rf"{connector} +[\d,]*[1-9]", said)
    published = ran.site.published()
    for table, rows in published.items():
        assert re.search(rf"{table} +{len(rows):,} +{len(rows):,} +0", said)
    for words in ("extract ", "build ", "publish ", "app-usage status", "dbt docs serve"):
        assert words in said


def test_without_a_terminal_there_are_no_control_characters(ran: Ran) -> None:
    assert CONTROL.findall(ran.first.stdout + ran.first.stderr) == []


def test_a_second_run_a_moment_later_says_nothing_new_and_writes_no_row(ran: Ran) -> None:
    before = written(ran.site)
    second = ran.site.command("app-usage", "run", *WORLD)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "nothing new" in second.stdout
    assert written(ran.site) == before


def test_what_somebody_looks_at_meanwhile_is_not_what_is_published(ran: Ran) -> None:
    """`check`, of models that were edited, leaves dbt's manifest of those."""
    (ran.site.home / "target" / "manifest.json").write_text("{}")
    for command in ("publish", "verify"):
        done = ran.site.invoke(command)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("words", [("verify",), ("check",), ("status",), ("forget", "nobody")])
def test_a_command_that_only_looks_makes_no_run_that_stays_begin_anew(ran: Ran, words: tuple[str, ...]) -> None:
    """Which distrusts what it knows, and drops its stragglers, where another has changed something."""
    looked = list[Result]()

    class Pause(Event):
        def wait(self, timeout: float | None = None) -> bool:
            looked.append(ran.site.invoke(*words))
            return False

    with Lock(settings_of(ran.site), "run --every 5m") as lock:
        assert not lock.lend(0, Pause())
    assert [done.exit_code for done in looked] == [0], looked[0].output


def test_a_second_run_at_once_says_who_holds_the_lock(ran: Ran) -> None:
    before = written(ran.site)
    with Lock(settings_of(ran.site), "run --every 5m"):
        refused = ran.site.command("app-usage", "run", *WORLD)
        told, for_programs = ran.site.invoke("status"), ran.site.invoke("status", "--json")
    assert refused.returncode == 1
    holder = f"`app-usage run --every 5m` (process {os.getpid()}, since 20"
    assert holder in refused.stderr
    assert "Traceback" not in refused.stderr
    assert written(ran.site) == before
    assert told.exit_code == 0
    assert holder in told.stderr
    assert "Published generation 00000001" in told.stdout
    document = json.loads(for_programs.stdout)
    assert (document["streams"], document["gaps"]) == (None, None), "not that there are none"
    assert holder in document["locked"]


def test_a_lock_is_told_even_if_its_holder_cannot_be_read(tmp_path: Path) -> None:
    settings = Settings(PROJECT, tmp_path, "duckdb", datetime.now(UTC), is_now_given=False)
    with Lock(settings, "run"):
        (tmp_path / "lock.json").write_text('{"pid": 1')
        with pytest.raises(LockedError, match=r"is working in .*; wait for it, or end that process"):
            Lock(settings, "build").__enter__()


def test_a_run_that_stays_lets_others_work_in_its_pauses_and_ends_when_it_is_told_to(ran: Ran, tmp_path: Path) -> None:
    said = tmp_path / "said"

    def has_run(times: int) -> bool:
        return said.read_text().count("nothing new") >= times

    def has_ended_as_told() -> bool:
        """Told again and again: a shell, `uv run` and a supervisor may all do so, each at a moment of its own."""
        staying.terminate()
        return staying.poll() is not None

    with said.open("w") as output:
        staying = ran.site.start("app-usage", "run", *WORLD, "--every", "1s", output=output)
    try:
        wait_until(lambda: has_run(1), seconds=600)
        wait_until(partial(works_alone, ran.site), seconds=600)
        before = said.read_text().count("nothing new")
        wait_until(lambda: has_run(before + 1), seconds=600)
        wait_until(has_ended_as_told, seconds=600)
    finally:
        staying.kill()
    assert staying.wait() == 0, said.read_text()


def works_alone(site: Site) -> bool:
    """Whether another command may work now; if so, it did."""
    with suppress(LockedError), Lock(settings_of(site), "backfill"):
        return True
    return False


def settings_of(site: Site) -> Settings:
    return Settings(site.project, site.home, "duckdb", datetime.now(UTC), is_now_given=False)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_row_of_the_status_is_a_line_whatever_the_terminals_width_and_ids_and_commands_are_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "width", width)
    noon, connection, stream = datetime(2026, 1, 31, 12, tzinfo=UTC), "acme-google-workspace", "usage_completions_daily"
    found = [StreamStatus(connection, stream, "complete", noon, noon, 12, None, ())]
    advice = f"app-usage backfill --connection {connection} --from 2025-12-31 --to 2026-01-10"
    missing = [Gap(connection, "login", noon.date(), noon.date(), "open", advice)]
    table = TableStatus("license_utilization", "00000012", noon, 12_345_678, 2, (), 100, is_left=False)
    print_status(found, missing, Status("00000012", noon, None, (table,), {}), noon)
    said = capsys.readouterr().out.splitlines()
    row = "2026-01-31 12:00 2026-01-31 12:00 12" if width > 80 else "01-31 12:00 2026-01-31 12:00 12"
    name = stream if width > 80 else "usage_completions_d…"
    lines = [" ".join(line.split()) for line in said]
    assert lines[:2] == ["connection stream last fetch complete through rejected", f"{connection} {name} {row}"]
    gap = f"{connection} login 2026-01-31 open"
    assert lines[4:6] == ([f"{gap} {advice}", ""] if width == 200 else [gap, f"{connection}: {advice}"])
    published = "license_utilization 00000012 2026-01-31 12:00 12,345,678 2 100 %"
    assert (published if width == 80 else f"{published} 0.0 h") in lines
    assert all(len(line) <= width or advice in line for line in said)


def test_every_command_shows_an_example() -> None:
    for words in COMMANDS:
        shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
        assert shown.exit_code == 0
        assert re.search(rf"Examples?: .*app-usage {' '.join(words)}", " ".join(shown.output.split()))


def test_no_example_of_a_run_moves_the_clock_of_a_warehouse() -> None:
    """Into its past, say, where its newest days would be gone."""
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert "--now" not in shown.output.partition("Examples:")[2]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "--now", "yesterday"], "'yesterday' is no time"),
        (["run", "--every", "soon"], "--every 'soon' is no time"),
        (["run", "--start", "2026-02-30"], "--start '2026-02-30' is no day"),
        (
            ["run", "--fault", "acme-zoom=tired"],
            "'acme-zoom=tired' is no connection_id=revoked, =broken, =malformed or",
        ),
        (["run", "--fault", "acme-zoom"], "--fault 'acme-zoom' is no connection_id=revoked"),
        (
            ["sandbox", "truth", "--fault", "acme-zoomm=broken"],
            "failed: no connection acme-zoomm; there are acme-google",
        ),
        (["run", "--target", "oracle"], "no target 'oracle'; it has duckdb, postgres, redshift"),
        (["run", "--target", "[/bold]"], "no target '[/bold]'; it has"),
        (["run", "--orgs", "0"], "--orgs"),
        (["run", "--unknown"], "--unknown"),
        (["rum"], "rum"),
        (["backfill", "--from", "2026-02-01", "--to", "2026-01-01"], "--from 2026-02-01 is not before"),
        (["backfill", "--from", "monday", "--to", "2026-01-01"], "'monday' is no time"),
        (["connectors", "zoomm"], "no connector 'zoomm'"),
    ],
)
def test_a_bad_option_ends_with_2_and_a_plain_message(words: list[str], complaint: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, words, env={"APP_USAGE_HOME": str(tmp_path / "home"), "COLUMNS": "120"})
    assert refused.exit_code == 2
    assert complaint in " ".join(refused.output.split())
    assert "Traceback" not in refused.output
    assert not (tmp_path / "home").exists()


def test_a_warehouse_that_another_process_has_open_is_told_plainly(ran: Ran) -> None:
    site = ran.site
    hold = "import duckdb, signal, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); signal.pause()"
    file = str(site.home / "warehouse.duckdb")
    with site.start("python", "-c", hold, file, output=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refused = site.invoke("build")
        holder.kill()
    assert refused.exit_code == 1
    told = rf"failed: the warehouse {file} is open in another process, .*\(PID {holder.pid}\): close it there"
    assert re.match(told, refused.stderr), refused.stderr
    assert "Traceback" not in refused.output


def test_what_somebodys_own_dbt_wrote_is_not_published_untested(ran: Ran) -> None:
    site = ran.site
    built = site.invoke("build")
    assert built.exit_code == 0, built.output
    by_hand = site.command("dbt", "run", "--select", "app_usage_bands", "--vars", "{min_complete_ratio: 0.5}")
    assert by_hand.returncode == 0, by_hand.stdout
    refused = site.invoke("publish")
    assert refused.exit_code == 1
    assert "another dbt has written to the warehouse" in refused.stderr
    built = site.invoke("build")
    assert (built.exit_code, "no new load" in built.stdout) == (0, False), built.stdout
    assert site.invoke("publish").exit_code == 0


def test_a_clock_ahead_of_the_vendors_is_refused_and_nothing_counts_as_read(tmp_path: Path) -> None:
    connections = tmp_path / "connections.toml"
    connections.write_text('[[connections]]\nconnection_id = "acme-zoom"\norg_id = "acme"\nconnector = "zoom"\n')
    words = ["run", "--connections", str(connections), "--now", "2999-01-31T12:00:00Z"]
    refused = CliRunner().invoke(app, words, env={"APP_USAGE_HOME": str(tmp_path / "home")})
    assert refused.exit_code == 2
    assert "--now 2999-01-31T12:00:00+00:00 is in the future" in refused.stderr
    assert not (tmp_path / "home" / "warehouse.duckdb").exists()


@pytest.mark.parametrize("command", ["run", "build", "publish"])
@pytest.mark.parametrize(("beneath", "reason"), [("", "File exists"), ("beneath", "Not a directory")])
def test_a_data_folder_that_is_a_file_is_told_with_what_to_set(
    command: str, beneath: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / beneath
    refused = CliRunner().invoke(app, [command], env={"APP_USAGE_HOME": str(home)})
    told = f"failed: the data folder {home} cannot be used: {reason}; set APP_USAGE_HOME to another\n"
    assert (refused.exit_code, refused.stderr) == (2, told)


def test_what_is_told_is_shown_to_the_letter_whatever_brackets_it_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[…]` is a style to what prints it, `[/…]` the end of one that never began, and `:100:` a picture."""
    odd = "add it under [connections.settings], not in [/bold] at :100:"
    for console in (out, err):
        monkeypatch.setattr(console, "_width", 200)
    failures = {("acme-zoom", "users"): odd}
    print_summary(mock.Mock(), Summary(Extracted(failures=failures), Built("1", warnings=[f"claim: {odd}"])))
    warned = capsys.readouterr().err.splitlines()
    assert warned == [f"acme-zoom, users: {odd}", f"claim: {odd}"]
    now = datetime(2026, 1, 31, tzinfo=UTC)
    failed = StreamStatus("acme-zoom", "users", "failed", None, None, 0, odd, (odd,))
    gap = Gap("acme-zoom", "users", now.date(), now.date(), "open", odd)
    table = TableStatus("org_usage", "00000001", now, 1, 1, (odd,), 100, is_left=False)
    print_status([failed], [gap], Status("00000001", now, odd, (table,), {odd: None}), now)
    assert capsys.readouterr().out.count(odd) == 6
    with pytest.raises(typer.Exit):
        _fail(ConfigError(odd))
    assert capsys.readouterr().err == f"failed: {odd}\n"
    with pytest.raises(typer.Exit):
        _fail(OSError(ENOSPC, "No space left on device", "/data/[1]"))
    said = "failed: cannot use /data/[1]: No space left on device. When that is mended, run again\n"
    assert capsys.readouterr().err == said


def test_a_product_database_out_of_reach_is_told_before_a_vendor_is_asked_and_its_password_is_not(
    new_site: NewSite,
) -> None:
    site = new_site()
    with vendor(lambda request: Answer({})) as server:
        file = site.write_connections({"connector": "zoom", "base_url": server.url})
        for world in (["--connections", str(file)], [*WORLD]):
            refused = invoked(site, "postgresql://ada:pw-7f3a9c@127.0.0.1:1/product", *world)
            assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1), refused.output
            assert "failed: the " in refused.stderr
            assert "Connection refused. Check PRODUCT_DB_URL" in refused.stderr
            assert "pw-7f3a9c" not in refused.output
        assert server.requests == []


def test_a_user_of_the_product_database_with_too_few_rights_is_told_what_it_may_not(new_site: NewSite) -> None:
    site = new_site()
    with closing(psycopg2.connect(site.product_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"revoke all on schema public from public; create role {site.database}_guest login")
    url = site.product_url.replace("postgres:postgres@", f"{site.database}_guest@")
    file = site.write_connections({"connector": "zoom"})
    for world in (["--connections", str(file)], [*WORLD]):
        refused = invoked(site, url, *world)
        assert refused.exit_code == 1
        assert "permission denied for schema public" in refused.stderr
        assert isinstance(refused.exception, SystemExit)


def invoked(site: Site, product_url: str, *words: str) -> Result:
    """A run with another product database."""
    return CliRunner().invoke(app, ["run", *words], env=site.environment() | {"PRODUCT_DB_URL": product_url})


def test_a_selection_of_nothing_fails_and_of_a_part_says_what_publishing_needs(ran: Ran) -> None:
    nothing = ran.site.invoke("build", "-s", "nonexistent")
    assert nothing.exit_code == 1
    assert "nothing was built: --select nonexistent names nothing" in nothing.stderr
    assert "Built" not in nothing.stdout
    assert ran.site.invoke("publish").exit_code == 0  # the last build stands
    part = ran.site.invoke("build", "-s", "org_usage")
    assert part.exit_code == 0
    assert "Built 1 models" in part.stdout
    refused = ran.site.invoke("publish")
    assert refused.exit_code == 1
    for told in (part.stdout, refused.stderr):
        assert "`app-usage build`" in told


def test_a_failing_test_leaves_the_product_on_its_last_generation(ran: Ran, tmp_path: Path) -> None:
    """The claim is false from the next day on, of which there is something to publish."""
    project = copy_project(tmp_path)
    claim = "select * from {{ ref('app_usage_daily') }} where usage_date > date '2026-01-30'"
    (project / "tests" / "dbt" / "assert_time_stands_still.sql").write_text(claim, encoding="utf-8")
    site, before = replace(ran.site, project=project), ran.site.published()
    world = (*WORLD[:-1], "2026-02-02T12:00:00Z")
    failed = site.invoke("run", *world)
    assert failed.exit_code == 1
    assert "assert_time_stands_still" in failed.stderr
    assert "nothing is published" in failed.stderr
    look = f"import duckdb; duckdb.connect({str(site.home / 'warehouse.duckdb')!r})"
    assert site.command("python", "-c", look).returncode == 0  # a process that stays lets others look in its pauses
    refused = site.invoke("publish")
    assert refused.exit_code == 1
    assert "app-usage build" in refused.stderr
    assert differences(site.published(), before) == []
    assert site.product("select max(generation_id) from app_usage.generations") == [("00000001",)]
    newest = "select cast(max(usage_date) as varchar) from {}.app_usage_daily"
    assert site.query(newest.format("analytics")) > site.product(newest.format("app_usage"))


def test_check_says_what_a_change_would_add_and_refuses_what_it_would_break(ran: Ran, tmp_path: Path) -> None:
    same = ran.site.command("app-usage", "check")
    assert (same.returncode, same.stdout) == (0, "the published tables stay as they are\n"), same.stderr
    manifest = json.loads((ran.site.home / "published" / "manifest.json").read_text())
    columns = manifest["nodes"]["model.usage_warehouse.org_usage"]["columns"]
    columns["was_there"] = {"name": "was_there", "data_type": "text"}
    del columns["wau"]
    columns["dau"]["data_type"] = "text"
    for edited in ("stg_zoom__events", "int_app_steps", "int_days_told"):
        manifest["nodes"][f"model.usage_warehouse.{edited}"]["checksum"]["checksum"] = "of another text"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    other = ran.site.invoke("check", "--state", str(tmp_path))
    assert other.exit_code == 1
    assert [" ".join(line.split()) for line in other.stdout.splitlines()] == [
        "breaks org_usage.dau: bigint, was text; read by 'How many people use any app' of Usage team",
        "breaks org_usage.was_there: is gone; read by 'How many people use any app' of Usage team",
        "org_usage.wau: a new column, bigint",
        "stg_zoom__events: is edited, and keeps the rows that it has: `app-usage build --full-refresh --select"
        " stg_zoom__events+`, and then `app-usage run`, makes them anew",
    ]
    assert "meta.publish.drop" in other.stderr
    nothing = ran.site.invoke("check", "--state", str(tmp_path / "nowhere"))
    assert nothing.exit_code == 1
    assert "nowhere/manifest.json to compare with" in nothing.stderr


def test_the_status_tells_what_has_ended_and_what_is_listed_no_more(
    new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site()
    site.home.mkdir(parents=True, exist_ok=True)
    listed = {"connector": "okta", "ended_on": "2026-01-20"}, {"connector": "zoom"}
    monkeypatch.setenv("APP_USAGE_CONNECTIONS", str(site.write_connections(*listed)))
    monkeypatch.setattr(out, "width", 200)
    landed = Warehouse(site.home)
    for connector in ("okta", "zoom", "slack"):
        log = fetches(connector, f"acme-{connector}", "acme", start="2026-01-01", at="2026-01-19 12:00")
        landed.land(connector, "1", {"fetch_log": log})
    told = fetches("okta", "acme-okta", "acme", start="2026-01-20", at="2026-01-21", outcome="ended")
    landed.land("okta", "2", {"fetch_log": [{**row, "window_start": utc("2026-01-20")} for row in told]})
    said = " ".join(site.invoke("status").output.split())
    assert "acme-okta system_log ended 2026-01-20" in said
    assert "no more in the connections file: acme-slack:" in said
    for again in (("backfill", "--from", "2026-01-01", "--to", "2026-01-02"), ("replay",)):
        refused = site.invoke(*again, "--connector", "okta")
        assert refused.exit_code == 1, refused.output
        assert "nothing is read, or typed again, of what has ended: acme-okta" in refused.output


def test_a_backfill_and_a_replay_find_nothing_more_and_name_the_connections_there_are(ran: Ran) -> None:
    world = (*WORLD, "--connector")
    span = ("backfill", "--from", "2026-01-10", "--to", "2026-01-12")
    for command in (span, ("replay",)):
        again = ran.site.invoke(*command, *world, "zoom")
        assert (again.exit_code, again.stderr) == (0, "")
        assert "zoom 0" in " ".join(again.stdout.split())
    unknown = ran.site.invoke(*span, *world, "zoomm")
    assert unknown.exit_code == 1
    assert "no connection of connector zoomm; the connections are acme-google-workspace" in unknown.stderr


# ---- other tools


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("dbt", "build"), "Completed successfully"),
        (("dlt", "pipeline", "zoom", "info"), "landing_zoom"),
        (("sqlfluff", "lint", "models/marts/product/user_app_usage.sql"), "All Finished"),
    ],
    ids=lambda value: "_".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_the_tools_own_commands_work_in_the_clone(ran: Ran, words: tuple[str, ...], says: str) -> None:
    done = ran.site.command(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert says in done.stdout + done.stderr


def test_the_docs_show_a_table_and_its_feature_in_a_browser_and_ask_nobody_else(ran: Ran, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    generated = ran.site.command("dbt", "docs", "generate")
    assert "Catalog written" in generated.stdout, generated.stdout + generated.stderr
    manifest = json.loads((ran.site.home / "published" / "manifest.json").read_text())
    texts = [path.read_text(encoding="utf-8") for path in (PROJECT / "models").rglob("*.md")]
    linked = {linked for text in texts for linked in re.findall(r"#!/\w+/([\w.]+)", text)}
    assert linked
    assert linked - manifest["nodes"].keys() - manifest["sources"].keys() - manifest["exposures"].keys() == set()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = tmp_path / "asked.json"

    def looked_at(page: str) -> str:
        words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", f"--log-net-log={asked}"]
        words += ["--virtual-time-budget=30000", "--dump-dom", f"http://127.0.0.1:{port}/#!/{page}"]
        shown = subprocess.run([browser, *words], check=True, capture_output=True, text=True)  # noqa: S603
        text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", shown.stdout, flags=re.DOTALL)
        return " ".join(text.split())

    with (tmp_path / "served").open("w") as said:
        server = ran.site.start("dbt", "docs", "serve", "--no-browser", "--port", str(port), output=said)
    try:
        wait_until(lambda: can_connect(port), seconds=600)
        assert "Who uses which SaaS app" in looked_at("overview")
        told = looked_at("model/model.usage_warehouse.user_app_usage")
        for words in ("One row per customer, person and app", "days_since_last_used", "as_of_date - last_used_date"):
            assert words in told
        feature = "The product's page of a person and of an app's users"
        assert feature in looked_at("exposure/exposure.usage_warehouse.usage_by_person")
    finally:
        server.terminate()
        server.wait()
    requests = [event.get("params", {}) for event in json.loads(asked.read_text())["events"]]
    # what the browser asks for itself has no page as its initiator
    by_pages = {r["url"] for r in requests if "url" in r and r.get("initiator", "").startswith("http")}
    assert by_pages
    assert [url for url in by_pages if not url.startswith(f"http://127.0.0.1:{port}/")] == []


def can_connect(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
