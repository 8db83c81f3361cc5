"""What whole runs stand on: a PostgreSQL per worker, places to run in, and an environment that is put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import psycopg2
import pytest

from ingestion.postgres import PrivatePostgres
from tests.flow_support import PROJECT, VENDORS, NewSite, Site, copy_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file shares its servers, so its tests go to one worker; those of the conformance kit stand alone."""
    for item in items:
        if "conformance" not in item.path.parts:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """A run puts secrets and places into the environment; no test sees those of another."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


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
def lean_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the staging folders of the sandbox's vendors alone."""
    return copy_project(tmp_path_factory.mktemp("project"), vendors=VENDORS)


@pytest.fixture(scope="session")
def new_site(product_server: PrivatePostgres, lean_project: Path, tmp_path_factory: pytest.TempPathFactory) -> NewSite:
    """Makes empty places to run in, each with databases of its own; `whole`: with the models of all vendors."""
    numbers = count(1)

    def make(*, target: str = "duckdb", whole: bool = False) -> Site:
        project = PROJECT if whole else lean_project
        return Site(project, tmp_path_factory.mktemp("home"), product_server, f"product_{next(numbers)}", target)

    return make
