"""The child process of a local run: Prefect's API on the loopback address, with a database that lives as long as it.

Started by :mod:`flows.local_server` as ``python -m flows.local_api FOLDER PARENT``. It writes its port to standard
output as soon as it has one, ``ready`` once it answers, and ends itself when its standard input closes: the operating
system closes that pipe when the parent ends, however it ends. Signals meant for the parent (Ctrl-C reaches the whole
process group) are ignored, so that the parent can still report the end of its run.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

STALE_SECONDS = 60.0  # a run folder this young may not hold its lock yet
PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def end_with_parent(parent: int, folder: Path) -> None:
    """End this process when its parent's thread does, in case something else still holds the pipe.

    Linux only; elsewhere the pipe alone does it.
    """
    signal.signal(signal.SIGUSR1, lambda *_: leave(folder))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:  # it ended before the call above
        leave(folder)


def leave(folder: Path) -> None:
    """Remove ``folder`` and end the process at once: the server has nothing to save, its database is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def listen() -> socket.socket:
    """A listening socket on a free port of the loopback address; early clients wait in its queue."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def sweep(parent: Path) -> None:
    """Remove the folders of runs whose process is gone, and the templates of other Prefect versions."""
    for path in parent.glob("template-*.db"):
        if path != template_path(parent):
            path.unlink(missing_ok=True)
    for folder in parent.glob("run-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < STALE_SECONDS:
                continue
            with (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def template_path(parent: Path) -> Path:
    """The migrated, empty database that runs with the installed Prefect start from."""
    return parent / f"template-{version('prefect')}.db"


def prepare_database(database: Path) -> None:
    """Make ``database``, the SQLite file of the current settings, a migrated one.

    Migrating takes many seconds, copying a template none. The first process to miss the template makes it, others wait.
    """
    template = template_path(database.parent.parent)
    if not template.exists():
        with (template.parent / "template.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                migrate(database, template)
                return
    shutil.copyfile(template, database)


def migrate(database: Path, template: Path) -> None:
    """Let Prefect migrate ``database``, and keep a copy of it as ``template``."""
    from prefect.server.database import provide_database_interface

    async def create() -> None:
        await provide_database_interface().create_db()

    asyncio.run(create())
    draft = database.with_name("template.db")
    with contextlib.closing(sqlite3.connect(database)) as made, contextlib.closing(sqlite3.connect(draft)) as copy:
        made.backup(copy)  # also what is still in the write-ahead log
        copy.execute("PRAGMA journal_mode=DELETE")
    draft.replace(template)


def serve(listener: socket.socket, folder: Path) -> None:
    """Answer on ``listener`` for ever, saying ``ready`` to the parent once the application has started."""
    database = folder / "prefect.db"
    os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{database}"
    prepare_database(database)
    import uvicorn
    from prefect.server.api.server import create_app

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            print("ready", flush=True)

    config = uvicorn.Config(create_app(final=True), log_config=None, log_level="critical", access_log=False)
    Announcing(config).run(sockets=[listener])


def serve_or_exit(listener: socket.socket, folder: Path) -> None:
    """Run :func:`serve` and end the process when it returns or fails; the reason goes to standard error."""
    try:
        serve(listener, folder)
    except BaseException as error:  # noqa: BLE001  (whatever ends the server ends the process)
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def main(folder: Path, parent: int) -> None:
    """Serve from ``folder`` until standard input closes, then remove it and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(parent, folder)
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        listener = listen()
        print(listener.getsockname()[1], flush=True)
        sweep(folder.parent)
        threading.Thread(target=serve_or_exit, args=(listener, folder), daemon=True).start()
        sys.stdin.read()
        leave(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
