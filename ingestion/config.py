"""Settings of a run: where things are, which warehouse, which product database, and what time it is.

The warehouse is the dbt target: `profiles.yml` is the only place where it is described, and dlt writes where dbt
reads.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import dlt
import jinja2
import psycopg2
import yaml
from dlt.common.destination import Destination
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from psycopg2.extensions import parse_dsn


class ConfigError(Exception):
    """A setting is missing or unusable; the message names it and what to do."""


@dataclass(frozen=True)
class Settings:
    """Everything that a run is told from outside. Times are UTC."""

    project: Path
    home: Path
    target: str
    now: datetime
    is_now_given: bool
    product_db_url: str | None = None
    connections_file: Path | None = None

    @classmethod
    def load(
        cls,
        *,
        project: Path | None = None,
        target: str | None = None,
        now: str | None = None,
        connections: Path | None = None,
        product_db_url: str | None = None,
    ) -> Settings:
        """Arguments first, then environment variables, then defaults. Raises ConfigError."""
        project = (project or _project_folder()).resolve()
        home = Path(os.environ.get("APP_USAGE_HOME") or project / ".app_usage")
        file = connections or os.environ.get("APP_USAGE_CONNECTIONS")
        default_file = project / ".dlt" / "connections.toml"
        given_now = now or os.environ.get("APP_USAGE_NOW")
        product = product_db_url or os.environ.get("PRODUCT_DB_URL")
        return cls(
            project=project,
            home=home.resolve(),
            target=target or os.environ.get("DBT_TARGET") or "duckdb",
            now=parse_instant(given_now) if given_now else datetime.now(UTC),
            is_now_given=bool(given_now),
            product_db_url=_product_url(product) if product else None,
            connections_file=Path(file) if file else default_file if default_file.exists() else None,
        )

    @property
    def pipelines_dir(self) -> Path:
        """dlt's working folder; losing it loses nothing, dlt restores its state from the warehouse."""
        return self.home / "dlt" / "pipelines"

    @property
    def target_path(self) -> Path:
        """dbt's artifacts of `app-usage` runs, apart from those of a dbt that an analyst runs by hand."""
        return self.home / "target"

    @cached_property
    def warehouse(self) -> dict[str, Any]:
        """The dbt target as `profiles.yml` gives it, its env_var() calls resolved."""
        path = self.profiles_file()
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 (no HTML)
        environment.globals["env_var"] = _env_var
        outputs = yaml.safe_load(path.read_text(encoding="utf-8"))["app_usage"]["outputs"]
        if self.target not in outputs:
            raise ConfigError(f"{path} has no target {self.target!r}; it has {', '.join(outputs)}")
        return {
            key: yaml.safe_load(environment.from_string(value).render()) if isinstance(value, str) else value
            for key, value in outputs[self.target].items()
        }

    def profiles_file(self) -> Path:
        """`profiles.yml` of the project, made from the example when there is none."""
        path = self.project / "profiles.yml"
        if not path.exists():
            shutil.copyfile(self.project / "profiles.example.yml", path)
        return path

    def destination(self) -> Destination[Any, Any]:
        """The dlt destination of the warehouse. One place decides where data goes."""
        output = self.warehouse
        if output["type"] == "duckdb":
            path = Path(output["path"])
            path = path if path.is_absolute() else self.project / path
            path.parent.mkdir(parents=True, exist_ok=True)
            return duckdb_file(path)
        url = postgres_url(
            host=str(output["host"]),
            port=int(output["port"]),
            user=str(output["user"]),
            password=str(output.get("password") or output.get("pass") or ""),
            database=str(output.get("dbname") or output.get("database")),
        )
        if output["type"] == "redshift":
            return settled(dlt.destinations.redshift(url))
        return settled(dlt.destinations.postgres(url))


def duckdb_file(path: Path) -> Destination[Any, Any]:
    """The dlt destination of a DuckDB file, made for loads of any size.

    DuckDB takes four fifths of the machine's memory if it may, for no gain in a load. And it is at its slowest when it
    looks for the best way to store the payloads: told that it is zstd, it loads twice as fast into half the space.
    """
    limits = {"memory_limit": "512MB", "force_compression": "zstd"}
    return settled(dlt.destinations.duckdb(DuckDbCredentials(str(path), global_config=limits)))


def settled(destination: Destination[Any, Any]) -> Destination[Any, Any]:
    """Looks up only once what its capabilities depend on.

    dlt asks for these some twenty times a load, and looks through the environment and all files of settings each time,
    which takes a sixth of a small load.
    """
    look_up = destination.configuration
    known: list[Any] = []

    def configuration(initial_config: Any, accept_partial: bool = False) -> Any:
        if not accept_partial:
            return look_up(initial_config)
        if not known:
            known.append(look_up(initial_config, accept_partial=True))
        return known[0]

    destination.configuration = configuration  # type: ignore[method-assign]
    return destination


def postgres_url(*, host: str, port: int, user: str, password: str, database: str) -> str:
    """A libpq URL. A host that is a folder (unix socket) goes into the query; dlt insists on a password."""
    login = f"{quote(user, safe='')}:{quote(password or 'unused', safe='')}"
    if host.startswith("/"):
        return f"postgresql://{login}@localhost:{port}/{quote(database)}?host={quote(host, safe='')}"
    return f"postgresql://{login}@{host}:{port}/{quote(database)}"


def parse_instant(text: str) -> datetime:
    """An ISO 8601 instant as an aware UTC datetime; without an offset it is taken as UTC."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time such as 2026-01-31T12:00:00Z") from error
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _project_folder() -> Path:
    """The nearest folder at or above the working directory that holds the dbt project, else this clone."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dbt_project.yml").exists() and (folder / "profiles.example.yml").exists():
            return folder
    return Path(__file__).resolve().parent.parent


def _product_url(url: str) -> str:
    """A URL that all who read it take apart alike. What libpq says of another may hold its password: ours does not."""
    try:
        netloc, port = urlsplit(url).netloc, parse_dsn(url).get("port", "")
        is_plain = url.startswith(("postgresql://", "postgres://")) and not re.search(r"[#\s]", url)
        is_plain = is_plain and url.count("@") == netloc.count("@") <= 1 and not port.strip("0123456789,")
    except (ValueError, psycopg2.Error):
        is_plain = False
    if not is_plain:
        raise ConfigError(
            "PRODUCT_DB_URL is no URL such as postgresql://user:password@host:5432/database, or has options that "
            "PostgreSQL does not know; in a password, @ : / ? # % and space are written %40 %3A %2F %3F %23 %25 %20"
        )
    return url


def _env_var(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise ConfigError(f"the environment variable {name} is not set, and profiles.yml asks for it")
    return value
