"""Tiny models and data for the tests of training, checkpoints and generation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from augment.progress import Progress, silent
from augment.training._batches import Rows, Sampler
from augment.training._journal import Journal
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric
from augment.training._spot_checks import SpotChecks
from models._contract import (
    Batch,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    Span,
    TensorSpec,
    TrainingDefaults,
)

VECTOR = TensorSpec((4,), (Span("continuous", 4),), 2)


class Duel(GenerativeModel):
    """Two objectives that would leak into each other: each loss depends on both nets, and dropout draws from torch.

    One of them has a convolution, whose weights the trainer lays out by channels.
    """

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.left = nn.Sequential(
            nn.Unflatten(1, (2, 1, -1)),
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(2 * spec.size, spec.size),
        )
        self.right = nn.Linear(spec.size, spec.size)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def objectives(self) -> Sequence[Objective]:
        fast = OptimiserConfig(learning_rate=0.01)
        return [
            Objective("left", tuple(self.left.parameters()), self._left_loss, fast),
            Objective("right", tuple(self.right.parameters()), self._right_loss, fast, every=2),
        ]

    def _left_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        self.seen += 1
        noise = torch.randn(batch.x.shape, generator=generator)
        loss = (self.right(self.left(batch.x + 0.1 * noise)) - batch.x).square().mean()
        return {"loss": loss, "size": loss.detach().sqrt()}

    def _right_loss(self, batch: Batch, _generator: torch.Generator) -> dict[str, Tensor]:
        return {"loss": (self.right(self.left(batch.x)) + batch.x).square().mean()}

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        noise = temperature * torch.randn((len(labels), *self.spec.shape), generator=generator)
        return noise.square() + 10 * labels[:, None]


class DuelConfig(ModelConfig):
    """Settings of the duel."""

    accepts: ClassVar = frozenset({"vector"})
    likelihood: ClassVar = "none"
    objective_names: ClassVar = ("left", "right")
    paper: ClassVar = "none"
    training: ClassVar = TrainingDefaults(steps=30, batch_size=8, ema_decay=0.9, warmup_steps=5)

    kind: Literal["duel"] = "duel"

    def build(self, spec: TensorSpec, generator: torch.Generator) -> Duel:
        model = Duel(spec)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        return model


class Line(GenerativeModel):
    """A least-squares line whose one loss is given from outside."""

    def __init__(self, loss: Callable[[Line, Batch], dict[str, Tensor]], **settings: Any) -> None:
        super().__init__()
        self.spec = VECTOR
        self.weight = nn.Parameter(torch.ones(4))
        self._given = loss
        self._settings = settings

    def objectives(self) -> Sequence[Objective]:
        return [Objective("line", (self.weight,), self._loss, **self._settings)]

    def _loss(self, batch: Batch, _generator: torch.Generator) -> dict[str, Tensor]:
        return self._given(self, batch)

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        return temperature * torch.randn((len(labels), 4), generator=generator)


def squares(model: Line, batch: Batch) -> dict[str, Tensor]:
    return {"loss": (batch.x * model.weight - 1).square().mean()}


def save_rows(folder: Path, rows: int = 21) -> Path:
    """``x.npy`` and ``y.npy`` of an encode artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    np.save(folder / "x.npy", generator.standard_normal((rows, 4)).astype(np.float32))
    np.save(folder / "y.npy", (np.arange(rows) % 3 == 0).astype(np.int64))
    return folder


def make_loop(
    folder: Path,
    model: GenerativeModel | None = None,
    progress: Progress = silent,
    *,
    steps: int = 30,
    batch_size: int = 8,
    checkpoint_seconds: float = 0.0,
    identity: dict[str, Any] | None = None,
    spot_checks: SpotChecks | None = None,
) -> TrainingLoop:
    """A loop over 21 tiny rows in ``folder``; checkpoints after every step unless told otherwise."""
    rows = Rows(save_rows(folder / "rows"), Tensor.float, torch.device("cpu"))
    return TrainingLoop(
        model or DuelConfig().build(VECTOR, torch.Generator().manual_seed(1)),
        fabric=open_fabric(torch.device("cpu"), "32-true"),
        rows=rows,
        sampler=Sampler(rows.labels, batch_size, 1, "root"),
        settings=LoopSettings(
            steps=steps,
            ema_decay=0.9,
            schedule="cosine",
            warmup_steps=5,
            checkpoint_seconds=checkpoint_seconds,
            compiled=False,
            seed=1,
            identity=identity or {"model": {"width": 8}, "data": "abc"},
        ),
        folder=folder,
        journal=Journal(folder),
        progress=progress,
        spot_checks=spot_checks,
    )


def train_aloud(folder: Path, steps: int) -> None:
    """Train, and say each step on standard output: for a process that a test ends with a signal."""
    import augment.training._loop

    augment.training._loop.SHOW_SECONDS = 0.0

    def say(stage: str, done: int, total: int, unit: str, values: object = None) -> None:
        print(done, flush=True)

    make_loop(folder, progress=say, steps=steps).run()
    print("finished", flush=True)


if __name__ == "__main__":
    train_aloud(Path(sys.argv[1]), int(sys.argv[2]))
