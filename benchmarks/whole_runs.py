"""Is the packaged example published with each model, worth included, and in what time? The command itself, end to end.

    python benchmarks/whole_runs.py [--quick] [--json] [--kinds gan vae_gan] [--seeds 7 8 9]

Each cell (model, seed) runs `augment run --set model.kind=KIND --set seed=SEED` in an empty folder on the CPU: Prefect,
all gates, and worth as the example asks for it. `blessings.py` measures more seeds, without worth. `ratio` is the share
of runs that were published. Minutes are by the clock, from the command to its end; `cpu_minutes` are those of all its
processes. Finished cells are kept in benchmarks/results/whole_runs.json, those of a quick run, of 20 steps, in build/.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error

from augment.config import MODELS
from augment.errors import AugmentError
from augment.store import code_version, hash_json
from augment.training import model_code

GRIDS = [kind for kind in sorted(MODELS) if "grid" in MODELS[kind].accepts]
STAGES = ("training", "generation", "checks", "validation", "worth")
CODE = tuple(f"augment.{stage}" for stage in STAGES)
PUBLISHED, REFUSED = 0, 3  # exit codes of the contract


def cpu_seconds_of_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(kind: str, seed: int, steps: int | None) -> Cell:
    """What became of a run.

    Raises:
        AugmentError: it ended with neither a published dataset nor a refusal.
    """
    settings = [f"model.kind={kind}", f"seed={seed}", "train.device=cpu", *([f"train.steps={steps}"] * bool(steps))]
    command = [str(Path(sys.executable).parent / "augment"), "run", "--json"]
    for setting in settings:
        command += ["--set", setting]
    with tempfile.TemporaryDirectory(prefix="whole-runs-") as folder:
        began, spent = time.monotonic(), cpu_seconds_of_children()
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        minutes, cpu = (time.monotonic() - began) / 60, (cpu_seconds_of_children() - spent) / 60
        if ended.returncode not in (PUBLISHED, REFUSED):
            raise AugmentError(
                ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else "the run said nothing"
            )
        found = json.loads(ended.stdout)
        worth = json.loads((Path(folder) / found["path"] / "MANIFEST.json").read_text())["worth"]
    return {
        "published": ended.returncode == PUBLISHED,
        "refused_by": [g["gate"] for g in found["gates"] if g["passed"] is False and g["severity"] == "critical"],
        "worth": worth and worth["verdict"],
        "minutes": round(minutes, 2),
        "cpu_minutes": round(cpu, 2),
    }


def summarised(cells: list[Cell]) -> Cell:
    """The row of a model: how many runs were published, what refused the others, the verdicts on worth, and times."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": one["kind"], "kind": one["kind"], "seeds": len(done)}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    verdicts = [cell["worth"] for cell in done if cell["worth"]]
    return {
        **row,
        "published": sum(cell["published"] for cell in done),
        "refused_by": sorted({gate for cell in done for gate in cell["refused_by"]}),
        "worth": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
        "longest_minutes": max(cell["minutes"] for cell in done),
        "cpu_minutes": mean_and_error(cell["cpu_minutes"] for cell in done),
        "ratio": sum(cell["published"] for cell in done) / len(done),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 steps of training; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="not needed: the example ships with the project")
    parser.add_argument("--kinds", nargs="*", choices=GRIDS, default=GRIDS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[7, 8, 9])
    args = parser.parse_args()
    cells = Cells(
        (UNFINISHED if args.quick else RESULTS) / "whole_runs.json", ("kind", "seed"), ("code",), summarised, ("kind",)
    )
    for seed in args.seeds:
        for kind in args.kinds:
            code = hash_json([code_version(*CODE), model_code(MODELS[kind]())])[:16]
            asked = {"kind": kind, "seed": seed, "code": code}
            cells.fill(asked, partial(measure, kind, seed, 20 if args.quick else None))
    document = cells.document()
    rows = {name: document[name] for name in ("machine", "versions", "rows")}
    print(json.dumps(rows, indent=1) if args.json else "\n".join(map(str, document["rows"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
