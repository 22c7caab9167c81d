"""Our trainer on one case of `models_vs_peers.py`, in a process of its own: JSON in, a line of JSON out."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from _training_cases import BITS, CASES, LABELS, LEVELS, NO_LABELS, Request, Window, bits_per_dim, build

from augment.progress import silent
from augment.training._batches import Rows, Sampler
from augment.training._journal import Journal
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric


class NotingJournal(Journal):
    """A journal that notes in ``window`` each step with a record: the host has then waited for the device."""

    def __init__(self, folder: Path, window: Window) -> None:
        super().__init__(folder)
        self._window = window

    def record(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Add a line to ``metrics.jsonl``, and note the step."""
        super().record(step, seconds, values)
        self._window.note(step)


def main() -> int:
    request = Request(**json.loads(sys.argv[1]))
    case = CASES[request.case]
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    window = Window(request.batch_size, device)

    with tempfile.TemporaryDirectory(prefix="our-training-") as name:
        folder = Path(name)
        source = Path(request.data).absolute()
        (folder / "x.npy").symlink_to(source / (BITS if case.levels == 2 else LEVELS))
        (folder / "y.npy").symlink_to(source / (LABELS if case.classes > 1 else NO_LABELS))

        def as_tensor(x: torch.Tensor) -> torch.Tensor:
            return (x.float() * (2 / (case.levels - 1)) - 1).reshape(-1, *case.shape)

        rows = Rows(folder, as_tensor, device)
        loop = TrainingLoop(
            build(case),
            fabric=open_fabric(device, request.precision),
            rows=rows,
            sampler=Sampler(rows.labels, request.batch_size, 0, "rows"),
            settings=LoopSettings(
                steps=request.steps,
                ema_decay=0.999,
                schedule="constant",
                warmup_steps=0,
                checkpoint_seconds=1e9,
                compiled=request.compiled,
                seed=0,
                identity={},
            ),
            folder=folder,
            journal=NotingJournal(folder, window),
            progress=silent,
        )
        loop.run()
        found: dict[str, Any] = window.speed().as_json()
        if request.judged:
            averaged: Any = build(case)
            averaged.load_state_dict(loop.average.tensors)
            found["bits_per_dim"] = bits_per_dim(averaged.net, request)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
