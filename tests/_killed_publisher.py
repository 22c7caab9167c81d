"""Publishes in a child process that is killed before its Nth change to the file system.

``python _killed_publisher.py STORE FIRST STEP`` prints one JSON line for each N = FIRST, FIRST + STEP, ... until a
publication comes to its end. The parent only imports, so that each fork has everything loaded and nothing running:
the checks too, which a publication would else load anew in every fork.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _small_store import Stages, read_stages

from augment._layout import STAGING
from augment.config import CHECKS
from augment.reader import load_dataset
from augment.versions import list_versions, verify

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.copyfile", "shutil.rmtree"}


def kill_before(number: int, root: Path) -> None:
    """Have this process killed before its change ``number`` below ``root``."""
    seen = 0
    fsync = os.fsync

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in CHANGES or writes) and str(arguments[0]).startswith(str(root)):
            count()

    def counted_fsync(descriptor: int) -> None:
        count()
        fsync(descriptor)

    sys.addaudithook(hook)
    os.fsync = counted_fsync


def in_child(work: Callable[[], Any]) -> tuple[int, Any]:
    """The wait status of a forked child that does ``work``, and what that returned."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.write(answer.fileno(), json.dumps(work()).encode())
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        answer.seek(0)
        return status, json.loads(answer.read() or b"null")


def seen_by_readers(stages: Stages) -> dict[str, Any]:
    """What somebody who opens the dataset finds, after comparing every byte."""
    dataset = stages.store.root / "datasets/animals"
    opened = load_dataset(dataset)
    parquet = {p.name: p.read_bytes().hex() for p in sorted(opened.path.glob("data/*/*.parquet"))}
    return {
        "version": opened.version,
        "rows": opened.arrow().num_rows,
        "data": str(hash(json.dumps(parquet, sort_keys=True))),
        "versions": [v.version for v in list_versions(stages.store, "animals")],
        "intact": all(verify(stages.store, "animals", v.version).ok for v in list_versions(stages.store, "animals")),
        "left": [p.name for p in (dataset / STAGING).glob("*")],
    }


def try_point(base: Path, number: int) -> dict[str, Any]:
    """Publish a copy of the store, killed at ``number``, look, publish again, look."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "store"
        shutil.copytree(base, root)
        stages = read_stages(root, "second")

        def publish_and_die() -> str:
            kill_before(number, root)
            return stages.publish(run_id="second").status

        status, finished = in_child(publish_and_die)
        between = in_child(lambda: seen_by_readers(stages))[1]
        again = in_child(lambda: stages.publish(run_id="second").status)[1]
        after = in_child(lambda: seen_by_readers(stages))[1]
        killed = os.WIFSIGNALED(status)
        return {
            "point": number, "killed": killed, "finished": finished, "between": between, "again": again, "after": after,
        }  # fmt: skip


def main() -> None:
    """Try the points until one is never reached."""
    assert CHECKS
    base, number, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    while True:
        result = try_point(base, number)
        print(json.dumps(result), flush=True)
        if not result["killed"]:
            return
        number += step


if __name__ == "__main__":
    main()
