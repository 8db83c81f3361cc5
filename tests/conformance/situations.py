"""The hostile situations. Each is a function over a stage, runs against every stream it applies to, and names itself.

A situation knows a vendor by its declaration only. It builds a world, lets the vendor misbehave in one way, runs
extraction once or several times, and asserts on the landing tables, the fetch log and the rejected records.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from types import ModuleType
from typing import Any
from unittest import mock

from dlt.sources.helpers.rest_client.paginators import RangePaginator, SinglePagePaginator

from ingestion import fetch as fetching
from ingestion.connector import Column, Connector, Stream
from ingestion.http import MOST_EMPTY_PAGES
from tests.conformance.oddities import ODDITIES, PAGE, Oddity
from tests.conformance.records import ELEMENTS, is_map, put, remove, time_value
from tests.conformance.vendor import PATIENCE, Ask
from tests.conformance.world import DAY, HOUR, MINUTE, NOW, SECOND, World, marker
from tests.support import Answer


@dataclass(frozen=True)
class Stage:
    """A stream to be tried. In a mutation, `engine` is a faulty ingestion.fetch, or `stream` a faulty declaration."""

    connector: Connector
    stream: Stream
    engine: ModuleType = fetching
    truth: Stream | None = None  # what the vendor really does, if the declaration is at fault

    def world(self) -> World:
        """The stream with a vendor that has nothing yet."""
        return World(self.connector, self.stream, engine=self.engine, truth=self.truth)


@dataclass(frozen=True)
class Situation:
    """One hostile situation and the streams it applies to."""

    name: str
    check: Callable[[Stage], None]
    applies: Callable[[Connector, Stream], bool]


SITUATIONS: dict[str, Situation] = {}

Applies = Callable[[Connector, Stream], bool]


def situation(applies: Applies) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Register a function as a situation of the streams that `applies` to."""

    def register(check: Callable[[Stage], None]) -> Callable[[Stage], None]:
        SITUATIONS[check.__name__] = Situation(check.__name__, check, applies)
        return check

    return register


def is_any(connector: Connector, stream: Stream) -> bool:
    return True


def is_event(connector: Connector, stream: Stream) -> bool:
    return stream.kind == "events"


def is_account(connector: Connector, stream: Stream) -> bool:
    return stream.kind == "accounts"


def is_paged(connector: Connector, stream: Stream) -> bool:
    return not isinstance(fetching._made(stream.paginator), SinglePagePaginator)


def has_page_tokens(connector: Connector, stream: Stream) -> bool:
    return is_paged(connector, stream) and not (
        _has_own_pages(connector, stream) or isinstance(fetching._made(stream.paginator), RangePaginator)
    )


def has_free_order(connector: Connector, stream: Stream) -> bool:
    """Unless its own paginator goes on from the last record's time, so that the order it asks for is essential."""
    is_numbered = ODDITIES.get(f"{connector.name}.{stream.name}", Oddity()).is_numbered
    return is_event(connector, stream) and (is_numbered or not _has_own_pages(connector, stream))


def _has_own_pages(connector: Connector, stream: Stream) -> bool:
    return ODDITIES.get(f"{connector.name}.{stream.name}", Oddity()).serve is not None


def is_windowed(connector: Connector, stream: Stream) -> bool:
    return stream.window is not None and bool(stream.window.params)


def takes_time(connector: Connector, stream: Stream) -> bool:
    return bool(connector.later)


def is_csv(connector: Connector, stream: Stream) -> bool:
    return bool(stream.csv)


def is_json(connector: Connector, stream: Stream) -> bool:
    return not stream.csv


def has_ids(connector: Connector, stream: Stream) -> bool:
    return is_event(connector, stream) and stream.key.kind != "content_hash"


def has_no_ids(connector: Connector, stream: Stream) -> bool:
    return is_event(connector, stream) and stream.key.kind == "content_hash"


def has_delay(connector: Connector, stream: Stream) -> bool:
    return bool(stream.window and "{end}" in repr(stream.window.params) and stream.lateness.delay)


