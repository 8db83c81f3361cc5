"""Reads event files: a folder of S3, GCS or this machine, each file in it once.

Which files were read is told by a landing table, `files`, and by no cursor: files list late, come back under other
names and change, and dlt's state must not grow with them. A file is brought here whole before it is read: so it is
known by its content, is as it was at one moment, and no slow load holds a connection open. It is read a block at a
time, whatever its size.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import IO, Any, cast
from urllib.parse import unquote, urlsplit

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from ingestion.connections import Connection, ConnectionsError
from ingestion.connector import Connector
from ingestion.connectors.files import Place, mapped, place
from ingestion.fetch import BATCH_BYTES, BATCH_RECORDS, Fetch, Marked, Reader
from ingestion.http import FetchError, Record, Unreadable, checked
from ingestion.loads import Reading
from ingestion.records import LONGEST_RECORD, RecordTyper, from_rows, within

BLOCK = 16 * 1024 * 1024  # bytes of text that are typed at once: of usual events about BATCH_RECORDS
LONGEST_LINE = 8 * LONGEST_RECORD  # what is longer is cut: it is rejected anyway, but has to be held until it ends
IN_MEMORY = 16 * 1024 * 1024  # bytes of a file; a larger one waits on the disk
AHEAD = 4  # files that are brought while one is read: most are small, and each costs a round trip
SETTLED = timedelta(seconds=2)  # stores tell versions apart by the second; a younger file may still change unseen
CHUNK = 64 * 1024  # bytes; so much of what is before a damage is lost with it
STORE_TIMEOUT = timedelta(minutes=2)  # with a store that does not answer; the library's own is 15
MOST_FAILURES = 3  # files in a row that cannot be fetched: then it is the store that fails, and not a file

FILES = pa.schema(
    [
        ("connection_id", pa.string()),
        ("org_id", pa.string()),
        ("stream", pa.string()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("modified_at", pa.timestamp("us")),
        ("content_hash", pa.string()),
        ("outcome", pa.string()),
        ("row_count", pa.int64()),
        ("rejected_count", pa.int64()),
        ("error", pa.string()),
        ("fetched_at", pa.timestamp("us")),
    ]
)

_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PARQUET = b"PAR1"
_OPENING = re.compile(r"[ \t\r\n]*(\{)")
_DECODER = json.JSONDecoder()
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Span = tuple[datetime, datetime]


class _DamagedError(Exception):
    """A file cannot be read to its end; the message says why."""


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    modified_at: datetime
    version: str


@dataclass
class _Coverage:
    """The spans of time that files hold all events of, how far these go, and what corrupt files may be of, by path."""

    spans: list[Span] = field(default_factory=list)
    gaps: dict[str, Span] = field(default_factory=dict)
    through: datetime | None = None

    def add(self, start: datetime, end: datetime) -> None:
        if start < end:
            self.spans.append((start, end))


@dataclass
class _History:
    """What has been read: the newest version of each path, and every content that was loaded."""

    versions: dict[str, str] = field(default_factory=dict)
    modified_at: dict[str, datetime] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)
    begins_at: datetime | None = None  # when the first file came

    def add(self, path: str, version: str, modified_at: datetime, content_hash: str, outcome: str) -> None:
        self.versions[path], self.modified_at[path] = version, modified_at
        self.begins_at = min(self.begins_at or modified_at, modified_at)
        if outcome == "corrupt":
            self.corrupt.add(path)
        else:
            self.corrupt.discard(path)
            self.contents.add(content_hash)

    def coverage(self, begin: datetime | None, lag: timedelta, until: datetime | None) -> _Coverage:
        """What time the files hold all events of. From `until` on there are files that are not read yet.

        A file holds events from the file before it, less the lag, until its own time.
        """
        covered = _Coverage()
        if self.begins_at is None:
            return covered
        begin = end = begin or self.begins_at - lag
        for path, modified_at in sorted(self.modified_at.items(), key=lambda item: (item[1], item[0])):
            if until is not None and modified_at >= until:
                break
            if path in self.corrupt:
                covered.add(begin, end)
                covered.gaps[path] = end, modified_at
                begin = end = modified_at
            else:
                end = max(end, modified_at - lag)
                covered.through = modified_at - lag
        covered.add(begin, end)
        return covered


def file_readings(
    connector: Connector,
    connections: Iterable[Connection],
    fetch: Fetch,
    states: Mapping[str, Any],
    pool: ThreadPoolExecutor,
    only: Collection[tuple[str, str]] = (),
) -> list[Reading]:
    """A reading of each stream that a connection has files of, as `readings` gives them of those of its API.

    A backfill leaves files alone: those that are there are read, whatever their time. A replay of what an API and
    files brought is the API's.
    """
    found: list[Reading] = []
    for connection in connections if fetch.span is None else ():
        beside = {} if fetch.is_replay or connection.has_ended(fetch.now) else connection.settings.get("files", {})
        if not isinstance(beside, Mapping):
            error = f'connection {connection.connection_id!r}: files must be a table of stream = "s3://…"'
            fetch.outcomes[connection.connection_id, "files"] = error
            beside = {}
        for name in set(beside) - {stream.name for stream in connector.streams}:
            error = f"connection {connection.connection_id!r}: files of {name!r}, no stream of {connector.name}"
            fetch.outcomes[connection.connection_id, name + FileReader.suffix] = error
        found += [
            Reading(connector, connection, stream, fetch, states, pool, FileReader)
            for stream in connector.streams
            if not stream.path or stream.name in beside
            if not only or (connection.connection_id, stream.name + FileReader.suffix) in only
        ]
    return found


class FileReader(Reader):
    """Reads a stream from the files that a connection has of it."""

    suffix = ":files"
    _place: Place | None = None
    _unread_from: datetime | None = None  # when the first file came that is not read yet
    _file: _File

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._history = _History()
        self._damaged: set[str] = set()  # of what this load reads

    def rows(self) -> Iterator[Any]:
        """The rows of every file that is new, a row of `files` for each, and what is complete by them."""
        self._place = where = place(self._connection, self._stream)
        self.secrets = [where.secret_access_key or ""]
        self._stream = mapped(self._connection, self._stream)
        self._typer.close()
        self._typer = RecordTyper(self._stream, self._connection, self._fetch.now)
        yield from super().rows()
        self._fetch.damaged[self._key] |= self._damaged  # this load's, to those of the loads before
        self._fetch.outcomes[self._key] = _told(self._fetch.damaged[self._key])

    def _new(self) -> Iterator[Any]:
        where = cast(Place, self._place)
        self._remember()
        store, folder = _store(where)
        files = [file for file in self._entries(store, folder) if self._history.versions.get(file.path) != file.version]
        files.sort(key=lambda file: (file.modified_at, file.path))
        self._unread_from = files[0].modified_at if files else None
        failures: list[str] = []
        in_a_row, totals = 0, [0, 0]
        for number, (file, content) in enumerate(_brought(store, files), 1):
            if isinstance(content, _Content):
                in_a_row = 0
                yield from self._read(file, content, where.record)
                totals = [total + count for total, count in zip(totals, self._counts, strict=True)]
                self._damaged |= {file.path} & self._history.corrupt
            elif not isinstance(content, FileNotFoundError):  # which went while others were read
                in_a_row += 1
                failures.append(f"{file.path}: {_reason(content)}")
            if not failures:
                self._unread_from = files[number].modified_at if number < len(files) else None
            if in_a_row == MOST_FAILURES:
                break
            if self._fetch.budget <= 0 and number < len(files):
                self._fetch.unfinished.add(self._key)
                break
        self._counts = totals
        if failures:
            raise FetchError(f"cannot read {len(failures)} of {len(files)} new files, the first {failures[0]}")
        if self._has_landed or "has_read" not in self._state or "has_failed" in self._state:
            yield from self._completeness()
            self._state["has_read"] = True

    def _remember(self) -> None:
        rows = self._fetch.landing.known_files(self._stream, self._connection.connection_id)
        if rows is not None:
            path, version, modified_at, content_hash, outcome = (column.to_pylist() for column in rows.columns)
            instants = (instant.replace(tzinfo=UTC) for instant in modified_at)
            for file in zip(path, version, instants, content_hash, outcome, strict=True):
                self._history.add(*file)

    def _entries(self, store: fs.FileSystem, folder: str) -> Iterator[_File]:
        """The files under the folder but markers and work in progress."""
        bucket, _, prefix = folder.partition("/")
        try:
            # a prefix of a bucket comes into being with its first file, a folder has to be there
            may_be_missing = bool(bucket and prefix)
            if may_be_missing and store.get_file_info(bucket).type == fs.FileType.NotFound:
                raise FileNotFoundError(f"there is no bucket {bucket}")
            entries = store.get_file_info(fs.FileSelector(folder, may_be_missing, recursive=True))
        except OSError as error:
            raise FetchError(f"cannot list {folder}: {_reason(error)}") from error
        for entry in entries:
            parts = entry.path[len(folder) :].strip("/").split("/")
            if entry.type == fs.FileType.File and not any(part.startswith((".", "_")) for part in parts):
                is_settled = entry.mtime < self._fetch.now - SETTLED
                version = f"{entry.mtime_ns}-{entry.size}{'' if is_settled else '-fresh'}"
                yield _File(entry.path, entry.size, entry.mtime, version)

    def _read(self, file: _File, content: _Content, record: str) -> Iterator[Any]:
        """The rows of a file and its row of `files`. What can be read before a damage lands: it happened."""
        self._counts, self._file = [0, 0], file
        outcome, error = "repeated", None
        with content.bytes:
            if content.hash not in self._history.contents:
                outcome = "loaded"
                self._typer.new_window(None, None)  # identical records are counted within a file
                self._typer.tick()  # of two copies of an event the later file's is the latest
                try:
                    for batch in _batches(content.bytes):
                        yield from self._typed(within(batch, record) if record else batch, {}, ahead=True)
                except _DamagedError as damage:
                    outcome, error = "corrupt", str(damage)
                yield from self._typed([], {})
        self._history.add(file.path, file.version, file.modified_at, content.hash, outcome)
        row = {
            "connection_id": self._connection.connection_id,
            "org_id": self._connection.org_id,
            "stream": self._stream.name,
            "path": file.path,
            "size": file.size,
            "version": file.version,
            "modified_at": file.modified_at.replace(tzinfo=None),
            "content_hash": content.hash,
            "outcome": outcome,
            "row_count": self._counts[0],
            "rejected_count": self._counts[1],
            "error": error,
            "fetched_at": self._fetch.now.replace(tzinfo=None),
        }
        self._has_landed = True
        yield Marked(pa.Table.from_pylist([row], FILES), "files")

    def _reject(self, rows: pa.Table) -> Iterator[Any]:
        position = rows.schema.get_field_index("reason")
        reasons = pc.binary_join_element_wise(rows["reason"], self._file.path, ", in ")
        yield from super()._reject(rows.set_column(position, "reason", reasons))

    # ---- how complete the files are

    def _completeness(self) -> Iterator[Any]:
        """What was read, and what time is complete by it. Of a vendor's own stream the API says so, unless told."""
        covered = self._coverage()
        error = _told(self._history.corrupt)
        spans: list[Span | None] = [*covered.spans]
        if not spans and not self._stream.path:
            spans = [None]
        for span in spans:
            yield self._log("complete", window=span, error=error, complete_through=covered.through)
            self._counts = [0, 0]
        for path in sorted(self._damaged & covered.gaps.keys()):
            gap = covered.gaps[path]
            yield self._log("gap", window=gap, error=f"{path} is corrupt", complete_through=covered.through)
        self._state.pop("has_failed", None)

    def _coverage(self) -> _Coverage:
        where = self._place
        if where is None:
            return _Coverage()
        if not self._stream.path:
            return self._history.coverage(where.complete_from, where.lag, self._unread_from)
        if where.complete_from and where.complete_to and not self._history.corrupt and not self._unread_from:
            return _Coverage([(where.complete_from, where.complete_to)], through=where.complete_to)
        return _Coverage()

    def _complete_through(self) -> datetime | None:
        return self._coverage().through


