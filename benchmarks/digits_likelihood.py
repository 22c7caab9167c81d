"""Exact bits per dimension of held-out digits, and how well ln p(x|y) tells them apart, model by model.

    python benchmarks/digits_likelihood.py [--quick] [--json] [--kinds pixelcnn] [--seeds 0 1 2]

Scikit-learn's 1,797 digits of 8x8 pixels and 17 grey levels, split by class into 1,000 to learn from and 797 to judge.
Every model that knows its likelihood is trained by our trainer with its defaults on the CPU. The defaults were chosen
on the rows of seed 0; the splits of other seeds overlap with it. `bits_per_dimension` is -ln p(x|y) / (64 ln 2) with
its standard error over the judged rows, `accuracy` the share of them whose own class makes them likeliest. `ratio` is
2.22 over the bits: those of a model of each pixel by itself, given the class. Finished cells are kept in
benchmarks/results/digits_likelihood.json, those of a quick run, of a tenth of the steps and one seed, in build/.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error
from torch import Tensor

from augment.config import MODELS
from augment.progress import silent
from augment.training import build_model, model_code
from augment.training._batches import Rows, Sampler
from augment.training._journal import Journal
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric
from models._bayes import class_log_joint
from models._contract import Batch, GenerativeModel, KnowsLikelihood, Span, TensorSpec

TRAIN = 1000
CLASSES = 10
SPEC = TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), CLASSES)
INDEPENDENT = 2.22
EXACT = [k for k, config in sorted(MODELS.items()) if config.likelihood == "exact" and "grid" in config.accepts]


class Split(NamedTuple):
    """Indices of levels ``(N, 1, 8, 8)`` and digits ``(N,)``, to learn from and to judge."""

    train: np.ndarray
    train_y: np.ndarray
    test: Tensor
    test_y: Tensor


def split(seed: int) -> Split:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    levels = digits.images.astype(np.uint8)[:, None]
    parts = train_test_split(levels, digits.target, train_size=TRAIN, stratify=digits.target, random_state=seed)
    train, test, train_y, test_y = parts
    return Split(train, train_y.astype(np.int64), as_tensor(torch.from_numpy(test)), torch.from_numpy(test_y))


def as_tensor(levels: Tensor) -> Tensor:
    return levels.float() / 8 - 1


def trained(kind: str, seed: int, steps: int, rows: Split, folder: Path) -> GenerativeModel:
    """The model with its defaults but for the steps, with averaged weights."""
    np.save(folder / "x.npy", rows.train)
    np.save(folder / "y.npy", rows.train_y)
    config, cpu = MODELS[kind](), torch.device("cpu")
    chosen, source = config.training, Rows(folder, as_tensor, cpu)
    loop = TrainingLoop(
        build_model(config, SPEC, seed),
        fabric=open_fabric(cpu, "32-true"),
        rows=source,
        sampler=Sampler(source.labels, chosen.batch_size, seed, chosen.sampling),
        settings=LoopSettings(
            steps=steps,
            ema_decay=chosen.ema_decay,
            schedule=chosen.schedule,
            warmup_steps=min(chosen.warmup_steps, steps // 4),
            checkpoint_seconds=1e9,
            compiled=False,
            seed=seed,
            identity={},
        ),
        folder=folder,
        journal=Journal(folder),
        progress=silent,
    )
    loop.run()
    model = build_model(config, SPEC, seed).eval()
    model.load_state_dict(loop.average.tensors)
    return model


def measure(kind: str, seed: int, steps: int) -> Cell:
    rows = split(seed)
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="digits-likelihood-") as folder:
        model = trained(kind, seed, steps, rows, Path(folder))
    seconds = time.process_time() - began
    assert isinstance(model, KnowsLikelihood)
    bits = -model.log_likelihood(Batch(rows.test, rows.test_y)).double() / (SPEC.size * math.log(2))
    learned = -model.log_likelihood(Batch(as_tensor(torch.from_numpy(rows.train)), torch.from_numpy(rows.train_y)))
    recognised = class_log_joint(model, rows.test, torch.zeros(CLASSES)).argmax(1) == rows.test_y
    return {
        "bits_per_dimension": round(float(bits.mean()), 4),
        "standard_error": round(float(bits.std() / math.sqrt(len(bits))), 4),
        "bits_per_dimension_of_training_rows": round(float(learned.mean()) / (SPEC.size * math.log(2)), 4),
        "accuracy": round(float(recognised.double().mean()), 4),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_cpu_seconds": round(seconds, 1),
    }


def summarised(cells: list[Cell]) -> Cell:
    """The row of a model: means over the seeds, with the standard error over these."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": one["kind"], "data": one["data"], "kind": one["kind"], "steps": one["steps"]}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    names = ("bits_per_dimension", "bits_per_dimension_of_training_rows", "accuracy", "train_cpu_seconds")
    figures = {name: mean_and_error(cell[name] for cell in done) for name in names}
    bits = figures["bits_per_dimension"]["mean"]
    assert bits is not None
    return {
        **row,
        "seeds": len(done),
        "rows": {"train": TRAIN, "test": 1797 - TRAIN},
        "parameters": done[0]["parameters"],
        **figures,
        "ratio": round(INDEPENDENT / bits, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed and a tenth of the steps; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="not needed: the digits come with scikit-learn")
    parser.add_argument("--kinds", nargs="*", choices=EXACT, default=EXACT)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    place = UNFINISHED if args.quick else RESULTS
    cells = Cells(place / "digits_likelihood.json", ("data", "kind", "seed"), ("code", "steps"), summarised)
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for kind in args.kinds:
            config = MODELS[kind]()
            steps = config.training.steps // (10 if args.quick else 1)
            asked = {"data": "digits", "kind": kind, "seed": seed, "steps": steps, "code": model_code(config)}
            cells.fill(asked, partial(measure, kind, seed, steps))
    print(json.dumps(cells.document(), indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
