"""The `app-usage` command. Exit codes: 0 all worked, 1 a step failed, 2 wrong usage, 3 some connections failed,
4 the product's data is older than allowed."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from enum import IntEnum
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_type_hints

import typer
from rich.markup import escape

from ingestion.config import ConfigError, Settings, parse_instant
from ingestion.terminal import err, out, print_lost, print_status, print_summary, shown_progress

if TYPE_CHECKING:  # dlt and dbt take a second to import: `--help` does without
    from ingestion.flow import Flow
    from ingestion.sandbox import Options

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Start with [bold]app-usage run[/]: without connections it reads a sandbox of four vendors on this machine.",
)
sandbox_app = typer.Typer(help="The vendors' APIs on localhost, with a seeded and known truth.", no_args_is_help=True)
app.add_typer(sandbox_app, name="sandbox")


# Of 19 as the least. Beside the product's database on one machine, the product's queries come first.
PRIORITY = 10

# Seconds from which on the others are read again, though no straggler has brought anything.
STRAGGLERS_WAIT = 300.0

FAULTS = ("revoked", "broken", "malformed", "busy")


def main() -> None:
    """The command, as work in the background."""
    os.setpriority(os.PRIO_PROCESS, 0, max(PRIORITY, os.getpriority(os.PRIO_PROCESS, 0)))
    app()


class Exit(IntEnum):
    """What the shell sees."""

    DONE = 0
    FAILED = 1
    SOME_CONNECTIONS_FAILED = 3
    TOO_OLD = 4


Target = Annotated[
    str | None, typer.Option("--target", "-t", envvar="DBT_TARGET", help="dbt target: duckdb, postgres or redshift.")
]
Now = Annotated[
    str | None, typer.Option("--now", envvar="APP_USAGE_NOW", help="The clock of the run, e.g. 2026-01-31T12:00:00Z.")
]
Connections = Annotated[
    Path | None,
    typer.Option(
        "--connections",
        envvar="APP_USAGE_CONNECTIONS",
        help="TOML file of connections [dim](default: .dlt/connections.toml; none there: the sandbox)[/].",
    ),
]


_SandboxOption = partial(typer.Option, rich_help_panel="Sandbox (only without connections)")


def _options(
    seed: Annotated[int, _SandboxOption(help="Seed of the world.")] = 1,
    orgs: Annotated[int, _SandboxOption(min=1, help="How many organisations.")] = 3,
    people: Annotated[int, _SandboxOption(min=1, help="People in each.")] = 40,
    days: Annotated[int, _SandboxOption(min=1, help="Days of history.")] = 90,
    events: Annotated[float, _SandboxOption(help="Times the usual number of events.")] = 1.0,
    start: Annotated[str | None, _SandboxOption(help="First day of history; overrules --days.")] = None,
    fault: Annotated[
        list[str] | None,
        _SandboxOption(help=f"connection_id={', '.join(FAULTS[:-1])} or {FAULTS[-1]}; may be repeated."),
    ] = None,
) -> Options:
    """The sandbox that a command line asks for."""
    from ingestion.sandbox import Options

    faults = dict(entry.partition("=")[::2] for entry in fault or [])
    if unknown := [entry for entry in fault or [] if entry.partition("=")[2] not in FAULTS]:
        raise typer.BadParameter(
            f"--fault {unknown[0]!r} is no connection_id={', ='.join(FAULTS[:-1])} or ={FAULTS[-1]}"
        )
    try:
        first = date.fromisoformat(start) if start else None
    except ValueError as error:
        raise typer.BadParameter(f"--start {start!r} is no day such as 2025-11-01") from error
    return Options(seed=seed, orgs=orgs, people=people, days=days, events=events, start=first, faults=faults)


def _with_sandbox(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of the sandbox; it gets them as one, `options`."""
    theirs, own = _parameters(_options), _parameters(command)

    @wraps(command)
    def with_options(**arguments: Any) -> None:
        command(options=_options(**{name: arguments.pop(name) for name in theirs}), **arguments)

    shown = {name: parameter for name, parameter in {**own, **theirs}.items() if name != "options"}
    with_options.__signature__ = inspect.Signature(list(shown.values()))  # type: ignore[attr-defined]
    with_options.__annotations__ = {name: parameter.annotation for name, parameter in shown.items()}
    return with_options


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(function, localns={"Options": Any}, include_extras=True)
    parameters = inspect.signature(function).parameters
    return {name: parameter.replace(annotation=hints[name]) for name, parameter in parameters.items()}


