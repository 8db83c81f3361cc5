"""The breaker before a publish, and what comes after one: canary, verification, the way back, the status."""

from __future__ import annotations

import re
import shutil
from datetime import date, timedelta
from operator import itemgetter

import dlt
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ingestion.build import Builder
from ingestion.cli import app
from ingestion.config import Settings
from ingestion.publish import PublishError, Verified, rollback, status, verify
from ingestion.publish.comparison import SHARDS, shard_of
from ingestion.terminal import _print_generation, out
from tests.publish_support import NOW, World


def command(world: World, *words: str, **environment: str) -> Result:
    """`app-usage` over the two marts, an hour after they were published."""
    told = {"APP_USAGE_HOME": str(world.folder / "home"), "PRODUCT_DB_URL": world.url}
    return CliRunner().invoke(
        app, words, env=told | {"APP_USAGE_NOW": (NOW + timedelta(hours=1)).isoformat()} | environment
    )


def days(world: World) -> list[tuple[object, ...]]:
    return world.query("select distinct active_days from app_usage.usage order by 1")


def test_a_generation_that_deletes_too_much_of_one_org_stops_before_it_is_visible(world: World) -> None:
    world.publish()
    before = world.row_versions("usage")
    world.change("delete from analytics.usage where org_id = 'org1' and hash(person_id) % 10 < 7")
    with pytest.raises(PublishError, match=r"usage: \d+ of the 100 rows of org1 would be deleted, the limit is 50%"):
        world.publish()
    assert world.row_versions("usage") == before
    assert len(world.query("select * from app_usage.generations")) == 1
    assert world.publish(accept=True).changed
    assert world.is_equal()


def test_a_mart_sets_its_own_limits(world: World) -> None:
    world.model("usage", world.columns("usage"), key=["org_id", "person_id"], breaker={"changed": 0.1, "min_rows": 50})
    world.publish()
    world.change("update analytics.usage set active_days = 99 where org_id = 'org1' and hash(person_id) % 10 < 3")
    with pytest.raises(PublishError, match=r"rows of org1 would be changed or deleted, the limit is 10%"):
        world.publish()
    world.model("usage", world.columns("usage"), key=["org_id", "person_id"], breaker={"changed": 0.9})
    assert world.publish().changed


def test_a_table_that_would_be_empty_stops_unless_its_mart_is_at_its_best_then(world: World) -> None:
    world.publish()
    world.change("delete from analytics.daily")
    with pytest.raises(PublishError, match="daily would be empty, it has 30 rows"):
        world.publish()
    world.model(
        "daily", world.columns("daily"), key=["org_id", "usage_date"], breaker={"may_be_empty": True, "min_rows": 100}
    )
    assert world.publish().rows_deleted == 30


def test_a_canary_reaches_its_share_of_the_orgs_and_then_the_rest(world: World) -> None:
    world.change("update analytics.usage set org_id = 'org' || hash(person_id) % 200, active_days = 0")
    world.publish()
    world.change("update analytics.usage set active_days = 1")
    world.publish(percent=10)
    inside = {row[0] for row in world.query("select distinct org_id from app_usage.usage where active_days = 1")}
    outside = {row[0] for row in world.query("select distinct org_id from app_usage.usage where active_days = 0")}
    assert inside
    assert inside == {org for org in inside | outside if shard_of(org) < SHARDS / 10}
    assert not world.publish(percent=10).changed

    world.publish(percent=50)
    assert world.query("select count(distinct org_id) from app_usage.usage where active_days = 1") > [(len(inside),)]
    world.publish()
    assert world.is_equal()


def test_a_mart_holds_its_own_canary(world: World) -> None:
    world.change("update analytics.usage set org_id = 'org' || hash(person_id) % 200, active_days = 0")
    world.publish()
    world.change("update analytics.usage set active_days = 1; update analytics.daily set dau = dau + 1")
    world.model("usage", world.columns("usage"), key=["org_id", "person_id"], canary=1)
    world.publish()
    assert {org for (org,) in world.query("select distinct org_id from app_usage.usage where active_days = 1")} == {
        org for (org,) in world.query("select distinct org_id from app_usage.usage") if shard_of(org) < 11
    }
    assert world.query("select sum(dau) from app_usage.daily") == [(435 + 30,)]


