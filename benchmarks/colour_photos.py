"""Class-conditional models on CIFAR-10: how like real photos their rows are, after so many minutes of training.

    python benchmarks/colour_photos.py --data DIR [--quick] [--json] [--device cuda] [--kinds flow_matching]
                                       [--minutes 6] [--train-rows 50000] [--batch-size 64]
                                       [--set kind.setting=value ...]

DIR holds cifar10-jpeg/ (train.zip and test.zip with a folder of JPEG files for each class), whose pixels are not the
published ones: no figure here can be held against those of papers, only against the real rows beside it. Each model is
trained by our trainer for --minutes by the clock, with its own batch size (but for --batch-size), schedule and
averaging; along the way 1,000 rows are drawn of the averaged weights and their coverage and Fréchet distance noted. At
the end 1,000 rows of every class are judged as augment/worth/fidelity.py says, by encoders and classifiers of our own
that are larger and trained for longer than those of the gates; `floor` is what training photos score in the place of
the drawn ones, and `ratio` is the accuracy on test photos of a classifier trained on drawn rows alone over that of one
trained on as many real ones. A training is kept below --folder: one that was stopped goes on. Pictures go to
docs/pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import machine, versions
from _picture_grid import write_picture_grid
from _timed_training import train_for, usual_loop
from torch import Tensor

from augment._devices import choose_device, device_title
from augment._seeding import derive_seed, numpy_generator
from augment.config import MODELS
from augment.runfile import load_run_config
from augment.store import hash_json
from augment.training import build_model, model_code
from augment.training._batches import Rows
from augment.training._loop import TrainingLoop
from augment.worth._classifier import Design
from augment.worth.fidelity import RealSide, learn_real, measure_diversity, measure_fidelity
from models._contract import Batch, ModelConfig, SamplesPrior, Span, TensorSpec

SPEC = TensorSpec((3, 32, 32), (Span("continuous", 3072, 256),), 10)
ENCODER = Design(width=2, depth=2, dropout=0.2, steps=2_000, batch_size=128)
JUDGE = Design(width=1.5, depth=3, dropout=0.1, steps=1_500, batch_size=128)
QUICK = Design(width=0.5, depth=1, dropout=0.1, steps=30)
SEED = 0
LOOKED_AT, DRAWN, AT_ONCE = 100, 1_000, 500  # rows of a class along the way and at the end; rows at once
FIGURES = ("coverage", "density", "frechet", "label_agreement", "classifier_score", "accuracy", "novelty")
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
UNFINISHED = Path(__file__).parents[1] / "build"


def photos(path: Path, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3, 32, 32) and labels (n,) of a zip file, or so many of them by a seeded choice."""
    from PIL import Image

    with zipfile.ZipFile(path) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        classes = sorted({Path(name).parent.name for name in names})
        if rows is not None and rows < len(names):
            names = [names[place] for place in sorted(numpy_generator("photos").permutation(len(names))[:rows])]
        pixels = [np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB")) for name in names]
    labels = np.array([classes.index(Path(name).parent.name) for name in names], np.int64)
    return np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2)), labels


def scaled(levels: Tensor) -> Tensor:
    """Bytes as values in [-1, 1]."""
    return levels.float() / 127.5 - 1