@app.command(
    epilog="Examples: [bold]app-usage run[/] · [bold]app-usage run --every 5m[/] · "
    "[bold]APP_USAGE_HOME=/tmp/larger app-usage run --people 200[/]"
)
@_with_sandbox
def run(
    options: Options,
    target: Target = None,
    now: Now = None,
    connections: Connections = None,
    every: Annotated[str | None, typer.Option(help="Stay and run again and again, e.g. every 5m, 90s or 1h.")] = None,
) -> None:
    """The whole flow once: extract, build, publish.

    A vendor that wants a pause or has years to tell keeps nobody waiting: what the others brought is published, and the
    flow goes on, with the others' news, too, until it has all.
    """
    settings = _settings(target, now, connections)
    pause = _seconds(every, "--every") if every else None
    from ingestion.flow import Lock, prepared

    with _failures(), Lock(settings, "run") as lock, prepared(settings, options) as flow:

        def again() -> Exit:
            return _once(flow, "run", now=None if settings.is_now_given else datetime.now(UTC))

        code = _once(flow, "run")
        while pause is None and flow.stragglers.keys and code is not Exit.FAILED:
            left = ", ".join(sorted({connection for connection, _ in flow.stragglers.keys}))
            out.print(f"[dim]goes on with {escape(left)}; if it is ended, the next run does[/]", soft_wrap=True)
            flow.stragglers.wait(STRAGGLERS_WAIT)
            code = max(code, again(), key=[Exit.DONE, Exit.SOME_CONNECTIONS_FAILED, Exit.FAILED].index)
        if pause is None:
            raise typer.Exit(code)
        stop = threading.Event()

        def end(*_: object) -> None:
            """By another thread, for this one may hold the event's lock; and once, however often it is told."""
            for name in (signal.SIGINT, signal.SIGTERM):
                signal.signal(name, signal.SIG_IGN)
            threading.Thread(target=stop.set).start()

        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, end)
        while True:
            if lock.lend(pause, stop):
                flow.distrust()
            if stop.is_set():
                raise typer.Exit(code)
            code = again()


@app.command(epilog="Example: [bold]app-usage extract --connections connections.toml[/]")
@_with_sandbox
def extract(
    options: Options,
    target: Target = None,
    now: Now = None,
    connections: Connections = None,
) -> None:
    """Vendors and product database into the warehouse's landing tables."""
    settings = _settings(target, now, connections)
    with _flow(settings, options, "extract") as flow:
        raise typer.Exit(_once(flow, "extract"))


Connector = Annotated[str | None, typer.Option(help="Only the connections of this connector.")]
Org = Annotated[str | None, typer.Option(help="Only the connections of this customer.")]
ConnectionId = Annotated[str | None, typer.Option("--connection", help="Only this connection.")]


@app.command(
    epilog="Example: [bold]app-usage backfill --connector zoom --org acme --from 2026-01-01 --to 2026-02-01[/]"
)
@_with_sandbox
def backfill(
    options: Options,
    first: Annotated[str, typer.Option("--from", help="First day, or an instant; UTC.")],
    last: Annotated[str, typer.Option("--to", help="The day or instant before which it ends; UTC.")],
    connector: Connector = None,
    org: Org = None,
    connection: ConnectionId = None,
    target: Target = None,
    now: Now = None,
    connections: Connections = None,
) -> None:
    """Read the events of some time again, window by window. Killed, it goes on where it was; nothing lands twice."""
    settings = _settings(target, now, connections)
    try:
        span = parse_instant(first), parse_instant(last)
    except ConfigError as error:
        _fail(error, code=2)
    if span[0] >= span[1]:
        raise typer.BadParameter(f"--from {first} is not before --to {last}")
    with _flow(settings, options, "backfill") as flow:
        raise typer.Exit(_once(flow, "backfill", only=_only(connector, org, connection), span=span))


@app.command(epilog="Example: [bold]app-usage replay --connector zoom[/]")
@_with_sandbox
def replay(
    options: Options,
    connector: Connector = None,
    org: Org = None,
    connection: ConnectionId = None,
    target: Target = None,
    now: Now = None,
    connections: Connections = None,
) -> None:
    """Type rejected events again, after a connector was mended: as if they had never been rejected."""
    settings = _settings(target, now, connections)
    with _flow(settings, options, "replay") as flow:
        raise typer.Exit(_once(flow, "replay", only=_only(connector, org, connection)))


