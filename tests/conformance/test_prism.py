"""Another judge by the same descriptions: Prism, a mock server of others, refuses no request either."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from requests.adapters import HTTPAdapter, Retry

from tests.conformance.description import operation, operations
from tests.conformance.test_descriptions import VENDORS, requests_of

PRISM = os.environ.get("PRISM") or shutil.which("prism") or ""
FORMS = {"openapi": "3.1.0", "swagger": "2.0"}
FLOW = {"flow": "application", "tokenUrl": "", "scopes": {}}  # what was cut off, and Prism asks for
AN_ID = "00000000-0000-0000-0000-000000000000"

pytestmark = pytest.mark.skipif(not PRISM, reason="no prism here: npm install --global @stoplight/prism-cli")


def whole(form: str) -> dict[str, Any]:
    """One description of all that is described in this form; the vendor's name is before each path and scheme."""
    paths: dict[str, dict[str, Any]] = {}
    schemes: dict[str, Any] = {}
    for vendor in VENDORS:
        for (method, _), known in operations(vendor).items():
            if known.form != form:
                continue
            ways = [
                {f"{vendor}-{name}": [] for name in way if name in known.schemes} for way in known.rules["security"]
            ]
            # what is answered is of no interest
            rules = {**known.rules, "responses": {"200": {"description": ""}}, "security": ways}
            paths.setdefault(f"/{vendor}{known.path}", {})[method.lower()] = rules
            schemes |= {f"{vendor}-{name}": {**FLOW, **scheme} for name, scheme in known.schemes.items()}
    head = {form: FORMS[form], "info": {"title": form, "version": "1"}, "consumes": ["application/json"]}
    return {**head, "paths": paths, "securityDefinitions": schemes, "components": {"securitySchemes": schemes}}


@pytest.fixture(scope="module")
def prisms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of a Prism for each form."""
    folder: Path = tmp_path_factory.mktemp("prism")
    running, addresses = [], {}
    for form in FORMS:
        (folder / f"{form}.json").write_text(json.dumps(whole(form)), encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        command = [PRISM, "mock", "--errors", "--host", "127.0.0.1", "--port", port, f"{folder}/{form}.json"]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))  # noqa: S603 (whoever runs it names it)
        addresses[form] = f"http://127.0.0.1:{port}"
    yield addresses
    for process in running:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("vendor", sorted({*VENDORS} - {"zoom"}))  # whose description wants another credential
def test_prism_refuses_no_request(vendor: str, prisms: dict[str, str]) -> None:
    answers = {}
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine
        session.mount("http://", HTTPAdapter(max_retries=Retry(connect=10, backoff_factor=0.1)))  # until it listens
        for request in requests_of(vendor):
            known = operation(vendor, request)
            if known is None or any(known.faults(request)):  # those are in NOT_AS_DESCRIBED
                continue
            url = f"{prisms[known.form]}/{vendor}{request.path}?{urlencode(request.pairs)}"
            url = re.sub(r"a-setting-\w+", AN_ID, url)  # of a form that vendors' ids have
            unsent = {"host", "content-length", "accept"}
            headers = {name: value for name, value in request.headers.items() if name.lower() not in unsent}
            answers[url] = session.request(request.method, url, headers=headers, data=request.body)
    assert answers
    assert {url: answer.text for url, answer in answers.items() if answer.status_code >= 400} == {}
