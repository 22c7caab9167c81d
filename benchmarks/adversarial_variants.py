"""Every loss, hold and technique of the adversarial models on 5,000 images of Fashion-MNIST, at equal CPU minutes.

    python benchmarks/adversarial_variants.py --data DIR [--quick] [--json] [--variants gan hinge] [--seeds 3]
                                              [--minutes 5] [--share 0/14] [--out FOLDER] [--take FOLDER ...]

DIR holds fashion-mnist/, whose images are halved to 14x14 by the mean of 2x2 pixels. A variant is the default of its
model with the settings that `VARIANTS` gives. Each is trained for as many steps as fit into the CPU minutes of one
thread, its schedule ending with the last; then 500 rows of every class are drawn of the averaged weights and judged by
the nets of augment/worth/fidelity.py, against 2,000 test images: `floor` is what training images score in their place,
and `ratio` the accuracy of a classifier of drawn rows alone over that of one of real rows. The images and the judges
are the same for all variants and seeds; a seed decides first weights, batches and noise. A training that stopped itself
early is judged as it stood, and says why.

Finished cells are kept in benchmarks/results (of a quick run, in build/), or in FOLDER: processes that run at the same
time need one each, and share the work by `--share K/N`, every N-th cell from the K-th on. `--take` then brings their
cells together and measures nothing. Pictures, real images left, go to a folder beside the cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cells import RESULTS, UNFINISHED, Cell, Cells, mean_and_error
from _images import idx_part
from _picture_grid import write_picture_grid
from _step_profile import seconds_of_a_step
from _timed_training import usual_loop

from augment._seeding import derive_seed, numpy_generator, torch_generator
from augment.config import MODELS
from augment.errors import TrainingError
from augment.store import code_version
from augment.training import build_model, model_code
from augment.training._batches import Rows
from augment.training._loop import TrainingLoop
from augment.worth._classifier import ENCODER, JUDGE, Design
from augment.worth.fidelity import RealSide, learn_real, measure_fidelity
from models._contract import Batch, ModelConfig, SamplesPrior, Span, TensorSpec

SIDE = 14  # of images halved; nets of larger ones work on patches, so that steps take no longer there
SPEC = TensorSpec((1, SIDE, SIDE), (Span("continuous", SIDE * SIDE, 256),), 10)
FASHION, FILE = "fashion-mnist", "adversarial_variants.json"
CODE = ("augment.training", "augment.worth")
FIGURES = ("coverage", "density", "frechet", "label_agreement", "accuracy", "novelty")
COSTS = ("steps", "planned_steps", "cpu_minutes", "training_rows_per_second", "parameters")
TRAIN, TEST, DRAWN = 500, 200, 500  # rows of a class
CALIBRATION_STEPS, FEW_STEPS = 48, 8  # multiples of the steps between two lazy penalties; the latter of quick runs
QUICK = Design(width=0.5, depth=1, dropout=0.1, steps=30)
JUDGES_SEED = 0

# A variant's settings beside the defaults of its model. Without r1 and r2 a loss keeps the hold of the default.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gan": ("gan", {}),
    "minimax": ("gan", {"loss": "minimax"}),
    "minimax, no penalty": ("gan", {"loss": "minimax", "r1": 0}),
    "non-saturating": ("gan", {"loss": "non_saturating"}),
    "non-saturating, R1": ("gan", {"loss": "non_saturating", "r2": 0}),
    "hinge": ("gan", {"loss": "hinge"}),
    "hinge, spectral norm": ("gan", {"loss": "hinge", "r1": 0, "spectral_norm": True}),
    "least squares": ("gan", {"loss": "least_squares"}),
    "wasserstein, gradient penalty": ("gan", {"loss": "wasserstein"}),
    "no R2": ("gan", {"r2": 0}),
    "no R1, no R2": ("gan", {"r1": 0}),
    "penalties every 4": ("gan", {"penalty_every": 4}),
    "penalties every 8": ("gan", {"penalty_every": 8}),
    "spectral norm besides": ("gan", {"spectral_norm": True}),
    "spectral norm alone": ("gan", {"spectral_norm": True, "r1": 0}),
    "no augmentation": ("gan", {"augmentation": []}),
    "batch norm": ("gan", {"norm": "batch"}),
    "virtual batch norm": ("gan", {"norm": "virtual"}),
    "mlp": ("gan", {"net": "mlp"}),
    "feature matching": ("gan", {"techniques": {"feature_matching": True}}),
    "minibatch discrimination": ("gan", {"techniques": {"minibatch_kernels": 32}}),
    "historical averaging": ("gan", {"techniques": {"historical_averaging": 1.0}}),
    "non-saturating, smoothed": ("gan", {"loss": "non_saturating", "techniques": {"real_target": 0.9}}),
    "non-saturating, K+1 classes": ("gan", {"loss": "non_saturating", "techniques": {"classify": True}}),
    "vae_gan": ("vae_gan", {}),
    "vae_gan, minimax": ("vae_gan", {"loss": "minimax"}),
    "vae_gan of the paper": ("vae_gan", {"loss": "minimax", "ruler": "unit"}),
    "alpha_gan": ("alpha_gan", {}),
    "alpha_gan of the paper": ("alpha_gan", {"loss": "density_ratio"}),
}


def config_of(variant: str) -> ModelConfig:
    """The settings of a variant."""
    kind, settings = VARIANTS[variant]
    return MODELS[kind].model_validate(settings)


def scaled(levels: torch.Tensor) -> torch.Tensor:
    """Bytes as values in [-1, 1]."""
    return levels.float() / 127.5 - 1


def chosen_images(folder: Path, part: str, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 14, 14) and labels (n,) of ``part``, a seeded choice of ``each`` of every class."""
    pixels, labels = idx_part(folder, part)
    order = numpy_generator("variants", part).permutation(len(labels))
    places = np.sort(np.concatenate([order[labels[order] == y][:each] for y in range(SPEC.num_classes)]))
    return halved(pixels[places])[:, None], labels[places]


