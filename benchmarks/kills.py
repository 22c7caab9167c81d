"""Kill -9 at random moments of a run, then run again: are the published bytes those of an unbroken run?

    python benchmarks/kills.py [--quick] [--json] [--kills 10] [--seed 0]

Each kill starts `augment run` on an empty store, ends it with SIGKILL after a random share of the unbroken run's time,
runs the same command again, and compares every published Parquet file with the unbroken run's. It also looks for server
processes that outlived their run. Exit status 1 if any byte differs or any process is left.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _machine import machine, versions

QUICK = ["--set", "train.steps=150", "--set", "train.checkpoint_seconds=1", "--set", "generate.shard_rows=200"]


def command(store: Path, settings: list[str]) -> list[str]:
    return [sys.executable, "-m", "flows.cli", "run", "--store", str(store), "--json", *settings]


def parquet_hashes(store: Path) -> dict[str, str]:
    """SHA-256 of the latest published version's Parquet files, by their path in it."""
    dataset = next((store / "datasets").iterdir())
    version = dataset / "versions" / json.loads((dataset / "_latest.json").read_text())["version"]
    return {
        path.relative_to(version).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(version.rglob("*.parquet"))
    }


def survivors(mark: str) -> list[int]:
    """Processes whose environment carries ``mark``: what a run started and did not end."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"AUGMENT_KILLS_MARK={mark}".encode() in environment:
                found.append(int(process.name))
    return found


def environment(home: Path, mark: str) -> dict[str, str]:
    return {**os.environ, "PREFECT_HOME": str(home), "AUGMENT_KILLS_MARK": mark, "OMP_NUM_THREADS": "2"}


def killed_run(folder: Path, home: Path, after: float, settings: list[str], whole: dict[str, str]) -> dict[str, Any]:
    store = folder / "store"
    mark = folder.name
    env = environment(home, mark)
    with (folder / "killed.log").open("w") as log:
        process = subprocess.Popen(command(store, settings), env=env, stdout=log, stderr=log)
        time.sleep(after)
        finished = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
    stage = stages_made(store)
    time.sleep(5)  # the child server notices the closed pipe and ends itself
    left = survivors(mark)
    again = subprocess.run(command(store, settings), env=env, capture_output=True, text=True, check=False)
    equal = again.returncode == 0 and parquet_hashes(store) == whole
    return {
        "case": f"kill after {after:.1f} s",
        "finished_before_kill": finished,
        "artifacts_at_kill": stage,
        "exit_status_of_rerun": again.returncode,
        "byte_equal": equal,
        "processes_left": len(left) + len(survivors(mark)),
        "ratio": 1.0 if equal and not left else 0.0,
    }


def stages_made(store: Path) -> list[str]:
    """What the store held when the run was killed: finished artifacts and work folders by stage."""
    folders = sorted(p for p in (store / "stages").glob("*/*") if p.is_dir())
    return [f"{p.parent.name}{' (unfinished)' if p.name.startswith('.work') else ''}" for p in folders]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short training, so that ten kills take minutes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", help="not needed: the packaged example is used")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = QUICK if args.quick else []
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        root = Path(temporary)
        home = root / "prefect"
        seconds = []
        for name in ("first", "unbroken"):  # the first also prepares Prefect's home, so the second gives the duration
            began = time.monotonic()
            subprocess.run(
                command(root / name, settings), env=environment(home, name), check=True, stdout=subprocess.DEVNULL
            )
            seconds.append(time.monotonic() - began)
        whole = parquet_hashes(root / "unbroken")
        same = parquet_hashes(root / "first") == whole
        rows = [{"case": "two unbroken runs", "byte_equal": same, "seconds": seconds, "ratio": float(same)}]
        for index in range(args.kills):
            folder = root / f"kill-{index}"
            folder.mkdir()
            # strata, so that ten kills meet the whole length of the run
            after = (index + draw.random()) / args.kills * seconds[1]
            rows.append(killed_run(folder, home, after, settings, whole))
            print(rows[-1], file=sys.stderr)
    print(json.dumps({"machine": machine(), "versions": versions(), "rows": rows}, indent=None if args.json else 1))
    return 0 if all(row["ratio"] == 1.0 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
