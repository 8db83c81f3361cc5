"""What the command line shows: progress while it works, a summary when it has, and the state of things."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table

if TYPE_CHECKING:  # dlt and dbt take a second to import: `--help` does without
    from ingestion.flow import Flow, Progress, Summary
    from ingestion.publish import Canary, Generation, Status
    from ingestion.status import Gap, StreamStatus

# So many columns show a table of `status` whole; the usual 80 do not.
WIDE = 100
CHOSEN_NAMED = 10
ERRORS_SHOWN = 5

# what is shown is data, and `:100:` in it no picture
out, err = Console(emoji=False), Console(stderr=True, emoji=False)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Bars on a terminal; lines of text where there is none."""
    from ingestion.flow import Progress

    if not out.is_terminal:
        yield Progress(step=lambda name: print(f"{datetime.now(UTC):%H:%M:%S} {name} …", flush=True) if name else None)
        return
    what = TextColumn("{task.fields[what]}", markup=False)
    columns = (SpinnerColumn(), TextColumn("{task.description:9}"), BarColumn(), what)
    with Bars(*columns, TimeElapsedColumn(), console=out, transient=True) as bars:
        tasks: dict[str, Any] = {}
        rows: dict[str, int] = {}
        lock = threading.Lock()

        def step(name: str) -> None:
            for task in tasks.values():
                bars.update(task, total=1, completed=1)
            if name:
                tasks[name] = bars.add_task(name, total=None, what="")

        def count(connector: str, more: int) -> None:
            with lock:
                rows[connector] = rows.get(connector, 0) + more
                what = ", ".join(f"{name} {number:,}" for name, number in sorted(rows.items()))
            bars.update(tasks["extract"], what=what)

        def node(kind: str, name: str) -> None:
            bars.update(tasks["build"], what=f"{kind} {name}")

        yield Progress(step=step, rows=count, node=node)


def print_summary(flow: Flow, summary: Summary) -> None:
    extracted, generation = summary.extracted, summary.generation
    if extracted is not None:
        table = Table("connector", "new rows", title="Extracted", title_justify="left", box=None)
        for connector, rows in sorted(extracted.rows.items()):
            table.add_row(connector, f"{rows:,}")
        table.columns[1].justify = "right"
        out.print(table, "", sep="\n")
        for (connection, stream), error in sorted(extracted.failures.items()):
            err.print(f"[yellow]{escape(f'{connection}, {stream}: {error}')}[/]", highlight=False, soft_wrap=True)
        for connection, stream in extracted.stragglers:
            told = f"{connection}, {stream}: still being read, and nothing waits for it"
            out.print(f"[dim]{escape(told)}[/]", highlight=False, soft_wrap=True)
    if summary.is_built_before:
        out.print("[bold]Built[/] nothing: no new loads, no changed model", highlight=False)
    if summary.built is not None:
        built = summary.built
        out.print(f"[bold]Built[/] {len(built.seconds)} models, {built.tests} tests passed", highlight=False)
        if summary.is_part_built:
            out.print("Only a part was built: before anything is published, `app-usage build` has to build all")
        for warning in built.warnings:
            err.print(f"[yellow]{escape(warning)}[/]", highlight=False, soft_wrap=True)
    if generation is not None:
        _print_generation(generation)
    seconds = " · ".join(f"{step} {value:.1f} s" for step, value in summary.seconds.items())
    out.print(f"\n[dim]{seconds}[/]", highlight=False)
    if generation is not None:
        _print_next_steps(flow)