def halved(pixels: np.ndarray) -> np.ndarray:
    """Bytes (n, 14, 14), each the rounded mean of 2x2 of the pixels (n, 28, 28)."""
    blocks = pixels.reshape(len(pixels), SIDE, 2, SIDE, 2)
    return np.rint(blocks.mean((2, 4))).astype(np.uint8)


@dataclass(frozen=True)
class Bench:
    """What all variants are trained on and judged by."""

    source: Path
    pictures: Path
    quick: bool

    @cached_property
    def sides(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """The training and the test images with their labels."""
        train, test = (20, 10) if self.quick else (TRAIN, TEST)
        return chosen_images(self.source, "train", train), chosen_images(self.source, "t10k", test)

    @cached_property
    def real(self) -> RealSide:
        """The judges, and what training images score."""
        seen, held_out = (Batch(scaled(torch.from_numpy(x)), torch.from_numpy(y)) for x, y in self.sides)
        designs = (QUICK, QUICK) if self.quick else (ENCODER, JUDGE)
        return learn_real(SPEC, seen, held_out, derive_seed(JUDGES_SEED, "variants"), *designs)

    def measure(self, variant: str, seed: int, minutes: float) -> Cell:
        """Train a variant and judge what it draws.

        Raises:
            TrainingError: its averaged weights are not finite, so that nothing can be drawn.
        """
        config = config_of(variant)
        with tempfile.TemporaryDirectory(prefix="variant-") as name:
            loop, planned, seconds, stopped = self._trained(config, seed, minutes, Path(name))
        if not all(bool(t.isfinite().all()) for t in loop.average.tensors.values() if t.is_floating_point()):
            raise TrainingError(stopped or "the averaged weights are not finite.")
        rows = drawn(loop, config, seed, 20 if self.quick else DRAWN)
        (x, y), _ = self.sides
        title = variant.replace(", ", " ").replace(" ", "-")
        write_picture_grid(
            self.pictures / f"{title}-{seed}.png", Batch(scaled(torch.from_numpy(x)), torch.from_numpy(y)), rows
        )
        fidelity = measure_fidelity(self.real, rows)
        return {
            "steps": loop.step,
            "planned_steps": planned,
            "stopped": stopped,
            "cpu_minutes": seconds / 60,
            "training_rows_per_second": loop.step * config.training.batch_size / seconds,
            "parameters": sum(tensor.numel() for tensor in loop.average.tensors.values()),
            "training_rows": len(y),
            "drawn_rows": len(rows.y),
            **{figure: dict(vars(getattr(fidelity, figure))) for figure in FIGURES},
        }

    def _trained(
        self, config: ModelConfig, seed: int, minutes: float, folder: Path
    ) -> tuple[TrainingLoop, int, float, str | None]:
        """A training, how many steps it should have, its CPU seconds, and why it stopped early, if it did."""
        (x, y), _ = self.sides
        for place in (folder / "trial", folder / "whole"):
            place.mkdir()
            np.save(place / "x.npy", x)
            np.save(place / "y.npy", y)
        rows, device = Rows(folder / "whole", scaled, torch.device("cpu")), torch.device("cpu")
        loop_of = partial(usual_loop, config, SPEC, rows, device)
        trial = loop_of(derive_seed(seed, "variants", "trial"), folder / "trial", 10**6)
        few = FEW_STEPS if self.quick else CALIBRATION_STEPS
        planned = max(1, round(60 * minutes / seconds_of_a_step(trial, few, time.process_time)))
        loop = loop_of(seed, folder / "whole", planned)
        began, stopped = time.process_time(), None
        try:
            loop.run()
        except TrainingError as error:
            stopped = str(error)
        return loop, planned, time.process_time() - began, stopped


@torch.inference_mode()
def drawn(loop: TrainingLoop, config: ModelConfig, seed: int, each: int) -> Batch:
    """Rows of the averaged weights, so many of each class, class after class."""
    model = build_model(config, SPEC, seed).eval()
    model.load_state_dict(loop.average.tensors)
    assert isinstance(model, SamplesPrior)
    labels = torch.arange(SPEC.num_classes).repeat_interleave(each)
    noise = torch_generator(seed, "variants", "draw")
    return Batch(torch.cat([model.sample(part, noise).float() for part in torch.split(labels, 500)]).clone(), labels)


def summarised(cells: list[Cell]) -> Cell:
    """The row of a variant: means and standard errors over the seeds, and why trainings were stopped."""
    one, done = cells[0], [cell for cell in cells if "absent" not in cell]
    row: Cell = {"case": one["variant"], "data": FASHION, "kind": one["kind"], "settings": one["settings"]}
    row |= {"minutes": one["minutes"], "seeds": len(done)}
    row |= {"measured_on": one["measured_on"]} if "measured_on" in one else {}
    if not done:
        return {**row, "absent": one["absent"], "ratio": None}
    for name in FIGURES:
        floor = mean_and_error(cell[name]["floor"] for cell in done)["mean"]
        row[name] = {**mean_and_error(cell[name]["value"] for cell in done), "floor": floor}
    row |= {name: mean_and_error(cell[name] for cell in done) for name in COSTS}
    row["training_rows"] = done[0]["training_rows"]
    row["stopped"] = [cell["stopped"] for cell in done if cell["stopped"]]
    accuracy = row["accuracy"]
    row["ratio"] = accuracy["mean"] / accuracy["floor"] if accuracy["floor"] and accuracy["mean"] is not None else None
    return row


def share(text: str) -> tuple[int, int]:
    """``K/N`` as two numbers."""
    own, _, of = text.partition("/")
    if not (own.isdigit() and of.isdigit() and int(own) < int(of)):
        raise argparse.ArgumentTypeError(f"{text} is no share; write K/N with K from 0 to N - 1")
    return int(own), int(of)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a second each, 200 images, tiny judges; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder that holds fashion-mnist")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... of each variant")
    parser.add_argument("--minutes", type=float, help="CPU minutes of a training; 5 by default")
    parser.add_argument("--share", type=share, default=(0, 1), metavar="K/N", help="this process's part of the cells")
    parser.add_argument("--out", type=Path, help="where finished cells and pictures are kept")
    parser.add_argument("--take", type=Path, nargs="*", default=[], help="folders of --out to take cells from")
    args = parser.parse_args()
    args.minutes = args.minutes or (0.02 if args.quick else 5.0)
    args.out = args.out or (UNFINISHED / "variants" if args.quick else RESULTS)
    return args


def main() -> int:
    args = arguments()
    torch.set_num_threads(1)
    cells = Cells(args.out / FILE, ("variant", "seed"), ("minutes", "settings", "code"), summarised, ("variant",))
    for folder in args.take:
        cells.take(folder / FILE)
    bench = Bench(args.data / FASHION, (UNFINISHED if args.out == RESULTS else args.out) / "pictures", args.quick)
    wanted = [(variant, seed) for seed in range(args.seeds) for variant in args.variants]
    absent: list[Cell] = []
    if not args.take and not bench.source.is_dir():
        absent = [{"case": name, "absent": f"no data: {bench.source}", "ratio": None} for name in args.variants]
    own, of = args.share
    for variant, seed in [] if absent or args.take else wanted[own::of]:
        kind, settings = VARIANTS[variant]
        code = f"{code_version(*CODE)}-{model_code(config_of(variant))}"
        asked = {"variant": variant, "kind": kind, "settings": settings, "seed": seed}
        asked |= {"minutes": args.minutes, "code": code}
        cells.fill(asked, partial(bench.measure, variant, seed, args.minutes))
    print(json.dumps(cells.document(absent), indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
