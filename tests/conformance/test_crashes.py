"""Crashes of the whole pipeline, through dlt and into a DuckDB file: by an exception for all, by a kill for some."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ingestion.connections import Connection
from ingestion.connector import Connector
from ingestion.connectors import connectors
from ingestion.extract import ExtractError
from ingestion.http import PageClient
from tests.conformance.conftest import a_secret
from tests.conformance.records import ELEMENTS
from tests.conformance.vendor import Ask, ModelVendor, connection, small_pages
from tests.conformance.world import DAY, MINUTE, NOW
from tests.support import Answer, Lake

pytestmark = pytest.mark.stress
BY_HTTP = [connector.name for connector in connectors().values() if any(stream.path for stream in connector.streams)]
KILLED = ("okta", "zoom", "dropbox")  # links; no ids and newest first; cursors in a body


def _told_apart(connector: Connector) -> Connector:
    """Without the streams whose requests are another's too: the model vendor cannot tell which of them is meant."""
    requests = {
        (s.method, s.path, repr(s.params), repr(s.window and s.window.params)): s for s in reversed(connector.streams)
    }
    return small_pages(replace(connector, streams=tuple(requests.values())))


def _vendor(connector: Connector) -> ModelVendor:
    """A vendor with some pages of everything."""
    model = ModelVendor(connector, NOW)
    for stream in connector.streams:
        listing = model.of(stream)
        for n in range(7 * max(len(listing.places), 1)):
            listing.add(NOW - stream.lateness.delay - (n + 1) * 7 * MINUTE)
    return model


def _assert_all_there(lake: Lake, model: ModelVendor) -> None:
    for stream in model.connector.streams:
        id_ = "event_id" if stream.kind == "events" else "record_id"
        table = f"landing_{model.connector.name}.{stream.name}"
        loads = f"select load_id from landing_{model.connector.name}._dlt_loads where status = 0"
        landed = lake.query(
            f'select count(distinct {id_}), count(distinct regexp_extract(payload::text, \'"kit": ?"(\\w+)"\', 1))'
            f" from {table} where _dlt_load_id in ({loads})"
        )
        count = len(model.of(stream).facts)
        assert landed == [(count * (ELEMENTS if stream.explode else 1), count)], stream.name


@pytest.mark.parametrize("name", BY_HTTP)
def test_a_run_that_breaks_off_in_the_middle_is_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    connector, lake = _told_apart(connectors()[name]), Lake(tmp_path)
    model, pages = _vendor(connector), PageClient.pages
    with model.serve() as server:
        there = connection(connector, server.url, NOW - 2 * DAY)

        def mortal(*args: Any, **kwargs: Any) -> Iterator[Any]:
            for number, page in enumerate(pages(*args, **kwargs)):
                yield page
                if number == 1:
                    raise RuntimeError("the process is gone")

        with mock.patch.object(PageClient, "pages", mortal), pytest.raises(ExtractError):
            lake.extract(connector, there, NOW)
        assert not lake.extract(connector, there, NOW + 10 * MINUTE).failures
    _assert_all_there(lake, model)


def _extract_until_killed(folder: Path, url: str, name: str) -> None:
    Connection.secret = a_secret  # type: ignore[assignment, method-assign]
    connector = _told_apart(connectors()[name])
    Lake(folder).extract(connector, connection(connector, url, NOW - 2 * DAY), NOW)


@pytest.mark.parametrize("name", KILLED)
def test_a_process_that_is_killed_between_two_pages_loses_nothing(name: str, tmp_path: Path) -> None:
    connector, lake = _told_apart(connectors()[name]), Lake(tmp_path)
    model = _vendor(connector)
    with model.serve() as server:
        spawn = multiprocessing.get_context("spawn")
        child = spawn.Process(target=_extract_until_killed, args=(tmp_path, server.url, name))

        def kill(ask: Ask) -> Answer | None:
            if ask.number == 5 and child.pid:
                os.kill(child.pid, signal.SIGKILL)
            return None

        model.before_page = kill
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        model.before_page = lambda ask: None
        model.begin()
        there = connection(connector, server.url, NOW - 2 * DAY)
        assert not lake.extract(connector, there, NOW + 10 * MINUTE).failures
    _assert_all_there(lake, model)
