"""The vendor's own example page, as its description has it, lands typed: what it says, each column in its type."""

from __future__ import annotations

import copy
import re
from datetime import datetime
from typing import Any

import pytest

from ingestion.connector import Column, Connector, Stream
from ingestion.connectors import connectors
from tests.conformance.description import SPECS, operation
from tests.conformance.records import get, paths_of
from tests.conformance.situations import Stage
from tests.conformance.vendor import Ask, put_dotted
from tests.conformance.world import World
from tests.support import Answer, Request

TYPES = {"text": str, "bigint": int, "double": float, "bool": bool, "timestamp": datetime}
# Of these the description has no example. What they answer is in tests/fixtures by their documentation, and how that
# lands in test_real_examples.py (Google, Zoom), test_connector_cases.py (JumpCloud) and test_connector_scripts.py.
NO_EXAMPLE = {
    "docusign.monitor": "declares no field of an event",
    "figma.activity_logs": "has schemas alone",
    "google_workspace.licenses": "discovery documents have no examples",
    "google_workspace.login": "discovery documents have no examples",
    "google_workspace.saml": "discovery documents have no examples",
    "google_workspace.token": "discovery documents have no examples",
    "google_workspace.users": "discovery documents have no examples",
    "jumpcloud.events": "an event is any object",
    "jumpcloud.users": "has schemas alone",
    "microsoft365.active_users": "the answer is CSV, of which only the address is described",
    "microsoft365.sign_ins": "has the names of types in place of values",
    "microsoft365.subscribed_skus": "has the names of types in place of values",
    "zoom.users": "has schemas alone",
}
NO_ID = {  # the example leaves out what identifies a record, or is a part of one
    "auth0.logs-default",
    "datadog.users-default",
    "okta.system_log-LogTargetChangeDetails",
}
PART = {"datadog.audit_events-default"}  # the example warns that it may be a part of the answer: a failure
UNTOLD = {  # columns of which no example says anything
    "asana.audit_log_events": {"api_authentication_method"},
    "asana.users": {"email"},
    "auth0.logs": {"connection", "user_agent", "user_name"},
    "auth0.users": {"created_at", "display_name", "is_blocked", "last_login_at", "logins_count"},
    "box.events": {"event_type"},
    "datadog.audit_events": {"action", "actor_type", "asset_type", "event_name", "status", "user_email"},
    "datadog.users": {
        "account_id", "created_at", "display_name", "email", "is_disabled", "is_service_account", "last_login_at",
        "status",
    },
    "docusign.users": {
        "created_at", "display_name", "email", "license_type", "membership_status", "plan_name", "user_status",
    },
    "dropbox.members": {"display_name"},
    "github.audit_log": {"actor_id", "is_agent", "is_bot", "transport_protocol"},
    "miro.members": {"last_activity_at", "license_assigned_at"},
    "openai.usage_completions": {"user_id"},
    "openai.users": {"api_key_last_used_at", "is_banned", "is_enabled", "is_service_account"},
}  # fmt: skip


def described() -> dict[str, tuple[Connector, Stream, dict[str, Any]]]:
    """The streams whose path a description has, and its example pages."""
    found = {}
    for connector in (connectors()[path.stem] for path in sorted(SPECS.glob("*.json"))):
        for stream in connector.streams:
            path = re.sub(r"\{\w+\}", "any", stream.path)
            known = operation(connector.name, Request(stream.method, path, {}, {}, b"", []))
            if known is not None:
                found[f"{connector.name}.{stream.name}"] = connector, stream, dict(known.examples)
    return found


DESCRIBED = described()
EXAMPLES = [
    pytest.param(connector, stream, page, id=f"{name}-{example}")
    for name, (connector, stream, pages) in DESCRIBED.items()
    for example, page in pages.items()
]


def test_every_described_stream_has_an_example_or_a_reason_why_not() -> None:
    assert {name for name, (_, _, pages) in DESCRIBED.items() if not pages} == NO_EXAMPLE.keys()


@pytest.mark.parametrize("name", sorted(DESCRIBED.keys() - NO_EXAMPLE))
def test_what_is_read_is_where_some_example_has_it(name: str) -> None:
    _, stream, pages = DESCRIBED[name]
    elements = [element for page in pages.values() for element in elements_in(page, stream)]
    silent = {column.name for column in columns_of(stream) if not any(values(column, *pair) for pair in elements)}
    assert silent == UNTOLD.get(name, set())


def elements_in(page: Any, stream: Stream) -> list[tuple[Any, Any]]:
    """Each record of the page with each element of it, or with itself."""
    records = get(page, f"$.{stream.records}") if stream.records else page
    if isinstance(records, dict):  # a map, but two of Okta's examples are one event in place of a list
        of_map = [{"id": name, "value": value} for name, value in records.items()]
        records = of_map if stream.records else [records]
    return [(r, element) for r in records for element in (get(r, stream.explode) if stream.explode else [r])]


def columns_of(stream: Stream) -> list[Column]:
    """The columns that a record's own paths fill."""
    head = [stream.occurred_at] if stream.occurred_at else []
    return [column for column in (*head, *stream.columns) if column.of != "parent" and paths_of(column)]


def served(world: World, stream: Stream, page: Any) -> None:
    """The first request of the stream gets the page, and each that follows the same without any record."""
    empty = copy.deepcopy(page) if stream.records else []
    if stream.records:
        put_dotted(empty, stream.records, [])
    pages = [page if stream.records or isinstance(page, list) else [page]]

    def answer(ask: Ask) -> Answer | None:
        return Answer(pages.pop() if pages else empty) if ask.listing == stream.name else None

    world.vendor.before_page = answer


def values(column: Column, record: Any, element: Any) -> list[Any]:
    """What the record has for the column."""
    source = element if column.of == "item" else record
    return [value for path in paths_of(column) if (value := get(source, path)) is not None]


@pytest.mark.parametrize(("connector", "stream", "page"), EXAMPLES)
def test_an_example_lands_typed(
    connector: Connector, stream: Stream, page: Any, request: pytest.FixtureRequest
) -> None:
    elements, columns = elements_in(page, stream), columns_of(stream)
    assert elements
    with Stage(connector, stream).world() as world:
        served(world, stream, page)
        if request.node.callspec.id in PART:
            assert "a part only" in (world.run() or "")
            return
        assert world.run() is None
        if request.node.callspec.id in NO_ID:
            assert [reason for reason, _ in world.rejects] == ["no id"] * len(elements)
            return
        assert world.rejects == []
        key = "event_id" if stream.kind == "events" else "record_id"
        names = [key, *(column.name for column in columns)]
        landed = dict(zip(names, zip(*world.rows(stream.name, *names), strict=True), strict=True))
    assert len(set(landed[key]) - {None}) == len(elements)
    for column in columns:
        told = [found[0] for pair in elements if (found := values(column, *pair))]
        filled = [value for value in landed[column.name] if value is not None]
        assert len(filled) == len(told), f"{column.name} of {told}"
        assert all(type(value) is TYPES[column.type] for value in filled)
        if column.type == "text" and not column.sql and all(isinstance(value, str) for value in told):
            assert sorted(filled) == sorted(told)
