"""Secrets that are none, for every connector."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ingestion import records
from ingestion.connections import Connection


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def a_secret(connection: Connection, name: str) -> str:
    """Whatever secret a connector asks for."""
    return _private_key() if "private_key" in name else f"a-secret-{name}-of-{connection.connection_id}"


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """The kit's batches are of a few records: a second thread of DuckDB's wakes up for nothing, ten thousand times."""
    (threads,) = records._engine().execute("select current_setting('threads')").fetchone() or (1,)
    records._engine().execute("set threads = 1")
    yield
    records._engine().execute(f"set threads = {threads}")


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "secret", a_secret)
