"""Quality and cost of every model at equal CPU minutes, beside real rows in the place of the synthetic ones.

    python benchmarks/families.py [--quick] [--json] [--data DIR] [--only digits wine] [--kinds vae]
                                  [--minutes digits=2 fashion-mnist=8] [--seeds 3]

Each cell (data, model, seed) goes through the product's own stages in a store of its own: ingest, a short training that
measures the time of a step, a training of as many steps as fit into the minutes, and the drawing of as many rows of
every class as the largest has (1,000 in all at least, 200 of a class of Fashion-MNIST). Everything else is the model's
default. Times are CPU seconds of one thread. The seed decides the split or the choice of the rows, the first weights
and all noise.

Fidelity is measured against the test rows (augment/worth/fidelity.py); a figure's `floor` is what training rows score
in the place of the synthetic ones. `ratio` is coverage over its floor. Fashion-MNIST is read from DIR/fashion-mnist and
cut to 5,000 training and 2,000 test images. Finished cells are kept in benchmarks/results/families.json, those of a
quick run in build/, and a run that was ended goes on. A picture of each model and data set of images goes to
docs/pictures, of the first seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error
from _images import Labels, Pixels, idx_part, write_idx
from _picture_grid import write_picture_grid

from augment._seeding import derive_seed, numpy_generator, torch_generator
from augment.codec import Codec
from augment.config import MODELS, GenerateSection, RunConfig
from augment.encoding import encode
from augment.generation import generate_shard, load_model, shard_requests
from augment.ingest import ingest
from augment.operators import OPERATORS, chosen_operator, draw_function
from augment.runfile import load_run_config
from augment.store import ArtifactRef, Store, code_version
from augment.training import model_code, train, training_choices
from augment.worth.fidelity import Fidelity, RealSide, learn_real, measure_fidelity
from models._contract import Batch, GenerativeModel

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
FIGURES = ("coverage", "density", "frechet", "label_agreement", "classifier_score", "accuracy", "novelty")
COSTS = ("training_rows_per_second", "samples_per_second", "model_samples_per_second", "steps", "cpu_minutes")
CODE = ("augment.training", "augment.generation", "augment.operators", "augment.codec", "augment.worth")
FASHION = "fashion-mnist"
LEAST_ROWS, MOST_OF_A_CLASS = 1_000, {FASHION: 200}
# The time of a step is measured over this share of the minutes, and so many seconds at least.
CALIBRATION_SHARE, LEAST_CALIBRATION, MOST_CALIBRATION_STEPS = 0.03, 1.0, 2_000
NO_DATA = "not there: give the folder that holds fashion-mnist/train-images-idx3-ubyte.gz with --data"


@dataclass(frozen=True)
class Budget:
    """CPU minutes of a training, and over how many seeds, by default and with ``--quick``."""

    minutes: float
    seeds: int
    quick_minutes: float


BUDGETS = {
    "digits": Budget(0.75, 3, 0.05),
    FASHION: Budget(4.0, 1, 0.15),
    "wine": Budget(0.1, 3, 0.02),
    "breast_cancer": Budget(0.2, 3, 0.02),
}


def run_config(data: str, kind: str, seed: int, folder: Path, source: Path | None) -> RunConfig:
    """The run of one cell: defaults, on the CPU; the digits are those of the packaged example."""
    if data == "digits":
        return load_run_config(None, [f"model.kind={kind}", f"seed={seed}", "train.device=cpu"], str(folder / "store"))
    content: dict[str, Any] = {"source": {"kind": data}, "split": {"test": 0.4, "validation": 0}}
    if data == FASHION:
        assert source is not None
        content["source"] = some_fashion(source, seed, folder)
        content["split"] = {"validation": 0}
    common = {"name": "families", "seed": seed, "model": {"kind": kind}, "train": {"device": "cpu"}}
    return RunConfig.model_validate({**content, **common, "store": str(folder / "store")})


def some_fashion(source: Path, seed: int, folder: Path) -> dict[str, Any]:
    """A source of 5,000 training and 2,000 test images of Fashion-MNIST, a seeded choice."""
    parts = {}
    for part, rows in (("train", 5_000), ("t10k", 2_000)):
        pixels, labels = idx_part(source, part)
        chosen = np.sort(numpy_generator(seed, "families", part).choice(len(labels), rows, replace=False))
        parts[part] = pixels[chosen], labels[chosen]
    return idx_source(folder, parts["train"], parts["t10k"])


def idx_source(folder: Path, train: tuple[Pixels, Labels], test: tuple[Pixels, Labels]) -> dict[str, Any]:
    """A source of the images and labels of both parts, written as IDX files into ``folder``."""
    files: dict[str, dict[str, str]] = {}
    for part, (pixels, labels) in (("train", train), ("t10k", test)):
        files[part] = {name: str(folder / f"{part}-{name}") for name in ("images", "labels")}
        write_idx(Path(files[part]["images"]), pixels)
        write_idx(Path(files[part]["labels"]), labels.astype(np.uint8))
    return {"kind": "idx", **files["train"], "test": files["t10k"]}


def cpu_seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = action()
    return time.process_time() - began, result


def steps_within(minutes: float, trained: Callable[[int], Any]) -> int:
    """How many steps take so many CPU minutes: the slope between a training of two steps and one of more."""
    trained(1)  # also encodes the rows and imports what is imported on first use
    fixed, _ = cpu_seconds(partial(trained, 2))
    steps, wanted = 8, max(LEAST_CALIBRATION, CALIBRATION_SHARE * 60 * minutes)
    while True:
        spent = cpu_seconds(partial(trained, 2 + steps))[0] - fixed
        if spent >= wanted or steps >= MOST_CALIBRATION_STEPS:
            return max(1, round(60 * minutes * steps / max(spent, 1e-6)))
        steps *= max(2, min(8, round(1.5 * wanted / max(spent, 1e-6))))


def encoded(path: Path, codec: Codec, seed: int) -> Batch:
    """The rows of a Parquet file as the model sees them."""
    table = pq.read_table(path).select(codec.table.arrow_schema.names).combine_chunks()
    x, y = codec.encode(table.to_batches()[0], numpy_generator(seed, "families", path.name))
    return Batch(codec.tensor(x), torch.from_numpy(y))


class Families:
    """The cells of a run; what real rows score is worked out once for all models."""

    def __init__(self, fashion: Path | None, pictures: Path) -> None:
        self.fashion = fashion
        self.pictures = pictures
        self._real: dict[tuple[str, int], RealSide] = {}

    def measure(self, data: str, kind: str, seed: int, minutes: float, *, first: bool) -> Cell:
        """One cell: figures with their floors, and costs."""
        with tempfile.TemporaryDirectory(prefix="families-") as temporary:
            config = run_config(data, kind, seed, Path(temporary), self.fashion)
            store = Store.open(config.store)
            real = ingest(config.source, config.split, seed, store)

            def trained(own_seed: int, steps: int) -> ArtifactRef:
                settings = config.train.model_copy(update={"steps": steps})
                return train(real, config.model, settings, own_seed, store)

            # of another seed: the store would give back a training of as many steps instead of doing it again
            steps = steps_within(minutes, partial(trained, derive_seed(seed, "families", "calibration")))
            encode(real, seed, store)  # not part of the training's time
            seconds, model = cpu_seconds(partial(trained, seed, steps))
            codec = Codec.load(store.path(model) / "codec.json")
            seen, held_out = (encoded(store.path(real) / f"{p}.parquet", codec, seed) for p in ("train", "test"))
            counts = rows_to_draw(data, codec, seen)
            (request,) = shard_requests(counts, 0, sum(counts.values()))
            section = GenerateSection(device="cpu")
            drawing, shard = cpu_seconds(lambda: generate_shard(model, real, section, request, seed, store))
            synthetic = encoded(store.path(shard) / "shard.parquet", codec, seed)
            if (data, seed) not in self._real:
                self._real[data, seed] = learn_real(codec.spec, seen, held_out, derive_seed(seed, "families"))
            fidelity = measure_fidelity(self._real[data, seed], synthetic)
            if first and codec.spec.form == "grid":
                write_picture_grid(self.pictures / f"{kind}-{data}.png", seen, synthetic)
            network, _ = load_model(model, store)
            operator = chosen_operator(config.model, None)
            return {
                "steps": steps,
                "cpu_minutes": seconds / 60,
                "operator": operator,
                "evaluations_per_sample": config.model.evaluations(),
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "training_rows": len(seen.y),
                "held_out_rows": len(held_out.y),
                "synthetic_rows": len(synthetic.y),
                "training_rows_per_second": steps * batch_size(config) / seconds,
                "samples_per_second": len(synthetic.y) / drawing,
                "model_samples_per_second": drawn_per_second(network, operator, seen),
                **figures(fidelity, codec),
            }


def batch_size(config: RunConfig) -> int:
    return training_choices(config.model, config.train).batch_size


def rows_to_draw(data: str, codec: Codec, seen: Batch) -> dict[str, int]:
    """Of every class as many rows as the largest has, 1,000 in all at least."""
    names = [str(name) for name in codec.table.classes]
    each = max(int(torch.bincount(seen.y).max()), -(-LEAST_ROWS // len(names)))
    return dict.fromkeys(names, min(each, MOST_OF_A_CLASS.get(data, each)))


def drawn_per_second(model: GenerativeModel, operator: str, seen: Batch) -> float:
    """Rows that the net alone draws in a CPU second, 256 at a time, for two seconds or one batch."""
    draw = draw_function(model, operator)
    generator = torch_generator(0, "families", "speed")
    chosen = torch.randint(len(seen.y), (256,), generator=generator)
    labels, parents = seen.y[chosen], [seen.x[chosen]] * OPERATORS[operator].parents
    rows, began = 0, time.process_time()
    with torch.inference_mode():
        while time.process_time() - began < 2:
            rows += len(draw(labels, parents, generator))
    return rows / (time.process_time() - began)


def figures(fidelity: Fidelity, codec: Codec) -> Cell:
    """The figures of all classes together, and coverage and agreement of each, as JSON values."""
    classes = {
        str(codec.table.classes[y]): {
            "compared": found.compared,
            "coverage": vars(found.coverage),
            "label_agreement": vars(found.label_agreement),
        }
        for y, found in fidelity.classes.items()
    }
    return {**{name: dict(vars(getattr(fidelity, name))) for name in FIGURES}, "classes": classes}


def summarised(cells: list[Cell]) -> Cell:
    """The row of a model on some data: means and standard errors over the seeds that were measured."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": f"{one['data']} {one['kind']}", "data": one["data"], "kind": one["kind"], "seeds": len(done)}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    for name in FIGURES:
        known = [cell[name] for cell in done if name in cell]  # cells of older code may lack a figure
        if not known:
            continue
        floor = mean_and_error(figure["floor"] for figure in known)
        row[name] = {
            **mean_and_error(figure["value"] for figure in known),
            "floor": floor["mean"],
            "floor_se": floor["se"],
        }
    row |= {name: mean_and_error(cell[name] for cell in done) for name in COSTS}
    kept = ("minutes", "operator", "evaluations_per_sample", "parameters", "training_rows", "held_out_rows")
    row |= {name: done[-1][name] for name in kept}
    coverage = row["coverage"]
    row["ratio"] = coverage["mean"] / coverage["floor"] if coverage["floor"] and coverage["mean"] is not None else None
    return row


