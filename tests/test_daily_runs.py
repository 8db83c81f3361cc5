"""Many small runs, with events that are late, repeated and out of order, end where one large run ends."""

from __future__ import annotations

import json
import os
from datetime import date, timedelta

import pytest

from ingestion.flow import Progress, Summary
from ingestion.sandbox import Options
from tests.flow_support import NewSite, differences, recounted, run, sandbox_of
from tests.models_support import AS_TOLD
from tests.support import NOW

pytestmark = pytest.mark.stress
RUNS = 20
WORLD = Options(orgs=1, people=12, start=date(2025, 12, 22))
# What these tell of a day is what listings said by then: who reads them daily knows when something changed. And one run
# restates nothing.
AS_LISTED = {"fct_seat_days", "fct_license_days", "license_seats", "license_utilization", "offboarded_access"}


def test_twenty_daily_runs_end_as_one_run_and_as_a_full_refresh(new_site: NewSite) -> None:
    once, daily = new_site(), new_site()
    sandbox = once.run(WORLD, NOW)
    late = [e for e in sandbox.events() if e.visible_at.date() > e.occurred_at.date()]
    assert len(late) > 50  # which a run of the day itself could not see
    assert differences(once.published(), recounted(sandbox)) == []
    published, marts = (
        {name: rows for name, rows in tables.items() if name not in AS_LISTED | AS_TOLD}
        for tables in (once.published(), once.marts())
    )

    with daily.flow(WORLD, NOW - (RUNS - 1) * timedelta(days=1), is_now_given=False) as flow:
        nodes: list[tuple[str, str]] = []
        progress = Progress(node=lambda kind, name: nodes.append((kind, name)))
        for day in range(RUNS):
            flow.at(NOW - (RUNS - 1 - day) * timedelta(days=1))
            flow.distrust()  # as a process of its own would
            nodes.clear()
            assert not run(flow, progress).is_built_before
        # the seeds, and what the product had said, had been built as they are
        assert {("model", "stg_zoom__events"), ("model", "user_app_usage")} <= set(nodes)
        assert [name for kind, name in nodes if kind == "seed" or name.startswith("stg_product__")] == []
        assert sandbox_of(flow).now == NOW
        assert differences(daily.published(), published) == []
        step_by_step = daily.marts()
        assert differences(step_by_step, marts) == []
        assert step_by_step["fct_restatements"]  # what came later than usual changed days that had been told

        summary = Summary()
        flow.build(summary, Progress())
        assert summary.is_built_before

        # what had been tested a day before, and is as it was, was not tested again
        [(newest,)] = daily.query("select max(ledger_id) from analytics_intermediate.int_days_touched")
        tested = json.loads(os.environ["APP_USAGE_TESTED"])
        assert 0 < tested["ledger_id"] < newest
        assert tested["identity_id"] > 0
        flow.build(Summary(), Progress(), select="app_catalog")  # which tests little
        flow.build(Summary(), Progress())
        assert "APP_USAGE_TESTED" not in os.environ

        nodes.clear()
        summary = Summary()
        flow.build(summary, progress, full_refresh=True)
        assert {("seed", "app_catalog"), ("model", "stg_zoom__events")} <= set(nodes)
        flow.publish(summary, Progress())
        assert differences(daily.marts(), step_by_step) == []
        assert summary.generation is not None
        assert not summary.generation.changed