def _print_generation(generation: Generation) -> None:
    if generation.repaired:
        err.print(f"[yellow]repaired: {escape(generation.repaired)}[/]", highlight=False, soft_wrap=True)
    if generation.left:
        _print_left(err, generation.left)
    for canary in generation.canaries:
        _print_canary(canary, is_of_all=len(canary.tables) == len(generation.tables))
    if not generation.changed:
        out.print(f"[bold]Published[/] nothing new: generation {generation.generation_id} stands", highlight=False)
        return
    table = Table("table", "rows", "written", "deleted", title=f"Published, generation {generation.generation_id}")
    table.title_justify, table.box = "left", None
    for result in generation.tables:
        table.add_row(result.name, f"{result.rows:,}", f"{result.upserted:,}", f"{result.deleted:,}")
    for column in table.columns[1:]:
        column.justify = "right"
    out.print("", table, sep="\n")


def _print_canary(canary: Canary, *, is_of_all: bool) -> None:
    of = "" if is_of_all else f" for {', '.join(canary.tables)}"
    what, count = f"a canary of {canary.percent} %{of}", f"{canary.customers:,} customers"
    if not canary.chosen:
        told = f"{what} chose none of the {count}, and nobody gets anything new: {canary.least} % are enough for one"
        err.print(f"[yellow]{told}[/]", highlight=False, soft_wrap=True)
        return
    who = f" ({escape(', '.join(canary.chosen))})" if len(canary.chosen) <= CHOSEN_NAMED else ""
    told = f"{what} chose {len(canary.chosen):,} of {count}{who}; the others keep the rows that they have"
    out.print(f"{told[0].upper()}{told[1:]}", highlight=False, soft_wrap=True)


def _print_left(to: Console, names: Iterable[str]) -> None:
    """One line of the tables that no model publishes any more."""
    listed = ", ".join(f"app_usage.{name}" for name in names)
    told = f"no model publishes {listed} any more, so the rows grow old: `drop table {listed}` once nobody reads them"
    to.print(f"[yellow]{told}[/]", highlight=False, soft_wrap=True)


def print_lost(to: Console, told: Iterable[str]) -> None:
    for each in told:
        to.print(f"[bold red]{escape(each)}:[/] app-usage publish puts it back", highlight=False, soft_wrap=True)


def _print_next_steps(flow: Flow) -> None:
    from ingestion.postgres import PrivatePostgres

    private = PrivatePostgres(flow.settings.home / "postgres")
    is_private = str(private.socket_folder) in flow.product_url.replace("%2F", "/")
    lines = ["app-usage status", "uv run dbt docs generate && uv run dbt docs serve"]
    if is_private:
        lines.append(f'{private.psql("product")} -c "select * from app_usage.user_app_usage limit 10"')
    out.print("\n[bold]Look further[/]", *map(escape, lines), sep="\n  ", highlight=False, soft_wrap=True)