def _told(corrupt: set[str]) -> str | None:
    return f"{len(corrupt)} corrupt files, such as {max(corrupt)}: see the table files" if corrupt else None


# ---- where files are


@dataclass(frozen=True)
class _Content:
    """A file's bytes, brought here, and their hash."""

    bytes: IO[bytes]
    hash: str


def _store(place: Place) -> tuple[fs.FileSystem, str]:
    """The file system of a place, and the folder in it."""
    url = urlsplit(place.url)
    if url.scheme in ("", "file"):
        return fs.LocalFileSystem(), os.path.abspath(unquote(url.path) if url.scheme else place.url)
    endpoint = urlsplit(place.endpoint_url or "")
    told: dict[str, Any] = {"anonymous": place.is_anonymous}
    if place.endpoint_url:
        told |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
    folder = unquote(url.netloc + url.path).strip("/")
    try:
        if url.scheme == "s3":
            region = place.region or ("us-east-1" if place.endpoint_url else fs.resolve_s3_region(url.netloc))
            keys = {"access_key": place.access_key_id, "secret_key": place.secret_access_key}
            return fs.S3FileSystem(**keys, **told, region=region), folder
        if url.scheme == "gs":
            return fs.GcsFileSystem(**told, retry_time_limit=STORE_TIMEOUT), folder
    except (OSError, ValueError) as error:
        raise FetchError(f"cannot reach {place.url}: {_reason(error)}") from error
    raise ConnectionsError(f"{place.url!r} is no place of files: s3://, gs://, file:// and plain paths are")


