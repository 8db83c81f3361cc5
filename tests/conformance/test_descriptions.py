"""Each request that a connector sends is one that its vendor's own description allows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from ingestion.connectors import connectors
from tests.conformance.description import SPECS, operation, operations
from tests.conformance.situations import Stage
from tests.conformance.vendor import LINK
from tests.support import Request

VENDORS = sorted(path.stem for path in SPECS.glob("*.json"))
NOT_AS_DESCRIBED = {
    "auth0": {"/api/v2/logs: q is no parameter"},  # the log search's page has it, the description does not
    "slack": {  # of 2021, when tokens went into the query, and most pages had numbers
        "/api/team.accessLogs: cursor is no parameter",
        "/api/team.accessLogs: limit is no parameter",
        "/api/team.accessLogs: team_id is no parameter",
        "/api/team.accessLogs: token is missing",
        "/api/team.billableInfo: cursor is no parameter",
        "/api/team.billableInfo: team_id is no parameter",
        "/api/team.billableInfo: token is missing",
        "/api/users.list: team_id is no parameter",
    },
    # of 2021, when tokens went into the query, and the pages had numbers
    "zoom": {"/v2/users: no credential of ['global']", "/v2/users: next_page_token is no parameter"},
}


@cache
def requests_of(vendor: str) -> list[Request]:
    """What a connector asks a model vendor for, all pages of all streams; but not the links that the kit made up."""
    seen: list[Request] = []
    connector = connectors()[vendor]
    for stream in (stream for stream in connector.streams if stream.path):
        with Stage(connector, stream).world() as world:
            world.fill()
            assert world.run() is None
            seen += world.requests
    return [request for request in seen if LINK not in request.query]


def faults(vendor: str, request: Request) -> set[str]:
    found = operation(vendor, request)
    return set(found.faults(request)) if found else {f"{request.method} {request.path} is not described"}


@pytest.mark.parametrize("vendor", VENDORS)
def test_requests_are_valid_by_the_vendors_description(vendor: str) -> None:
    asked = [(found, request) for request in requests_of(vendor) if (found := operation(vendor, request))]
    assert {fault for found, request in asked for fault in found.faults(request)} == NOT_AS_DESCRIBED.get(vendor, set())
    described = {known.path for known in operations(vendor).values()}
    assert {found.path for found, _ in asked} == described, "described, and never asked for"


def first(vendor: str, path: str) -> Request:
    return next(request for request in requests_of(vendor) if request.path == path)


def with_query(request: Request, **changes: str | None) -> Request:
    pairs = [(name, value) for name, value in request.pairs if name not in changes]
    pairs += [(name, value) for name, value in changes.items() if value is not None]
    return replace(request, query=dict(pairs), pairs=pairs)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"max": "9"}, "/api/v1/logs: max is no parameter"),
        ({"limit": "all"}, "limit: 'all' is not of type 'integer'"),
        ({"sortOrder": "up"}, "sortOrder: 'up' is not one of ['ASCENDING', 'DESCENDING']"),
    ],
    ids=["wrong name", "wrong type", "none of the listed values"],
)
def test_a_wrong_parameter_is_found(changes: dict[str, str], fault: str) -> None:
    assert faults("okta", with_query(first("okta", "/api/v1/logs"), **changes)) == {fault}


def test_what_is_missing_is_found() -> None:
    request = first("intercom", "/admins/activity_logs")
    assert faults("intercom", request) == set()
    bare = replace(with_query(request, created_at_after=None), headers={})
    assert faults("intercom", bare) == {
        "/admins/activity_logs: created_at_after is missing",
        "/admins/activity_logs: no credential of ['bearerAuth']",
    }


def test_a_wrong_path_and_a_wrong_method_are_found() -> None:
    request = first("intercom", "/admins")
    for wrong in (replace(request, path="/admin"), replace(request, method="POST")):
        assert faults("intercom", wrong) == {f"{wrong.method} {wrong.path} is not described"}


def test_a_wrong_body_is_found() -> None:
    request = first("jumpcloud", "/insights/directory/v1/events")
    body = request.body
    assert faults("jumpcloud", replace(request, body=body.replace(b'"limit": 1000', b'"limit": "all"'))) == {
        "$.limit: 'all' is not of type 'integer'"
    }
    (unknown,) = faults("jumpcloud", replace(request, body=body.replace(b"}", b', "most": 9}')))
    assert "'most' was unexpected" in unknown
    (missing,) = faults("jumpcloud", replace(request, body=body.replace(b"start_time", b"q")))
    assert "'start_time' is a required property" in missing


def test_what_goes_along_with_a_lone_cursor_is_found() -> None:
    request = first("dropbox", "/2/team_log/get_events/continue")
    assert faults("dropbox", request) == set()
    (unknown,) = faults("dropbox", replace(request, body=request.body.replace(b"}", b', "limit": 9}')))
    assert "'limit' was unexpected" in unknown


def test_a_path_with_a_value_in_quotes_is_matched() -> None:
    request = first("microsoft365", "/v1.0/reports/getOffice365ActiveUserDetail(period='D180')")
    assert faults("microsoft365", request) == set()
    unquoted = replace(request, path=request.path.replace("'", ""))
    assert faults("microsoft365", unquoted) == {f"GET {unquoted.path} is not described"}
