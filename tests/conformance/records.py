"""Makes records that a stream's declaration can read: every declared path filled, keys unique, times where they belong.

Values that are no key repeat on purpose (`actor_email-0`, `actor_email-1`), and so do the parts of a key of several
paths: an id that is taken from too little collides here as it would at the vendor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ingestion.connector import Column, Stream
from tests.conformance.oddities import TIME_ZONE

ELEMENTS = 2  # of an exploded list

_STEP = re.compile(r'\."([^"]*)"|\.([^.\["]+)|\[(\d+)\]|\[\'([^\']*)\'\]')
_WHERE_EQUAL = re.compile(
    r"json_extract\((payload|item), '([^']*)\[\*\]'\), lambda e: json_extract_string\(e, '\$\.([^']*)'\) = '([^']*)'\)"
    r"\[1\], '\$\.([^']*)'"
)
_PATH = re.compile(r"(payload|item)\s*(?:->>?|,)\s*'(\$[^'*]*)'")


def put(document: Any, path: str, value: Any) -> None:
    """Set a JSON path such as `$.a."b.c"[0].d`; what is in the way and no container is replaced."""
    steps = _steps(path)
    if not steps:
        raise ValueError(f"{path!r} is no path that the kit can fill")
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            document.extend({} for _ in range(step + 1 - len(document)))
        if following is None:
            if not (_has(document, step) and isinstance(document[step], dict | list) and document[step]):
                document[step] = value
            return
        empty: Any = [] if isinstance(following, int) else {}
        if not _has(document, step) or not isinstance(document[step], type(empty)) or document[step] == {}:
            document[step] = empty
        document = document[step]


def remove(document: Any, path: str) -> None:
    """Take away what is at a JSON path."""
    *outer, last = _steps(path)
    for step in outer:
        document = document[step]
    document.pop(last)


def get(document: Any, path: str) -> Any:
    """What is at a JSON path, if anything."""
    for step in _steps(path):
        document = document[step] if _has(document, step) else None
    return document


def _steps(path: str) -> list[str | int]:
    return [
        int(number) if number else quoted or name or bracket for quoted, name, number, bracket in _STEP.findall(path)
    ]


def _has(document: Any, step: str | int) -> bool:
    return step in document if isinstance(document, dict) else isinstance(step, int) and step < len(document)


def iso(instant: datetime) -> str:
    """RFC 3339 in UTC, with as many fractional digits as it takes."""
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".") + "Z"


def time_value(column: Column, instant: datetime) -> Any:
    """An instant as the declared format has it."""
    if column.format == "iso":
        return iso(instant)
    if column.format == "naive":
        return instant.astimezone(TIME_ZONE).strftime("%Y-%m-%d %H:%M:%S")
    scale = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}[column.format]
    value = instant.timestamp() * scale
    return int(value) if value == int(value) else value


def paths_of(column: Column) -> list[str]:
    """Where in the record, or its element, a column's value may come from; none where a list is searched for it."""
    if not column.sql:
        return [column.path]
    return [] if "[*]" in column.sql else [path for _, path in _PATH.findall(column.sql)]


def is_map(stream: Stream) -> bool:
    """Whether the vendor sends a map of the records: they are read as `id` and `value`, and nothing else."""
    paths = [*stream.key.paths, *(column.path for column in stream.columns if not column.sql and column.of == "record")]
    shown = [path for path in paths if path.startswith("$")]
    return any(p.startswith("$.value.") for p in shown) and all(p == "$.id" or p.startswith("$.value.") for p in shown)


@dataclass(frozen=True)
class RecordMaker:
    """Records of one stream. `more` are paths and values that no declaration can tell."""

    stream: Stream
    more: Mapping[str, Any]

    @property
    def distinguishing(self) -> list[str]:
        """The paths of the key that can make two records of the same time differ."""
        columns = {column.path: column for column in self._columns() if column.of == "record" and not column.sql}
        kinds = {path: columns[path].type if path in columns else "text" for path in self.stream.key.paths}
        outer = {path for path in kinds for other in columns if other.startswith((f"{path}.", f"{path}["))}
        return [
            path
            for path, kind in kinds.items()
            if path.startswith(("$", "item ")) and kind in ("text", "bigint") and path not in outer
        ]

    def record(self, number: int, at: datetime, *, alike: bool = False) -> dict[str, Any]:
        """The `number`-th record. Those made `alike` have the same key, apart from the time."""
        document: dict[str, Any] = {}
        elements: list[dict[str, Any]] = [{} for _ in range(ELEMENTS)] if self.stream.explode else []
        for column in self._columns():
            targets = elements if self._is_in_element(column) else [document]
            for target in targets:
                for path, value in self._values(column, number, at):
                    put(target, path, value)
        self._put_key(document, elements, 0 if alike else number)
        if elements:
            put(document, self.stream.explode, elements)
        for path, value in self.more.items():
            put(document, path, value)
        put(document, "$.value.kit" if is_map(self.stream) else "$.kit", f"r{0 if alike else number}")
        return document

    @property
    def _choices(self) -> list[tuple[str, str]]:
        """The elements that some column picks out of a list, by the list's path and the value that it looks for."""
        found = [(path, wanted) for c in self._columns() for _, path, _, wanted, _ in _WHERE_EQUAL.findall(c.sql)]
        return list(dict.fromkeys(found))

    def _columns(self) -> list[Column]:
        head = [self.stream.occurred_at] if self.stream.occurred_at else []
        columns = [column for column in [*self.stream.columns, *head] if column.of != "parent"]
        return sorted(columns, key=lambda column: column.type != "text")  # a typed column of the same path wins

    def _is_in_element(self, column: Column) -> bool:
        return bool(self.stream.explode) and (column.of == "item" or "item" in re.findall(r"\bitem\b", column.sql))

    def _values(self, column: Column, number: int, at: datetime) -> Iterable[tuple[str, Any]]:
        value: Any = {
            "text": f"{column.name}-{number % 2}",
            "bigint": number % 2,
            "double": number % 2 + 0.5,
            "bool": number % 2 == 0,
            "timestamp": time_value(column, at),
        }[column.type]
        if not column.sql:
            return [(column.path, value)]
        chosen = []
        for _, source, field, wanted, take in _WHERE_EQUAL.findall(column.sql):
            here = f"{source}[{self._choices.index((source, wanted))}]"
            chosen += [(f"{here}.{field}", wanted), (f"{here}.{take}", value)]
        return chosen or [(path, value) for _, path in _PATH.findall(column.sql)]

    def _put_key(self, document: dict[str, Any], elements: list[dict[str, Any]], number: int) -> None:
        columns = {column.path: column for column in self._columns() if column.of == "record"}
        paths = self.distinguishing
        for place, path in enumerate(paths):
            is_last = place == len(paths) - 1
            part = number >> place if is_last else number >> place & 1
            if path.startswith("item "):
                for which, element in enumerate(elements):
                    put(element, path.removeprefix("item "), f"{path.rsplit('.', 1)[-1]}-{part}-{which}")
                continue
            is_number = path in columns and columns[path].type == "bigint"
            put(document, path, part if is_number else f"{path.rsplit('.', 1)[-1]}-{part}")
