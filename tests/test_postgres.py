"""The private PostgreSQL, started for real: where it lies, who runs it, what it survives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg2
import pytest

from ingestion import postgres as module
from ingestion.config import Settings
from ingestion.connectors.product import read_customers
from ingestion.flow import Flow, Progress, Summary, prepared
from ingestion.postgres import PostgresError, PrivatePostgres
from ingestion.sandbox import Options
from tests.flow_support import PROJECT

ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own is closed to the user that root runs the server as."""
    made = Path(tempfile.mkdtemp(prefix="app-usage-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def server(folder: Path) -> Iterator[PrivatePostgres]:
    made = PrivatePostgres(folder / "postgres")
    yield made
    made.remove()


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def postmaster(server: PrivatePostgres) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


def test_it_listens_on_its_socket_alone_and_speaks_utc_and_utf8(server: PrivatePostgres) -> None:
    server.start()
    settings = "listen_addresses", "timezone", "server_encoding", "fsync", "synchronous_commit"
    shown = [query(server.url("product"), f"show {name}")[0][0] for name in settings]
    assert shown == ["", "UTC", "UTF8", "on", "on"]
    assert server.folder.stat().st_mode & 0o777 == 0o700
    assert query(server.url("product"), "select 'é' < 'z', lower('É')") == [(False, "é")]


def test_starting_it_again_finds_it_with_its_data(server: PrivatePostgres) -> None:
    server.start()
    query(server.url("product"), "create table kept as select 1 as one")
    first = postmaster(server)
    again = PrivatePostgres(server.folder)
    again.start()
    assert postmaster(again) == first
    again.stop()
    again.stop()
    again.start()
    assert query(again.url("product"), "select one from kept") == [(1,)]


def test_kill_9_loses_no_committed_row(server: PrivatePostgres) -> None:
    """Where nobody collects dead processes the killed one stays as a zombie, with the id that the lock file names."""
    server.start()
    query(server.url("product"), "create table kept as select 1 as one")
    os.kill(postmaster(server), signal.SIGKILL)
    server.start()
    assert query(server.url("product"), "select one from kept") == [(1,)]


def test_a_server_that_was_killed_starts_where_a_stranger_has_got_its_process_id(server: PrivatePostgres) -> None:
    server.start()
    os.kill(postmaster(server), signal.SIGKILL)
    for lock in (server.data / "postmaster.pid", server.folder / f"{module.SOCKET}.lock"):
        lines = lock.read_text().splitlines(keepends=True)
        lock.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
    server.start()
    assert query(server.url("product"), "select 1") == [(1,)]


def test_two_that_start_it_at_once_both_find_one_server(folder: Path) -> None:
    servers = [PrivatePostgres(folder / "postgres") for _ in range(4)]
    seen = []

    def start(server: PrivatePostgres) -> None:
        server.start()
        seen.append((query(server.url("product"), "select pg_postmaster_start_time()"), postmaster(server)))

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    servers[0].remove()
    assert len(seen) == 4
    assert all(one == seen[0] for one in seen)


def test_a_caller_that_reads_the_output_does_not_wait_for_the_server_to_end(server: PrivatePostgres) -> None:
    program = "import pathlib, sys, ingestion.postgres as p; p.PrivatePostgres(pathlib.Path(sys.argv[1])).start()"
    command = [sys.executable, "-c", program, str(server.folder)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)  # noqa: S603 - ours
    assert done.stdout == b""
    assert query(server.url("product"), "select 1") == [(1,)]
    assert os.getsid(postmaster(server)) != os.getsid(0)


def test_a_folder_too_deep_for_a_socket_is_served_all_the_same(folder: Path) -> None:
    server = PrivatePostgres(folder / ("d" * 60) / ("e" * 60) / "postgres")
    server.start()
    url = server.url("product")
    assert query(url, "select 1") == [(1,)]
    assert len(str(server.socket_folder)) < 60
    server.stop()
    server.start()
    assert query(server.url("product"), "select 1") == [(1,)]
    place = server.socket_folder
    server.remove()
    assert not place.exists()


def test_a_copied_home_gets_a_server_of_its_own(folder: Path) -> None:
    first = PrivatePostgres(folder / "d" / ("e" * 100) / "postgres")
    first.start()
    query(first.url("product"), "create table owner as select 'first' as name")
    first.stop()
    shutil.copytree(folder / "d", folder / "c", symlinks=True)
    if ROOT:
        user = module._server_user(first.data)
        assert user is not None
        for path in (folder / "c").rglob("*"):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    first.start()
    second = PrivatePostgres(folder / "c" / ("e" * 100) / "postgres")
    second.start()
    query(second.url("product"), "update owner set name = 'second'")
    assert query(first.url("product"), "select name from owner") == [("first",)]
    first.remove()
    second.remove()


def test_a_path_with_spaces_and_quotes_works(folder: Path) -> None:
    server = PrivatePostgres(folder / "my project's" / "postgres")
    server.start()
    assert query(server.url("product"), "select 1") == [(1,)]
    command = f"{server.psql('product')} -Atc 'select 1'"
    shown = subprocess.run(command, shell=True, capture_output=True, check=True)  # noqa: S602 - as a user would
    assert shown.stdout == b"1\n"
    server.remove()


@pytest.mark.skipif(not ROOT, reason="only root has to give its rights up")
def test_root_runs_it_as_another_user_elsewhere_where_that_one_cannot_enter(folder: Path) -> None:
    folder.chmod(0o700)
    server = PrivatePostgres(folder / "postgres")
    server.start()
    place = server.data.resolve()
    assert place.is_relative_to(module.ELSEWHERE)
    assert Path(f"/proc/{postmaster(server)}").stat().st_uid != 0
    assert server.socket_folder == folder / "postgres"
    assert query(server.url("product"), "select 1") == [(1,)]
    server.remove()
    assert not place.parent.exists()


@pytest.mark.skipif(not ROOT, reason="only root has to give its rights up")
def test_the_wheel_serves_root_also_from_where_only_root_can_enter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment under /root, on a machine without any PostgreSQL."""
    found = find_spec(module.WHEEL)
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    for part in (package, package.with_name(f"{module.WHEEL}.libs")):
        shutil.copytree(part, folder / "root" / part.name)
    (folder / "root").chmod(0o700)
    monkeypatch.syspath_prepend(str(folder / "root"))
    monkeypatch.setattr(module, "ELSEWHERE", folder / "elsewhere")
    candidates = module._candidates
    monkeypatch.setattr(
        module, "_candidates", lambda user: (path for path in candidates(user) if path.parent.name == "pginstall")
    )
    server = PrivatePostgres(folder / "postgres")
    server.start()
    program = Path(f"/proc/{postmaster(server)}/exe").resolve()
    assert program.is_relative_to(folder / "elsewhere")
    assert query(server.url("product"), "show server_version_num") > [("180000",)]
    server.remove()


@pytest.mark.skipif(not ROOT, reason="needs the right to become another user")
def test_it_runs_as_any_other_user_from_the_wheel(folder: Path) -> None:
    """The same program as in a clone of somebody who is not root, on a machine without any PostgreSQL."""
    home = folder / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    program = f"""
import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)
from pathlib import Path
from ingestion import postgres
candidates = postgres._candidates
postgres._candidates = lambda user: (path for path in candidates(user) if path.parent.name == "pginstall")
server = postgres.PrivatePostgres(Path({str(home)!r}) / "postgres")
server.start(); print(server.url("product"))
"""
    # Imported before the rights are given up: the interpreter itself may lie where only root can read.
    imports = "import encodings.idna, psycopg2, filelock, ingestion.postgres\n"
    command = [sys.executable, "-c", imports + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    assert query(done.stdout.strip(), "select 1") == [(1,)]
    server = PrivatePostgres(home / "postgres")
    assert Path(f"/proc/{postmaster(server)}").stat().st_uid == 65534
    server.remove()


def test_no_binaries_at_all_is_said_in_words(server: PrivatePostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_candidates", lambda _: iter([Path("/nowhere")]))
    with pytest.raises(PostgresError, match="PG_BIN"):
        server.start()


def test_data_of_another_version_is_said_in_words(server: PrivatePostgres) -> None:
    server.start()
    server.stop()
    version = server.data / "PG_VERSION"
    made_by = version.read_text()
    version.write_text("9\n")
    with pytest.raises(PostgresError, match="PostgreSQL 9, which made the data"):
        server.start()
    version.write_text(made_by)


def test_a_run_that_stays_starts_its_server_again_where_somebody_stopped_it(folder: Path) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    settings = Settings(PROJECT, folder / "home", "duckdb", now, is_now_given=False)
    steps = dict.fromkeys(("extract", "build", "publish"), mock.DEFAULT)
    with prepared(settings, Options(orgs=1, people=2, days=2)) as flow, mock.patch.multiple(Flow, **steps) as done:
        assert flow.server is not None
        try:
            flow.server.stop()
            flow.run(Summary(), Progress(), now=now + timedelta(hours=1))
            assert read_customers(flow.product_url) == {"acme"}
            assert done["extract"].called
        finally:
            flow.server.remove()
