"""Do rows drawn from real exemplars help a classifier where classes have five rows, beside the best classical changes?

    python benchmarks/scarce_images.py --data DIR [--quick] [--json] [--only mnist] [--kinds warp_vae] [--seeds 8]

DIR holds mnist/ and fashion-mnist/; rows whose data are not there are reported as absent. The five odd classes are cut
to 5 training rows each, the even ones to 300. Each cell (data, model, seed) goes through the product's own stages in a
store of its own: ingest, training, and the drawing of 300 rows of every class, the large ones too: where only scarce
classes have synthetic rows, a classifier learns that what looks generated is scarce. All is the model's default.

A small convolutional net then learns for 400 steps from batches with the same number of rows of each class: from real
rows with classical changes drawn anew for every batch, or the same with synthetic rows in half of each class's places,
which are changed alike. All arms of a seed have the same first weights. `balanced_accuracy` is the mean recall of the
ten classes over 4,000 test rows, `scarce_recall` that of the odd ones. Intervals hold 95 %, by Student's t over the
differences seed by seed. `best` compares the arm with synthetic rows and the one without that are the best over
2,000 validation rows; its figures, and `ratio`, are of the test rows. Times are CPU seconds of one thread. Finished
cells are kept in benchmarks/results/scarce_images.json, those of a quick run in build/; a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error
from _images import idx_part
from families import cpu_seconds, encoded, idx_source
from scipy.stats import t as student  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from augment._seeding import numpy_generator, torch_generator
from augment.codec import Codec
from augment.config import MODELS, GenerateSection, RunConfig
from augment.generation import generate_shard, shard_requests
from augment.ingest import ingest
from augment.store import Store, code_version, hash_json
from augment.training import model_code, train
from models._contract import Batch
from models._nets import first_weights

DATA = ("mnist", "fashion-mnist")
STAGES = ("ingest", "split", "encoding", "training", "generation", "operators", "_exemplars", "codec", "columns")
CODE = tuple(f"augment.{name}" for name in STAGES)
NO_DATA = "not there: give the folder that holds {}/train-images-idx3-ubyte.gz with --data"
CLASSES = 10
FIGURES = ("balanced_accuracy", "scarce_recall")


@dataclass(frozen=True)
class Settings:
    """How many rows of what, and how long is learned; a cell is measured anew where one of them differs."""

    scarce: int = 5  # training rows of each odd class
    large: int = 300  # and of each even one
    validation: int = 200  # rows of each class
    candidates: int = 800  # of each class, which both are cut from; ingest leaves out what test rows repeat
    test: int = 4_000  # rows in all
    synthetic: int = 300  # rows of each class
    train_steps: int | None = None  # of the generator; the model's default
    learner_steps: int = 400
    batch: int = 100
    learning_rate: float = 2e-3


QUICK = Settings(test=400, train_steps=40, learner_steps=60)


@dataclass(frozen=True)
class Changes:
    """Classical changes of images ``(B, 1, H, W)`` of brightness in [0, 1], one for each image; black comes in.

    Each range is symmetric: degrees of rotation and shear, a part of the size, pixels of the shift, and a part of the
    brightness. Without an affine change the shift is of whole pixels, which blurs nothing.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: int = 2
    gain: float = 0.0

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The changed images; whatever the ranges, as many numbers are drawn, so that arms see the same rows."""
        drawn = 2 * torch.rand(len(x), 6, generator=generator) - 1
        turn, shear = math.radians(self.rotation) * drawn[:, 0], torch.tan(math.radians(self.shear) * drawn[:, 1])
        shift = self.shift * drawn[:, 3:5]
        if not (self.rotation or self.scale or self.shear):
            shift = ((self.shift + 0.5) * drawn[:, 3:5]).round().clamp(-self.shift, self.shift)
        cos, sin = torch.cos(turn), torch.sin(turn)
        linear = torch.stack([cos, cos * shear - sin, sin, sin * shear + cos], 1).reshape(-1, 2, 2)
        linear = linear / (1 + self.scale * drawn[:, 2, None, None])  # it says where pixels are read from
        places = torch.cat([linear, (2 * shift / x.shape[-1])[:, :, None]], 2)
        grid = functional.affine_grid(places, list(x.shape), align_corners=False)
        moved = functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
        return (moved * (1 + self.gain * drawn[:, 5, None, None, None])).clamp(0, 1)


CLASSICAL = {
    "shifts": Changes(),
    "shifts + gain": Changes(gain=0.4),
    "mild affine + gain": Changes(rotation=8, scale=0.08, shear=5, gain=0.4),
    "affine + gain": Changes(rotation=15, scale=0.15, shear=10, gain=0.4),
    "wide affine + gain": Changes(rotation=25, scale=0.25, shear=20, shift=3, gain=0.4),
}
SYNTHETIC = {f"{name} + synthetic": name for name in CLASSICAL}  # and the arm that each is compared with


class Pool:
    """Rows to draw from, as many of one class as of another."""

    def __init__(self, rows: Batch) -> None:
        self._x = brightness(rows.x)[rows.y.argsort(stable=True)]
        self._counts = torch.bincount(rows.y, minlength=CLASSES)
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, each: int, generator: torch.Generator) -> Tensor:
        """``each`` rows of every class, class after class, with replacement."""
        within = torch.randint(2**31, (CLASSES, each), generator=generator) % self._counts[:, None]
        return self._x[(self._starts[:, None] + within).flatten()]


def brightness(x: Tensor) -> Tensor:
    """Rows in [-1, 1] as the learner sees them: 0 is black, 1 is white."""
    return (x + 1) / 2


def small_net(generator: torch.Generator) -> nn.Module:
    """The learner, for 28x28 pixels: logits ``(B, 10)``.

    Normalised, it is some 3 points better with classical changes alone; image by image, so that synthetic rows in a
    batch do not alter how real ones are seen.
    """
    layers: list[nn.Module] = []
    with first_weights(generator):
        for before, after in ((1, 16), (16, 32), (32, 64)):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(after // 8, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, CLASSES))


def learned(pools: list[Pool], changes: Changes, seed: int, settings: Settings) -> nn.Module:
    """The learner after its steps; the pools have the same share of every class's places in a batch."""
    net = small_net(torch_generator(seed, "scarce_images", "weights"))
    generator = torch_generator(seed, "scarce_images", "batches")
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.learner_steps)
    each = settings.batch // (CLASSES * len(pools))
    y = torch.arange(CLASSES).repeat_interleave(each).repeat(len(pools))
    for _ in range(settings.learner_steps):
        x = torch.cat([pool.draw(each, generator) for pool in pools])
        loss = functional.cross_entropy(net(changes(x, generator)), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def judged(net: nn.Module, rows: Batch) -> dict[str, float]:
    """The figures of a learner over ``rows``, which have all classes."""
    right = net(brightness(rows.x)).argmax(1) == rows.y
    recall = torch.stack([right[rows.y == label].double().mean() for label in range(CLASSES)])
    return {"balanced_accuracy": float(recall.mean()), "scarce_recall": float(recall[1::2].mean())}


def some_images(source: Path, seed: int, folder: Path, settings: Settings) -> dict[str, Any]:
    """A source of the test rows and of what training and validation are cut from, a seeded choice."""
    pixels, labels = idx_part(source, "train")
    draw = numpy_generator(seed, "scarce_images", "train")
    members = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    some = np.sort(np.concatenate([draw.choice(rows, settings.candidates, replace=False) for rows in members]))
    unseen, truth = idx_part(source, "t10k")
    test = np.sort(numpy_generator(seed, "scarce_images", "t10k").choice(len(truth), settings.test, replace=False))
    return idx_source(folder, (pixels[some], labels[some]), (unseen[test], truth[test]))


def run_config(data: Path, kind: str, seed: int, folder: Path, settings: Settings) -> RunConfig:
    """The run of one cell: the model's defaults, on the CPU."""
    cut = {str(c): settings.scarce if c % 2 else settings.large for c in range(CLASSES)}
    content = {
        "seed": seed,
        "source": some_images(data, seed, folder, settings),
        "split": {"validation": settings.validation / settings.candidates, "train_per_class": cut},
        "model": {"kind": kind},
        "train": {"device": "cpu", "steps": settings.train_steps},
        "store": str(folder / "store"),
    }
    return RunConfig.model_validate(content)


def rows_of(data: Path, kind: str, seed: int, settings: Settings, seconds: dict[str, float]) -> dict[str, Batch]:
    """The real rows of each part and the synthetic ones, all stages in this process; CPU seconds go to ``seconds``."""
    with tempfile.TemporaryDirectory(prefix="scarce-images-") as temporary:
        config = run_config(data, kind, seed, Path(temporary), settings)
        store = Store.open(config.store)
        seconds["ingest"], real = cpu_seconds(lambda: ingest(config.source, config.split, seed, store))
        seconds["train"], model = cpu_seconds(lambda: train(real, config.model, config.train, seed, store))
        codec = Codec.load(store.path(model) / "codec.json")
        assert list(codec.table.classes) == list(range(CLASSES))  # so that a row's class is its label
        wanted = dict.fromkeys(map(str, range(CLASSES)), settings.synthetic)
        (request,) = shard_requests(wanted, 0, sum(wanted.values()))
        section = GenerateSection(device="cpu")
        seconds["draw"], shard = cpu_seconds(lambda: generate_shard(model, real, section, request, seed, store))
        parts = {p: encoded(store.path(real) / f"{p}.parquet", codec, seed) for p in ("train", "validation", "test")}
        return parts | {"synthetic": encoded(store.path(shard) / "shard.parquet", codec, seed)}


def measure(data: Path, kind: str, seed: int, settings: Settings) -> Cell:
    """One cell: what every arm reaches on the validation and the test rows, and what each part cost."""
    seconds: dict[str, float] = {}
    rows = rows_of(data, kind, seed, settings, seconds)
    real, synthetic = Pool(rows["train"]), Pool(rows["synthetic"])
    arms: Cell = {}
    for arm in (*CLASSICAL, *SYNTHETIC):
        pools = [real, synthetic] if arm in SYNTHETIC else [real]
        changes = CLASSICAL[SYNTHETIC.get(arm, arm)]
        seconds[arm], net = cpu_seconds(partial(learned, pools, changes, seed, settings))
        arms[arm] = {part: judged(net, rows[part]) for part in ("validation", "test")}
    counts = {f"{part}_rows": torch.bincount(found.y, minlength=CLASSES).tolist() for part, found in rows.items()}
    return {**counts, "cpu_seconds": seconds, "arms": arms}


def interval(differences: Iterable[float]) -> dict[str, float | None]:
    """The mean and its 95 % interval by Student's t; no interval of fewer than two."""
    values = list(differences)
    mean, low, high = statistics.fmean(values), None, None
    if len(values) > 1:
        reach = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
        low, high = round(mean - reach, 5), round(mean + reach, 5)
    return {"mean": round(mean, 5), "low": low, "high": high}


def summarised(cells: list[Cell]) -> Cell:
    """The row of a model on some data: every arm, and the differences that synthetic rows make."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": f"{one['data']} {one['kind']}", "data": one["data"], "kind": one["kind"], "seeds": len(done)}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}

    def values(arm: str, part: str, figure: str) -> list[float]:
        return [cell["arms"][arm][part][figure] for cell in done]

    def beside(arm: str, other: str) -> Cell:
        pairs = {f: zip(values(arm, "test", f), values(other, "test", f), strict=True) for f in FIGURES}
        return {figure: interval(a - b for a, b in found) for figure, found in pairs.items()}

    def mean(part: str, arm: str) -> float:
        return statistics.fmean(values(arm, part, "balanced_accuracy"))

    arms = (*CLASSICAL, *SYNTHETIC)
    for part in ("validation", "test"):
        row[part] = {arm: {f: mean_and_error(values(arm, part, f)) for f in FIGURES} for arm in arms}
    row["differences"] = {arm: beside(arm, other) for arm, other in SYNTHETIC.items()}
    best, other = (max(side, key=partial(mean, "validation")) for side in (SYNTHETIC, CLASSICAL))
    row["best"] = {"with": best, "without": other, **beside(best, other)}
    costs = done[0]["cpu_seconds"]
    row["cpu_seconds"] = {name: mean_and_error(cell["cpu_seconds"][name] for cell in done) for name in costs}
    return {**row, "settings": done[-1]["settings"], "ratio": mean("test", best) / mean("test", other)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed and short trainings; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="the folder that holds mnist and fashion-mnist")
    parser.add_argument("--only", nargs="*", choices=DATA, default=list(DATA))
    parser.add_argument("--kinds", nargs="*", choices=sorted(MODELS), default=["warp_vae"])
    parser.add_argument("--seeds", type=int, help="seeds 0, 1, ... of each case; 8 by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = QUICK if args.quick else Settings()
    place = (UNFINISHED if args.quick else RESULTS) / "scarce_images.json"
    cells = Cells(place, ("data", "kind", "seed"), ("settings", "code"), summarised)
    there = [name for name in args.only if args.data and (args.data / name).is_dir()]
    for seed in range(args.seeds or (1 if args.quick else 8)):
        for data in there:
            for kind in args.kinds:
                code = f"{code_version(*CODE)}-{model_code(MODELS[kind]())}-{hash_json(Path(__file__).read_text())[:8]}"
                asked = {"data": data, "kind": kind, "seed": seed, "settings": asdict(settings), "code": code}
                cells.fill(asked, partial(measure, args.data / data, kind, seed, settings))
    missing = [name for name in args.only if name not in there]
    absent = [{"case": name, "data": name, "absent": NO_DATA.format(name), "ratio": None} for name in missing]
    print(json.dumps(cells.document(absent), indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
