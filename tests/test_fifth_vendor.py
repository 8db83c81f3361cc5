"""How little a vendor takes: one Python file, one staging folder, one seed row."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingestion.build import Builder
from ingestion.config import Settings
from tests.flow_support import FIXTURES, PROJECT, NewSite, Site, copy_project, run
from tests.support import NOW, Answer, Request, vendor


def view(number: int, at: str, action: str, reader: str) -> dict[str, Any]:
    return {"id": f"v{number}", "at": at, "action": action, "reader": {"email": reader}}


FIRST = [
    view(1, "2026-01-29T09:00:00Z", "page_read", "Ada@acme.example"),
    view(2, "2026-01-30T09:00:00Z", "page_read", "ada@acme.example"),
]
SECOND = [view(3, "2026-01-30T10:00:00Z", "page_printed", "bob@acme.example")]
MEMBERS = {
    "members": [
        {"id": "m1", "email": "ada@acme.example", "joined": "2026-01-02T08:00:00Z"},
        {"id": "m2", "email": "bob@acme.example", "joined": "2026-01-02T08:00:00Z"},
    ]
}


def run_copy(project: Path, site: Site, connections: Path) -> None:
    """A run of the copy: its own `ingestion` is found before the one that is installed."""
    code = "from ingestion.cli import app; app()"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, "run", "--now", NOW.isoformat(), "--connections", str(connections)],
        cwd=project,
        env=os.environ | site.environment() | {"CONNECTIONS__ACME_QUILL__TOKEN": "quill-token", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def answer(request: Request) -> Answer:
    if request.headers.get("Authorization") != "Bearer quill-token":
        return Answer(status=401)
    if request.path == "/v1/members":
        return Answer(MEMBERS)
    views, following = (SECOND, {}) if "cursor" in request.query else (FIRST, {"next": "second"})
    within = [each for each in views if request.query["after"] <= each["at"] < request.query["before"]]
    return Answer({"views": within, **following})


def test_a_vendor_is_one_python_file_one_staging_folder_and_one_seed_row(new_site: NewSite, tmp_path: Path) -> None:
    """Added to a project that has run before."""
    project = copy_project(tmp_path, data_tests=False)
    shutil.copytree(PROJECT / "ingestion", project / "ingestion", ignore=shutil.ignore_patterns("__pycache__"))
    site = new_site(project=project)
    site.fill_product({"acme": "UTC"}, {"ada": "ada@acme.example", "bob": "bob@acme.example"})
    with site.flow(None, NOW) as flow:
        run(flow)
    assert site.published()["user_app_usage"] == {}

    quill = FIXTURES / "fifth_vendor"
    shutil.copyfile(quill / "quill.py", project / "ingestion" / "connectors" / "quill.py")
    shutil.copytree(quill / "staging" / "quill", project / "models" / "staging" / "quill")
    with (project / "seeds" / "activity_types.csv").open("a", encoding="utf-8") as seed:
        seed.write((quill / "activity_types.csv").read_text(encoding="utf-8"))
    with vendor(answer) as server:
        entry = {"connector": "quill", "base_url": server.url, "start_date": "2026-01-01"}
        run_copy(project, site, site.write_connections(entry))

    users = site.published()["user_app_usage"]
    assert users.keys() == {("acme", "ada", "discovered:quill"), ("acme", "bob", "discovered:quill")}
    ada, bob = (row for _, row in sorted(users.items()))
    assert (ada["active_days_30"], ada["last_used_date"]) == (2, date(2026, 1, 30))
    assert (bob["active_days_30"], bob["usage_known"], bob["usage_band"]) == (0, True, "not_used")
    days = {key[2]: row["dau"] for key, row in site.published()["app_usage_daily"].items()}
    assert (days[date(2026, 1, 29)], days[date(2026, 1, 30)], days[date(2026, 1, 28)]) == (1, 1, 0)


def test_a_model_that_went_with_its_exposure_does_not_stop_what_parses_next(tmp_path: Path) -> None:
    """As where somebody tries a branch and goes back: dbt's partial parsing remembers the exposure alone."""
    project = copy_project(tmp_path / "project", data_tests=False)
    builder = Builder(Settings(project, tmp_path / "home", "duckdb", NOW, is_now_given=False))
    exposures, described, model = (
        project / "models" / "marts" / "product" / name
        for name in ("_product__exposures.yml", "_product__models.yml", "branch.sql")
    )
    before = {path: path.read_text(encoding="utf-8") for path in (exposures, described)}
    builder.parse()
    model.write_text("select org_id from {{ ref('org_usage') }}", encoding="utf-8")
    for path, kind, told in (
        (described, "models", {"name": "branch", "config": {"contract": {"enforced": False}}}),
        (
            exposures,
            "exposures",
            {"name": "branch", "type": "dashboard", "owner": {"name": "us"}, "depends_on": ["ref('branch')"]},
        ),
    ):
        declared = yaml.safe_load(before[path])
        declared[kind].append(told)
        path.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    assert "branch" in builder.parse().read_text(encoding="utf-8")
    model.unlink()
    for path, text in before.items():
        path.write_text(text, encoding="utf-8")
    assert '"branch"' not in builder.parse().read_text(encoding="utf-8")


@pytest.mark.parametrize("newer", ["models/staging", "models/staging/zoom", "snapshots/_snapshots.yml"])
def test_what_partial_parsing_overlooks_has_the_project_parsed_whole(tmp_path: Path, newer: str) -> None:
    settings = Settings(tmp_path / "project", tmp_path / "home", "duckdb", NOW, is_now_given=False)
    paths = [settings.project / name for name in ("models/staging/zoom", "snapshots")]
    for path in (*paths, settings.target_path):
        path.mkdir(parents=True)
    parsed, snapshots = settings.target_path / "partial_parse.msgpack", paths[1] / "_snapshots.yml"
    for path in (snapshots, *paths, paths[0].parent, parsed):
        path.touch()
        os.utime(path, (1, 1))
    builder = Builder(settings)
    builder._forget_stale_parse()
    assert parsed.exists()
    os.utime(settings.project / newer, (2, 2))
    builder._forget_stale_parse()
    assert not parsed.exists()
