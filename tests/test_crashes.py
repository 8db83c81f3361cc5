"""`kill -9` at the worst moments, and a full disk: the next plain run ends as if nothing had happened.

A child process runs the real flow and kills its own process group at a named point; nothing depends on time. It goes
on from a place that has published before, so that there are cursors, incremental models and readers to spoil.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import dlt
import pytest
from dlt.destinations.impl.duckdb.duck import DuckDbCopyJob

from ingestion.connectors import connectors
from ingestion.flow import FlowErrors, Progress
from ingestion.http import PageClient
from ingestion.sandbox import Options
from tests.flow_support import Keyed, NewSite, Rows, Site, differences, recounted, run
from tests.support import NOW

pytestmark = pytest.mark.stress
BEFORE = NOW - timedelta(days=9)
WORLD = Options(orgs=2, people=10, start=date(2026, 1, 2))


def kill() -> None:
    os.killpg(0, signal.SIGKILL)


def between_two_pages(progress: Progress) -> None:
    """Of a window that comes newest first, the newest page is read and older ones are not."""
    path, pages = "/v2/report/activities", PageClient.pages
    [activities] = (stream for stream in connectors()["zoom"].streams if stream.path == path)
    object.__setattr__(activities, "params", {"page_size": 10})  # a small world, and many pages

    def killing(client: PageClient, asked: str, **arguments: Any) -> Any:
        for number, (records, envelope) in enumerate(pages(client, asked, **arguments)):
            if asked == path and number == 1 and records:
                kill()
            yield records, envelope

    PageClient.pages = killing  # type: ignore[method-assign]


def after_extract(progress: Progress) -> None:
    """Everything of a vendor is in dlt's working folder, and nothing of it in the warehouse."""
    normalize = dlt.Pipeline.normalize

    def killing(pipeline: dlt.Pipeline, *arguments: Any, **more: Any) -> Any:
        if pipeline.pipeline_name == "okta":
            kill()
        return normalize(pipeline, *arguments, **more)

    dlt.Pipeline.normalize = killing  # type: ignore[method-assign]


def in_the_middle_of_a_load(progress: Progress) -> None:
    """Two of a load's tables are written, the others and the load's own row are not."""
    copy, lock, copied = DuckDbCopyJob.run, Lock(), []

    def killing(job: DuckDbCopyJob) -> None:
        if job._job_client.sql_client.dataset_name != "landing_okta":
            return copy(job)
        with lock:
            copy(job)
            copied.append(job.load_table_name)
            if len(copied) == 2:
                kill()
        return None

    DuckDbCopyJob.run = killing  # type: ignore[method-assign]


def during_dbt(progress: Progress) -> None:
    """The days that the loads touch are noted; what they touch is not rebuilt."""
    progress.node = lambda kind, name: kill() if name == "int_days_touched" else None


def during_publish(progress: Progress) -> None:
    """Inside the transaction: one table is written, the other is not."""
    progress.table = lambda step: kill() if step == "write user_app_usage" else None


_POINTS = (between_two_pages, after_extract, in_the_middle_of_a_load, during_dbt, during_publish)
POINTS = {point.__name__: point for point in _POINTS}


def run_and_die(site: Site, point: str) -> None:
    os.setsid()
    progress = Progress()
    POINTS[point](progress)
    with site.flow(WORLD, NOW) as flow:
        run(flow, progress)


@dataclass(frozen=True)
class Undisturbed:
    """A place before the run, and what the run makes of it if nobody kills it."""

    site: Site
    before: dict[str, Keyed]
    marts: dict[str, Rows]
    published: dict[str, Keyed]


@pytest.fixture(scope="module")
def undisturbed(new_site: NewSite, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    site = new_site()
    site.run(WORLD, BEFORE)
    before = site.published()
    other = site.copy(tmp_path_factory.mktemp("undisturbed"), f"{site.database}_undisturbed")
    sandbox = other.run(WORLD, NOW)
    published = other.published()
    assert differences(published, recounted(sandbox)) == []
    assert differences(before, published) != []
    return Undisturbed(site, before, other.marts(), published)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_and_doubles_nothing(undisturbed: Undisturbed, tmp_path: Path, point: str) -> None:
    """Nor does it where dlt's working folder is lost as well, which is where the killed extraction was noted."""
    killed = undisturbed.site.copy(tmp_path / "killed", f"{undisturbed.site.database}_{point}")
    child = multiprocessing.get_context("forkserver").Process(target=run_and_die, args=(killed, point))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert differences(killed.published(), undisturbed.before) == []

    resumed = [killed]
    if POINTS[point] is in_the_middle_of_a_load:
        without_dlt = killed.copy(tmp_path / "without_dlt", f"{killed.database}_without_dlt")
        shutil.rmtree(without_dlt.home / "dlt")
        resumed.append(without_dlt)
    for site in resumed:
        site.run(WORLD, NOW)
        assert differences(site.published(), undisturbed.published) == []
        assert differences(site.marts(), undisturbed.marts) == []


def run_on_a_full_disk(site: Site, step: str) -> None:
    """Once the step has begun, the kernel lets no file grow above 1 MB, and the warehouse is larger."""

    def fill(*_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    with site.flow(WORLD, NOW) as flow, pytest.raises(FlowErrors, match="File too large") as failed:
        run(flow, Progress(rows=fill) if step == "extract" else Progress(node=fill))
    assert "Traceback" not in str(failed.value)


@pytest.mark.parametrize("step", ["extract", "build"])
def test_a_full_disk_ends_the_run_and_the_next_one_ends_right(
    undisturbed: Undisturbed, tmp_path: Path, step: str
) -> None:
    full = undisturbed.site.copy(tmp_path / "full", f"{undisturbed.site.database}_full_{step}")
    child = multiprocessing.get_context("forkserver").Process(target=run_on_a_full_disk, args=(full, step))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert differences(full.published(), undisturbed.before) == []
    full.run(WORLD, NOW)
    assert differences(full.published(), undisturbed.published) == []
    assert differences(full.marts(), undisturbed.marts) == []


def test_a_disk_that_is_full_when_a_step_is_noted_leaves_no_note_that_stops_the_next_run(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    site = undisturbed.site.copy(tmp_path / "noted", f"{undisturbed.site.database}_noted")
    notes = [site.home / place for place in ("target/built.json", "published/manifest.json", "published/at")]
    told = notes[-1].read_bytes()
    for note in notes:
        draft = note.with_name(f"{note.name}.new")
        draft.symlink_to("/dev/full")
        with site.flow(WORLD, NOW) as flow, pytest.raises(FlowErrors, match=f"No space left on device: '{note}'"):
            run(flow)
        draft.unlink()
    assert notes[-1].read_bytes() == told
    site.run(WORLD, NOW)
    assert differences(site.published(), undisturbed.published) == []


def test_a_note_that_was_cut_off_or_is_of_another_form_counts_as_none(undisturbed: Undisturbed, tmp_path: Path) -> None:
    site = undisturbed.site.copy(tmp_path / "torn", f"{undisturbed.site.database}_torn")
    for note in ("target/built.json", "published/at", "lock.json"):
        (site.home / note).write_text('{"inp' if note.endswith("json") else "")
    for content in (None, '{"a": 1}', "[1]", '{"invocation_id": "x", "inputs": {}}'):
        if content:
            (site.home / "target/built.json").write_text(content)
        refused = site.invoke("publish")
        assert (refused.exit_code, "run `app-usage build` first" in refused.stderr) == (1, True), refused.output
    assert site.invoke("status").exit_code == 0
    site.run(WORLD, NOW)
    assert differences(site.published(), undisturbed.published) == []