def parsed_minutes(texts: list[str]) -> dict[str, float]:
    return {name: float(number) for name, _, number in (text.partition("=") for text in texts)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed and a few seconds each; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="the folder that holds fashion-mnist")
    parser.add_argument("--only", nargs="*", choices=sorted(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--kinds", nargs="*", choices=sorted(MODELS), default=sorted(MODELS))
    parser.add_argument("--minutes", nargs="*", default=[], metavar="DATA=MINUTES", help="CPU minutes of a training")
    parser.add_argument("--seeds", type=int, help="seeds 0, 1, ... of each case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    fashion = args.data / FASHION if args.data else None
    absent = []
    if FASHION in args.only and (fashion is None or not fashion.is_dir()):
        args.only = [name for name in args.only if name != FASHION]
        absent = [{"case": FASHION, "data": FASHION, "absent": NO_DATA, "ratio": None}]
    place = UNFINISHED / "families" if args.quick else RESULTS
    cells = Cells(place / "families.json", ("data", "kind", "seed"), ("minutes", "code"), summarised)
    families = Families(fashion, place / "pictures" if args.quick else PICTURES)
    given = parsed_minutes(args.minutes)
    for data in args.only:
        budget = BUDGETS[data]
        minutes = given.get(data, budget.quick_minutes if args.quick else budget.minutes)
        for seed in range(args.seeds or (1 if args.quick else budget.seeds)):
            for kind in args.kinds:
                code = f"{code_version(*CODE)}-{model_code(MODELS[kind]())}"
                asked = {"data": data, "kind": kind, "seed": seed, "minutes": minutes, "code": code}
                cells.fill(asked, partial(families.measure, data, kind, seed, minutes, first=seed == 0))
    print(json.dumps(cells.document(absent), indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