@app.command(name="connectors", epilog="Examples: [bold]app-usage connectors[/] · [bold]app-usage connectors zoom[/]")
def show_connectors(
    name: Annotated[str | None, typer.Argument(help="All about this one.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Into the docs and the README, after a change.")] = False,
) -> None:
    """What can be read: every connector, or all about one: what to grant, which secrets, how late, how far back."""
    from ingestion.connectors import connectors as all_connectors
    from ingestion.pages import page, table
    from ingestion.pages import write as write_pages

    found, project = all_connectors(), _settings(None, None, None).project
    if name is not None and name not in found:
        raise typer.BadParameter(f"no connector {name!r}; there are {', '.join(found)}")
    if write:
        for path in write_pages(found, project):
            out.print(escape(f"wrote {path.relative_to(project)}"), highlight=False)
    else:
        print(table(found) if name is None else page(found[name], project), end="")


def _only(connector: str | None, org: str | None, connection: str | None) -> dict[str, str]:
    given = {"connector": connector, "org_id": org, "connection_id": connection}
    return {name: value for name, value in given.items() if value is not None}


@app.command(epilog="Examples: [bold]app-usage build[/] · [bold]app-usage build --select user_app_usage+[/]")
def build(
    target: Target = None,
    now: Now = None,
    select: Annotated[str | None, typer.Option("--select", "-s", help="dbt's selection of models.")] = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Rebuild incremental models.")] = False,
) -> None:
    """Landing tables into tested marts, with dbt."""
    settings = _settings(target, now, None)
    with _flow(settings, None, "build") as flow:
        raise typer.Exit(_once(flow, "build", select=select, full_refresh=full_refresh))


@app.command(epilog="Examples: [bold]app-usage check[/] · [bold]app-usage check --state main/[/]")
def check(
    state: Annotated[
        Path | None, typer.Option("--state", help="A folder with dbt's manifest.json of what is published.")
    ] = None,
) -> None:
    """What the models as they are would change of the tables that the product reads; exit code 1 if it may break."""
    from ingestion.flow import Flow, Lock

    settings = _settings(None, None, None)
    with _failures(), Lock(settings, "check", is_reading=True):
        found = Flow(settings, [], None).check(state)
    for change in found:
        told = "[bold red]breaks[/]" if change.is_break else "      "
        out.print(told, escape(f"{change}"), highlight=False, soft_wrap=True)
    if any(change.is_break for change in found):
        err.print(
            "Something may read what is gone or other: once nobody does, declare it under meta.publish.drop; until then"
            " publish a second version beside the first (README, Add a metric)"
        )
        raise typer.Exit(Exit.FAILED)
    if not found:
        out.print("the published tables stay as they are")


@app.command(epilog="Examples: [bold]app-usage publish[/] · [bold]app-usage publish --percent 10[/]")
def publish(
    target: Target = None,
    now: Now = None,
    accept: Annotated[bool, typer.Option("--accept", help="Even what the breaker stops, or after a rollback.")] = False,
    percent: Annotated[int, typer.Option(min=1, max=100, help="Of the orgs; the others keep what they have.")] = 100,
    reread: Annotated[bool, typer.Option("--reread", help="Compare all published rows; believe no ledger.")] = False,
) -> None:
    """The marts of the last build into the product's Postgres, if every test of that build passed."""
    settings = _settings(target, now, None)
    with _flow(settings, None, "publish") as flow:
        raise typer.Exit(_once(flow, "publish", accept=accept, percent=percent, reread=reread))


@app.command(epilog="Example: [bold]app-usage verify[/]")
def verify(target: Target = None) -> None:
    """Compare every published row with its mart; exit code 1 and the rows if they differ. Changes nothing."""
    from ingestion.publish import verify as verify_published

    with _flow(_settings(target, None, None), None, "verify", is_reading=True) as flow:
        found = verify_published(
            flow.built_manifest, flow.settings.destination(), flow.product_url, flow.settings.pipelines_dir
        )
        for difference in found.differences:
            key = ", ".join(f"{name}={value}" for name, value in difference.key.items())
            err.print(escape(f"{difference.table}: {difference.kind}: {key}"), highlight=False)
        if found.outside:
            told = f"customers outside the canary, whose rows were not compared: {found.outside:,}"
            err.print(f"[yellow]{told}[/]", highlight=False, soft_wrap=True)
        print_lost(err, found.lost)
        if found.differing:
            counts = ", ".join(f"{count:,} of {table}" for table, count in found.differing.items())
            advice = "app-usage publish --reread repairs them"
            if found.held:
                advice = f"{found.held}; app-usage publish --accept --reread gives it what the marts have"
            err.print(f"[bold red]Rows differ:[/] {counts}; {advice}", highlight=False, soft_wrap=True)
        else:
            out.print(f"{found.rows:,} published rows are as in the marts", highlight=False)
        if found.differing or found.lost:
            raise typer.Exit(Exit.FAILED)


