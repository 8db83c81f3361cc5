"""The fixture of the tests of publishing, for `pytest_plugins`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestion.postgres import PrivatePostgres
from tests.publish_support import World


@pytest.fixture
def world(tmp_path: Path, product_server: PrivatePostgres) -> Iterator[World]:
    made = World(tmp_path, product_server.url(f"product_{time.time_ns()}"))
    yield made
    made.warehouse.close()
