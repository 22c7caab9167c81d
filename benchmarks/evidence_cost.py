"""What training, gates and worth cost, and how that grows with the rows.

    python benchmarks/evidence_cost.py [--quick] [--json] [--data DIR] [--only example table neighbours]

Each case goes through the product's own stages in a store and a process of its own. Seconds are CPU seconds of one
thread, imports apart; `peak_gib` is the largest resident memory of the process (GiB, libraries included). `gates` are
the nets that they look through, the reference, the judging of shards and the audit, all rounds together.

    example      the packaged run: `ratio` is gates over training (at most 1 is the aim), `worth_in_trainings` the worth
                 of all its seeds, search and parts included, over training
    table        made rows, 20 decimal columns and 3 classes, with as many synthetic ones (multiply, factor 2) of a vae
                 with its default steps: `ratio` is the CPU seconds of the gates per training row over those of the
                 next smaller table, so that 1 is growth in proportion to the rows, less is slower growth; null for the
                 smallest. `worth` is one seed of its arms.
    neighbours   made rows beside as many rows given in a file, and of the gates copying and coverage alone: `ratio` is
                 the peak memory over 2 GiB, `measures` what both learn from real rows and find in the synthetic ones

`growth` holds of each part the exponent b with which it grew from the next smaller case, seconds ~ rows^b: 0 constant,
1 in proportion, 2 quadratic. The gates look at 2,000 synthetic rows of a class at most, and at all training rows.
`refused_by` are the gates that refuse the rows: a run would then leave worth out, and here it is measured all the same.

No files are needed. `--quick`: no example, tables up to 5,000 rows, neighbours of 20,000, kept in build/. Finished
cells are kept in benchmarks/results/evidence_cost.json, and a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells
from _evidence_data import LABEL, write_rows
from families import cpu_seconds

from augment.checks._contract import Check
from augment.checks.copying import Copying
from augment.checks.coverage import Coverage
from augment.config import MODELS, BalancePlan, RunConfig
from augment.encoding import encode
from augment.gates import load_gates
from augment.ingest import IngestRecord, ingest
from augment.makers import maker
from augment.plan import rows_to_draw
from augment.rounds import round_requests
from augment.runfile import load_run_config
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.training import model_code
from augment.validation import active_checks, conclude, judge_shard, make_reference
from augment.worth.encoders import learn_encoders
from augment.worth.lift import Rows, conclude_worth, measure_arms, measure_parts, measure_real, search_classical

STAGES = ("ingest", "encoding", "codec", "columns", "training", "generation", "given", "rounds", "validation")
CODE = (*(f"augment.{name}" for name in (*STAGES, "checks", "worth")), "_evidence_data")
GATES = ("encoders", "reference", "judging", "audit")
MEASURES = ("reference", "audit")
MOST_GIB = 2.0
HELD_OUT = 0.3  # share of the rows that are none to train on, by the split's defaults
TABLES, QUICK_TABLES = (1_000, 5_000, 20_000, 100_000), (1_000, 5_000)
NEIGHBOURS, QUICK_NEIGHBOURS = (50_000, 200_000), (20_000,)
# Read in before anything is timed: what a stage imports on first use would count as its own.
IMPORTED = ("great_expectations", "lightgbm", "imblearn.over_sampling", "sklearn.linear_model", "scipy.stats", "pandas")
SEED = 0


class Meter:
    """CPU seconds of the parts of a case, and the peak of memory (GiB) at the end of each."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.seconds: dict[str, float] = {}
        self.peaks = {"imports": peak_gib()}

    def timed(self, part: str, action: Callable[[], Any]) -> Any:
        """What ``action`` gives; its time is added to that of the part."""
        if part not in self.seconds:
            print(f"{self.title}: {part}", file=sys.stderr, flush=True)
        spent, found = cpu_seconds(action)
        self.seconds[part] = round(self.seconds.get(part, 0.0) + spent, 3)
        self.peaks[part] = peak_gib()
        return found


