"""What every connector must say about itself."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

from ingestion.connector import Connector, Stream
from ingestion.connectors import connectors
from ingestion.records import landing_schema

STAGING = Path(__file__).parents[2] / "models" / "staging"
STREAMS = [
    pytest.param(connector, stream, id=f"{connector.name}.{stream.name}")
    for connector in connectors().values()
    for stream in connector.streams
]


@pytest.mark.parametrize("name", connectors())
def test_a_connector_says_what_it_reads_what_it_needs_and_how_the_api_behaves(name: str) -> None:
    text = importlib.import_module(f"ingestion.connectors.{name}").__doc__ or ""
    first, *_ = text.split("\n")
    assert ":" in first, "the first line names the vendor and what is read"
    assert re.search(r"\nHow the \w+ behaves?:\n- ", text)
    streams = [stream.name for stream in connectors()[name].streams]
    assert len(streams) == len(set(streams))


@pytest.mark.parametrize(("connector", "stream"), STREAMS)
def test_a_stream_says_what_is_known_about_its_time_and_identity(connector: Connector, stream: Stream) -> None:
    names = [column.name for column in stream.columns]
    assert stream.key.paths
    assert len(names) == len(set(names))
    assert not set(names) & {"event_id", "record_id", "occurred_at", "fetched_at", "payload", "connection_id", "org_id"}
    assert all(column.path or column.sql for column in stream.columns)
    if stream.kind == "accounts":
        assert stream.window is None
        assert stream.occurred_at is None
        assert stream.key.kind != "content_hash", "an account without an identity cannot change"
        return
    assert stream.occurred_at is not None
    assert stream.occurred_at.type == "timestamp"
    if not stream.path:
        assert stream.window is None, "files are not asked for a span"
        return
    assert stream.window is not None
    assert stream.window.retention >= stream.lateness.rare, "late events are asked for while the vendor has them"
    assert stream.lateness.delay <= stream.lateness.usual <= stream.lateness.rare
    assert stream.window.longest >= stream.window.step


@pytest.mark.parametrize(("connector", "stream"), STREAMS)
def test_every_landing_column_is_described_in_the_sources(connector: Connector, stream: Stream) -> None:
    path = STAGING / connector.name / f"_{connector.name}__sources.yml"
    if not path.parent.exists():
        pytest.skip("has no staging models")
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["sources"]
    described = {table["name"]: {column["name"] for column in table["columns"]} for table in source["tables"]}
    assert stream.name in described
    landed = set(landing_schema(stream).names) - {"record_hash"}
    assert landed - described[stream.name] == set()
    assert {"fetch_log", "rejected_records", "_dlt_loads"} <= set(described)
