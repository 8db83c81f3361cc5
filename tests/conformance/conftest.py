"""Secrets that are none, for every connector."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ingestion.connections import Connection


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def a_secret(connection: Connection, name: str) -> str:
    """Whatever secret a connector asks for."""
    return _private_key() if "private_key" in name else f"a-secret-{name}-of-{connection.connection_id}"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "secret", a_secret)