def _brought(store: fs.FileSystem, files: list[_File]) -> Iterator[tuple[_File, _Content | OSError]]:
    """The files in their order with their content, or why they cannot be had; some are brought ahead."""
    to_bring = iter(files)
    waiting: deque[tuple[_File, Future[_Content]]] = deque()
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="files") as pool:
        for wanted in (AHEAD, *(1 for _ in files)):
            waiting += [(file, pool.submit(_bring, store, file)) for file in islice(to_bring, wanted)]
            if not waiting:
                return
            file, bringing = waiting.popleft()
            error = bringing.exception()
            yield file, error if isinstance(error, OSError) else bringing.result()


def _bring(store: fs.FileSystem, file: _File) -> _Content:
    content = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (whoever reads it closes it)
    digest = hashlib.sha256()
    with store.open_input_stream(file.path, compression=None) as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
            content.write(block)
    if content.tell() < file.size:
        raise OSError(f"it ended after {content.tell()} of {file.size} bytes")
    content.seek(0)
    return _Content(content, digest.hexdigest())


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n")[0][:300]


# ---- what is in a file


def _batches(content: IO[bytes]) -> Iterator[list[Record]]:
    """The records of a file. Raises _DamagedError where it cannot be read any further, after what is before that."""
    magic = content.read(4)
    content.seek(0)
    codec = next((codec for mark, codec in _CODECS.items() if magic.startswith(mark)), None)
    has_records = False
    try:
        if magic == _PARQUET:
            batches = _rows(content)
        else:
            stream = pa.CompressedInputStream(pa.PythonFile(content, "r"), codec) if codec else content
            batches = _lines(_blocks(stream))
        for records in batches:
            has_records = has_records or any(type(record) is bytes and record[:1] == b"{" for record in records)
            if records and not has_records:
                raise _DamagedError(f"neither JSON lines nor Parquet: it begins with {bytes(records[0][:40])!r}")
            for start in range(0, len(records), BATCH_RECORDS):
                yield records[start : start + BATCH_RECORDS]
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        raise _DamagedError(_reason(error)) from error


