"""What a run is told from outside: connections, profile, clock. Bad input is named with its place and the remedy."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingestion.build import stamp_of
from ingestion.config import ConfigError, Settings, parse_instant, postgres_url
from ingestion.connections import Connection, ConnectionsError, read_connections

GOOD = """
[[connections]]
connection_id = "acme-zoom"
org_id = "acme"
connector = "zoom"
base_url = "http://127.0.0.1:1"
start_date = "2025-10-01"
[connections.settings]
account_id = "a1"
"""


def _read(tmp_path: Path, text: str) -> list[Connection]:
    path = tmp_path / "connections.toml"
    path.write_text(text)
    return read_connections(path, {"zoom", "okta"})


def test_a_connection_is_read_with_its_settings_and_its_start_in_utc(tmp_path: Path) -> None:
    [connection] = _read(tmp_path, GOOD)
    assert connection == Connection(
        "acme-zoom", "acme", "zoom", "http://127.0.0.1:1", datetime(2025, 10, 1, tzinfo=UTC), {"account_id": "a1"}
    )


@pytest.mark.parametrize("written", ['"2026-11-01"', "2026-11-01", "2026-10-31T16:00:00-08:00"])
def test_a_connection_ends_with_the_instant_that_it_names(tmp_path: Path, written: str) -> None:
    [connection] = _read(
        tmp_path, GOOD.replace("[connections.settings]", f"ended_on = {written}\n[connections.settings]")
    )
    at = datetime(2026, 11, 1, tzinfo=UTC)
    assert connection.ended_on == at
    assert connection.has_ended(at)
    assert not connection.has_ended(at - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace('org_id = "acme"', ""), "org_id is missing"),
        (GOOD.replace('"zoom"', '"zoomm"'), "no connector 'zoomm'; there are okta, zoom"),
        (GOOD.replace('"acme-zoom"', '"acme zoom; --"'), "may hold letters"),
        (GOOD + GOOD, "'acme-zoom' is there twice"),
        (GOOD.replace("2025-10-01", "first of May"), "no date such as 2025-10-01"),
        (GOOD.replace("base_url", "base_uri"), "unknown base_uri"),
        (GOOD.replace("[connections.settings]", 'client_secret = "s"'), "secrets into"),
        ("connections = 5", r"write each connection as a \[\[connections\]\] table"),
        (GOOD.replace("[[connections]]", "[[connection]]"), r"unknown connection: .* a \[\[connections\]\] table"),
        ("", r"lists no connection: write each as a \[\[connections\]\] table"),
        ("connections = []", "lists no connection"),
        (GOOD.replace("[connections.settings]", 'settings = "x"').replace("account_id", "#"), "settings is no table"),
        (GOOD.replace('"http://127.0.0.1:1"', "8080"), "base_url is no text"),
        (
            GOOD.replace("http://127.0.0.1:1", "notaurl"),
            "toml, connection 1: base_url is no http:// or https://",
        ),
        (GOOD.replace("http://127.0.0.1:1", "api.zoom.us:443"), "is no http:// or https:// with a host"),
        (GOOD.replace("127.0.0.1:1", "/v2"), "is no http:// or https:// with a host"),
        (GOOD.replace("127.0.0.1:1", "api.zoom.us:https"), "is no http:// or https:// with a host"),
        (GOOD.replace('"2025-10-01"', "12:00:00"), "no date such as 2025-10-01"),
        (GOOD.replace("start_date", "ended_on").replace("2025-10-01", "in May"), "ended_on 'in May' is no date"),
        (GOOD.replace("start_date", 'ended_on = "2025-09-30"\nstart_date'), "ended_on 2025-09-30 is before start_date"),
        ("[[connections", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_connections_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConnectionsError, match=message):
        _read(tmp_path, text)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:Ge%heim99@db.acme.com/product",
        "postgresql://me:Ge heim99@db.acme.com/product",
        "postgresql://me:Ge@heim99@db.acme.com/product",
        "postgresql://me:Ge[heim99@db.acme.com/product",
        "postgresql+psycopg2://me:Geheim99@db.acme.com/product",
        "db.acme.com/Geheim99",
    ],
)
def test_a_product_url_that_cannot_be_read_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PRODUCT_DB_URL", url)
    with pytest.raises(ConfigError, match="PRODUCT_DB_URL") as refused:
        Settings.load()
    assert "heim99" not in str(refused.value)


def test_a_file_that_is_taken_away_or_put_back_from_before_is_a_change_of_the_project(tmp_path: Path) -> None:
    claim, model = tmp_path / "tests" / "dbt" / "claim.sql", tmp_path / "models" / "mart.sql"
    stamps = []
    for file in (claim, model):
        file.parent.mkdir(parents=True)
        file.write_text("select 1")
        stamps.append(stamp_of(tmp_path))
    model.write_text("select 2")
    os.utime(model, (0, 0))
    stamps.append(stamp_of(tmp_path))
    claim.unlink()
    stamps.append(stamp_of(tmp_path))
    assert len(set(stamps)) == 4
    assert stamp_of(tmp_path) == stamps[-1]


@pytest.mark.parametrize("other", ["Acme-Zoom", "acme_zoom", "ACME.ZOOM"])
def test_two_connections_never_read_one_another_s_secrets(tmp_path: Path, other: str) -> None:
    """Whose ids lead to the same variables; they may be of two customers."""
    text = GOOD + GOOD.replace("acme-zoom", other).replace('"acme"', '"globex"')
    shared = re.escape(f"'acme-zoom' and {other!r} would share their secrets, CONNECTIONS__ACME_ZOOM__")
    with pytest.raises(ConnectionsError, match=shared):
        _read(tmp_path, text)


def test_a_missing_connections_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionsError, match=r"cannot read the connections file .*nowhere.toml: No such file"):
        read_connections(tmp_path / "nowhere.toml", {"zoom"})


def test_a_secret_comes_from_dlts_providers_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [connection] = _read(tmp_path, GOOD)
    monkeypatch.setenv("CONNECTIONS__ACME_ZOOM__CLIENT_SECRET", "from the environment")
    assert connection.secret("client_secret") == "from the environment"
    with pytest.raises(ConnectionsError, match=r"set CONNECTIONS__ACME_ZOOM__CLIENT_ID or connections\.acme_zoom"):
        connection.secret("client_id")
    with pytest.raises(ConnectionsError, match="has no setting 'domain'"):
        connection.setting("domain")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_the_clock_is_read_as_utc(text: str, expected: datetime) -> None:
    assert parse_instant(text) == expected


def test_a_clock_that_is_no_time_is_named() -> None:
    with pytest.raises(ConfigError, match="'noon' is no time such as"):
        parse_instant("noon")


def test_arguments_overrule_the_environment_and_the_environment_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_USAGE_HOME", str(tmp_path))
    monkeypatch.setenv("DBT_TARGET", "postgres")
    monkeypatch.setenv("APP_USAGE_NOW", "2026-01-31T12:00:00Z")
    settings = Settings.load()
    assert (settings.home, settings.target, settings.is_now_given) == (tmp_path, "postgres", True)
    settings = Settings.load(target="duckdb", now="2026-02-01T00:00:00Z")
    assert (settings.target, settings.now) == ("duckdb", datetime(2026, 2, 1, tzinfo=UTC))
    assert settings.warehouse["path"] == str(tmp_path / "warehouse.duckdb")


@pytest.mark.parametrize("password", ["se@cret", "se/cret", "12/cret", "se?cret", "se#cret", "se%cret", "se[cret"])
def test_a_password_that_is_written_wrong_is_not_told(password: str) -> None:
    """PostgreSQL would complain about a host, a port or a token that is a part of it."""
    with pytest.raises(ConfigError, match="PRODUCT_DB_URL is no URL such as postgresql://") as refused:
        Settings.load(product_db_url=f"postgresql://ada:{password}@127.0.0.1:5432/product")
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s%40cret@db.example:5432/product?sslmode=require",
        "postgres://postgres@%2Ftmp%2Fsocket/product",
        "postgresql:///product?host=/tmp&user=ada",
        "postgresql://one:5432,two:5433/product",
    ],
)
def test_every_url_that_postgresql_reads_is_taken_as_it_is(url: str) -> None:
    assert Settings.load(product_db_url=url).product_db_url == url


def test_an_unknown_target_is_named_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="has no target 'oracle'; it has duckdb, postgres, redshift"):
        _ = Settings.load(target="oracle").warehouse


def test_a_password_with_signs_and_a_socket_folder_survive_in_a_url() -> None:
    url = postgres_url(host="db", port=5432, user="a@b", password="p:/?#@", database="d")  # noqa: S106 (a test's)
    assert url == "postgresql://a%40b:p%3A%2F%3F%23%40@db:5432/d"
    url = postgres_url(host="/tmp/x", port=5432, user="u", password="", database="d")  # noqa: S108 (no file is made)
    assert url.endswith("@localhost:5432/d?host=%2Ftmp%2Fx")