@app.command(epilog="Examples: [bold]app-usage rollback[/] · [bold]app-usage rollback 00000041[/]")
def rollback(
    generation: Annotated[str | None, typer.Argument(help="Where to [dim](default: the one before)[/].")] = None,
) -> None:
    """Give the product an earlier generation back, in one transaction; `publish --accept` goes on from there."""
    from ingestion.publish import rollback as roll_back

    with _flow(_settings(None, None, None), None, "rollback") as flow:
        shown = roll_back(flow.product_url, generation)
        out.print(f"The product shows generation {shown}; nothing is published until `app-usage publish --accept`")


@app.command(epilog="Examples: [bold]app-usage forget acme[/] · [bold]app-usage forget acme --yes[/]")
def forget(
    org: Annotated[str, typer.Argument(help="The customer's org_id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete it, and build all models anew.")] = False,
    target: Target = None,
    now: Now = None,
    connections: Connections = None,
) -> None:
    """Delete all that was read, computed and published of a customer that is none any more."""
    with _flow(_settings(target, now, connections), None, "forget", is_reading=not yes) as flow:
        found = flow.held(org)
        for place, tables in (("warehouse", found.warehouse), ("product", found.product)):
            for table, rows in tables.items():
                out.print(f"{rows:>12,}  {place}: {escape(table)}", highlight=False)
        if not found.rows:
            out.print(f"there is nothing of {escape(repr(org))}", highlight=False)
        elif not yes:
            out.print(
                f"app-usage forget {escape(org)} --yes deletes these rows, and builds all models anew from the rest",
                highlight=False,
                soft_wrap=True,
            )
        else:
            raise typer.Exit(_once(flow, "forget", org=org))


@app.command(epilog="Example: [bold]PRODUCT_DB_URL=postgresql://owner@… app-usage migrate[/]")
def migrate() -> None:
    """Make the schemas and roles in the product database, as a user who may. Safe to run again."""
    from ingestion.publish import migrate as migrate_product

    with _flow(_settings(None, None, None), None, "migrate") as flow:
        migrate_product(flow.product_url)
        out.print("The schemas and roles are there; the user that publishes needs the role app_usage_publisher")


