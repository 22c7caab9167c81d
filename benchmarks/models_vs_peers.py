"""Training images per second and peak memory of our trainer beside pythae 0.1.2, torchcfm and plain loops, in one run.

    python benchmarks/models_vs_peers.py [--quick] [--json] [--data DIR] [--device cuda] [--environments DIR]

The peers get a virtual environment of their own below --environments (made once, with this project's version of
torch; some 6 GB). Both sides train the same net from `models/` with the same loss, optimiser, batch, 32-bit precision
and threads on the same images (MNIST in DIR/mnist, else made ones), each in a process of its own, in turn, several
times: ours is the whole training loop with its sampler, memory-mapped rows, gradient clipping, averaged weights and
journal; theirs the trainer or loop that its documentation gives, and for adversarial models also the loop that one
writes by hand (`_plain_training.py`). The clock starts after the first 20 steps and counts the loading of data. `ratio`
is the median of ours over theirs by the clock, `cpu_ratio` by the processor's time, which a loaded machine disturbs
less, `compiled_ratio` that of ours with `train.compile: true` over the same runs of theirs (the seconds of compiling,
counted in none, are `compiled_start_seconds`), `bf16_ratio`, with --bf16, that of ours with `train.precision:
bf16-mixed` over theirs in 32 bits, for a processor that has units for it (AMX); `judged_ratio` counts the synthetic
rows that the critic learns from in the place of images, since a peer may have fewer kinds of them.

On a machine with a GPU: python benchmarks/models_vs_peers.py --device cuda --data DIR --steps 1500 --json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _images import idx_part, made_images, write_idx
from _machine import machine, versions
from _training_cases import BITS, CASES, LABELS, LEVELS, NO_LABELS, WARM_STEPS, Case, Request

HERE = Path(__file__).resolve().parent
PEERS = ("pythae==0.1.2", "torchcfm==1.0.7")
FEWEST_STEPS = WARM_STEPS + 20


def environment(root: Path) -> Path:
    """The Python of an environment with the peers, made if it is not there.

    Raises:
        RuntimeError: pip could not install them.
    """
    wanted = [*PEERS, f"torch=={version('torch').partition('+')[0]}"]
    folder = root / f"peers-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"
    python, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        installed = subprocess.run(command, stderr=subprocess.PIPE, stdout=sys.stderr, text=True, check=False)
        if installed.returncode:
            lines = installed.stderr.strip().splitlines() or ["no reason given"]
            raise RuntimeError(f"pip could not install {', '.join(wanted)}: {lines[-1]}")
        whole.touch()
    return python


def prepare(source: Path | None, rows: int, folder: Path) -> str:
    """Write the images as both sides read them; what they are, in words."""
    if source is not None:
        pixels, labels = idx_part(source / "mnist", "train")
        title = "MNIST"
    else:
        pixels, labels = made_images(rows)
        title = "made images (enlarged digits of scikit-learn)"
    pixels, labels = pixels[:rows], labels[:rows]
    np.save(folder / LEVELS, pixels[:, None])
    np.save(folder / BITS, (pixels[:, None] > 127).astype(np.uint8))
    np.save(folder / LABELS, labels)
    np.save(folder / NO_LABELS, np.zeros_like(labels))
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):  # torchvision asks for both, and only the first is read
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    return f"{title}, {len(pixels)} rows"


def train(python: Path, script: str, request: Request) -> dict[str, Any]:
    """The speed that one process measured, with how long it took in all."""
    began = time.monotonic()
    threads = str(request.threads)
    result = subprocess.run(
        [str(python), str(HERE / script), json.dumps(asdict(request))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )
    if result.returncode:
        raise RuntimeError(f"{script} failed: {result.stderr.strip().splitlines()[-1]}")
    print(request.case, script, result.stdout.splitlines()[-1], file=sys.stderr)
    return {**json.loads(result.stdout.splitlines()[-1]), "seconds": time.monotonic() - began}


def compare(
    name: str, case: Case, request: Request, python: Path, *, repetitions: int, others: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The row of one case: ours and theirs in turn, and ``others``, which are ours with more that is asked for."""
    sides: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": [], **{other: [] for other in others}}
    for _ in range(repetitions):
        sides["ours"].append(train(Path(sys.executable), "_our_training.py", request))
        sides["theirs"].append(train(python, case.script, request))
        for other, asked in others.items():
            sides[other].append(train(Path(sys.executable), "_our_training.py", replace(request, **asked)))
    row = {
        "case": name,
        "peer": case.peer,
        "compared": case.compared,
        "batch_size": request.batch_size,
        "steps": request.steps,
        "threads": request.threads,
        "precision": "32-true",
        "device": request.device,
        "repetitions": repetitions,
    }
    for figure in ("images_per_second", "images_per_cpu_second", "peak_anonymous_mib", "peak_cuda_mib"):
        row[figure] = {side: _median(runs, figure) for side, runs in sides.items() if runs}
    row["memory_ratio"] = _rounded(row["peak_anonymous_mib"]["ours"] / row["peak_anonymous_mib"]["theirs"])
    for other in others:
        row[f"{other}_ratio"] = _ratio(sides[other], sides["theirs"], "images_per_second")
    if "compiled" in others:
        row["compiled_start_seconds"] = round(_least(sides["compiled"]) - _least(sides["ours"]), 1)
    row["cpu_ratio"] = _ratio(sides["ours"], sides["theirs"], "images_per_cpu_second")
    row["ratio"] = _ratio(sides["ours"], sides["theirs"], "images_per_second")
    if case.judged:
        ours, theirs = case.judged
        row["judged_ratio"] = _rounded(row["ratio"] * ours / theirs)
    return row