def has_total(connector: Connector, stream: Stream) -> bool:
    return bool(stream.total)


def has_error_field(connector: Connector, stream: Stream) -> bool:
    return bool(connector.error_field)


def has_text(connector: Connector, stream: Stream) -> bool:
    return bool(_plain(stream, "text"))


def has_typed(connector: Connector, stream: Stream) -> bool:
    return bool(_plain(stream, "bigint") or _plain(stream, "timestamp"))


def _plain(stream: Stream, kind: str) -> list[Column]:
    """Columns with a path of their own in the record, that are no part of its key."""
    taken = {*stream.key.paths, stream.occurred_at.path if stream.occurred_at else ""}
    return [
        c
        for c in stream.columns
        if c.type == kind and c.of == "record" and not c.sql and c.path not in taken
        and not any(other.path.startswith((f"{c.path}.", f"{c.path}[")) for other in stream.columns)
    ]  # fmt: skip


# ---- pages


@situation(is_any)
def all_pages_are_read(stage: Stage) -> None:
    with stage.world() as world:
        facts = world.fill()
        assert world.run() is None
        world.assert_all_there()
        assert len(world.vendor.asks) >= len(facts) / PAGE or not is_paged(stage.connector, stage.stream)
        before = world.query("select count(*) from {events}")
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()
        assert world.query("select count(*) from {events}") == before, "a record that was known landed again"


@situation(is_any)
def every_declared_column_lands(stage: Stage) -> None:
    with stage.world() as world:
        world.fill(2 * len(world.listing.places))
        assert world.run() is None
        names = [column.name for column in stage.stream.columns]
        landed = world.rows(stage.stream.name, *names)
        assert landed
        empty = [name for name, *values in zip(names, *landed, strict=True) if None in values]
        assert not empty, f"{empty} stay empty though the vendor sends them (or the kit cannot tell where)"