@app.command(epilog="Examples: [bold]app-usage status[/] · [bold]app-usage status --json | jq .streams[/]")
def status(
    target: Target = None,
    limit: Annotated[
        str | None,
        typer.Option(
            "--limit",
            envvar="APP_USAGE_LAG_LIMIT",
            help="Exit with 4 if the last publish was longer ago, e.g. 30m [dim](default: no limit)[/].",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """How far every stream is complete, what failed, is missing or was rejected, and what the product shows."""
    from dataclasses import asdict

    from ingestion.connectors.product import ProductError, read_customers
    from ingestion.flow import Lock, LockedError, prepared
    from ingestion.publish import status as status_of_product
    from ingestion.status import gaps, streams

    settings = _settings(target, None, None)
    oldest = _seconds(limit, "--limit") if limit else None
    found, missing, unlisted, gone = [], [], set(), set()
    locked: LockedError | None = None
    with _failures(), prepared(settings, None) as flow:
        shown = status_of_product(flow.product_url)
        # a publish that found nothing to change makes no generation, and proves that the newest one still is right
        published_at = max((at for at in (shown.published_at, flow.proven_at) if at), default=None)
        with suppress(ProductError):  # of whom to read is the product's to say, and what was read is there to see
            gone = shown.complete_through.keys() - read_customers(flow.product_url)
        try:
            with Lock(settings, "status", is_reading=True):
                found = streams(flow.warehouse)
                missing = gaps(flow.warehouse, settings.warehouse["schema"], found)
                if flow.connections:  # none of the sandbox, which is not there
                    listed = {connection.connection_id for connection in flow.connections}
                    ended = {stream.connection_id for stream in found if stream.ended_on}
                    unlisted = {stream.connection_id for stream in found} - ended - listed
        except LockedError as error:
            locked = error
            err.print(f"[yellow]The streams are not shown: {escape(str(error))}[/]", highlight=False, soft_wrap=True)
    if as_json:
        document = {
            "streams": None if locked else [asdict(s) for s in found],
            "gaps": None if locked else [asdict(gap) for gap in missing],
            "locked": locked and str(locked),
            "published": asdict(shown) | {"proven_at": published_at, "gone_customers": sorted(gone)},
        }
        print(json.dumps(document, default=_as_json, indent=2))
    else:
        print_status(found, missing, shown, settings.now, sorted(unlisted), gone)
    if oldest is not None and (published_at is None or (settings.now - published_at).total_seconds() > oldest):
        err.print(f"[bold red]The last publish was more than {limit} ago[/]")
        raise typer.Exit(Exit.TOO_OLD)


def _as_json(value: object) -> str:
    """The warehouse's instants are UTC without saying so; to a program they say so."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return str(value)


@sandbox_app.command(epilog="Example: [bold]app-usage sandbox serve --write .dlt[/]")
@_with_sandbox
def serve(
    options: Options,
    now: Now = None,
    write: Annotated[
        Path | None, typer.Option(help="Folder for connections.toml and secrets.toml that point here.")
    ] = None,
    port: Annotated[int, typer.Option(help="First port; each vendor takes the next. 0: any free ones.")] = 0,
) -> None:
    """Serve the vendors' APIs until interrupted, and fill the product database's input tables."""
    from ingestion.flow import fill_product, product_database
    from ingestion.sandbox import OptionsError, Sandbox
    from ingestion.sandbox import serve as serve_sandbox

    settings = _settings(None, now, None)

    def ready(sandbox: Sandbox) -> None:
        for table, done in fill_product(sandbox, product_database(settings)).items():
            out.print(f"public.{table}: {done}", highlight=False)
        for connection in sandbox.connections():
            out.print(f"{connection['connection_id']} at {connection['base_url']}", highlight=False)
        out.print("Serving. Ctrl-C ends it." + (escape(f" {write}/connections.toml leads here.") if write else ""))

    with _failures(OptionsError):
        serve_sandbox(options, settings.now if settings.is_now_given else None, port=port, write=write, ready=ready)


@sandbox_app.command(epilog="Example: [bold]app-usage sandbox truth --now 2026-01-31T12:00:00Z > truth.jsonl[/]")
@_with_sandbox
def truth(
    options: Options,
    now: Now = None,
) -> None:
    """Print what really happened, one JSON object a line."""
    from ingestion.sandbox import OptionsError, Sandbox

    settings = _settings(None, now, None)
    with _failures(OptionsError), Sandbox(options, now=settings.now) as sandbox:
        sys.stdout.writelines(f"{line}\n" for line in sandbox.truth().to_jsonl())


# ---- running


@contextmanager
def _flow(settings: Settings, options: Options | None, command: str, *, is_reading: bool = False) -> Iterator[Flow]:
    from ingestion.flow import Lock, prepared

    with _failures(), Lock(settings, command, is_reading=is_reading), prepared(settings, options) as flow:
        yield flow


@contextmanager
def _failures(*unusable: type[Exception]) -> Iterator[None]:
    """What cannot be done ends with a plain message; with 2 where settings are at fault, or arguments `unusable`."""
    from ingestion.connections import ConnectionsError
    from ingestion.flow import FlowErrors

    usage: tuple[type[Exception], ...] = (ConfigError, ConnectionsError, *unusable)
    try:
        yield
    except usage as error:
        _fail(error, code=2)
    except FlowErrors as error:
        _fail(error)


def _once(flow: Flow, command: str, **arguments: Any) -> Exit:
    """One run of a command, told as it goes; its exit code."""
    from ingestion.flow import FlowErrors, Summary

    summary = Summary()
    code = Exit.DONE
    with shown_progress() as progress:
        try:
            getattr(flow, command)(summary, progress, **arguments)
        except FlowErrors as error:
            progress.step("")
            _tell(error)
            code = Exit.FAILED
    print_summary(flow, summary)
    if code is Exit.DONE and summary.extracted is not None and summary.extracted.failures:
        code = Exit.SOME_CONNECTIONS_FAILED
    return code


# ---- arguments


def _settings(target: str | None, now: str | None, connections: Path | None) -> Settings:
    try:
        settings = Settings.load(target=target, now=now, connections=connections)
        settings.warehouse  # noqa: B018 - a target that there is not is told before anything starts
    except ConfigError as error:
        _fail(error, code=2)
    return settings


def _seconds(text: str, option: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text)
    if not match:
        raise typer.BadParameter(f"{option} {text!r} is no time such as 90s, 5m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _fail(error: Exception, code: int = Exit.FAILED) -> NoReturn:
    _tell(error)
    raise typer.Exit(code)


def _tell(error: Exception) -> None:
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"cannot use {error.filename or 'a file'}: {error.strerror}. When that is mended, run again"
    err.print(f"[bold red]failed:[/] {escape(said)}", highlight=False, soft_wrap=True)