def test_a_canary_says_whom_it_chose_and_warns_when_it_is_nobody(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def summary(**options: int) -> tuple[str, str]:
        _print_generation(world.publish(**options))
        said, complained = capsys.readouterr()
        return " ".join(said.split()), complained.strip()

    assert summary()[1] == ""
    shards = {f"org{number}": shard_of(f"org{number}") for number in range(3)}
    (first, least), *others = sorted(
        ((org, shard * 100 // SHARDS + 1) for org, shard in shards.items()), key=itemgetter(1)
    )
    assert least > 1
    world.change("update analytics.usage set active_days = 99")
    assert summary(percent=least - 1) == (
        "Published nothing new: generation 00000001 stands",
        f"a canary of {least - 1} % chose none of the 3 customers, and nobody gets anything new: {least} % are enough "
        "for one",
    )
    said, complained = summary(percent=least)
    assert said.startswith(f"A canary of {least} % chose 1 of 3 customers ({first}); the others keep")
    assert complained == ""
    assert world.query("select distinct org_id from app_usage.usage where active_days = 99") == [(first,)]

    world.models["usage"]["config"]["meta"]["publish"]["canary"] = others[-1][1] - 1
    said, _ = summary()
    assert said.startswith(f"A canary of {others[-1][1] - 1} % for usage chose 2 of 3 customers (")


def test_a_rollback_returns_every_table_to_an_earlier_generation_and_stays_there(world: World) -> None:
    world.publish()
    first = (
        world.query("select * from app_usage.usage order by 1, 2"),
        world.query("select * from app_usage.daily order by 1, 2"),
    )
    for number in range(1, 4):
        world.change(
            f"""update analytics.usage set active_days = {number} where hash(person_id) % 4 = {number};
            update analytics.usage set active_days = -{number} where person_id = 'person1';
            delete from analytics.usage where person_id = 'person{number * 10}';
            insert into analytics.usage (org_id, person_id) values ('org1', 'new{number}');
            delete from analytics.usage where person_id = 'new{number - 1}';
            update analytics.daily set dau = dau + 1 where org_id = 'org{number}'"""
        )
        world.publish()

    assert rollback(world.url, "00000001") == "00000001"

    assert world.query("select * from app_usage.usage order by 1, 2") == first[0]
    assert world.query("select * from app_usage.daily order by 1, 2") == first[1]
    assert world.query("select status from app_usage.generations order by generation_id") == [
        ("published",),
        ("rolled_back",),
        ("rolled_back",),
        ("rolled_back",),
    ]
    with pytest.raises(PublishError, match="rolled back to generation 00000001"):
        world.publish()
    assert status(world.url).generation_id == "00000001"
    again = world.publish(accept=True)
    assert again.generation_id == "00000005"
    assert world.is_equal()
    assert not world.publish().changed


def test_a_rollback_goes_one_generation_back_by_itself_and_no_further_than_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.publish.transaction.GENERATIONS_KEPT", 2)
    for number in range(5):
        world.change(f"update analytics.usage set active_days = {number}")
        world.publish()
    assert world.query("select count(distinct _generation_id) from app_usage_ledger.before_usage") == [(2,)]
    with pytest.raises(PublishError, match="no way back to generation 00000002, only to 00000004, 00000003"):
        rollback(world.url, "00000002")
    assert rollback(world.url) == "00000004"
    assert days(world) == [(3,)]
    assert rollback(world.url) == "00000003"
    assert days(world) == [(2,)]
    with pytest.raises(PublishError, match="no earlier generation"):
        rollback(world.url)


def test_a_rollback_before_a_table_was_there_leaves_it_empty(world: World) -> None:
    models = dict(world.models)
    del world.models["daily"]
    world.publish()
    world.models = models
    world.publish()
    rollback(world.url)
    assert world.query("select count(*) from app_usage.daily") == [(0,)]
    world.publish(accept=True)
    assert world.is_equal()


def test_a_verification_names_the_rows_that_differ(world: World) -> None:
    world.publish()

    def verified() -> Verified:
        from dlt.destinations import duckdb

        return verify(world.manifest, duckdb(str(world.file)), world.url, world.folder / "pipelines")

    assert verified() == Verified(330, {}, ())
    world.query(
        "set session_replication_role = replica; delete from app_usage.usage where person_id = 'person7'; "
        "update app_usage.usage set active_days = 77 where person_id = 'person8'; "
        "insert into app_usage.usage (org_id, person_id) values ('org1', 'nobody')"
    )
    found = verified()
    assert found.differing == {"usage": 3}
    assert {(d.key["person_id"], d.kind) for d in found.differences} == {
        ("person7", "missing"),
        ("person8", "different"),
        ("nobody", "extra"),
    }
    shutil.rmtree(world.folder / "pipelines")
    assert verified() == found
    world.publish(reread=True)
    assert verified() == Verified(330, {}, ())


def test_a_verification_says_how_many_customers_the_canary_leaves_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99")
    least = min(shard_of(f"org{number}") for number in range(3)) * 100 // SHARDS + 1
    world.publish(percent=least)
    told = verified_by_command(world, monkeypatch)
    assert told.exit_code == 0
    assert told.stdout == "110 published rows are as in the marts\n"
    assert told.stderr == "customers outside the canary, whose rows were not compared: 2\n"
    world.publish(percent=least - 1)
    assert verified_by_command(world, monkeypatch).stdout == "0 published rows are as in the marts\n"


def test_a_verification_finds_what_differs_though_all_customers_of_the_canary_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of those outside lie in the same table, and were taken for a write of somebody else."""
    world.publish()
    percent = min(shard_of(f"org{number}") for number in range(3)) * 100 // SHARDS + 1
    world.publish(percent=percent)
    world.change("update analytics.usage set active_days = 99")
    told = verified_by_command(world, monkeypatch)
    assert "Rows differ: 100 of usage; app-usage publish --reread" in told.stderr


def test_a_verification_after_a_rollback_advises_no_publish_that_the_rollback_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    world.publish()
    rollback(world.url)
    told = verified_by_command(world, monkeypatch)
    assert told.exit_code == 1
    assert told.stderr.splitlines()[-1] == (
        "Rows differ: 1 of usage; the product was rolled back to generation 00000001, and nothing newer is published; "
        "app-usage publish --accept --reread gives it what the marts have"
    )
    world.publish(accept=True, reread=True)
    assert verified_by_command(world, monkeypatch).exit_code == 0


def test_a_verification_tells_of_a_table_whose_rows_are_right_and_everybodys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish()
    world.query("alter table app_usage.usage disable row level security; drop policy one_org on app_usage.daily")
    told = verified_by_command(world, monkeypatch)
    assert told.exit_code == 1
    assert told.stdout == "330 published rows are as in the marts\n"
    assert told.stderr.splitlines() == [
        "app_usage.daily lost its policy one_org: app-usage publish puts it back",
        "app_usage.usage lost its row-level security: app-usage publish puts it back",
    ]
    assert told.stderr.splitlines()[0] in command(world, "status").stdout
    world.publish()
    assert verified_by_command(world, monkeypatch).exit_code == 0


def test_a_verification_names_a_column_that_somebody_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish()
    world.query("alter table app_usage.usage drop column active_days")
    told = verified_by_command(world, monkeypatch)
    assert (told.exit_code, told.stdout) == (1, "30 published rows are as in the marts\n")
    assert told.stderr == "app_usage.usage has no column active_days: app-usage publish puts it back\n"
    world.publish()
    assert verified_by_command(world, monkeypatch).exit_code == 0


def verified_by_command(world: World, monkeypatch: pytest.MonkeyPatch) -> Result:
    manifest = world.folder / "home" / "target" / "built_manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(world.manifest, manifest)
    monkeypatch.setattr(Settings, "destination", lambda settings: dlt.destinations.duckdb(str(world.file)))
    return command(world, "verify")


def test_the_status_says_what_the_product_shows(world: World) -> None:
    assert status(world.url).tables == ()
    freshness = {"org_id": "text", "app_id": "text", "complete_through": "date"}
    world.model("data_freshness", freshness, key=["org_id", "app_id"])
    world.change(
        "create table analytics.data_freshness as select * from (values ('org1', 'zoom', date '2026-01-29'), "
        "('org1', 'okta', date '2026-01-30'), ('org2', 'zoom', null)) as t(org_id, app_id, complete_through)"
    )
    world.publish()
    world.change("update analytics.usage set active_days = 99 where person_id = 'person7'")
    world.change("insert into analytics.usage (org_id, person_id) values ('org1', 'a' || chr(0))")
    world.publish(now=NOW + timedelta(hours=1))

    told = status(world.url)

    assert told.generation_id == "00000002"
    assert [(t.name, t.generation_id, t.rows, t.rejected, t.percent) for t in told.tables] == [
        ("daily", "00000001", 30, 0, 100),
        ("data_freshness", "00000001", 3, 0, 100),
        ("usage", "00000002", 300, 1, 100),
    ]
    assert told.complete_through == {"org1": date(2026, 1, 29), "org2": None}
    assert told.tables[2].reasons == ("person_id contains a NUL character",)
    assert told.held is None


@pytest.mark.parametrize(("limit", "code"), [("90m", 0), ("30m", 4)])
def test_a_product_that_lags_more_than_the_settings_allow_is_an_exit_code(
    world: World, limit: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 120)
    world.model("data_freshness", {"org_id": "text", "complete_through": "date"}, key=["org_id"])
    world.change(
        "create table analytics.data_freshness as select * from (values ('acme', date '2026-01-29'), ('late', null)) "
        "as t(org_id, complete_through); insert into analytics.usage (org_id, person_id) values ('acme', 'a' || chr(0))"
    )
    world.publish()
    told = command(world, "status", APP_USAGE_LAG_LIMIT=limit)
    assert told.exit_code == code, told.output
    assert re.search(r"usage +00000001 +2026-01-31 12:00 +300 +1 +100 % +1\.0 h", told.output)
    assert "person_id contains a NUL character" in told.output
    assert re.search(r"acme +2026-01-29\s+late +never", told.output)
    assert (f"more than {limit} ago" in told.output) is (code == 4)


def test_a_table_whose_mart_was_taken_away_is_told_of_until_it_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def publish() -> str:
        """What the summary complains of."""
        generation = world.publish()
        shutil.copyfile(world.manifest, published / "manifest.json")
        _print_generation(generation)
        return " ".join(capsys.readouterr().err.split())

    published = world.folder / "home" / "published"
    published.mkdir(parents=True)
    monkeypatch.setattr(Builder, "parse", lambda builder: world.manifest)
    assert publish() == ""
    before = world.query("select * from app_usage.daily order by 1, 2")
    daily = world.models.pop("daily")
    assert "breaks daily: is published no more\n" in command(world, "check").stdout

    advice = "`drop table app_usage.daily` once nobody reads"
    for _ in range(2):
        assert publish() == f"no model publishes app_usage.daily any more, so the rows grow old: {advice} them"
    assert world.query("select * from app_usage.daily order by 1, 2") == before
    assert [(t.name, t.is_left) for t in status(world.url).tables] == [("daily", True), ("usage", False)]
    told = command(world, "status").stdout
    assert re.search(r"daily .* no model *\n", told)
    assert advice in told
    checked = command(world, "check")
    assert (checked.exit_code, checked.stdout) == (
        1,
        f"breaks daily: is published no more, and grows old: {advice} it\n",
    )

    world.models["daily"] = daily
    assert publish() == ""
    assert command(world, "check").exit_code == 0
    del world.models["daily"]
    world.change("update analytics.usage set active_days = 99")
    assert advice in publish()
    world.query("drop table app_usage.daily")
    assert [t.name for t in status(world.url).tables] == ["usage"]
    assert command(world, "check").exit_code == 0
    assert publish() == ""
    assert world.query("select * from app_usage_ledger.orgs where table_name = 'daily'") == []
    assert world.query("select to_regclass('app_usage_ledger.before_daily')") == [(None,)]


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_table_that_was_left_behind_and_dropped_is_in_the_way_of_no_rollback(
    world: World, is_forgotten: bool
) -> None:
    world.publish()
    world.change("update analytics.usage set active_days = 99; update analytics.daily set dau = 99")
    world.publish()
    del world.models["daily"]
    world.publish()
    world.query("drop table app_usage.daily")
    if is_forgotten:
        world.publish()
    assert rollback(world.url) == "00000001"
    assert world.query("select max(active_days) from app_usage.usage") == [(29,)]