@situation(has_page_tokens)
def empty_pages_in_the_middle(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        world.vendor.empty_page_at = PAGE
        assert world.run() is None
        world.assert_all_there()


@situation(is_paged)
def endless_next_links_stop(stage: Stage) -> None:
    assert MOST_EMPTY_PAGES < PATIENCE
    fewer = mock.patch.dict(stage.engine.PageClient.pages.__globals__, MOST_EMPTY_PAGES=10)  # a tenth of the requests
    for way in ("repeats_the_link", "new_links_to_nothing", "ignores_the_link"):
        with fewer, stage.world() as world:
            world.fill()
            world.vendor.endless = way
            error = world.run()
            assert len(world.vendor.asks) < PATIENCE, f"a vendor that {way} is asked for ever"
            if error is None:
                world.assert_all_there()
            world.heal()
            world.vendor.asks.clear()
            assert world.run(NOW + 10 * MINUTE) is None
            world.assert_all_there()


@situation(has_page_tokens)
def page_token_expires(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        seen: list[int] = []

        def expire(ask: Ask) -> Answer | None:
            if ask.is_first or seen:
                return None
            seen.append(ask.number)
            return Answer({"error": "page_token_expired"}, 400)

        world.vendor.before_page = expire
        world.run()
        assert seen, "the kit never saw a page token"
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


@situation(has_total)
def empty_list_with_a_total_is_flagged(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        world.vendor.claims = 112
        error = world.run()
        assert error is not None, "an empty answer that counts records was taken for an empty answer"
        assert "112" in error
        world.heal()
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


# ---- crashes and failures in the middle


@situation(is_any)
def crash_after_each_page_then_resume(stage: Stage) -> None:
    with stage.world() as world:
        world.fill(2 * PAGE * len(world.listing.places) + 1)
        page = 1
        while world.crash(page) and page < 12:
            page += 1
        assert page > 1, "no page was read before the crash"
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


def _fails_between_pages(stage: Stage, *, is_newest_first: bool | None) -> None:
    """The windows are longer than what any run re-reads, so that nothing but the cursor can save what was not read."""
    window = stage.stream.window
    with stage.world() as world:
        world.vendor.is_newest_first = is_newest_first
        if window is not None:
            span = min(15 * DAY, window.retention - DAY)
            world.start = NOW - span
            count = 20 * len(world.listing.places)
            for n in range(count):
                world.add((world.start + (n + 1) * (span - 2 * HOUR) / (count + 1)).replace(microsecond=0))
        else:
            world.fill()
        in_the_middle = has_page_tokens(stage.connector, stage.stream) or isinstance(
            world.listing.paginator, RangePaginator
        )
        for attempt in range(1, 12):
            following: list[int] = []

            def fail(ask: Ask, attempt: int = attempt, following: list[int] = following) -> Answer | None:
                if not (in_the_middle and ask.is_first):
                    following.append(ask.number)
                return Answer({"error": "gone"}, 410) if len(following) == attempt else None

            world.vendor.before_page = fail
            error = world.run(NOW + attempt * MINUTE)
            if error is None:
                break
            assert "410" in error
        world.heal()
        assert world.run(NOW + HOUR) is None
        world.assert_all_there()


@situation(is_any)
def page_fails_for_good_then_heals(stage: Stage) -> None:
    _fails_between_pages(stage, is_newest_first=None)


@situation(has_free_order)
def newest_first(stage: Stage) -> None:
    _fails_between_pages(stage, is_newest_first=True)


# ---- windows


@situation(is_windowed)
def events_on_the_bounds_of_a_window(stage: Stage) -> None:
    window = stage.stream.window
    assert window is not None
    start = NOW - min(3 * DAY, window.retention / 2)
    with stage.world() as probe:
        probe.start = start
        probe.run()
        asked = {bound for ask in probe.vendor.asks for bound in (ask.start, ask.end) if bound is not None}
        assert asked, "the kit cannot read the bounds of the requests"
    if window.step >= DAY:
        asked |= {bound + window.step for bound in asked}
    with stage.world() as world:
        world.start = start
        for bound in sorted(asked):
            for at in (bound - SECOND, bound, bound + SECOND):
                if start <= at <= NOW:
                    world.add(at)
        assert world.run() is None
        due = [f for f in world.listing.facts if f.at < world.newest.replace(microsecond=0)]
        assert not (lost := world.expected(due) - world.landed), f"lost {dict(lost)}"
        assert world.run(NOW + HOUR) is None
        world.assert_all_there()


@situation(is_event)
def two_events_in_the_same_second(stage: Stage) -> None:
    with stage.world() as world:
        second = NOW - world.lateness.delay
        for n in range(2):
            world.add(second, place=0 if world.listing.places else None, appears_at=NOW + (0.2 + 0.6 * n) * SECOND)
        assert world.run(NOW + SECOND / 2) is None
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


@situation(is_event)
def window_longer_than_allowed_is_never_asked(stage: Stage) -> None:
    window = stage.stream.window
    assert window is not None
    with stage.world() as world:
        world.start = None
        for n in range(8):
            world.add((NOW - n * window.retention / 8 - 2 * HOUR).replace(microsecond=0))
        assert world.run() is None  # the vendor refuses, and complains of, too long a span
        world.assert_all_there()


@situation(is_event)
def retention_shorter_than_the_gap(stage: Stage) -> None:
    window = stage.stream.window
    assert window is not None
    with stage.world() as world:
        world.fill(2)
        assert world.run() is None
        cursor = max(row[1] for row in world.log("complete"))
        later = NOW + window.retention + 10 * DAY
        kept = world.add(later - DAY)
        assert world.run(later) is None
        gaps = world.log("gap")
        assert gaps, "what can no longer be asked for is missing in silence"
        assert gaps[0][0] == cursor
        lost_until = gaps[0][1].replace(tzinfo=UTC)
        assert timedelta() <= lost_until - (later - window.retention) <= DAY
        assert world.landed[marker(kept)]


@situation(has_delay)
def nothing_younger_than_the_delay_is_asked_for(stage: Stage) -> None:
    window = stage.stream.window
    assert window is not None
    with stage.world() as world:
        assert world.run() is None
        margin = HOUR if window.format == "naive" else timedelta()
        ends = [ask.end for ask in world.vendor.asks if ask.end is not None]
        assert max(ends) <= world.newest + window.step + margin, "asked for what the vendor does not show yet"


# ---- late, twice, alike


@situation(is_event)
def event_late_within_the_usual_lag(stage: Stage) -> None:
    lateness = stage.stream.lateness
    with stage.world() as world:
        world.add()
        assert world.run() is None
        at = (NOW - lateness.delay - max(lateness.usual - MINUTE, timedelta())).replace(microsecond=0)
        world.add(at, appears_at=NOW + MINUTE)
        assert world.run(NOW + 5 * MINUTE) is None
        world.assert_all_there()


@situation(is_event)
def event_late_within_the_rare_lag(stage: Stage) -> None:
    """It appears right after a read of everything that may be late, and is as late as can be."""
    rare = stage.stream.lateness.rare
    with stage.world() as world:
        world.add()
        assert world.run() is None
        world.start = NOW - 2 * rare - DAY
        world.add((NOW - rare + 2 * MINUTE).replace(microsecond=0), appears_at=NOW + MINUTE)
        for part in range(1, 5):
            assert world.run(NOW + part * rare / 24 + part * SECOND) is None
        world.assert_all_there()


@situation(has_ids)
def same_event_served_twice_and_five_days_later(stage: Stage) -> None:
    with stage.world() as world:
        facts = world.fill()
        world.listing.facts.append(replace(facts[0]))
        world.listing.facts.append(replace(facts[-1]))
        assert world.run() is None
        world.assert_all_there(facts)
        facts[0].is_stray = True
        for days in (1, 5):
            assert world.run(NOW + days * DAY) is None
        world.assert_all_there(facts)


@situation(has_no_ids)
def identical_records_are_both_kept(stage: Stage) -> None:
    with stage.world() as world:
        facts = world.fill()
        pair = facts[0]
        world.listing.facts.append(replace(pair))
        assert world.run() is None
        world.assert_all_there()
        world.listing.facts.append(replace(pair, appears_at=NOW + MINUTE))  # a third, that is late
        for minutes in (5, 60, 60 * 24):
            assert world.run(NOW + minutes * MINUTE) is None
        world.assert_all_there()


@situation(has_no_ids)
def same_event_without_an_id_served_five_days_later(stage: Stage) -> None:
    with stage.world() as world:
        facts = world.fill()
        assert world.run() is None
        facts[0].is_stray = True
        for days in (1, 5):
            assert world.run(NOW + days * DAY) is None
        world.assert_all_there()


# ---- times


@situation(is_event)
def times_in_every_form(stage: Stage) -> None:
    column = stage.stream.occurred_at
    assert column is not None
    if column.sql:
        return  # its expression, not the declaration, says which forms it takes
    with stage.world() as world:
        forms = list(_forms(column))
        for n, form in enumerate(forms):
            at = (world.newest - HOUR - n * MINUTE).replace(microsecond=0)
            fact = world.add(at)
            _set_time(stage.stream, fact.record, form(at))
        assert world.run() is None
        world.assert_all_there()
        landed = world.query("select distinct date_trunc('second', occurred_at) from {events} order by 1")
        expected = sorted({fact.at.replace(tzinfo=None) for fact in world.listing.facts})
        assert [row[0] for row in landed] == expected


def _forms(column: Column) -> Iterator[Callable[[datetime], Any]]:
    if column.format == "iso":
        yield lambda at: at.astimezone(timezone(timedelta(hours=2))).isoformat()
        yield lambda at: at.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat()
        yield lambda at: at.strftime("%Y-%m-%dT%H:%M:%S")
        yield lambda at: at.strftime("%Y-%m-%d %H:%M:%S")
        yield lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ")
        yield lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.123Z")
        yield lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.1234567Z")
        yield lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
        yield lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.123456789+00:00")
        yield lambda at: at.strftime("%Y-%m-%dT%H:%M:%S+0000")
        yield lambda at: at.astimezone(timezone(timedelta(hours=-8))).strftime("%Y-%m-%dT%H:%M:%S.5%z")
    elif column.format == "naive":
        yield lambda at: time_value(column, at)
        yield lambda at: time_value(column, at).replace(" ", "T")
        yield lambda at: time_value(column, at) + ".123456789"
    else:
        yield lambda at: time_value(column, at)
        yield lambda at: str(time_value(column, at))
        yield lambda at: float(time_value(column, at)) + 0.25


def _set_time(stream: Stream, record: dict[str, Any], value: Any) -> None:
    column = stream.occurred_at
    assert column is not None
    targets: Any = record
    for name in stream.explode.removeprefix("$.").split(".") if column.of == "item" else ():
        targets = targets[name]
    for target in targets if column.of == "item" else [record]:
        put(target, column.path, value)


@situation(is_event)
def days_on_which_clocks_change(stage: Stage) -> None:
    column = stage.stream.occurred_at
    assert column is not None
    for change, before, after in (
        (datetime(2026, 3, 29, 1, tzinfo=UTC), 1, 2),  # Europe, an hour is missing
        (datetime(2025, 10, 26, 1, tzinfo=UTC), 2, 1),  # Europe, an hour comes twice
        (datetime(2025, 11, 2, 6, tzinfo=UTC), -4, -5),  # New York
    ):
        with stage.world() as world:
            world.start = change - DAY
            for n in range(-4, 5):
                at = change + n * 30 * MINUTE
                fact = world.add(at)
                if column.format == "iso" and not column.sql:
                    offset = timezone(timedelta(hours=before if n < 0 else after))
                    _set_time(stage.stream, fact.record, at.astimezone(offset).isoformat())
            for hours in (1, 24):
                assert world.run(change + hours * HOUR) is None
            world.assert_all_there()
            if column.format == "naive":
                continue  # half past one is there twice, and nothing says which one it is
            landed = world.query("select distinct occurred_at from {events} order by 1")
            assert [row[0] for row in landed] == sorted(f.at.replace(tzinfo=None) for f in world.listing.facts)


# ---- tokens, limits, outages, refusals


@situation(is_any)
def token_expires_between_two_pages(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        expired: list[int] = []

        def expire(ask: Ask) -> Answer | None:
            if ask.number == 2 and not expired:
                expired.append(1)
                world.vendor.expire()
            return None

        world.vendor.before_page = expire
        error = world.run()
        if world.vendor.tokens == 0:  # a fixed credential that is revoked is final
            assert error is None or "401" in error
            assert [ask.number for ask in world.vendor.asks][2:] == [] or not expired, "a refusal was asked again"
            world.vendor.is_revoked = False
            error = world.run(NOW + 10 * MINUTE)
        else:
            assert world.vendor.tokens <= 2
        assert error is None
        world.assert_all_there()


@situation(is_any)
def odd_answer_to_a_token_request_fails_and_heals(stage: Stage) -> None:
    odd = (Answer(b"<html></html>"), Answer({"error": "invalid_client"}), Answer({}, 401), Answer(b"[" * 20_000))
    with stage.world() as world:
        world.fill()
        for minute, answer in enumerate(odd):
            world.vendor.odd_token = answer
            error = world.run(NOW + minute * MINUTE)
            if world.vendor.tokens == 0:
                return  # a fixed credential
            assert error is not None
            assert len(world.vendor.asks) <= 2
            assert world.vendor.tokens <= 4 * (minute + 1)
        world.vendor.odd_token = None
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


@situation(is_any)
def refusals_are_final(stage: Stage) -> None:
    limit = stage.connector.rate_limit
    with stage.world() as world:
        world.fill(1)
        for minute, status in enumerate({400, 401, 403, 404, 422} - set(limit.statuses)):
            tokens = world.vendor.tokens
            world.fail_page(*range(1, PATIENCE), reply=Answer({"error": "no_such_scope"}, status))
            error = world.run(NOW + minute * MINUTE)
            assert error is not None
            assert str(status) in error
            most = 2 if status == 401 and world.vendor.tokens > tokens else 1
            assert len(world.vendor.asks) <= most, f"a {status} was asked {len(world.vendor.asks)} times"
            assert not world.slept
            *_, reason, through = world.log("failed")[-1]
            assert str(status) in reason
            assert through is None
        world.heal()
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


@situation(takes_time)
def answer_that_takes_its_time_is_waited_for(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        world.vendor.not_yet = 4
        assert world.run() is None
        world.assert_all_there()
        assert world.slept == [1, 2, 4, 8], "hammers a vendor that is at work"
        methods = [request.method for request in world.requests[:5]]
        assert methods == [stage.stream.method, "GET", "GET", "GET", "GET"], "what was begun is begun again"
        world.add()
        world.vendor.not_yet = PATIENCE
        error = world.run(NOW + 10 * MINUTE)
        assert error is not None
        assert "not ready" in error
        assert len(world.vendor.asks) < PATIENCE
        world.vendor.not_yet = 0
        assert world.run(NOW + 20 * MINUTE) is None
        world.assert_all_there()


@situation(is_any)
def outages_are_retried_with_backoff(stage: Stage) -> None:
    outages = {
        1: Answer({}, 500),
        3: Answer({}, 503),
        4: Answer(b'{"cut": "in the middle"}', cut=True),
        5: Answer({}, 502),
    }
    with stage.world() as world:
        world.fill(2 * PAGE * max(len(world.listing.places), 1))
        world.vendor.before_page = lambda ask: outages.get(ask.number)
        assert world.run() is None
        world.assert_all_there()
        assert len(world.slept) == sum(number < len(world.vendor.asks) for number in outages)
        assert world.slept[1:] == sorted(world.slept[1:]), "does not back off"
        assert min(world.slept) >= 0.5


@situation(is_any)
def outage_that_lasts_fails_the_window_and_heals(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        world.vendor.before_page = lambda ask: Answer({}, 502) if ask.number > 1 else None
        error = world.run()
        if len(world.vendor.asks) > 1:
            assert error is not None
            assert "502" in error
        assert len(world.vendor.asks) <= 8
        world.heal()
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


@situation(is_any)
def rate_limit_is_obeyed_and_not_hammered(stage: Stage) -> None:
    limit = stage.connector.rate_limit
    bodies: list[tuple[int, Any]] = [(status, {"error": "slow down"}) for status in limit.statuses]
    bodies += [(status, {"error": {"reason": marker}}) for marker in limit.markers for status in (400, 403)]
    with stage.world() as world:
        world.fill(PAGE)
        minute = 0
        for status, body in bodies:
            for seconds in (40, None, -30):
                headers = {} if seconds is None else {limit.reset: _reset(limit.reset_format, seconds)}
                busy = Answer(body, status, headers)
                world.fail_page(1, 2, 3, reply=busy)
                assert world.run(NOW + minute * MINUTE) is None, f"{status} was taken for a refusal"
                minute += 1
                assert len(world.slept) == 3
                if seconds == 40:
                    assert min(world.slept) >= 38, "came back before the vendor asked it to"
                    assert max(world.slept) <= 105, "waited far longer than the vendor asked it to"
                else:
                    assert min(world.slept) >= 0.5, "hammers a vendor that says no more than that it is busy"
                    assert world.slept[2] >= world.slept[0], "does not back off"
        world.assert_all_there()


def _reset(form: str, seconds: int) -> str:
    if form == "seconds":
        return str(seconds)
    if form == "epoch":
        return str(int(time.time()) + seconds)
    # to the minute, as vendors write it: the next whole minute keeps the test from depending on the second
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@situation(has_error_field)
def error_in_a_200_is_a_failure(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        reply = Answer({stage.connector.error_field: False, "error": "missing_scope"})
        world.fail_page(2, reply=reply)
        error = world.run()
        assert error is None or "missing_scope" in error
        assert error is not None or len(world.vendor.asks) < 2
        world.heal()
        assert world.run(NOW + 10 * MINUTE) is None
        world.assert_all_there()


# ---- drift


@situation(has_text)
def text_field_changes_type_or_vanishes(stage: Stage) -> None:
    column = _plain(stage.stream, "text")[0]
    with stage.world() as world:
        for value in (7, 1.5, True, None, {"name": "x"}, ["a", 1], ""):
            fact = world.add()
            put(fact.record, column.path, value)
        fact = world.add()
        remove(fact.record, column.path)
        fact = world.add()
        put(fact.record, "$.added_by_the_vendor", {"deep": [1, 2]})
        assert world.run() is None
        world.assert_all_there()


@situation(has_typed)
def typed_field_changes_type(stage: Stage) -> None:
    column = (_plain(stage.stream, "bigint") or _plain(stage.stream, "timestamp"))[0]
    with stage.world() as world:
        neighbours = world.fill()
        for value in ("no such value", {"x": 1}, [True]):
            put(world.add().record, column.path, value)
        missing = world.add()
        remove(missing.record, column.path)
        empty = world.add()
        put(empty.record, column.path, None)
        world.expects_rejects = True
        for minutes in (0, 10):
            assert world.run(NOW + minutes * MINUTE) is None
            world.assert_all_there([*neighbours, missing, empty])
            assert len(world.rejects) == 3, "a record that cannot be typed is rejected once"
            assert all(column.name in reason for reason, _ in world.rejects)
        if stage.stream.kind == "accounts":
            assert not world.query("select 1 from {records} where is_gone"), "a record that was rejected is gone"


# ---- bad input


def _raw(record: dict[str, Any], more: bytes) -> bytes:
    return json.dumps(record).encode()[:-1] + b', "more": ' + more + b"}"


_BAD_RECORDS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "invalid UTF-8": lambda record: _raw(record, b'"\xff\xfe"'),
    "half a character": lambda record: _raw(record, b'"\\ud83d"'),
    "NUL": lambda record: _raw(record, b'"a\\u0000b"'),
    "a control character": lambda record: _raw(record, b'"a\x01b"'),
    "no object": lambda record: b"7",
    "a list": lambda record: b"[]",
    "null": lambda record: b"null",
    "10,000 nested levels": lambda record: _raw(record, b"[" * 10_000 + b"]" * 10_000),
}


@situation(is_json)
def bad_record_is_rejected_and_its_neighbours_land(stage: Stage) -> None:
    names = list(_BAD_RECORDS)
    if is_map(stage.stream):  # an entry of a map is an object, whatever its value
        names = [name for name in names if name not in ("no object", "a list", "null")]
    with stage.world() as world:
        neighbours = []
        for name in names:
            neighbours.append(world.add())
            bad = world.add()
            bad.record = _BAD_RECORDS[name](bad.record | {"odd": name})
        world.expects_rejects = True
        for minutes in (0, 10):
            error = world.run(NOW + minutes * MINUTE)
            assert error is None, f"a bad record fails its window for ever: {error}"
            world.assert_all_there(neighbours)
            rejected = [payload for _, payload in world.rejects]
            missing = [name for name in names if not any(_is_from(name, payload) for payload in rejected)]
            assert not missing, f"neither landed nor rejected: {missing}"
            assert len(rejected) == len(names)
            assert all(reason for reason, _ in world.rejects), "no reason"


@situation(is_csv)
def bad_line_is_rejected_and_its_neighbours_land(stage: Stage) -> None:
    *_, column = (column for column in stage.stream.columns if column.type == "text" and column.of == "record")
    with stage.world() as world:
        neighbours = world.fill(5)
        put(neighbours[2].record, column.path, "long" * 50_000)
        for odd in ("no UTF-8 \udcff", "NUL \0"):
            put(world.add(place=None if stage.stream.kind == "events" else 0).record, column.path, odd)
        world.expects_rejects = True
        for minutes in (0, 10):
            assert world.run(NOW + minutes * MINUTE) is None
            world.assert_all_there(neighbours)
            assert len(world.rejects) == 2


def _is_from(name: str, payload: str) -> bool:
    return f'"odd": "{name}"' in payload or payload == {"no object": "7", "a list": "[]", "null": "null"}.get(name)


@situation(has_free_order)
def impossible_times_are_rejected(stage: Stage) -> None:
    column = stage.stream.occurred_at
    assert column is not None
    if column.sql:
        return
    texts = ["9999-12-31T23:59:59Z", "99999-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z"]
    numbers = [253402300799 * 10**6, 10**30, -1, "soon"]
    with stage.world() as world:
        neighbours = world.fill()
        bad = texts if column.format == "iso" else numbers
        for value in [*bad, None]:
            _set_time(stage.stream, world.add().record, value)
        world.expects_rejects = True
        assert world.run() is None
        world.assert_all_there(neighbours)
        rejected = {payload for _, payload in world.rejects}
        assert len(rejected) == len(bad) + 1


_BAD_PAGES = {
    "HTML": Answer(b"<html><body>Scheduled maintenance</body></html>", headers={"Content-Type": "text/html"}),
    "a truncated body": Answer(b'{"ok": true, "items": [{"id": 1}, {"id'),
    "a truncated list": Answer(b'[{"id": 1}, {"id'),
    "nothing": Answer(b""),
    "text": Answer(b'"soon"'),
    "an error": Answer({"error": {"message": "try again"}}),
    "invalid UTF-8": Answer(b"\xff\xfe\x00"),
    "brackets": Answer(b"[" * 20_000),
}


@situation(is_any)
def bad_page_fails_the_window_with_the_reason_and_heals(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        for minute, (name, answer) in enumerate(_BAD_PAGES.items()):
            world.fail_page(2 if is_paged(stage.connector, stage.stream) else 1, reply=answer)
            error = world.run(NOW + minute * MINUTE)
            assert error, f"{name} was taken for a page"
            assert len(error) < 500
            assert len(world.log("failed")) == minute + 1, "no row in the fetch log"
        world.heal()
        assert world.run(NOW + 20 * MINUTE) is None
        world.assert_all_there()


# ---- listings


@situation(is_account)
def only_changes_land_and_what_is_gone_is_marked(stage: Stage) -> None:
    with stage.world() as world:
        facts = world.fill()
        assert world.run() is None
        changed, gone = facts[0], facts[-1]
        put(
            changed.record,
            _plain(stage.stream, "text")[0].path if has_text(stage.connector, stage.stream) else "$.value.new",
            "new",
        )
        world.listing.facts.remove(gone)
        for hours in (1, 2):
            assert world.run(NOW + hours * HOUR) is None
        later = world.query(
            "select is_gone, count(*) from {records}"
            " where fetched_at > (select min(fetched_at) from {records}) group by 1 order by 1"
        )
        elements = ELEMENTS if stage.stream.explode else 1
        assert later == [(False, elements), (True, elements)]
        world.listing.facts.append(gone)
        assert world.run(NOW + 3 * HOUR) is None
        ((is_gone,),) = world.query(
            "select is_gone from {records} qualify row_number() over (order by fetched_at desc) = 1"
        )
        assert not is_gone, "who came back is still gone"


@situation(is_account)
def listing_that_breaks_off_proves_nobody_gone(stage: Stage) -> None:
    with stage.world() as world:
        world.fill()
        assert world.run() is None
        pages = len(world.vendor.asks)
        for page in range(1, pages + 1):
            world.fail_page(page)
            assert world.run(NOW + page * HOUR) is not None
            assert not world.query("select 1 from {records} where is_gone"), (
                f"gone, because page {page} could not be read"
            )
        world.heal()
        assert world.run(NOW + 100 * HOUR) is None
        world.assert_all_there()
        assert not world.query("select 1 from {records} where is_gone")
