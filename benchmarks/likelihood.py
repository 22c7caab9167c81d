"""Nats per image of models that know or bound the likelihood, on binarised MNIST; bits per dimension on CIFAR-10.

    python benchmarks/likelihood.py --data DIR [--quick] [--json] [--minutes 10] [--device auto] [--cases ...]

DIR holds binarized-mnist/, mnist/ and cifar10-jpeg/; rows whose data are not there are reported as absent. Each case
is trained by our trainer for --minutes (the steps are reckoned from the first ones and then fixed, so that the
learning rate can fall to zero), with a mean on 1,000 validation rows along the way, and judged on --test-rows test
rows, with its standard error: by ln p(x) where the model knows it, else by the ELBO and the importance-weighted bound
of --importance samples. A case is kept below --folder: one that was stopped goes on, one that is finished is not run
again, so a long training can be spread over several calls with the same --minutes and a --folder that is kept. No
label is used. `ratio` is the target over ours; a target is a published figure of the original data, and no figure of a
short training is a claim.

With a GPU, for the aims of 86.8 (vae, dynamic), 79.9 (iaf_vae, static) and 79.1 (iaf_vae, dynamic), and of the paper's
autoregressive models:

    python benchmarks/likelihood.py --data DIR --device cuda --minutes 120 --importance 5000 --test-rows 10000 --json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _likelihood_data import READERS, DataSet, OfRows, in_chunks
from _machine import machine, versions
from _timed_training import train_for

from augment._devices import choose_device, choose_precision, cpu_threads, device_title
from augment.config import MODELS
from augment.progress import Progress
from augment.store import hash_json, write_atomically
from augment.training import build_model, model_code
from augment.training._batches import Sampler
from augment.training._journal import Journal
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric
from models._contract import KnowsLikelihood, ModelConfig

VALIDATION_ROWS = 1000
SEED = 0
BITS = "bits per dimension"
BATCH_SIZE = 64
ROW = "row.json"


class Case(NamedTuple):
    """A model with settings for a CPU and for a GPU, the data, and a published figure to compare with.

    ``rows`` are the test rows judged, as a share of --test-rows.
    """

    data: str
    kind: str
    settings: dict[str, Any]
    on_cpu: dict[str, Any]
    on_gpu: dict[str, Any]
    target: float
    source: str
    unit: str = "nats"
    rows: float = 1.0


VAE: dict[str, Any] = {"prior": "standard", "observation": "bernoulli", "latent": 32, "dropout": 0.0}
VAE_SIZES: tuple[dict[str, Any], ...] = ({"width": 16}, {"width": 64, "depth": 2, "resolution": 28, "dropout": 0.1})
IAF: dict[str, Any] = {"architecture": "flat", "prior": "standard", "latent": 32, "dropout": 0.0}
IAF_SIZES: tuple[dict[str, Any], ...] = (
    {"width": 16, "steps": 2, "hidden": 320},
    {"width": 64, "depth": 2, "steps": 8, "hidden": 1920, "context": 128, "dropout": 0.1},
)
LADDER_SIZES: tuple[dict[str, Any], ...] = (
    {"free_bits": 0.1},
    {"width": 160, "maps": 32, "levels": 2, "depth": 8, "layers": 1, "free_bits": 0.1},
)
OTHERS = "the convolutional VAE of pytorch-generative, dynamic: at most 86.77"
IAF_PAPER = "arXiv:1606.04934"
PIXEL_SIZES: tuple[dict[str, Any], ...] = (
    {"width": 16, "depth": 7, "head_width": 32, "dropout": 0.0},
    {"width": 64, "depth": 12, "head_width": 256, "dropout": 0.2, "optimiser": {"learning_rate": 1e-3}},
)
PHOTO_SIZES: tuple[dict[str, Any], ...] = (
    {"width": 24, "depth": 7, "head_width": 96, "dropout": 0.0},
    {"width": 120, "depth": 15, "head_width": 510, "dropout": 0.1, "optimiser": {"learning_rate": 1e-3}},
)
LSTM_SIZES: tuple[dict[str, Any], ...] = (
    {"width": 16, "depth": 2, "head_width": 32, "dropout": 0.0},
    {"width": 32, "depth": 7, "head_width": 64, "dropout": 0.1, "optimiser": {"learning_rate": 2e-3}},
)
PHOTO_LSTM_SIZES: tuple[dict[str, Any], ...] = (
    {"width": 24, "depth": 2, "head_width": 96, "dropout": 0.0},
    {"width": 96, "depth": 6, "head_width": 384, "dropout": 0.0, "optimiser": {"learning_rate": 1e-3}},
)
PLUS_PLUS: dict[str, Any] = {"head": "logistics", "scales": 3}
PLUS_PLUS_SIZES: tuple[dict[str, Any], ...] = (
    {"width": 24, "depth": 1, "head_width": 96, "dropout": 0.0},
    {"width": 120, "depth": 3, "head_width": 480, "dropout": 0.1, "optimiser": {"learning_rate": 1e-3}},
)
PIXEL_PAPER = "arXiv:1601.06759"
PHOTOS = "cifar10-jpeg"
CASES = {
    "vae static": Case("static", "vae", VAE, *VAE_SIZES, 89.78, "pythae's VAE, static, 200 importance samples"),
    "vae dynamic": Case("dynamic", "vae", VAE, *VAE_SIZES, 86.8, OTHERS),
    "iaf_vae static": Case("static", "iaf_vae", IAF, *IAF_SIZES, 79.9, f"{IAF_PAPER}, static: 79.88"),
    "iaf_vae dynamic": Case("dynamic", "iaf_vae", IAF, *IAF_SIZES, 79.1, f"{IAF_PAPER}, dynamic: 79.10"),
    "iaf_vae cifar10-jpeg": Case(
        "cifar10-jpeg",
        "iaf_vae",
        {"architecture": "ladder"},
        *LADDER_SIZES,
        3.11,
        f"{IAF_PAPER}, CIFAR-10 as published: 3.11",
        unit=BITS,
        rows=0.1,
    ),
    **{
        f"{kind} static": Case("static", kind, {}, *sizes, target, f"{PIXEL_PAPER}, static{of}: {target:.2f}")
        for kind, sizes, target, of in (
            ("pixelcnn", PIXEL_SIZES, 81.30, ""),
            ("gated_pixelcnn", PIXEL_SIZES, 81.30, ", of a PixelCNN without gates"),
            ("row_lstm", LSTM_SIZES, 80.54, ""),
            ("diagonal_bilstm", LSTM_SIZES, 79.20, ""),
        )
    },
    **{
        name: Case(PHOTOS, kind, own, *sizes, target, f"{paper}, CIFAR-10 as published: {target:.2f}", BITS, 0.1)
        for name, kind, own, sizes, target, paper in (
            ("pixelcnn cifar10-jpeg", "pixelcnn", {}, PHOTO_SIZES, 3.14, PIXEL_PAPER),
            ("gated_pixelcnn cifar10-jpeg", "gated_pixelcnn", {}, PHOTO_SIZES, 3.03, "arXiv:1606.05328"),
            ("gated_pixelcnn++ cifar10-jpeg", "gated_pixelcnn", PLUS_PLUS, PLUS_PLUS_SIZES, 2.92, "arXiv:1701.05517"),
            ("row_lstm cifar10-jpeg", "row_lstm", {}, PHOTO_LSTM_SIZES, 3.07, PIXEL_PAPER),
            ("diagonal_bilstm cifar10-jpeg", "diagonal_bilstm", {}, PHOTO_LSTM_SIZES, 3.00, PIXEL_PAPER),
        )
    },
}


@dataclass(frozen=True)
class Run:
    """One case with everything about it decided."""

    case: Case
    config: ModelConfig
    data: DataSet
    folder: Path
    device: torch.device
    minutes: float
    threads: int
    test_rows: int
    importance: int

    def row(self) -> dict[str, Any]:
        """The figures of the case; those of an earlier run where it is finished."""
        path = self.folder / ROW
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with cpu_threads(self.threads):
                row = self._measured()
            write_atomically(path, json.dumps(row))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def _measured(self) -> dict[str, Any]:
        loop, curve, plan = train_for(self.minutes, self.folder, self._loop, self.validation)
        judged = self._judged(self._averaged(loop))
        return {
            "settings": self.config.model_dump(mode="json", exclude_defaults=True),
            "data": self.data.variant,
            "rows": {
                "train": len(self.data.train),
                "validation": min(VALIDATION_ROWS, len(self.data.validation)),
                "test": min(self.test_rows, len(self.data.test)),
            },
            "unit": self.case.unit,
            "device": device_title(self.device),
            "minutes": round(curve.seconds / 60, 2),
            "steps": plan["steps"],
            "epochs": round(plan["steps"] * BATCH_SIZE / len(self.data.train), 2),
            "parameters": sum(parameter.numel() for parameter in loop.average.tensors.values()),
            "milliseconds_a_step": plan["milliseconds"],
            "where_a_step_goes": plan["shares"],
            "curve": curve.lines(),
            **judged,
            "target": self.case.target,
            "target_source": self.case.source,
            "ratio": round(self.case.target / judged["exact" if "exact" in judged else "iwae"], 4),
        }

    def _judged(self, model: Any) -> dict[str, float]:
        """What the test rows have in the case's unit, each with its standard error."""
        judged = self._mean(*watched(model), 100)
        if "exact" in judged:
            return judged
        iwae = partial(model.iwae, importance_samples=self.importance)
        return {"importance_samples": self.importance, **judged, **self._mean("iwae", iwae, 10)}

    def _loop(self, folder: Path, steps: int, progress: Progress) -> TrainingLoop:
        rows = self.data.rows(self.folder / "rows", self.device)
        return TrainingLoop(
            build_model(self.config, self.data.spec, SEED),
            fabric=open_fabric(self.device, choose_precision("auto", self.device)),
            rows=rows,
            sampler=Sampler(rows.labels, BATCH_SIZE, SEED, "rows"),
            settings=LoopSettings(
                steps=steps,
                ema_decay=0.999,
                schedule="cosine",
                warmup_steps=min(200, steps // 4),
                checkpoint_seconds=60,
                compiled=False,
                seed=SEED,
                identity={"case": self.folder.name, "steps": steps},
            ),
            folder=folder,
            journal=Journal(folder),
            progress=progress,
        )

    def _averaged(self, loop: TrainingLoop) -> Any:
        model = build_model(self.config, self.data.spec, SEED).to(self.device).eval()
        model.load_state_dict(loop.average.tensors)
        return model

    def validation(self, loop: TrainingLoop) -> dict[str, float]:
        """Minus the mean of ln p(x), or of the ELBO, of the averaged weights on the validation rows."""
        name, of_rows = watched(self._averaged(loop))
        mean = in_chunks(self.data, self.data.validation[:VALIDATION_ROWS], 100, self.device, of_rows).mean()
        return {name: self._in_unit(-float(mean))}

    def _mean(self, name: str, of_rows: OfRows, size: int) -> dict[str, float]:
        """Minus the mean over the test rows and its standard error."""
        values = in_chunks(self.data, self.data.some_test_rows(self.test_rows), size, self.device, of_rows)
        error = float(values.std(ddof=1)) / math.sqrt(len(values))
        mean = self._in_unit(-float(values.mean()))
        return {name: round(mean, 3), f"{name}_standard_error": round(self._in_unit(error), 3)}

    def _in_unit(self, nats: float) -> float:
        return nats if self.case.unit == "nats" else nats / (self.data.spec.size * math.log(2))


def watched(model: Any) -> tuple[str, OfRows]:
    """What a model says of rows in one pass, and its name: ln p(x) where it knows it, else the ELBO."""
    if isinstance(model, KnowsLikelihood):
        return "exact", lambda batch, _: model.log_likelihood(batch)
    return "elbo", model.elbo


def plan_run(name: str, args: argparse.Namespace, device: torch.device) -> Run:
    """The run of a case.

    Raises:
        FileNotFoundError: its data are not there.
    """
    case = CASES[name]
    sizes = case.on_gpu if device.type == "cuda" else case.on_cpu
    config = MODELS[case.kind].model_validate({"kind": case.kind, **case.settings, **sizes})
    test_rows = args.test_rows if device.type == "cuda" else max(2, round(case.rows * args.test_rows))
    identity = [name, config.model_dump(mode="json"), model_code(config), args.minutes, device.type, args.threads]
    folder = args.folder / f"{name.replace(' ', '-')}-{hash_json([*identity, test_rows, args.importance])[:8]}"
    data = READERS[case.data](args.data)
    return Run(case, config, data, folder, device, args.minutes, args.threads, test_rows, args.importance)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute of training and 50 test rows a case")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--minutes", type=float, help="of training, each case")
    parser.add_argument("--importance", type=int, default=500, help="importance samples of a test row")
    parser.add_argument("--test-rows", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--folder", type=Path, default=cache / "augment-benchmarks" / "likelihood")
    args = parser.parse_args()
    args.minutes = args.minutes or (0.5 if args.quick else 10.0)
    args.test_rows = args.test_rows or (50 if args.quick else 500)
    return args


def main() -> int:
    args = arguments()
    device = choose_device(args.device, "--device")
    rows: list[dict[str, Any]] = []
    for name in args.cases:
        begun = {"case": name, "model": CASES[name].kind}
        try:
            run = plan_run(name, args, device)
        except FileNotFoundError as error:
            rows.append({**begun, "absent": f"no data: {error.filename}", "ratio": None})
            continue
        rows.append({**begun, **run.row()})
        print(rows[-1], file=sys.stderr)
    print(json.dumps({"machine": machine(), "versions": versions(), "rows": rows}, indent=None if args.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