def _least(runs: list[dict[str, Any]]) -> float:
    return min(run["seconds"] for run in runs)


def _median(runs: list[dict[str, Any]], figure: str) -> float | None:
    values = [run[figure] for run in runs]
    return None if None in values else round(statistics.median(values), 1)


def _ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], figure: str) -> float:
    return _rounded(statistics.median(a[figure] / b[figure] for a, b in zip(ours, theirs, strict=True)))


def _rounded(ratio: float) -> float:
    return round(ratio, 3)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 steps, 2 repetitions, nothing compiled")
    parser.add_argument("--bf16", action="store_true", help="ours with train.precision: bf16-mixed besides")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="a folder with mnist/ in it; without it images are made")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--environments", type=Path, default=cache / "augment-benchmarks")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--steps", type=int, help=f"of each process, a multiple of 10, at least {FEWEST_STEPS}")
    parser.add_argument("--batch-size", type=int, help="instead of each case's own")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    args.steps = args.steps or (60 if args.quick else 220)
    args.repetitions = args.repetitions or (2 if args.quick else 5)
    if args.steps % 10 or args.steps < FEWEST_STEPS:
        parser.error(f"--steps must be a multiple of 10 and at least {FEWEST_STEPS}")
    return args


def main() -> int:
    args = arguments()
    rows: list[dict[str, Any]] = []
    reason = ""
    if args.data is not None and not (args.data / "mnist").is_dir():
        reason = f"no data: {args.data / 'mnist'} is not there; leave --data out to train on made images"
    own, python = Path(sys.executable), Path()
    try:
        if not reason and any(CASES[name].installed for name in args.cases):
            python = environment(args.environments.expanduser().absolute())
    except (RuntimeError, OSError) as error:
        reason = str(error)
    others = {} if args.quick else {"compiled": {"compiled": True}}
    if args.bf16:
        others["bf16"] = {"precision": "bf16-mixed"}
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        title = "" if reason else prepare(args.data, args.rows, Path(folder))
        for name in args.cases:
            case = CASES[name]
            if reason:
                rows.append({"case": name, "peer": case.peer, "absent": reason, "ratio": None})
                continue
            batch_size = args.batch_size or case.batch_size
            request = Request(name, folder, args.steps, batch_size, args.threads, args.device)
            their = python if case.installed else own
            row = compare(name, case, request, their, repetitions=args.repetitions, others=others)
            rows.append({**row, "data": title})
            print(rows[-1], file=sys.stderr)
    known = versions() | {name: number for name, _, number in (wanted.partition("==") for wanted in PEERS)}
    print(json.dumps({"machine": machine(), "versions": known, "rows": rows}, indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
