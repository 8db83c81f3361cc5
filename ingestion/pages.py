"""A page for each connector, and the table of all, out of the declarations: what a person asks before connecting one.

The pages are blocks of the dbt docs (`models/staging/<vendor>/_<vendor>__docs.md`), the table is in the README.
`app-usage connectors --write` writes both anew; a test says when that was forgotten.
"""

from __future__ import annotations

import csv
import inspect
import re
from datetime import timedelta
from pathlib import Path

import ingestion.connectors
from ingestion.connector import Connector, Stream

TABLE = (
    "| connector | events | accounts and licences | asked back to | usually / rarely late |\n|---|---|---|---|---|\n"
)


def table(connectors: dict[str, Connector]) -> str:
    """All connectors, a line each."""
    return TABLE + "".join(_line(connector) for connector in connectors.values())


def page(connector: Connector, project: Path) -> str:
    """All about one connector, as Markdown."""
    module = inspect.getmodule(connector.auth) or ingestion.connectors
    title, _, about = inspect.cleandoc(module.__doc__ or connector.name).partition("\n")
    secrets, settings = _asked_for(connector, inspect.getsource(module))
    about = re.sub(r"How the \w+ behaves?:\n", r"\n\g<0>\n", about.strip("\n"))  # a list wants a blank line
    lines = [title, "", about, "", "| stream | of | asked back to | usually / rarely late | key | lands in |"]
    lines += ["|---|---|---|---|---|---|"]
    for stream in connector.streams:
        key = ", ".join(f"`{path}`" for path in stream.key.paths)
        landing = f"`landing_{connector.name}.{stream.name}`"
        cells = (f"`{stream.name}`", stream.kind, _retention([stream]), _lateness([stream]), key, landing)
        lines.append("| " + " | ".join(cells) + " |")
    variables = ", ".join(f"`CONNECTIONS__<CONNECTION>__{name.upper()}`" for name in secrets)
    lines += ["", f"Secrets: {variables}."]
    if settings:
        lines += ["", "Settings of the connection: " + ", ".join(f"`{name}`" for name in settings) + "."]
    if uses := _uses(connector, project):
        lines += ["", "Counted as a use: " + ", ".join(uses) + ". The seed `activity_types` decides."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def files(connectors: dict[str, Connector], project: Path) -> dict[Path, str]:
    """The project's files that hold pages and table, as they should be."""
    wanted = {_docs_file(project, name): _docs(connector, project) for name, connector in connectors.items()}
    readme = project / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(TABLE)
    if rest:
        wanted[readme] = before + table(connectors) + "\n" + rest.partition("\n\n")[2]
    return wanted


def write(connectors: dict[str, Connector], project: Path) -> list[Path]:
    """Write pages and table into the project; the files that changed."""
    wanted = files(connectors, project)
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return changed


def _docs_file(project: Path, name: str) -> Path:
    return project / "models" / "staging" / name / f"_{name}__docs.md"


def _docs(connector: Connector, project: Path) -> str:
    text = page(connector, project).replace("{{", "{ {").replace("{%", "{ %")
    return f"{{% docs connector_{connector.name} %}}\n{text}{{% enddocs %}}\n"


def _line(connector: Connector) -> str:
    events = [stream for stream in connector.streams if stream.kind == "events"]
    accounts = [stream for stream in connector.streams if stream.kind == "accounts"]
    cells = (
        f"[`{connector.name}`](ingestion/connectors/{connector.name}.py)",
        ", ".join(stream.name for stream in events) or "–",
        ", ".join(stream.name for stream in accounts) or "–",
        _retention(events),
        _lateness(events),
    )
    return "| " + " | ".join(cells) + " |\n"


def _retention(streams: list[Stream]) -> str:
    spans = [stream.window.retention for stream in streams if stream.window]
    return "–".join(str(days) for days in sorted({span.days for span in spans})) + " d" if spans else "–"


def _lateness(streams: list[Stream]) -> str:
    late = [stream.lateness for stream in streams if stream.kind == "events"]
    if not late:
        return "–"
    return f"{_span(max(each.usual for each in late))} / {_span(max(each.rare for each in late))}"


def _span(time: timedelta) -> str:
    return f"{time // timedelta(hours=1)} h" if time < timedelta(days=1) else f"{time.days} d"


def _asked_for(connector: Connector, source: str) -> tuple[list[str], list[str]]:
    """The names of the secrets and of the settings that a connector asks a connection for."""
    secrets = re.findall(r"""\.secret\(["'](\w+)["']""", source)
    settings = re.findall(r"""\.setting\(["'](\w+)["']""", source)
    settings += re.findall(r"""\.settings(?:\.get\(|\[)["'](\w+)["']""", source)
    for stream in connector.streams:
        given = {"item", *(stream.parent.fields if stream.parent else ())}
        paths = [stream.base_url + stream.path, stream.parent.path if stream.parent else ""]
        named = {name for path in paths for name in re.findall(r"\{(\w+)\}", path)} - given
        settings += [*stream.settings.values(), *stream.options.values(), *stream.params_if, *named]
        settings += [stream.for_each, stream.needs, stream.unless]
    return sorted(set(secrets)), sorted(set(filter(None, settings)))


def _uses(connector: Connector, project: Path) -> list[str]:
    with (project / "seeds" / "activity_types.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["connector"] == connector.name]
    return sorted({f"`{row['event_code']}`" for row in rows if row["is_activity"] == "true"})
