"""A training of so many minutes that is looked at along the way, kept in a folder so that it can be stopped."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from _step_profile import seconds_of_a_step, shares_of_a_step

from augment._devices import choose_precision
from augment.progress import Progress, silent
from augment.store import write_atomically
from augment.training import build_model
from augment.training._batches import Rows, Sampler
from augment.training._journal import Journal
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric
from models._contract import ModelConfig, TensorSpec

MARKS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)  # shares of the training at which it is looked at
CURVE, STEPS = "curve.jsonl", "steps.json"

MakeLoop = Callable[[Path, int, Progress], TrainingLoop]
Look = Callable[[TrainingLoop], Mapping[str, float | None]]


def usual_loop(
    config: ModelConfig,
    spec: TensorSpec,
    rows: Rows,
    device: torch.device,
    seed: int,
    folder: Path,
    steps: int,
    progress: Progress = silent,
    batch_size: int | None = None,
) -> TrainingLoop:
    """A training of ``steps`` steps in ``folder`` with the model's own batch size, schedule and averaging."""
    own = config.training
    return TrainingLoop(
        build_model(config, spec, seed),
        fabric=open_fabric(device, choose_precision("auto", device)),
        rows=rows,
        sampler=Sampler(rows.labels, batch_size or own.batch_size, seed, own.sampling),
        settings=LoopSettings(
            steps=steps,
            ema_decay=own.ema_decay,
            schedule=own.schedule,
            warmup_steps=min(own.warmup_steps, steps // 4),
            checkpoint_seconds=60,
            compiled=False,
            seed=seed,
            identity={"case": folder.name, "steps": steps},
        ),
        folder=folder,
        journal=Journal(folder),
        progress=progress,
    )


class Curve:
    """Listens to a training and notes in ``folder`` what ``look`` finds in it at some of its steps."""

    def __init__(self, folder: Path, look: Look, steps: int) -> None:
        self.loop: TrainingLoop | None = None
        self._look = look
        self._path = folder / CURVE
        noted = max((line["step"] for line in self.lines()), default=0)
        self._marks = sorted({mark for share in MARKS if (mark := math.ceil(share * steps)) > noted})
        self._judging = sum(line["looking_seconds"] for line in self.lines())

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption included and those of this listener not."""
        return self.loop.seconds - self._judging if self.loop else 0.0

    def lines(self) -> list[dict[str, Any]]:
        """What was noted, by step."""
        if not self._path.exists():
            return []
        noted = [line for text in self._path.read_text().splitlines() if (line := _parsed(text)) is not None]
        return sorted({line["step"]: line for line in noted}.values(), key=lambda line: int(line["step"]))

    def __call__(
        self, _stage: str, done: int, _total: int, _unit: str, _values: Mapping[str, float] | None = None
    ) -> None:
        """Look at the model when a mark was passed."""
        passed = [mark for mark in self._marks if mark <= done]
        if not passed or self.loop is None:
            return
        self._marks = self._marks[len(passed) :]
        began, seconds = time.monotonic(), self.seconds
        found = {name: value if value is None else round(value, 3) for name, value in self._look(self.loop).items()}
        looked = time.monotonic() - began
        self._judging += looked
        line = {"step": done, "minutes": round(seconds / 60, 2), **found, "looking_seconds": round(looked, 3)}
        with self._path.open("a") as file:
            file.write("\n" + json.dumps(line) + "\n")  # after what a killed process may have begun
        print(self._path.parent.name, line, file=sys.stderr)


def _parsed(text: str) -> dict[str, Any] | None:
    """The line, or nothing of one that a process was writing when it was killed."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return found


def train_for(
    minutes: float, folder: Path, make_loop: MakeLoop, look: Look
) -> tuple[TrainingLoop, Curve, dict[str, Any]]:
    """A finished training of about ``minutes`` by the clock, its curve, and ``{"steps", "milliseconds", "shares"}``.

    How many steps the time allows and where one goes is measured once, and then kept.
    """
    path = folder / STEPS
    if not path.exists():
        with tempfile.TemporaryDirectory(prefix="timed-") as trial:
            loop = make_loop(Path(trial), 10**6, silent)
            seconds = seconds_of_a_step(loop)
            shares = shares_of_a_step(loop)
        steps = max(len(MARKS), round(60 * minutes / seconds))
        write_atomically(path, json.dumps({"steps": steps, "milliseconds": round(1000 * seconds, 2), "shares": shares}))
    plan: dict[str, Any] = json.loads(path.read_text())
    curve = Curve(folder, look, plan["steps"])
    loop = make_loop(folder, plan["steps"], curve)
    curve.loop = loop
    loop.run()
    return loop, curve, plan