def print_status(
    found: list[StreamStatus],
    missing: list[Gap],
    shown: Status,
    now: datetime,
    unlisted: Collection[str] = (),
    gone: Collection[str] = (),
) -> None:
    """`unlisted`: connections that were read once, and that the connections file has no more; `gone`: customers that
    are published, and that the product has no more.
    """
    is_narrow = out.width < WIDE
    fetched = "%m-%d %H:%M" if is_narrow else "%Y-%m-%d %H:%M"
    # an id is there to be copied: the stream beside it is cropped, by what all the others need
    ids = max((len(s.connection_id) for s in found), default=0)
    stream = Column("stream", max_width=max(out.width - ids - (39 if is_narrow else 44), 8))
    table = _lines("connection", stream, "last fetch", "complete through", "rejected")
    for s in found:
        outcome = "[red]failed[/]" if s.outcome == "failed" else f"{s.fetched_at:{fetched}}"
        outcome = "reading" if s.outcome == "reading" else outcome
        outcome = f"ended {s.ended_on:%Y-%m-%d}" if s.ended_on else outcome
        through = f"{s.complete_through:%Y-%m-%d %H:%M}" if s.complete_through else "[red]never[/]"
        table.add_row(s.connection_id, s.stream, outcome, through, str(s.rejected or ""))
    if found:
        out.print(table)
    for s in found:
        more = len(s.errors) - ERRORS_SHOWN
        told = [("", error) for error in s.errors[:ERRORS_SHOWN]]
        if more > 0:
            told.append(("", f"and {more:,} errors more, which `app-usage status --json` shows"))
        if s.reason:
            told.append((", most rejected records", s.reason))
        for of, error in told:
            line = f"[red]{s.connection_id}, {s.stream}{of}:[/] {escape(error)}"
            out.print(line, highlight=False, soft_wrap=True)
    if unlisted:
        line = f"no more in the connections file: {', '.join(unlisted)}: what is gone for good is listed with ended_on,"
        out.print(f"[yellow]{line} else usage is unknown for ever[/]", highlight=False, soft_wrap=True)
    if missing:
        _print_gaps(missing)
    if shown.generation_id is None or shown.published_at is None:
        out.print("\nNothing was published yet: app-usage run")
        return
    out.print(
        f"\n[bold]Published[/] generation {shown.generation_id} at {shown.published_at:%Y-%m-%d %H:%M} UTC"
        + (f"; [red]held: {escape(shown.held)}[/]" if shown.held else ""),
        highlight=False,
    )
    tables = _lines("table", "generation", "last change", "rows", "rejected", "shards", *([] if is_narrow else ["age"]))
    for t in shown.tables:
        changed = f"{t.changed_at:%Y-%m-%d %H:%M}" if t.changed_at else ""
        age = f"{max(0, (now - t.changed_at).total_seconds()) / 3600:,.1f} h" if t.changed_at else ""
        share = "[yellow]no model[/]" if t.is_left else f"{t.percent} %"
        row = t.name, t.generation_id, changed, f"{t.rows:,}", str(t.rejected or ""), share, age
        tables.add_row(*row[: len(tables.columns)])
    out.print(tables)
    print_lost(out, shown.unguarded)
    if left := [t.name for t in shown.tables if t.is_left]:
        _print_left(out, left)
    for t in shown.tables:
        for reason in t.reasons:
            out.print(f"[red]rejected by {t.name}:[/] {escape(reason)}", highlight=False)
    orgs = Table("customer", "complete through", box=None)
    for org, day in shown.complete_through.items():
        orgs.add_row(escape(org), f"{day}" if day else "[red]never[/]")
    out.print("", orgs, sep="\n")
    for org in sorted(gone):
        line = f"the product no longer lists {org}, which stays published: app-usage forget {quote(org)}"
        out.print(f"[yellow]{escape(line)}[/]", highlight=False, soft_wrap=True)


def _print_gaps(missing: list[Gap]) -> None:
    advised: dict[str, dict[str, None]] = {}
    gaps, whole = _lines("connection", "stream", "missing days", ""), _lines("connection", "stream", "missing days", "")
    whole.add_column("what to do", no_wrap=True)
    for gap in missing:
        days = f"{gap.first_date}" if gap.first_date == gap.last_date else f"{gap.first_date} to {gap.last_date}"
        row = gap.connection_id, gap.stream, days, f"[red]{gap.state}[/]" if gap.state == "lost" else gap.state
        gaps.add_row(*row)
        whole.add_row(*row, escape(gap.advice))
        advised.setdefault(gap.advice, {})[gap.connection_id] = None
    if out.measure(whole, options=out.options.update(width=1000)).maximum <= out.width:
        out.print("", whole, sep="\n")
        return
    out.print("", gaps, sep="\n")
    for advice, connections in advised.items():
        out.print(escape(f"{', '.join(connections)}: {advice}"), highlight=False, soft_wrap=True)


def _lines(*columns: str | Column) -> Table:
    """A table of which a row is a line, however narrow the terminal is."""
    listed = [Column(column) if isinstance(column, str) else column for column in columns]
    for column in listed:
        column.no_wrap = True
    return Table(*listed, box=None, padding=(0, 1, 0, 0), pad_edge=False)
