"""How a vendor's "not now" and "no" are taken: obeyed, retried or final. Against a real server."""

from __future__ import annotations

import csv
import email.utils
import gc
import json
import socket
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest
import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials

from ingestion.connector import Connector, RateLimit
from ingestion.http import (
    ATTEMPTS,
    LONGEST_WAIT,
    FetchError,
    Page,
    PageClient,
    Unreadable,
    VendorSession,
    redacted,
)
from tests.support import Answer, Request, vendor


def _get(url: str, rate_limit: RateLimit, slept: list[float]) -> requests.Response:
    return VendorSession(rate_limit, sleep=slept.append).get(f"{url}/logs")


@pytest.mark.parametrize(
    ("limit", "status", "headers", "body", "expected"),
    [
        (RateLimit(), 429, {"Retry-After": "7"}, {}, 7),
        (RateLimit(), 429, {"Retry-After": "http date"}, {}, 20),
        (RateLimit(reset="X-Rate-Limit-Reset", reset_format="epoch"), 429, {"X-Rate-Limit-Reset": "+30"}, {}, 30),
        (RateLimit(reset="X-Ratelimit-Reset", reset_format="date"), 429, {"X-Ratelimit-Reset": "minute"}, {}, 60),
        (RateLimit(reset="X-RateLimit-Reset"), 429, {"X-RateLimit-Reset": "1.5"}, {}, 1.5),
        (RateLimit(markers=("rateLimitExceeded",)), 403, {"Retry-After": "3"}, {"reason": "rateLimitExceeded"}, 3),
        (RateLimit(markers=("rate_limit_exceeded",)), 400, {"Retry-After": "3"}, {"name": "rate_limit_exceeded"}, 3),
        (RateLimit(), 429, {"Retry-After": "86400"}, {}, LONGEST_WAIT),
        (RateLimit(), 429, {"Retry-After": "-5"}, {}, 0),
    ],
    ids=["seconds", "http date", "epoch", "date", "fraction", "403", "400", "absurdly long", "in the past"],
)
def test_a_rate_limit_is_obeyed_in_the_vendors_own_form(
    limit: RateLimit, status: int, headers: dict[str, str], body: Any, expected: float
) -> None:
    if headers.get("Retry-After") == "http date":
        headers = {"Retry-After": email.utils.formatdate(time.time() + 20, usegmt=True)}
    if headers.get("X-Rate-Limit-Reset") == "+30":
        headers = {"X-Rate-Limit-Reset": str(int(time.time()) + 30)}
    if headers.get("X-Ratelimit-Reset") == "minute":
        headers = {"X-Ratelimit-Reset": datetime.fromtimestamp(time.time() + 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    slept: list[float] = []
    answers = [Answer(body, status, headers), Answer({"fine": True})]
    with vendor(lambda request: answers.pop(0)) as server:
        assert _get(server.url, limit, slept).json() == {"fine": True}
    assert slept == [pytest.approx(expected, abs=2)]


def test_a_rate_limit_without_any_header_backs_off_and_does_not_hammer() -> None:
    slept: list[float] = []
    answers = [Answer({}, 429), Answer({}, 429), Answer({}, 429), Answer({})]
    with vendor(lambda request: answers.pop(0)) as server:
        _get(server.url, RateLimit(), slept)
    assert slept == sorted(slept)
    assert slept[0] >= 0.5
    assert slept[2] >= 4 * slept[0] - 2


def test_a_vendor_that_fails_for_ever_is_given_up_after_a_few_tries() -> None:
    with vendor(lambda request: Answer({}, 500)) as server:
        with pytest.raises(FetchError, match=r"GET /logs answered 500, after 6 tries"):
            _get(server.url, RateLimit(), [])
        assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_is_final_and_not_retried(status: int) -> None:
    with vendor(lambda request: Answer({"error": "no_such_scope"}, status)) as server:
        with pytest.raises(FetchError, match=rf"answered {status} \(no_such_scope\)"):
            _get(server.url, RateLimit(), [])
        assert len(server.requests) == 1


def test_a_vendor_that_is_not_there_is_a_plain_failure() -> None:
    with vendor(lambda request: Answer({})) as server:
        url = server.url
    with pytest.raises(FetchError, match="ConnectionError, after 6 tries"):
        _get(url, RateLimit(), [])


def test_an_answer_that_drips_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.http.LONGEST_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(1000):
                    connection.sendall(b" ")
                    gone.wait(0.01)

        gone = Event()
        dripping = pool.submit(drip)
        with pytest.raises(FetchError, match="GET /logs was still answering after 0 seconds"):
            _get(f"http://127.0.0.1:{listener.getsockname()[1]}", RateLimit(), [])
        gone.set()
        dripping.result()


def test_a_page_is_gone_when_nobody_uses_it() -> None:
    """Not at the next collection of garbage, which is long in coming where a page is few objects and many bytes."""
    with vendor(lambda request: Answer({"items": []})) as server, VendorSession(RateLimit()) as session:
        gc.disable()
        try:
            page = weakref.ref(session.get(f"{server.url}/logs"))
            assert page() is None
        finally:
            gc.enable()


def test_an_error_never_repeats_the_query_or_free_text_of_the_answer() -> None:
    with vendor(lambda request: Answer({"message": "bad token hunter2", "error": "x" * 500}, 403)) as server:
        with pytest.raises(FetchError) as caught:
            VendorSession(RateLimit()).get(f"{server.url}/logs?token=hunter2")
    assert "hunter2" not in str(caught.value)
    assert redacted("GET failed with hunter2", ["hunter2", ""]) == "GET failed with ***"


def _token_connector() -> Connector:
    return Connector(name="app", base_url="https://api.example.com", auth=lambda c, s: None, streams=())  # type: ignore[arg-type,return-value]


def test_a_token_that_is_refused_between_two_pages_is_renewed_once_and_the_page_comes_again() -> None:
    tokens = iter(["first", "second"])
    answered = []

    def answer(request: Request) -> Answer:
        if request.path == "/token":
            return Answer({"access_token": next(tokens), "expires_in": 3600})
        if request.headers["Authorization"] == "Bearer first" and answered:
            return Answer({"error": "expired"}, 401)
        answered.append(request.query.get("cursor"))
        return Answer({"items": [1, 2], "next": "b" if len(answered) == 1 else None})

    from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

    with vendor(answer) as server:
        session = VendorSession(RateLimit(), server.url, sleep=lambda s: None)
        auth = OAuth2ClientCredentials(
            access_token_url="https://login.example.com/token",  # noqa: S106 (an address)
            client_id="id",
            client_secret="not-real",  # noqa: S106 (a test's)
            session=session,
        )
        client = PageClient(_token_connector(), session, auth)
        paginator = JSONResponseCursorPaginator(cursor_path="next", cursor_param="cursor")
        pages = [len(records) for records, _ in client.pages("/logs", records="items", paginator=paginator)]
    assert pages == [2, 2]
    assert answered == [None, "b"]


def test_a_revoked_token_is_not_renewed_for_ever() -> None:
    def answer(request: Request) -> Answer:
        token = Answer({"access_token": "any", "expires_in": 3600})
        return token if request.path == "/token" else Answer({"error": "revoked"}, 401)

    with vendor(answer) as server:
        session = VendorSession(RateLimit(), server.url, sleep=lambda s: None)
        auth = OAuth2ClientCredentials(
            access_token_url="https://login.example.com/token",  # noqa: S106 (an address)
            client_id="id",
            client_secret="not-real",  # noqa: S106 (a test's)
            session=session,
        )
        session.token_auth = auth
        with pytest.raises(FetchError, match="answered 401"):
            session.get("https://api.example.com/logs", auth=auth)
        assert len([request for request in server.requests if request.path == "/logs"]) == 2


def test_every_request_goes_to_the_connections_base_url_next_links_included() -> None:
    from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator
    from requests.auth import AuthBase

    class NoAuth(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            return request

    def answer(request: Request) -> Answer:
        more = {"Link": '<https://api.example.com/logs?after=2>; rel="next"'} if not request.query else {}
        return Answer([{"id": 1}], headers=more)

    with vendor(answer) as server:
        client = PageClient(_token_connector(), VendorSession(RateLimit(), server.url), NoAuth())
        pages = list(client.pages("/logs", records="", paginator=HeaderLinkPaginator()))
        assert [request.query for request in server.requests] == [{}, {"after": "2"}]
    assert len(pages) == 2


def test_lists_get_the_names_of_the_first_page_and_none_are_made_up() -> None:
    from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator
    from requests.auth import AuthBase

    first: dict[str, Any] = {"columns": [{"name": "id"}, {"name": 'a "b"'}], "rows": [["1", None], ["2"], "x"]}
    answers = [first, {"rows": [["3", {"deep": [1]}]]}, {"rows": []}, {"rows": [["1", "2"]]}]

    class NoAuth(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            return request

    with vendor(lambda request: Answer(answers.pop(0))) as server:
        client = PageClient(_token_connector(), VendorSession(RateLimit(), server.url), NoAuth())

        def read() -> list[Any]:
            pages = client.pages(
                "/rows", records="rows", names="columns[*].name", paginator=PageNumberPaginator(total_path=None)
            )
            return [record for records, _ in pages for record in records]

        good, short, odd, nested = read()
        with pytest.raises(FetchError, match="no names"):
            read()
    assert json.loads(good) == {"id": "1", 'a "b"': None}
    assert json.loads(nested) == {"id": "3", 'a "b"': {"deep": [1]}}
    assert isinstance(short, Unreadable)
    assert isinstance(odd, Unreadable)


def test_a_csv_page_never_lowers_the_field_limit_that_all_of_the_process_shares() -> None:
    before = csv.field_size_limit()
    page = Page()
    page._content = b"name,size\nann,1\n"
    assert [bytes(line) for line in page.lines(["name"])] == [b'{"name":"ann","size":"1"}']
    assert csv.field_size_limit() >= before
