"""Builds and tests the models with dbt, in this process: dbt's start-up is most of a small build's time.

A warm process keeps the parsed project and parses again only when a file of it changed. dbt takes seconds to import,
so it is imported when there is something to build: a run that finds nothing new does without.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ingestion.config import Settings

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

_PROJECT_FILES = ("models", "macros", "seeds", "snapshots", "tests/dbt")


class BuildError(Exception):
    """dbt could not start, or a model or test failed; the message lists what failed and how to look at it."""


@dataclass(frozen=True)
class Built:
    """What a build did. `seconds` by model."""

    invocation_id: str
    seconds: dict[str, float] = field(default_factory=dict)
    tests: int = 0
    warnings: list[str] = field(default_factory=list)


class Builder:
    """dbt for one project and target. Keep it for the next build: the second one is several times quicker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._manifest: Manifest | None = None
        self._stamp = ""

    def build(
        self,
        *,
        landed: Mapping[str, str],
        staged: Mapping[str, str] | None = None,
        now: datetime | None = None,
        select: str | None = None,
        full_refresh: bool = False,
        tested: Mapping[str, int] | None = None,
        on_node: Callable[[str, str], None] = lambda kind, name: None,
    ) -> Built:
        """Build and test everything, or what `select` names. Raises BuildError when anything failed.

        `landed`: connectors of which something has landed, and what tells their loads from those of another moment;
        `staged`: the same of the last build, if the project and the tables are as that left them. Left out are the
        staging of other connectors, for it is empty and the unions skip it; that of those that are as they were, and
        then the seeds, for they are built and tested; unit tests, which prove the project and not its data: CI runs
        them; and, of tests of the whole history, what is as it was when the ledgers had come to `tested`, by the names
        of their columns. `now` overrules the clock of the last extraction.
        `on_node(kind, name)` is called when a node is done.
        """
        from dbt.adapters.factory import reset_adapters
        from dbt.cli.main import dbtRunner

        from ingestion.dbt_speed import spare_dbt_idle_work

        settings = self._settings
        os.environ["APP_USAGE_HOME"] = str(settings.home)
        os.environ.pop("APP_USAGE_NOW", None)
        if now is not None:
            os.environ["APP_USAGE_NOW"] = now.isoformat()
        spare_dbt_idle_work()
        self.parse()
        is_whole = select is None and not full_refresh
        os.environ.pop("APP_USAGE_TESTED", None)
        if is_whole and tested:
            os.environ["APP_USAGE_TESTED"] = json.dumps(tested)
        vendors = sorted(path.name for path in (settings.project / "models" / "staging").iterdir() if path.is_dir())
        empty = {vendor for vendor in vendors if vendor not in landed and vendor != "product"}
        staged = (staged or {}) if is_whole else {}
        without = sorted(empty | {vendor for vendor in vendors if landed.get(vendor) == staged.get(vendor, "")})
        # the parse has written the manifest; to write it again after each build takes as long as the models do
        arguments = ["build", *self._common(), "--no-write-json", "--exclude-resource-type", "unit_test"]
        if staged:
            arguments.append("seed")
        if without:
            arguments += ["--exclude", *(f"fqn:staging.{vendor}" for vendor in without)]
        if select is not None:
            arguments += ["--select", *select.split()]
        if full_refresh:
            arguments.append("--full-refresh")
        result = dbtRunner(manifest=self._manifest, callbacks=[_progress(on_node)]).invoke(arguments)
        reset_adapters()  # type: ignore[no-untyped-call]
        let_go_of_duckdb()
        return self._read(result)

    def parse(self) -> Path:
        """Read the project, unless it is as it was; the manifest, which says what the models are."""
        from dbt.cli.main import dbtRunner

        stamp = stamp_of(self._settings.project)
        if self._manifest is None or stamp != self._stamp:
            self._forget_stale_parse()
            parsed = dbtRunner().invoke(["parse", *self._common()])
            if not parsed.success and self._saved_parse.exists():
                # of a model and its exposure that went together, as with a branch, dbt's partial parsing misses one
                self._saved_parse.unlink()
                parsed = dbtRunner().invoke(["parse", *self._common()])
            if not parsed.success or parsed.exception is not None:
                raise BuildError(f"dbt could not read the project: {parsed.exception}")
            self._manifest, self._stamp = cast("Manifest", parsed.result), stamp
        return self._settings.target_path / "manifest.json"

    @property
    def ledgers(self) -> dict[str, str]:
        """The tables that tell what changed, as SQL names them, by the columns that number their entries."""
        models = {"ledger_id": "int_days_touched", "identity_id": "int_identities"}
        return {column: self._table(model) for column, model in models.items()}

    @property
    def signature(self) -> str:
        """The table that says which of dbt's invocations wrote last, as SQL names it."""
        return self._table("int_days_touched").replace("int_days_touched", "last_build")

    def _table(self, model: str) -> str:
        assert self._manifest is not None
        return str(self._manifest.nodes[f"model.usage_warehouse.{model}"].relation_name)

    def _common(self) -> list[str]:
        settings = self._settings
        return [
            *("--target", settings.target),
            *("--project-dir", str(settings.project)),
            *("--profiles-dir", str(settings.profiles_file().parent)),
            *("--target-path", str(settings.target_path)),
            *("--log-path", str(settings.home / "logs")),
            *("--quiet", "--no-print", "--no-send-anonymous-usage-stats", "--no-use-colors"),
            *("--log-level", "none", "--log-level-file", "info"),  # SQL in the log would slow small builds
        ]

    def _forget_stale_parse(self) -> None:
        """What dbt's partial parsing does not see: a new staging folder, which union_vendors() lists while dbt parses,
        and a new snapshot in a file that was there.
        """
        staging, snapshots = (self._settings.project / name for name in ("models/staging", "snapshots"))
        looked_at = [staging, *(path for path in staging.iterdir() if path.is_dir()), *snapshots.glob("*.yml")]
        parsed = self._saved_parse
        if parsed.exists() and max(path.stat().st_mtime for path in looked_at) > parsed.stat().st_mtime:
            parsed.unlink()

    @property
    def _saved_parse(self) -> Path:
        return self._settings.target_path / "partial_parse.msgpack"

    def _read(self, result: dbtRunnerResult) -> Built:
        from dbt_common.invocation import get_invocation_id

        if result.exception is not None or not hasattr(result.result, "results"):
            raise BuildError(f"dbt could not build: {result.exception or result.result}")
        results: list[Any] = list(result.result.results)  # type: ignore[union-attr]
        failed = [entry for entry in results if entry.status in ("error", "fail", "runtime error")]
        if failed:
            lines = [f"  {entry.node.name}: {str(entry.message).strip()}" for entry in failed]
            raise BuildError(
                f"{len(failed)} of {len(results)} models and tests failed, nothing is published:\n"
                + "\n".join(lines[:20])
                + f"\nsee {self._settings.home / 'logs' / 'dbt.log'},"
                + f" or run `uv run dbt build --select {failed[0].node.name}`"
            )
        return Built(
            invocation_id=get_invocation_id(),
            seconds={e.node.name: e.execution_time for e in results if e.node.resource_type == "model"},
            tests=sum(entry.node.resource_type in ("test", "unit_test") for entry in results),
            warnings=[f"{e.node.name}: {e.message}" for e in results if e.status == "warn"],
        )


def let_go_of_duckdb() -> None:
    """dbt keeps the file open until its process ends; others shall read it while this one pauses.

    So may those of this process. A benchmark of 100,000,000 events in which dbt kept the file open while publishes read
    it staged 100,000 new ones twice: DuckDB 2.0 had lost sight, for a build, of rows that were committed.
    """
    module = sys.modules.get("dbt.adapters.duckdb.connections")
    if module is not None:
        module.DuckDBConnectionManager.close_all_connections()


def _progress(on_node: Callable[[str, str], None]) -> Callable[[Any], None]:
    def callback(event: Any) -> None:
        if event.info.name == "NodeFinished":
            node = event.data.node_info
            on_node(node.resource_type, node.node_name)

    return callback


def stamp_of(project: Path) -> str:
    """Another text when a file that dbt reads came, went or changed."""
    files = [project / "dbt_project.yml", project / "profiles.yml"]
    for folder in _PROJECT_FILES:
        files += sorted(path for path in (project / folder).rglob("*") if path.is_file())
    told = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.exists()]
    return sha256(repr(told).encode()).hexdigest()[:16]