def _rows(content: IO[bytes]) -> Iterator[list[Record]]:
    file = pq.ParquetFile(pa.PythonFile(content, "r"), pre_buffer=False)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    size = sum(group.total_byte_size for group in groups) // max(file.metadata.num_rows, 1) + 1
    for rows in file.iter_batches(batch_size=max(1, min(BATCH_RECORDS, BATCH_BYTES // size))):
        yield _records(from_rows(rows))


def _blocks(stream: Any) -> Iterator[bytes]:
    """Pieces of at least BLOCK bytes; before a damage all that can be read."""
    block = bytearray()
    try:
        while chunk := stream.read(CHUNK):
            block += chunk
            if len(block) >= BLOCK:
                yield bytes(block)
                block.clear()
    except OSError as error:
        yield bytes(block)
        raise _DamagedError(_reason(error)) from error
    yield bytes(block)


def _lines(blocks: Iterator[bytes]) -> Iterator[list[Record]]:
    """The records of a file that has one in each line, or one after the other."""
    rest = b""
    is_cut = False
    try:
        for number, block in enumerate(blocks):
            text = rest + (block.removeprefix(_BYTE_ORDER_MARK) if number == 0 else block)
            if is_cut:
                _, feed, text = text.partition(b"\n")
                is_cut = not feed
            *lines, rest = text.split(b"\n")
            if len(rest) > LONGEST_RECORD:
                objects, rest = _parted(rest)
                lines += objects
            if len(rest) > LONGEST_LINE:
                lines.append(rest)
                rest, is_cut = b"", True
            yield _records(lines)
    except _DamagedError:
        yield _records(_parted(rest)[0])
        raise
    objects, rest = _parted(rest)
    yield _records(objects)
    if isinstance(checked(rest.strip() or b"0"), Unreadable):
        raise _DamagedError(f"it ends in the middle of a record, with {rest[-40:]!r}")
    yield _records([rest])


def _records(lines: list[bytes]) -> list[Record]:
    """The records of lines: what is no good JSON is Unreadable, and where there are several in a line, all of them."""
    lines = [stripped for line in lines if (stripped := line.strip())]
    text = b"[" + b",".join(lines) + b"]"
    try:
        text.decode()
        if [bytes(raw) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])] == lines:
            return lines
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return [record for line in lines for record in _records_of(line)]


def _records_of(line: bytes) -> list[Record]:
    if len(line) > LONGEST_RECORD or not isinstance(checked(line), Unreadable):
        return [line]
    objects, rest = _parted(line)
    return [checked(each) for each in objects] + ([Unreadable(rest)] if rest.strip() else [])


def _parted(text: bytes) -> tuple[list[bytes], bytes]:
    """The JSON objects that a text begins with, and what comes after them."""
    document = text.decode(errors="surrogateescape")
    objects: list[bytes] = []
    at = 0
    while opening := _OPENING.match(document, at):
        try:
            _, end = _DECODER.raw_decode(document, opening.start(1))
        except (ValueError, RecursionError):
            break
        objects.append(document[opening.start(1) : end].encode(errors="surrogateescape"))
        at = end
    return objects, document[at:].encode(errors="surrogateescape")
