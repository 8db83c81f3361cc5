"""Tells dlt that this project keeps its pipelines in the data folder, so that `dlt pipeline zoom info` finds them.

dlt's default is one folder per user; two clones would then share, and overwrite, each other's cursors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dlt.common.configuration.plugins import hookimpl
from dlt.common.runtime.run_context import RunContext


class ProjectRunContext(RunContext):
    """dlt's own context with another data folder."""

    @property
    def data_dir(self) -> str:
        """`dlt/` in the data folder, unless DLT_DATA_DIR says otherwise."""
        home = os.environ.get("APP_USAGE_HOME") or os.path.join(self.run_dir, ".app_usage")
        return os.environ.get("DLT_DATA_DIR") or os.path.join(os.path.abspath(home), "dlt")


@hookimpl
def plug_run_context(run_dir: str | None, runtime_kwargs: dict[str, Any] | None) -> RunContext | None:
    """dlt calls it at start-up; anywhere but in this project dlt's default stands."""
    if (Path(run_dir or ".") / "profiles.example.yml").exists():
        return ProjectRunContext(run_dir)
    return None
