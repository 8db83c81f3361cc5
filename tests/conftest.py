"""What whole runs stand on: a PostgreSQL per worker, places to run in, and an environment that is put back."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import psycopg2
import pytest
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

from ingestion.build import Builder
from ingestion.postgres import PrivatePostgres
from tests.flow_support import PARSES, NewSite, Site, copy_project, parse_once
from tests.publish_support import World

if TYPE_CHECKING:
    from tests.models_support import Warehouse

    NewWarehouse = Callable[[str], Warehouse]


def pytest_sessionstart() -> None:
    """To look for garbage among all that dbt and dlt keep, again and again, takes a twelfth of the tests' time."""
    gc.set_threshold(50_000, 20, 50)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: the many short tests of the conformance kit fill what is left of the workers' time."""
    items.sort(key=lambda item: "conformance" in item.path.parts)


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """A file shares its servers, so its tests go to one worker; those of the conformance kit stand alone."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "conformance/" in nodeid else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    return _ByFile(config, log)


@contextmanager
def _restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="module")
def _environment_of_a_file() -> Iterator[None]:
    """What a file's own fixtures put into the environment is gone when the worker takes the next file."""
    with _restored_environment():
        yield


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """A run puts secrets and places into the environment; no test sees those of another."""
    with _restored_environment():
        yield


@pytest.fixture(scope="session")
def product_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgres]:
    server = PrivatePostgres(tmp_path_factory.mktemp("server") / "postgres")
    server.start()
    with closing(psycopg2.connect(server.url("postgres"))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("alter system set fsync to off")  # nobody pulls the plug of a test
        cursor.execute("select pg_reload_conf()")
    yield server
    server.remove()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all workers."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(autouse=True, scope="session")
def _parses(shared_folder: Path) -> Iterator[None]:
    os.environ[PARSES] = str(shared_folder)
    with mock.patch.object(Builder, "parse", parse_once):
        yield


@pytest.fixture(scope="session")
def lean_project(shared_folder: Path) -> Path:
    """The project with the staging folders of the sandbox's vendors alone."""
    return _copied_once(shared_folder / "lean_project")


@pytest.fixture(scope="session")
def untested_project(shared_folder: Path) -> Path:
    """The lean project without dbt's tests, for what is told from the tables anyway."""
    return _copied_once(shared_folder / "untested_project", data_tests=False)


def _copied_once(folder: Path, **options: bool) -> Path:
    with FileLock(f"{folder}.lock"):
        return folder if folder.exists() else copy_project(folder, **options)


@pytest.fixture(scope="session")
def new_site(
    product_server: PrivatePostgres, untested_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> NewSite:
    """Makes empty places to run in, each with databases of its own."""
    numbers = count(1)

    def make(*, target: str = "duckdb", project: Path = untested_project) -> Site:
        return Site(project, tmp_path_factory.mktemp("home"), product_server, f"product_{next(numbers)}", target)

    return make


@pytest.fixture(scope="session")
def new_warehouse(
    request: pytest.FixtureRequest, lean_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> NewWarehouse:
    """Makes empty warehouses. There is one of PostgreSQL at a time, for the parsed project names its database."""
    from tests.models_support import Warehouse  # brings dbt, which few tests need and all would wait for

    def make(engine: str) -> Warehouse:
        home = tmp_path_factory.mktemp("warehouse")
        if engine == "duckdb":
            return Warehouse(home, project=lean_project)
        server: PrivatePostgres = request.getfixturevalue("product_server")
        server.url("warehouse")
        dsn = f"host={server.socket_folder} user=postgres dbname=warehouse"
        with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(r"select nspname from pg_namespace where nspname ~ '^(landing|analytics)'")
            for (schema,) in cursor.fetchall():
                cursor.execute(f'drop schema "{schema}" cascade')
        return Warehouse(home, dsn, lean_project)

    return make


@pytest.fixture(params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest, new_warehouse: NewWarehouse) -> Warehouse:
    """An empty warehouse, of each engine."""
    return new_warehouse(request.param)


@pytest.fixture
def on_duckdb(new_warehouse: NewWarehouse) -> Warehouse:
    """An empty warehouse, where one engine is enough."""
    return new_warehouse("duckdb")


@pytest.fixture
def world(tmp_path: Path, product_server: PrivatePostgres) -> Iterator[World]:
    """Marts by hand, and a product database of its own to publish them to."""
    made = World(tmp_path, product_server.url(f"product_{time.time_ns()}"))
    yield made
    made.warehouse.close()
