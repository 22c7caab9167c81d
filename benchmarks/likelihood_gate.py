"""What an exact ln p(x|y) finds in rows that others drew, beside all gates: faults of digits, and other models' rows.

    python benchmarks/likelihood_gate.py [--quick] [--json] [--draws 3] [--scorer pixelcnn] [--kinds vae gan]

A draw splits scikit-learn's digits anew, as benchmarks/false_alarms.py does, and trains the scorer with its defaults on
the training rows. Then the check `likelihood` (augment/checks/likelihood.py), told to refuse, asks it about each fault
of tests/_faults.py, about fresh real rows, and about rows that other models with their defaults drew; the gates that
are on by default judge the same rows as `model: {kind: from_files}`. Images are read as the 17 levels that digits have.
`ratio` is the share of draws in which both sides say the same: that the rows are refused, or that they are not. What a
gate other than `likelihood` refused and it did not, and the other way round, is named. Finished cells are kept in
benchmarks/results/likelihood_gate.json, those of a quick run in build/.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells
from digits_likelihood import CLASSES, SPEC, Split, as_tensor, trained
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the faults are those that the tests assert

import _fault_rows
import _faults
from _fault_rows import LEVEL, Rows, digits, labels_of, pixels_of, pngs
from _faults import OF_IMAGES, Case, Court, clean, refusing

from augment.checks._contract import Finding
from augment.checks.likelihood import Likelihood
from augment.config import MODELS
from augment.store import code_version, hash_file, hash_json
from augment.training import model_code
from models._contract import GenerativeModel, KnowsLikelihood, SamplesPrior

CASES = {"clean": Case(clean, ""), **OF_IMAGES}
CODE = ("augment.checks", "augment.validation", "augment.worth", "augment.training")
DRAWN = 60  # rows of a class of a model


def levels_of(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of the 17 levels of each pixel, (N, 1, 8, 8) bytes, and the digits (N,)."""
    levels = np.clip(np.rint(pixels_of(table) / LEVEL), 0, 16).astype(np.uint8)[:, None]
    return levels, labels_of(table).astype(np.int64)


def of_class(table: pa.Table) -> dict[int, Tensor]:
    """Rows in [-1, 1] by digit."""
    levels, y = levels_of(table)
    return {digit: as_tensor(torch.from_numpy(levels[y == digit])) for digit in range(CLASSES)}


def model_of(kind: str, rows: Rows, seed: int, steps: int | None) -> GenerativeModel:
    """A model with its defaults, trained on the training rows."""
    levels, y = levels_of(rows.train)
    nothing = torch.empty(0)
    with tempfile.TemporaryDirectory(prefix="likelihood-gate-") as folder:
        split = Split(levels, y, nothing, nothing)
        return trained(kind, seed, steps or MODELS[kind]().training.steps, split, Path(folder))


@lru_cache(maxsize=1)
def scorer_of(kind: str, seed: int, steps: int | None) -> GenerativeModel:
    """What knows ln p(x|y), trained once for all cases of a draw."""
    return model_of(kind, digits(seed), seed, steps)


def drawn_by(kind: str, rows: Rows, seed: int, steps: int | None) -> pa.Table:
    """Rows of every class that a model drew, as images."""
    model = model_of(kind, rows, seed, steps)
    assert isinstance(model, SamplesPrior)
    labels = torch.arange(CLASSES).repeat_interleave(DRAWN)
    with torch.no_grad():
        x = model.sample(labels, torch.Generator().manual_seed(seed))
    levels = ((x.reshape(-1, *SPEC.shape[1:]) + 1) * 8).round().clamp(0, 16).numpy()
    return pa.table({"image": pngs(levels * LEVEL), "label": pa.array(labels.numpy(), pa.int64())})


def rows_code(case: str) -> str:
    """The version of what draws the rows of a case: of a model, or of the faults.

    It is recorded with a cell, which is not measured anew where it has changed.
    """
    if case not in CASES:
        return model_code(MODELS[case]())
    return hash_json([hash_file(Path(module.__file__)) for module in (_faults, _fault_rows)])[:16]


def measure(case: str, seed: int, scorer: str, steps: int | None) -> Cell:
    """What the check and what all other gates say of the rows of a case."""
    rows = digits(seed)
    with tempfile.TemporaryDirectory(prefix="likelihood-gate-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        court = Court(Path(folder), rows, seed)
        made = court.made(CASES[case].make, seed) if case in CASES else drawn_by(case, rows, seed, steps)
        gates = court.gates(lambda *_: made, seed)
    model = scorer_of(scorer, seed, steps)
    assert isinstance(model, KnowsLikelihood)
    names = [str(digit) for digit in range(CLASSES)]
    check = Likelihood(refuses=True)
    found = check.compared(model, of_class(rows.parts["validation"]), of_class(made), names)
    return {
        "refused_by": refusing(gates),
        "likelihood": failed(found),
        **{name: round(float(value), 4) for name, value in found.metrics.items()},
        "odd_allowed": round(float(found.limit), 4) if found.limit is not None else None,
        "sentence": found.sentence,
    }


def failed(found: Finding) -> list[str]:
    """Which figures of the check are not what it expects."""
    wrong = []
    for expectation in found.set_expectations:
        name = str(expectation.column).removeprefix("likelihood.")
        least, most = (expectation.arguments.get(bound) for bound in ("min_value", "max_value"))
        value = found.metrics[name]
        if (least is not None and value < least) or (most is not None and value > most):
            wrong.append(name)
    return wrong


def summarised(cells: list[Cell]) -> Cell:
    """The row of a case: how often either side refused it, and how often they agreed."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": one["case"], "scorer": one["scorer"], "draws": len(done)}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    by_gates, by_likelihood = ([bool(cell[side]) for cell in done] for side in ("refused_by", "likelihood"))
    return {
        **row,
        "refused_by_gates": sum(by_gates),
        "gates": sorted({name for cell in done for name in cell["refused_by"]}),
        "refused_by_likelihood": sum(by_likelihood),
        "figures": sorted({name for cell in done for name in cell["likelihood"]}),
        "odd": [cell.get("odd") for cell in done],
        "recognised": [cell.get("recognised") for cell in done],
        "likelihood_alone": sum(found and not known for found, known in zip(by_likelihood, by_gates, strict=True)),
        "ratio": sum(a == b for a, b in zip(by_gates, by_likelihood, strict=True)) / len(done),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one draw, two cases, short trainings; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="not needed: digits come with scikit-learn")
    parser.add_argument("--draws", type=int, default=3)
    exact = [
        kind for kind, config in sorted(MODELS.items()) if config.likelihood == "exact" and "grid" in config.accepts
    ]
    parser.add_argument("--scorer", choices=exact, default="pixelcnn")
    parser.add_argument("--kinds", nargs="*", choices=sorted(MODELS), default=["vae", "gan", "flow_matching"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    steps = 100 if args.quick else None
    cases = ["clean", "wrong labels"] if args.quick else [*CASES, *args.kinds]
    place = UNFINISHED if args.quick else RESULTS
    cells = Cells(place / "likelihood_gate.json", ("case", "seed"), ("scorer", "code"), summarised, ("case",))
    for seed in range(1 if args.quick else args.draws):
        for case in cases:
            code = [code_version(*CODE), model_code(MODELS[args.scorer]())]
            asked = {"case": case, "seed": seed, "scorer": args.scorer, "code": "-".join(code), "rows": rows_code(case)}
            cells.fill(asked, partial(measure, case, seed, args.scorer, steps))
    document = cells.document()
    if args.json:
        print(json.dumps(document))
    else:
        for row in document["rows"]:
            print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
