"""Does a model with its defaults pass the audit? The whole run on the packaged example and on a table.

    python benchmarks/blessings.py [--quick] [--json] [--only digits wine] [--kinds vae] [--seeds 7 8 9]

Each cell (data, model, seed) ingests, trains, draws, judges and publishes as `augment run --set model.kind=KIND` does,
on the CPU and without Prefect: `digits` is the packaged example, `wine` scikit-learn's wines with nothing but defaults.
`ratio` is the share of seeds that were blessed. Finished cells are kept in benchmarks/results/blessings.json, those of
a quick run in build/.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error

from augment.config import MODELS, RunConfig
from augment.generation import generate_shard
from augment.ingest import ingest
from augment.plan import rows_to_draw
from augment.publishing import Publication, RunContext, publish
from augment.rounds import round_requests
from augment.runfile import load_run_config
from augment.store import ArtifactRef, Store, code_version
from augment.training import model_code, train
from augment.validation import active_checks, conclude, judge_shard, make_reference

DATA = ("digits", "wine")
CODE = ("augment.training", "augment.generation", "augment.checks", "augment.validation", "augment.worth")


def run_config(data: str, kind: str, seed: int, store: str) -> RunConfig:
    if data == "digits":
        return load_run_config(None, [f"model.kind={kind}", f"seed={seed}", "train.device=cpu"], store)
    content = {"name": data, "source": {"kind": data}, "model": {"kind": kind}, "train": {"device": "cpu"}}
    return RunConfig.model_validate({**content, "seed": seed, "store": store})


def audited(config: RunConfig, seconds: dict[str, float]) -> Publication:
    """What becomes of the run, all stages in this process; CPU seconds go to ``seconds``."""
    store = Store.open(config.store)
    checks = active_checks(config.checks)
    real = ingest(config.source, config.split, config.seed, store)
    began = time.process_time()
    model = train(real, config.model, config.train, config.seed, store)
    seconds["train"] = time.process_time() - began
    began = time.process_time()
    reference = make_reference(real, checks, config.seed, store, shares=config.generate.select.shares)
    wanted = rows_to_draw(config.plan, real, store)
    shards: list[ArtifactRef] = []
    judged: list[ArtifactRef] = []
    for number in range(config.generate.rounds + 1):
        requests = round_requests(config.generate, model, wanted, judged, number, store)
        for request in requests:
            shards.append(generate_shard(model, real, config.generate, request, config.seed, store))
            judged.append(judge_shard(shards[-1], reference, real, checks, store, list(judged), wanted=wanted))
        if not requests:
            break
    audit = conclude(real, reference, model, wanted, shards, judged, checks, store)
    context = RunContext(
        run_id="blessings",
        config=config.model_dump(mode="json"),
        seed=config.seed,
        requested=wanted,
        artifacts=(reference,),
    )
    publication = publish(config.name, real, model, shards, judged, audit, store=store, context=context)
    seconds["rest"] = time.process_time() - began
    return publication


def measure(data: str, kind: str, seed: int) -> Cell:
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="blessings-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        publication = audited(run_config(data, kind, seed, folder), seconds)
    refused = [g for g in publication.gates if g.passed is False and g.severity == "critical"]
    return {
        "verdict": publication.verdict,
        "refused_by": [{"gate": g.gate, "value": g.value, "limit": g.limit, "sentence": g.sentence} for g in refused],
        "gates": {g.gate: g.value for g in publication.gates if g.passed is not None},
        "synthetic_rows": sum(count["synthetic"] for count in publication.rows.values()),
        "train_cpu_seconds": seconds["train"],
        "rest_cpu_seconds": seconds["rest"],
    }


def summarised(cells: list[Cell]) -> Cell:
    """The row of a model on some data: how many seeds were blessed, and what refused the others.

    A gate that refused some has what it said of the first of them, and how many they were.
    """
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": f"{one['data']} {one['kind']}", "data": one["data"], "kind": one["kind"], "seeds": len(done)}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    blessed = [cell for cell in done if cell["verdict"] == "blessed"]
    refused: dict[str, dict[str, Any]] = {}
    for cell in done:
        for gate in cell["refused_by"]:
            refused.setdefault(gate["gate"], {**gate, "seeds": 0})["seeds"] += 1
    times = {name: mean_and_error(cell[name] for cell in done) for name in ("train_cpu_seconds", "rest_cpu_seconds")}
    return {
        **row,
        "blessed": len(blessed),
        "refused_by": [*refused.values()],
        **times,
        "ratio": len(blessed) / len(done),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="not needed: both data sets come with scikit-learn")
    parser.add_argument("--only", nargs="*", choices=DATA, default=list(DATA))
    parser.add_argument("--kinds", nargs="*", choices=sorted(MODELS), default=sorted(MODELS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[7, 8, 9], help="7 is the packaged example's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    place = UNFINISHED / "families" if args.quick else RESULTS
    cells = Cells(place / "blessings.json", ("data", "kind", "seed"), ("code",), summarised)
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for data in args.only:
            for kind in args.kinds:
                code = f"{code_version(*CODE)}-{model_code(MODELS[kind]())}"
                asked = {"data": data, "kind": kind, "seed": seed, "code": code}
                cells.fill(asked, partial(measure, data, kind, seed))
    print(json.dumps(cells.document(), indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