@dataclass(frozen=True)
class Photos:
    """The training photos in a folder as the trainer reads them, and what models are compared with."""

    folder: Path
    device: torch.device
    train: Batch
    real: RealSide
    minutes: float
    looked_at: int  # rows of a class, along the way
    batch_size: int | None  # None: the model's own

    @classmethod
    def read(cls, args: argparse.Namespace, device: torch.device) -> Photos:
        """Read both zip files and learn the encoders and classifiers."""
        source = args.data / "cifar10-jpeg"
        pixels, labels = photos(source / "train.zip", args.train_rows)
        unseen, truth = photos(source / "test.zip", 500 if args.quick else None)
        folder = args.folder / f"rows-{len(labels)}"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "x.npy", pixels)
        np.save(folder / "y.npy", labels)
        sides = [
            Batch(scaled(torch.from_numpy(x).to(device)), torch.from_numpy(y).to(device))
            for x, y in ((pixels, labels), (unseen, truth))
        ]
        designs = (QUICK, QUICK) if args.quick else (ENCODER, JUDGE)
        real = learn_real(SPEC, sides[0], sides[1], derive_seed(SEED, "photos"), *designs)
        return cls(folder, device, sides[0], real, args.minutes, 10 if args.quick else LOOKED_AT, args.batch_size)

    def measure(self, config: ModelConfig, folder: Path, drawn: int, pictures: Path) -> dict[str, Any]:
        """Train a model, or go on with it, and judge what it draws."""
        folder.mkdir(parents=True, exist_ok=True)
        rows_read = Rows(self.folder, scaled, self.device)
        loop_of = partial(usual_loop, config, SPEC, rows_read, self.device, SEED, batch_size=self.batch_size)
        loop, curve, plan = train_for(self.minutes, folder, loop_of, partial(self._look, config))
        began = time.monotonic()
        rows = self._drawn(loop, config, drawn)
        seconds = time.monotonic() - began
        fidelity = measure_fidelity(self.real, rows)
        first = torch.arange(len(rows.y)) % drawn < 8
        write_picture_grid(
            pictures / f"{config.kind}-cifar10.png",
            Batch(*(part[self._shown()].cpu() for part in self.train)),
            Batch(rows.x.cpu()[first], rows.y.cpu()[first]),
        )
        return {
            "model": config.model_dump(mode="json", exclude_defaults=True),
            "train_rows": len(self.train.y),
            "test_rows": sum(len(x) for x in self.real.held_out.values()),
            "device": device_title(self.device),
            "minutes": round(curve.seconds / 60, 2),
            "steps": plan["steps"],
            "batch_size": self.batch_size or config.training.batch_size,
            "milliseconds_a_step": plan["milliseconds"],
            "where_a_step_goes": plan["shares"],
            "parameters": sum(parameter.numel() for parameter in loop.average.tensors.values()),
            "drawn_rows": len(rows.y),
            "drawn_rows_per_second": round(len(rows.y) / seconds, 1),
            "curve": curve.lines(),
            **{name: dict(vars(getattr(fidelity, name))) for name in FIGURES},
            "ratio": _over(fidelity.accuracy.value, fidelity.accuracy.floor),
        }

    def _shown(self) -> Tensor:
        """The places of eight training photos of each class."""
        return torch.cat([torch.nonzero(self.train.y == y)[:8, 0] for y in range(10)])

    def _look(self, config: ModelConfig, loop: TrainingLoop) -> dict[str, float | None]:
        found = measure_diversity(self.real, self._drawn(loop, config, self.looked_at))
        covered = [figure.value for figure in found.coverage.values() if figure.value is not None]
        return {"coverage": sum(covered) / len(covered) if covered else None, "frechet": found.frechet.value}

    @torch.inference_mode()
    def _drawn(self, loop: TrainingLoop, config: ModelConfig, each: int) -> Batch:
        """Rows of the averaged weights, so many of each class, class after class."""
        model = build_model(config, SPEC, SEED).to(self.device).eval()
        model.load_state_dict(loop.average.tensors)
        if not isinstance(model, SamplesPrior):
            raise TypeError(f"{config.kind} draws no rows from a label alone")
        labels = torch.arange(10, device=self.device).repeat_interleave(each)
        noise = torch.Generator(device=self.device).manual_seed(derive_seed(SEED, "photos", "draw"))
        rows = torch.cat([model.sample(part, noise).float() for part in torch.split(labels, AT_ONCE)])
        return Batch(rows.clone(), labels.clone())


def _over(value: float | None, floor: float | None) -> float | None:
    return round(value / floor, 4) if value is not None and floor else None


def config_of(kind: str, changes: list[str]) -> ModelConfig:
    """The default settings of a kind with ``kind.setting=value`` of ``changes``; a setting may be one of a group."""
    own = [f"model.{change.removeprefix(f'{kind}.')}" for change in changes if change.startswith(f"{kind}.")]
    config = load_run_config(None, [f"model.kind={kind}", *own]).model
    assert isinstance(config, ModelConfig)
    return config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute each, 1,000 photos, tiny judges")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--kinds", nargs="*", choices=sorted(MODELS), default=["flow_matching"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KIND.SETTING=VALUE", dest="changes")
    parser.add_argument("--minutes", type=float, help="of training, each model")
    parser.add_argument("--train-rows", type=int)
    parser.add_argument("--batch-size", type=int, help="of training; the model's own by default")
    parser.add_argument("--device", default="auto")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--folder", type=Path, default=cache / "augment-benchmarks" / "photos")
    args = parser.parse_args()
    args.minutes = args.minutes or (0.5 if args.quick else 6.0)
    args.train_rows = args.train_rows or (1_000 if args.quick else None)
    device = choose_device(args.device, "--device")
    rows: list[dict[str, Any]] = []
    try:
        read = Photos.read(args, device)
    except FileNotFoundError as error:
        rows = [{"case": kind, "absent": f"no data: {error.filename}", "ratio": None} for kind in args.kinds]
        args.kinds = []
    for kind in args.kinds:
        config = config_of(kind, args.changes)
        asked = [config.model_dump(mode="json"), model_code(config), args.minutes, args.batch_size, device.type]
        name = f"{kind}-{hash_json(asked)[:8]}"
        place = UNFINISHED / "pictures" if args.quick else PICTURES
        row = read.measure(config, args.folder / name, 50 if args.quick else DRAWN, place)
        rows.append({"case": kind, "data": "CIFAR-10 re-encoded as JPEG", **row})
        print(rows[-1], file=sys.stderr)
    print(json.dumps({"machine": machine(), "versions": versions(), "rows": rows}, indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
