"""Do the gates stop what they are for, and let good rows pass? Fresh real rows, and each fault of tests/_faults.py.

    python benchmarks/false_alarms.py [--quick] [--json] [--only wine] [--draws 60] [--fault-draws 3]

A draw splits the real rows anew. In the place of synthetic rows it takes real ones that are in no part of the split,
which a perfect generator could have made, or what a fault makes of them, and sends them through every gate but worth,
as `model: {kind: from_files}` does, on the CPU and without Prefect. Of clean rows `ratio` is the share of draws that no
gate refused, of a fault the share that the gate which is meant for it refused; `beyond` is how far its value is from
its limit, as a part of it, in the draw in which it was nearest. Finished cells are kept in
benchmarks/results/false_alarms.json, those of a quick run in build/.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the faults are those that the tests assert

from _fault_rows import breast_cancer, digits, orchard, wine
from _faults import OF_IMAGES, OF_TABLES, Case, Court, artefact_everywhere, clean, refusing

from augment.gates import GATES
from augment.store import code_version

CLEAN = {"breast_cancer": breast_cancer, "wine": wine, "orchard": orchard}  # data whose draws are cheap
FAULTY = {"digits": digits, "orchard": orchard}
MADE = {"clean": Case(clean, ""), "artefact everywhere": Case(artefact_everywhere, "")}
CASES = {"digits": OF_IMAGES, "orchard": OF_TABLES}
CODE = ("augment.checks", "augment.validation", "augment.worth", "augment.given")


def case_of(data: str, kind: str) -> Case:
    return MADE.get(kind) or CASES[data][kind]


@lru_cache(maxsize=1)
def court_of(data: str, seed: int) -> tuple[Court, tempfile.TemporaryDirectory[str]]:
    """The real rows of a draw, learned from once for all its faults, and the folder, which goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="false-alarms-")
    return Court(Path(folder.name), {**CLEAN, **FAULTY}[data](seed), seed), folder


def measure(data: str, kind: str, seed: int) -> Cell:
    court, _ = court_of(data, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        gates = court.gates(case_of(data, kind).make, seed)
        seconds = time.process_time() - began
    return {
        "refused_by": refusing(gates),
        "warned_by": [n for n, gate in gates.items() if gate.passed is False and gate.severity != "critical"],
        "gates": {n: [gate.value, gate.limit] for n, gate in gates.items() if gate.passed is not None},
        "sentences": {n: gates[n].sentence for n in refusing(gates)},
        "cpu_seconds": seconds,
    }


def summarised(cells: list[Cell]) -> Cell:
    """The row of a fault on some data: which gates refused it in how many draws."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    gate = case_of(one["data"], one["kind"]).gate
    row: Cell = {"case": f"{one['data']} {one['kind']}", "data": one["data"], "kind": one["kind"], "draws": len(done)}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    stopped = [cell for cell in done if (gate in cell["refused_by"] if gate else not cell["refused_by"])]
    return {
        **row,
        "gate": gate or None,
        "refused_by": _counts(cell["refused_by"] for cell in done),
        "warned_by": _counts(cell["warned_by"] for cell in done),
        "blocked": sum(bool(cell["refused_by"]) for cell in done),
        "beyond": min((beyond(*cell["gates"][gate]) for cell in done), default=None) if gate else None,
        "cpu_seconds": mean_and_error(cell["cpu_seconds"] for cell in done),
        "ratio": len(stopped) / len(done),
    }


def beyond(value: float, limit: float) -> float:
    """How far a value is from its limit, as a part of the limit; of a limit of 0 the value itself."""
    return abs(value - limit) / limit if limit else abs(value)


def _counts(found: Any) -> dict[str, int]:
    counts = Counter(name for names in found for name in names)
    return {name: counts[name] for name in GATES if counts[name]}


def tables(rows: Sequence[Cell]) -> Iterator[str]:
    """For each data set a table of how often each gate refused each fault, of all draws."""
    done = [row for row in rows if "absent" not in row]
    for data in dict.fromkeys(row["data"] for row in done):
        own = [row for row in done if row["data"] == data]
        gates = [name for name in GATES if any(name in row["refused_by"] for row in own)]
        yield f"\n| {data} | draws | blocked | {' | '.join(gates)} | nearest to its limit |"
        yield "|---" * (len(gates) + 4) + "|"
        for row in own:
            counts = [
                f"**{row['refused_by'].get(name, 0)}**" if name == row["gate"] else str(row["refused_by"].get(name, ""))
                for name in gates
            ]
            near = "" if row["beyond"] is None else f"{row['beyond']:.0%} beyond"
            yield f"| {row['kind']} | {row['draws']} | {row['blocked']} | {' | '.join(counts)} | {near} |"


def asked_for(only: Sequence[str], draws: int, fault_draws: int) -> Iterator[tuple[str, str, int]]:
    """The cells: data, what becomes of the rows, and the draw."""
    for data in CLEAN:
        yield from ((data, "clean", seed) for seed in range(draws) if data in only)
    for seed in range(fault_draws):
        for data, cases in CASES.items():
            if data in only:
                yield from ((data, kind, seed) for kind in (*MADE, *cases))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="two draws of the clean rows, one of each fault; in build/"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="not needed: all data come with scikit-learn or are made")
    parser.add_argument("--only", nargs="*", choices=sorted({**CLEAN, **FAULTY}), default=list({**CLEAN, **FAULTY}))
    parser.add_argument("--draws", type=int, default=60, help="of clean rows")
    parser.add_argument("--fault-draws", type=int, default=3, help="of each fault")
    args = parser.parse_args()
    torch.set_num_threads(1)
    place = UNFINISHED / "faults" if args.quick else RESULTS
    cells = Cells(place / "false_alarms.json", ("data", "kind", "seed"), ("code",), summarised)
    code = code_version(*CODE)
    for data, kind, seed in asked_for(args.only, *((2, 1) if args.quick else (args.draws, args.fault_draws))):
        cells.fill({"data": data, "kind": kind, "seed": seed, "code": code}, partial(measure, data, kind, seed))
    document = cells.document()
    print(json.dumps(document) if args.json else "\n".join(tables(document["rows"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