def peak_gib() -> float:
    """The largest resident memory of this process so far, in GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)  # KiB under Linux


class Audited(NamedTuple):
    """What the stages up to the audit left; ``refused`` are the gates that refuse the rows."""

    rows: Rows
    refused: list[str]


def audited(config: RunConfig, checks: Sequence[Check], store: Store, meter: Meter) -> Audited:
    """The stages from the source to the audit, in the order of the flow."""
    seed, made = config.seed, maker(config)
    real = meter.timed("ingest", lambda: ingest(config.source, config.split, seed, store))
    meter.timed("encoding", lambda: encode(real, seed, store))
    wanted = rows_to_draw(config.plan, real, store)
    meter.timed("encoders", lambda: learn_encoders(real, seed, store))
    reference = meter.timed("reference", lambda: make_reference(real, checks, seed, store))
    model = meter.timed("training", lambda: made.prepare(real, store))
    shards: list[ArtifactRef] = []
    judged: list[ArtifactRef] = []
    for number in range(config.generate.rounds + 1):
        for request in round_requests(config.generate, model, wanted, judged, number, store):
            shards.append(meter.timed("drawing", partial(made.shard, model, real, request, store)))
            judge = partial(judge_shard, shards[-1], reference, real, checks, store, list(judged))
            judged.append(meter.timed("judging", judge))
    audit = meter.timed("audit", lambda: conclude(real, reference, model, wanted, shards, judged, checks, store))
    gates = load_gates(store.path(audit) / "gates.json")
    refused = [gate.gate for gate in gates if gate.passed is False and gate.severity == "critical"]
    return Audited(Rows(real, shards, judged), refused)


def measure_worth(config: RunConfig, rows: Rows, seeds: int, store: Store, meter: Meter) -> None:
    """The search, ``seeds`` seeds of all arms and, of more than one, the parts and the verdict."""
    section, seed = config.worth, config.seed
    equal_mass = isinstance(config.plan, BalancePlan)
    search = meter.timed("search", lambda: search_classical(rows.real, section.search, seed, store))

    def arms(number: int) -> ArtifactRef:
        known = measure_real(rows.real, search, number, seed, store)
        return measure_arms(rows, search, known, equal_mass, number, seed, store)

    measured = [meter.timed("arms", partial(arms, number)) for number in range(seeds)]
    if seeds == 1:
        return
    part = partial(measure_parts, rows, search, measured, section.metric)
    parts = [meter.timed("parts", partial(part, number, seed, store)) for number in range(seeds)]
    concluded = partial(conclude_worth, rows, search, measured, parts, section.metric, 1, section.measurable_at)
    meter.timed("verdict", partial(concluded, seed, store))


def example_config(_rows: int | None, folder: Path) -> RunConfig:
    return load_run_config(None, ["train.device=cpu"], str(folder / "store"))


def made_config(rows: int, folder: Path, model: Mapping[str, Any]) -> RunConfig:
    """A run over about ``rows`` training rows of a made table."""
    write_rows(folder / "real.parquet", round(rows / (1 - HELD_OUT)), SEED)
    content = {
        "name": "evidence-cost",
        "seed": SEED,
        "source": {"kind": "parquet", "path": str(folder / "real.parquet"), "label": LABEL},
        "model": dict(model),
        "plan": {"kind": "multiply", "factor": 2},
        "train": {"device": "cpu"},
        "store": str(folder / "store"),
    }
    return RunConfig.model_validate(content)


def neighbours_config(rows: int, folder: Path) -> RunConfig:
    """The same with rows of another seed in the place of drawn ones, a few more than are wanted of each class."""
    write_rows(folder / "given.parquet", round(1.05 * rows), SEED + 1)
    return made_config(rows, folder, {"kind": "from_files", "path": str(folder / "given.parquet")})


def measured_here(kind: str, rows: int | None, title: str) -> Cell:
    """One case, in this process."""
    torch.set_num_threads(1)
    for name in IMPORTED:
        importlib.import_module(name)
    meter = Meter(title)
    with tempfile.TemporaryDirectory(prefix="evidence-cost-") as temporary:
        folder = Path(temporary)
        config = CASES[kind](rows, folder)
        store = Store.open(config.store)
        checks = [Copying(), Coverage()] if kind == "neighbours" else active_checks(config.checks)
        found = audited(config, checks, store, meter)
        if kind != "neighbours":
            measure_worth(config, found.rows, config.worth.seeds if kind == "example" else 1, store, meter)
        counts = IngestRecord.load(store.path(found.rows.real) / "ingest.json").counts
    return {
        "training_rows": sum(counts["train"].values()),
        "refused_by": found.refused,
        "cpu_seconds": meter.seconds,
        "peak_gib_after": meter.peaks,
        "peak_gib": max(meter.peaks.values()),
    }


CASES: dict[str, Callable[[Any, Path], RunConfig]] = {
    "example": example_config,
    "table": partial(made_config, model={"kind": "vae"}),
    "neighbours": neighbours_config,
}


def measured_apart(kind: str, rows: int | None, title: str) -> Cell:
    """One case in a process of its own, whose peak of memory is no other's."""
    child = [sys.executable, __file__, "--case", json.dumps([kind, rows, title])]
    printed = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: Cell = json.loads(printed.splitlines()[-1])
    return found


