"""The kit is worth what it finds: faults are put in on purpose, and each must be found by the situations named.

A fault is an edit of the source, made in memory. One whose lines are no longer there fails too: then it has to be
written anew, or the guarantee behind it is gone.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import dataclass, replace
from types import ModuleType
from unittest import mock

import pytest

from ingestion.connector import Key
from ingestion.connectors import connectors
from tests.conformance.situations import SITUATIONS, Stage

_CHAIN = ("ingestion.http", "ingestion.records", "ingestion.fetch")  # each imports those before it


@dataclass(frozen=True)
class Mutation:
    """A fault: what to replace in which module, on which stream it is tried, and which situations must find it."""

    name: str
    stream: str
    found_by: tuple[str, ...]
    module: str = "fetch"
    edits: tuple[tuple[str, str], ...] = ()
    key: Key | None = None


_NEWEST = 'pc.max(rows["occurred_at"]).as_py().replace(tzinfo=UTC)'
_LANDED = ("            self._has_landed = True\n            yield rows\n",) * 2
_SEEN = "        seen = min(cursor, until, last or cursor) if is_deep else min(cursor, until)\n"
_OVERLAP = "        overlap = lateness.rare if is_deep else min(lateness.usual, lateness.rare)\n"
_NO_OVERLAP = (_OVERLAP, "        overlap = timedelta()\n")

MUTATIONS = (
    Mutation(
        "the cursor is moved per page",
        "pagerduty.audit_records",
        ("newest_first", "page_fails_for_good_then_heals"),
        edits=((_LANDED[0], f'{_LANDED[1]}            self._state["cursor"] = {_NEWEST}.isoformat()\n'),),
    ),
    Mutation(
        "the cursor is the newest event and a second",
        "okta.system_log",
        ("two_events_in_the_same_second",),
        edits=(
            (_LANDED[0], f'{_LANDED[1]}            self._state["newest"] = {_NEWEST} + timedelta(seconds=1)\n'),
            (
                '                self._state["cursor"] = cursor.isoformat()\n',
                '                self._state["cursor"] = self._state.pop("newest", cursor).isoformat()\n',
            ),
            _NO_OVERLAP,
        ),
    ),
    Mutation(
        "> in place of >=",
        "okta.system_log",
        ("events_on_the_bounds_of_a_window",),
        edits=(
            (
                "    if window.start_is_exclusive and not is_end:\n        widened -= window.step\n",
                "    if not is_end:\n        widened += window.step\n",
            ),
        ),
    ),
    Mutation(
        "an exclusive start is taken for an inclusive one",
        "pingone.activities",
        ("events_on_the_bounds_of_a_window",),
        edits=(("    if window.start_is_exclusive and not is_end:\n", "    if False:\n"),),
    ),
    Mutation(
        "no overlap",
        "slack.audit_logs",
        ("event_late_within_the_usual_lag", "event_late_within_the_rare_lag"),
        edits=(_NO_OVERLAP,),
    ),
    Mutation(
        "what is late is measured from the cursor",
        "okta.system_log",
        ("event_late_within_the_rare_lag",),
        edits=((_SEEN, "        seen = min(cursor, until)\n"),),
    ),
    Mutation(
        "a 401 is retried",
        "okta.system_log",
        ("refusals_are_final",),
        "http",
        ((" if status >= 500:\n", " if status >= 500 or status == 401:\n"),),
    ),
    Mutation(
        "the id is taken from a field that is not unique",
        "okta.system_log",
        ("all_pages_are_read",),
        key=Key(("$.eventType",)),
    ),
    Mutation(
        "the id is a time",
        "box.events",
        ("two_events_in_the_same_second",),
        key=Key(("$.created_at",)),
    ),
    Mutation(
        "what is alike without an id is one",
        "zoom.activities",
        ("identical_records_are_both_kept",),
        "records",
        (('    if stream.key.kind == "content_hash":\n        # among', "    if False:\n        # among"),),
    ),
    Mutation(
        "the page token is dropped",
        "zoom.users",
        ("all_pages_are_read", "crash_after_each_page_then_resume"),
        "http",
        (("            is_last = not page.paginator.has_next_page", "            is_last = True"),),
    ),
    Mutation(
        "an empty page is the end",
        "okta.system_log",
        ("empty_pages_in_the_middle",),
        "http",
        (("(ends_on_empty_page and empty == 2)", "empty == 1"),),
    ),
    Mutation(
        "a page that repeats is read for ever",
        "asana.users",
        ("endless_next_links_stop",),
        "http",
        ((" or repeats > MOST_REPEATS", ""),),
    ),
    Mutation(
        "until is now",
        "duo.authentication",
        ("nothing_younger_than_the_delay_is_asked_for",),
        edits=(("        until = now - stream.lateness.delay\n", "        until = now\n"),),
    ),
    Mutation(
        "windows are as long as it gets",
        "gitlab.audit_events",
        ("window_longer_than_allowed_is_never_asked",),
        edits=(("        longest = window.longest - before - margin\n", "        longest = window.retention\n"),),
    ),
    Mutation(
        "a gap is passed over",
        "miro.audit_logs",
        ("retention_shorter_than_the_gap",),
        edits=(("        if cursor is not None and cursor < oldest:\n", "        if False:\n"),),
    ),
    Mutation(
        "more is asked for than the vendor keeps",
        "google_workspace.login",
        ("window_longer_than_allowed_is_never_asked", "retention_shorter_than_the_gap"),
        edits=(
            (
                "        start = _floor(max(start, oldest), window.step)\n",
                "        start = _floor(start, window.step)\n",
            ),
            ("self._fetch.now - window.retention, True", "self._fetch.now - 2 * window.retention, True"),
        ),
    ),
    Mutation(
        "what breaks off counts as a listing",
        "slack.users",
        ("listing_that_breaks_off_proves_nobody_gone",),
        edits=(
            (
                "        yield from self._requests({})\n        rows",
                "        try:\n            yield from self._requests({})\n"
                "        except FetchError:\n            pass\n        rows",
            ),
        ),
    ),
    Mutation(
        "rejected records are dropped",
        "zoom.activities",
        ("bad_record_is_rejected_and_its_neighbours_land", "impossible_times_are_rejected"),
        edits=(('            yield Marked(rows, "rejected_records")\n', "            yield from ()\n"),),
    ),
    Mutation(
        "one bad record fails its page",
        "figma.activity_logs",
        ("bad_record_is_rejected_and_its_neighbours_land",),
        "http",
        (("self._split(path, _elements_by_brackets, _members_by_brackets)", "self._split(path, _elements, _members)"),),
    ),
    Mutation(
        "the vendor's reset is not read",
        "github.audit_log",
        ("rate_limit_is_obeyed_and_not_hammered",),
        "http",
        (("response.headers.get(self._rate_limit.reset)", "None"),),
    ),
    Mutation(
        "a reset that is over is an invitation to hammer",
        "auth0.logs",
        ("rate_limit_is_obeyed_and_not_hammered",),
        "http",
        (("max(error.wait + 0.05 * state.attempt_number, backoff)", "error.wait"),),
    ),
    Mutation(
        "what takes its time is taken for empty",
        "snowflake.login_history",
        ("answer_that_takes_its_time_is_waited_for",),
        "http",
        (("        while self._later and response", "        while not self._later and response"),),
    ),
    Mutation(
        "a list of other values than there are names is named all the same",
        "snowflake.users",
        ("bad_record_is_rejected_and_its_neighbours_land",),
        "http",
        (("        if len(values) != len(keys):\n", "        if False:\n"),),
    ),
    Mutation(
        "a token that expires is not renewed",
        "zoom.activities",
        ("token_expires_between_two_pages",),
        "http",
        (("response.status_code == 401 and self._renew_token(request)", "False"),),
    ),
    Mutation(
        "an empty list is believed whatever is counted",
        "salesforce.login_history",
        ("empty_list_with_a_total_is_flagged",),
        edits=(("                if stream.total and not records", "                if not stream and not records"),),
    ),
    Mutation(
        "a failed run claims to be complete",
        "okta.system_log",
        ("outage_that_lasts_fails_the_window_and_heals",),
        edits=(("error=error, complete_through=self._complete_through())", "complete_through=self._fetch.now)"),),
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_that_is_put_in_on_purpose_is_found(mutation: Mutation) -> None:
    name, stream_name = mutation.stream.split(".")
    connector = connectors()[name]
    (stream,) = (stream for stream in connector.streams if stream.name == stream_name)
    stage = Stage(connector, stream)
    if mutation.key is not None:
        stage = replace(stage, stream=replace(stream, key=mutation.key), truth=stream)
    else:
        stage = replace(stage, engine=_mutated(f"ingestion.{mutation.module}", mutation.edits))
    for situation in mutation.found_by:
        with pytest.raises(AssertionError):
            SITUATIONS[situation].check(stage)


def _mutated(faulty: str, edits: tuple[tuple[str, str], ...]) -> ModuleType:
    """`ingestion.fetch` and what it is made of, loaded once more, with the edits in the module `faulty`."""
    loaded: dict[str, ModuleType] = {}
    with mock.patch.dict(sys.modules):
        for name in _CHAIN:
            original = importlib.import_module(name)
            source = inspect.getsource(original)
            for old, new in edits if name == faulty else ():
                assert source.count(old) == 1, f"the fault no longer fits the source: {old!r}"
                source = source.replace(old, new)
            loaded[name] = sys.modules[name] = ModuleType(name)
            exec(compile(source, f"<{name}, mutated>", "exec"), vars(sys.modules[name]))  # noqa: S102 (our own source)
    return loaded["ingestion.fetch"]
