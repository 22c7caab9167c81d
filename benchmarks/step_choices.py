"""Is a training step faster compiled, or on two threads? Every model of images, beside the step as it is by default.

    python benchmarks/step_choices.py [--quick] [--json] [--kinds pixelcnn] [--side 28] [--limit 300] [--busy]

Each model takes the same steps by our trainer on the CPU, with its defaults on made images of 256 grey levels (digits'
17 where the side is 8): as it is, with `train.compile: true`, and with `train.threads: 2`, each in a process of its
own. The clock starts after 20 steps, so that compiling is not in it. `compiled` and `two_threads` are training images a
second over those of the step as it is, the one by CPU seconds, the other by the clock, which needs a machine with
nothing else to do. With --busy one endless process a core runs meanwhile, and `two_threads` is beside one thread that
has as much company. What takes longer than --limit seconds in all, compiling included, is null, with `ended` saying so.
`ratio` is `compiled`. Finished cells are kept in benchmarks/results/step_choices.json, those of a quick run in build/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells
from _our_training import NotingJournal
from _training_cases import WARM_STEPS, Window

from augment.config import MODELS
from augment.progress import silent
from augment.store import code_version, hash_json
from augment.training import build_model, model_code
from augment.training._batches import Rows, Sampler
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric
from models._contract import Span, TensorSpec

GRIDS = [kind for kind in sorted(MODELS) if "grid" in MODELS[kind].accepts]
CHOICES: dict[str, dict[str, Any]] = {"usual": {}, "compiled": {"compiled": True}, "two_threads": {"threads": 2}}
ROWS, CLASSES = 512, 10


def train(kind: str, side: int, steps: int, threads: int = 1, compiled: bool = False) -> dict[str, Any]:
    """The speed of a training in this process."""
    torch.set_num_threads(threads)
    config, cpu, levels = MODELS[kind](), torch.device("cpu"), 17 if side == 8 else 256
    spec = TensorSpec((1, side, side), (Span("continuous", side * side, levels),), CLASSES)
    window = Window(config.training.batch_size, cpu)

    def as_tensor(x: torch.Tensor) -> torch.Tensor:
        return x.float() * (2 / (levels - 1)) - 1

    with tempfile.TemporaryDirectory(prefix="step-choices-") as name:
        folder, draw = Path(name), np.random.default_rng(0)
        np.save(folder / "x.npy", draw.integers(0, levels, (ROWS, *spec.shape)).astype(np.uint8))
        np.save(folder / "y.npy", draw.integers(0, CLASSES, ROWS))
        rows = Rows(folder, as_tensor, cpu)
        TrainingLoop(
            build_model(config, spec, 0),
            fabric=open_fabric(cpu, "32-true"),
            rows=rows,
            sampler=Sampler(rows.labels, config.training.batch_size, 0, "rows"),
            settings=LoopSettings(
                steps=steps,
                ema_decay=0.999,
                schedule="constant",
                warmup_steps=0,
                checkpoint_seconds=1e9,
                compiled=compiled,
                seed=0,
                identity={},
            ),
            folder=folder,
            journal=NotingJournal(folder, window),
            progress=silent,
        ).run()
    return window.speed().as_json()


def apart(kind: str, side: int, steps: int, limit: float, chosen: dict[str, Any]) -> dict[str, Any] | None:
    """The same in a process of its own; null where it took longer than ``limit`` seconds."""
    asked = json.dumps({"kind": kind, "side": side, "steps": steps, **chosen})
    threads = str(chosen.get("threads", 1))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, __file__, "--one", asked]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if ended.returncode:
        raise RuntimeError(f"{asked}: {ended.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def measure(kind: str, side: int, steps: int, limit: float) -> Cell:
    found = {name: apart(kind, side, steps, limit, chosen) for name, chosen in CHOICES.items()}
    usual, compiled, two = (found[name] for name in CHOICES)
    late = f"not {steps} steps in {limit:g} s"
    if usual is None:
        return {"absent": late}
    row: Cell = {"usual_images_per_second": round(usual["images_per_cpu_second"], 2)}
    row["compiled"] = compiled and round(compiled["images_per_cpu_second"] / usual["images_per_cpu_second"], 3)
    row["two_threads"] = two and speedup_by_the_clock(two, usual)
    return {**row, **({"ended": late} if None in (compiled, two) else {})}


def measure_busy(kind: str, side: int, steps: int, limit: float) -> Cell:
    with every_core_busy():
        usual, two = (apart(kind, side, steps, limit, CHOICES[name]) for name in ("usual", "two_threads"))
    late = f"not {steps} steps in {limit:g} s"
    if usual is None:
        return {"absent": late}
    row: Cell = {"clock_images_per_second": round(usual["images_per_second"], 2)}
    row["two_threads"] = two and speedup_by_the_clock(two, usual)
    return {**row, **({} if two else {"ended": late})}


def speedup_by_the_clock(chosen: dict[str, Any], usual: dict[str, Any]) -> float:
    return float(round(chosen["images_per_second"] / usual["images_per_second"], 3))


@contextmanager
def every_core_busy() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A block in which an endless process runs for each core; one whose parent was killed ends by itself."""
    endless = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
    with ExitStack() as ending:
        others = []
        for _ in os.sched_getaffinity(0):
            others.append(ending.enter_context(subprocess.Popen([sys.executable, "-c", endless])))
            ending.callback(others[-1].kill)
        yield others


def summarised(cells: list[Cell]) -> Cell:
    """The row of a model at one side, on a quiet machine or a busy one: its one cell."""
    (cell,) = cells
    case = f"{cell['kind']} {cell['side']}x{cell['side']}" + (", cores busy" if cell["busy"] else "")
    return {"case": case, **cell, "ratio": cell.get("compiled")}


def cells_in(path: Path) -> Cells:
    return Cells(path, ("kind", "side", "busy"), ("code",), summarised, ("kind", "side", "busy"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one model at side 8; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="not needed: no cost depends on data")
    parser.add_argument("--kinds", nargs="*", choices=GRIDS, default=GRIDS)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--limit", type=float, default=300, help="seconds of one training")
    parser.add_argument("--busy", action="store_true", help="a second thread alone, beside busy processes")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(train(**json.loads(args.one))))
        return 0
    side, kinds = (8, ["pixelcnn"]) if args.quick else (args.side, args.kinds)
    steps = WARM_STEPS + 30
    cells = cells_in((UNFINISHED if args.quick else RESULTS) / "step_choices.json")
    for kind in kinds:
        code = hash_json([model_code(MODELS[kind]()), code_version("augment.training"), steps])[:16]
        asked = {"kind": kind, "side": side, "busy": args.busy, "code": code}
        cells.fill(asked, partial(measure_busy if args.busy else measure, kind, side, steps, args.limit))
    document = cells.document()
    rows = {name: document[name] for name in ("machine", "versions", "rows")}
    print(json.dumps(rows, indent=1) if args.json else "\n".join(map(str, document["rows"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
