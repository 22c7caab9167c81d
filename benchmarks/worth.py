"""Do synthetic rows help a classifier, beside the best that can be done without a generator?

    python benchmarks/worth.py --data DIR [--quick] [--json] [--only mnist] [--scarce 2 5] [--kinds warp_vae]

DIR holds mnist/, fashion-mnist/, adult/, mammography/ and german-credit/; rows whose data are not there are reported
as absent. Digits need none. Of images the five odd classes are cut to so many training rows, the even ones to 300
(digits: 60); of tables the rarer class, the other to 4,000 (mammography 1,200, German credit 250). Each cell (data with
scarcity, model, seed) draws its real rows anew and goes through the product's own stages: ingest, training, drawing,
judging by all gates, and every arm of the worth stage, the search for the best classical policy included. Models of one
seed share a store, so that what needs real rows alone is done once. All is the model's default. Test rows are the same
for all seeds.

A row is one model on one data set with one scarcity. Arms with and without synthetic rows are chosen by their balanced
accuracy on validation rows, in the mean over seeds; figures, `ratio` and the verdict are of test rows. Intervals hold
95 %, by Student's t over the differences seed by seed. Cells whose rows a gate refuses count all the same, and how many
were refused is said. Finished cells are kept in benchmarks/results/worth.json, those of a quick run in build/; a run
that was ended goes on, and several may fill the file side by side. Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error
from _worth_data import SCARCE, SOURCES, Form, Sizes, is_there, run_config
from families import cpu_seconds
from scarce_images import interval

from augment.config import MODELS, RunConfig
from augment.gates import load_gates
from augment.generation import generate_shard
from augment.ingest import ingest
from augment.plan import rows_to_draw
from augment.rounds import round_requests
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.training import model_code, train
from augment.validation import active_checks, conclude, judge_shard, make_reference
from augment.worth.lift import Rows, conclude_worth, load_worth, measure_arms, measure_real, search_classical

CODE = ("augment.worth", "augment.generation", "augment.training", "augment.checks", "augment.codec", "augment.columns")
FORMS: dict[Form, str] = {"images": "grid", "tables": "vector"}
KINDS = {form: tuple(kind for kind in sorted(MODELS) if rows in MODELS[kind].accepts) for form, rows in FORMS.items()}
METRIC = "balanced_accuracy"
SEARCH, QUICK_SEARCH = 12, 4
QUICK = Sizes(train_steps=40, test=300)
T = TypeVar("T")


def measure(make_config: Callable[[], RunConfig], search: int, of_real_rows: dict[str, float]) -> Cell:
    """One cell: the scores of every arm, which gates refused the rows, and what each part cost.

    What is done with real rows alone is found in the store by all models after the first. ``of_real_rows`` keeps what
    it cost that one, so that it is counted for each.
    """
    config = make_config()
    seed = config.seed
    seconds: dict[str, float] = {}

    def timed(part: str, action: Callable[[], T], of_real: str | None = None) -> T:
        spent, found = cpu_seconds(action)
        if of_real is not None:
            spent = of_real_rows.setdefault(of_real, spent)
        seconds[part] = round(seconds.get(part, 0.0) + spent, 3)
        return found

    store, checks = Store.open(config.store), active_checks([])
    real = timed("ingest", lambda: ingest(config.source, config.split, seed, store), "rows")
    wanted = rows_to_draw(config.plan, real, store)
    reference = timed("gates", lambda: make_reference(real, checks, seed, store), "reference")
    model = timed("train", lambda: train(real, config.model, config.train, seed, store))
    shards: list[ArtifactRef] = []
    judged: list[ArtifactRef] = []
    for number in range(config.generate.rounds + 1):
        for request in round_requests(config.generate, model, wanted, judged, number, store):
            draw = partial(generate_shard, model, real, config.generate, request, seed, store)
            shards.append(timed("draw", draw))
            judge = partial(judge_shard, shards[-1], reference, real, checks, store, list(judged))
            judged.append(timed("gates", judge))
    audit = timed("gates", lambda: conclude(real, reference, model, wanted, shards, judged, checks, store))
    rows = Rows(real, shards, judged)
    searched = timed("search", lambda: search_classical(real, search, seed, store), "search")
    known = timed("arms", lambda: measure_real(real, searched, 0, seed, store), "arms")
    arms = timed("arms", lambda: measure_arms(rows, searched, known, True, 0, seed, store))
    worth = load_worth(conclude_worth(rows, searched, [arms], [], METRIC, 1, 0.05, seed, store), store)
    failed = [
        gate.gate
        for gate in load_gates(store.path(audit) / "gates.json")
        if gate.passed is False and gate.severity == "critical"
    ]
    found = {arm.name: {"role": arm.role, "validation": arm.validation, "test": arm.test} for arm in worth.arms}
    return {
        "refused_by": failed,
        "rows": worth.rows,
        "policy": worth.search["chosen"],
        "cpu_seconds": seconds,
        "arms": found,
    }


def score(cells: Iterable[Cell], arm: str, part: str) -> list[float]:
    """Balanced accuracy of an arm in each cell."""
    return [
        cell["arms"][arm]["validation"] if part == "validation" else cell["arms"][arm]["test"][METRIC] for cell in cells
    ]


def best(cells: list[Cell], role: str) -> str:
    """The arm of a role that is best on validation rows."""
    names = [name for name, arm in cells[0]["arms"].items() if arm["role"] == role]
    return max(names, key=lambda name: statistics.fmean(score(cells, name, "validation")))


def summarised(cells: list[Cell]) -> Cell:
    """What the cells of a model at one scarcity show."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": f"{one['data']} {one['kind']}", "data": one["data"], "kind": one["kind"], "seeds": len(done)}
    row["stopped"] = [{"seed": cell["seed"], "why": cell["absent"]} for cell in cells if "absent" in cell]
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    first, second = best(done, "with"), best(done, "without")
    arms = done[0]["arms"]
    row["arms"] = {
        name: {part: mean_and_error(score(done, name, part)) for part in ("validation", "test")} for name in arms
    }
    pairs = {
        part: zip(score(done, first, part), score(done, second, part), strict=True) for part in ("validation", "test")
    }
    by_seed = {part: [a - b for a, b in found] for part, found in pairs.items()}
    lifts = {part: interval(found) for part, found in by_seed.items()}
    low, high = lifts["test"]["low"], lifts["test"]["high"]
    word = "no clear difference"
    if low is None or high is None:
        word = "one seed says nothing"
    elif low > 0 or high < 0:
        word = "helps" if low > 0 else "harms"
    others = {
        metric: interval(c["arms"][first]["test"][metric] - c["arms"][second]["test"][metric] for c in done)
        for metric in ("macro_f1", "worst_recall", "average_precision")
        if all(metric in c["arms"][first]["test"] for c in done)
    }
    return {
        **row,
        "with": first,
        "without": second,
        "validation_lift": lifts["validation"],
        "lift": lifts["test"],
        "lifts": by_seed["test"],
        "others": others,
        "verdict": word,
        "refused": sum(bool(c["refused_by"]) for c in done),
        "refused_by": sorted({gate for c in done for gate in c["refused_by"]}),
        "cpu_seconds": {
            part: mean_and_error(c["cpu_seconds"].get(part) for c in done) for part in done[0]["cpu_seconds"]
        },
        "ratio": statistics.fmean(score(done, first, "test")) / statistics.fmean(score(done, second, "test")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed and short trainings; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="the folder that holds the data sets")
    parser.add_argument("--only", nargs="*", choices=sorted(SOURCES), default=list(SOURCES))
    parser.add_argument("--scarce", nargs="*", type=int, help="training rows of a scarce class")
    parser.add_argument(
        "--kinds", nargs="*", choices=sorted(MODELS), help="models; those that suit the rows by default"
    )
    parser.add_argument("--seeds", type=int, help="seeds 0, 1, ... of each case; 8 by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes, search = (QUICK, QUICK_SEARCH) if args.quick else (Sizes(), SEARCH)
    cells = Cells(
        (UNFINISHED if args.quick else RESULTS) / "worth.json",
        ("data", "kind", "seed"),
        ("settings", "code"),
        summarised,
    )
    absent = []
    for seed in range(args.seeds or (1 if args.quick else 8)):
        for name in args.only:
            if not is_there(name, args.data):
                absent += [{"case": name, "absent": f"not there: give the folder that holds {name} with --data"}] * (
                    not seed
                )
                continue
            form = SOURCES[name].form
            for scarce in args.scarce or (SCARCE[name][:1] if args.quick else SCARCE[name]):
                of_real_rows: dict[str, float] = {}
                with tempfile.TemporaryDirectory(prefix="worth-") as folder:
                    for kind in args.kinds or KINDS[form]:
                        code = hash_json([code_version(*CODE), model_code(MODELS[kind]())])[:16]
                        asked = {
                            "data": f"{name}, {scarce} rows", "kind": kind, "seed": seed,
                            "settings": sizes.model_dump() | {"search": search}, "code": code,
                        }  # fmt: skip
                        config = partial(run_config, args.data, name, scarce, kind, seed, Path(folder), sizes)
                        cells.fill(asked, partial(measure, config, search, of_real_rows))
    document = cells.document([{**row, "ratio": None} for row in absent])
    if args.json:
        print(json.dumps({name: document[name] for name in ("machine", "versions", "rows")}, indent=1))
    else:
        for row in document["rows"]:
            print(_line(row))
    return 0


def _line(row: Cell) -> str:
    if "absent" in row:
        return f"{row['case']:45} {row['absent']}"
    lift = row["lift"]
    said = f"{100 * lift['mean']:+.1f} [{100 * (lift['low'] or np.nan):+.1f}, {100 * (lift['high'] or np.nan):+.1f}]"
    return f"{row['case']:45} {said:22} {row['verdict']:22} {row['with']} | {row['without']}, refused {row['refused']}"


if __name__ == "__main__":
    sys.exit(main())