def totals(cell: Cell) -> dict[str, float]:
    """CPU seconds of what is compared: parts of the stages, each sum of which there is one."""
    spent = cell["cpu_seconds"]
    sums = {
        "ingest": ("ingest", "encoding"),
        "training": ("training",),
        "drawing": ("drawing",),
        "gates": GATES,
        "measures": MEASURES,
        "worth": ("search", "arms", "parts", "verdict"),
    }
    left_out = {"neighbours": ("training", "gates", "worth")}.get(cell["kind"], ("measures",))
    return {
        name: round(sum(spent.get(part, 0.0) for part in parts), 2)
        for name, parts in sums.items()
        if name not in left_out
    }


def growth(seconds: float, rows: int, before: float, rows_before: int) -> float | None:
    """The exponent b of seconds ~ rows^b between two cases; null where one took no time or both have as many rows."""
    if seconds <= 0 or before <= 0 or rows == rows_before:
        return None
    return round(math.log(seconds / before) / math.log(rows / rows_before), 2)


def summarised(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The row of a case, beside the next smaller one of its kind among ``cells`` that was measured in the same way."""
    row: Cell = {"case": cell["data"], "kind": cell["kind"]}
    if "absent" in cell:
        return {**row, "absent": cell["absent"], "ratio": None}
    spent, rows = totals(cell), cell["training_rows"]
    row |= {"training_rows": rows, "cpu_seconds": spent, "peak_gib": cell["peak_gib"]}
    row["refused_by"] = cell["refused_by"]
    alike = [
        c
        for c in cells
        if "absent" not in c and c["training_rows"] < rows and all(c[name] == cell[name] for name in ("kind", "code"))
    ]
    before = max(alike, key=lambda c: c["training_rows"], default=None)
    if cell["kind"] == "example":
        row["worth_in_trainings"] = round(spent["worth"] / spent["training"], 3)
        ratio: float | None = spent["gates"] / spent["training"]
    else:
        ratio = cell["peak_gib"] / MOST_GIB if cell["kind"] == "neighbours" else None
    if before is not None:
        earlier, fewer = totals(before), before["training_rows"]
        row["growth"] = {name: growth(spent[name], rows, earlier[name], fewer) for name in spent}
        if cell["kind"] == "table":
            ratio = spent["gates"] / rows / (earlier["gates"] / fewer)
    return {**row, "ratio": None if ratio is None else round(ratio, 3)}


def in_words(row: Cell) -> str:
    """A line for people."""
    if "absent" in row:
        return f"{row['case']:28} {row['absent']}"
    said = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in row["cpu_seconds"].items())
    said = f"{row['case']:28} {said}, peak {row['peak_gib']:.2f} GiB"
    if row["kind"] == "example":
        return f"{said}; gates {row['ratio']:.2f} and worth {row['worth_in_trainings']:.2f} trainings"
    part = "measures" if row["kind"] == "neighbours" else "gates"
    exponent = row.get("growth", {}).get(part)
    return said if exponent is None else f"{said}; {part} ~ rows^{exponent:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the example, few rows; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", help="not needed: the data are made or packaged")
    parser.add_argument("--only", nargs="*", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measured_here(*json.loads(args.case))))
        return 0
    cells = Cells(
        (UNFINISHED if args.quick else RESULTS) / "evidence_cost.json",
        ("kind", "rows"),
        ("code",),
        lambda group: summarised(group[0], cells.cells),
    )
    code = hash_json([code_version(*CODE), model_code(MODELS["vae"]())])[:16]
    tables, neighbours = (QUICK_TABLES, QUICK_NEIGHBOURS) if args.quick else (TABLES, NEIGHBOURS)
    asked = [] if args.quick else [("example", 0, "packaged example")]
    asked += [("table", rows, f"made table, {rows:,} rows") for rows in tables]
    asked += [("neighbours", rows, f"neighbours, {rows:,} rows") for rows in neighbours]
    for kind, rows, title in asked:
        if kind in args.only:
            cell = {"kind": kind, "rows": rows, "data": title, "code": code}
            cells.fill(cell, partial(measured_apart, kind, rows, title))
    document = cells.document()
    if args.json:
        print(json.dumps({name: document[name] for name in ("machine", "versions", "rows")}, indent=1))
    else:
        for row in document["rows"]:
            print(in_words(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
