"""The training loop: one for every model, on one device, that can be stopped anywhere and goes on where it was."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from augment._devices import Precision, repeatable_sums, torch_randomness_kept
from augment._seeding import derive_seed
from augment.errors import TrainingError
from augment.progress import Progress
from augment.training._batches import Rows, Sampler
from augment.training._checkpoint import Checkpoint, CheckpointState, load_newest, save_checkpoint
from augment.training._interruption import Interruption
from augment.training._journal import Journal
from augment.training._optimisation import AveragedWeights, ObjectiveStep, Schedule, learning_rate_factor
from augment.training._spot_checks import SpotChecks
from models._contract import GenerativeModel, WatchesTraining

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOOK_EVERY = 10  # steps between two reads of the losses: each read makes the host wait for the device
LOOK_SECONDS = 0.5  # or this long, so that slow models show where they are
SHOW_SECONDS = 0.2  # between two calls of the listener
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class LoopSettings:
    """What the loop needs to know; every value is decided."""

    steps: int
    ema_decay: float
    schedule: Schedule
    warmup_steps: int
    checkpoint_seconds: float
    compiled: bool
    seed: int
    identity: dict[str, Any]  # of which configuration and data a checkpoint is


@dataclass
class Pending:
    """Loss values on the device that nobody has looked at yet."""

    values: list[Tensor] = field(default_factory=list)
    sources: list[tuple[int, ObjectiveStep]] = field(default_factory=list)


def open_fabric(device: torch.device, precision: Precision) -> Fabric:
    """Lightning Fabric for one device of this process, whatever cluster the process may run in."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    devices = [device.index or 0] if device.type == "cuda" else 1
    with _without_advice(logging.getLogger("lightning_fabric.utilities.rank_zero")):
        return Fabric(accelerator=device.type, devices=devices, precision=precision, plugins=[LightningEnvironment()])


@contextlib.contextmanager
def _without_advice(logger: logging.Logger) -> Iterator[None]:
    """A block in which Fabric does not tell the user how its caller should set it up."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


class TrainingLoop:
    """A model in training in the folder ``folder``, which holds its journal and its checkpoints."""

    def __init__(
        self,
        model: GenerativeModel,
        *,
        fabric: Fabric,
        rows: Rows,
        sampler: Sampler,
        settings: LoopSettings,
        folder: Path,
        journal: Journal,
        progress: Progress,
        spot_checks: SpotChecks | None = None,
    ) -> None:
        self._model = model
        self._fabric = fabric
        self._rows = rows
        self._sampler = sampler
        self._settings = settings
        self._folder = folder / CHECKPOINTS
        self._journal = journal
        self._progress = progress
        self._spot_checks = spot_checks
        fabric.to_device(model)
        model.to(memory_format=torch.channels_last)  # convolutions are a tenth faster so on a CPU, more on a GPU
        self._steps: Sequence[ObjectiveStep] = [
            ObjectiveStep(objective, fabric, model, compiled=settings.compiled) for objective in model.objectives()
        ]
        self.average = AveragedWeights(model, settings.ema_decay)
        self.micro_batch = sampler.batch_size
        self.step = 0
        self._pending = Pending()
        self._shown: dict[str, float] = {}
        self._earlier_seconds = 0.0
        self._started = self._looked = self._showed = self._saved = time.monotonic()
        self._last_good: int | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self._earlier_seconds + time.monotonic() - self._started

    def run(self) -> None:
        """Train to the last step and save a checkpoint there.

        Raises:
            TrainingError: a loss is not finite, the model sees that its training is lost, or memory is too short; the
                last good checkpoint is kept.
            InputError: the checkpoints in the folder are of another run.
        """
        self._resume()
        self._model.train()
        kept = torch_randomness_kept(self._fabric.device)
        with kept, repeatable_sums(), Interruption() as interruption:
            while self.step < self._settings.steps:
                self._take_step()
                now = time.monotonic()
                if self.step % LOOK_EVERY == 0 or self._is_checked() or now - self._looked > LOOK_SECONDS:
                    self._look()
                if now - self._showed >= SHOW_SECONDS or self.step == self._settings.steps:
                    self._showed = now
                    self._progress("train", self.step, self._settings.steps, "step", self._shown)
                if interruption.received is not None:
                    self._journal.say(f"signal {interruption.received} came: saving at step {self.step}")
                    self._save()
                    interruption.deliver()
                elif now - self._saved >= self._settings.checkpoint_seconds:
                    self._save()
            if self._last_good != self.step:
                self._save()

    def _take_step(self) -> None:
        settings = self._settings
        batch = self._rows.batch(self._sampler.indices(self.step))
        self._model.begin_step(self.step, settings.steps)
        rate = learning_rate_factor(self.step, settings.steps, settings.schedule, settings.warmup_steps)
        for objective_step in self._steps:
            objective = objective_step.objective
            if self.step % objective.every:
                continue
            seed = derive_seed(settings.seed, "train", self.step, objective.name)
            before = self.micro_batch
            values, self.micro_batch = objective_step.take(batch, before, seed, rate)
            if self.micro_batch != before:
                self._journal.say(
                    f"memory ran out at step {self.step + 1}: batches are now taken in parts of {self.micro_batch} rows"
                )
            self._pending.values.append(values)
            self._pending.sources.append((self.step + 1, objective_step))
        self.average.update(self.step)
        self.step += 1

    def _look(self) -> None:
        """Read the losses since the last look, record their means, and stop if one is not finite."""
        self._looked = time.monotonic()
        pending, self._pending = self._pending, Pending()
        if not pending.values:
            return
        figures = iter(torch.cat(pending.values).tolist())
        sums: dict[str, list[float]] = {}
        for step, source in pending.sources:
            for term in source.terms:
                value = next(figures)
                if not math.isfinite(value):
                    self._stop(step, source.objective.name, term, value)
                name = term if len(self._steps) == 1 else f"{source.objective.name}.{term}"
                sums.setdefault(name, []).append(value)
        self._shown = {name: sum(values) / len(values) for name, values in sums.items()}
        self._journal.record(self.step, self.seconds, {**self._shown, **self._checked()})
        if self.step % LOOK_EVERY == 0:  # never at a step that a clock has chosen
            self._heed()

    def _is_checked(self) -> bool:
        return self._spot_checks is not None and self._spot_checks.due(self.step, self._settings.steps)

    def _checked(self) -> dict[str, float]:
        """What rows of the averaged weights are like, at the steps where some are drawn.

        It is there to be looked at alone, so whatever fails leaves a line in the journal and the training as it is.
        """
        if self._spot_checks is None or not self._is_checked():
            return {}
        self._model.eval()
        try:
            with self.average.lent():
                return self._spot_checks.figures(self._model, self.step)
        except Exception as error:  # noqa: BLE001 - a model's own code draws here, and may raise anything
            self._journal.say(f"no rows are drawn to look at from now on: {type(error).__name__}: {error}")
            self._spot_checks = None
            return {}
        finally:
            self._model.train()

    def _heed(self) -> None:
        """Stop if the model says that training is lost."""
        trouble = self._model.trouble() if isinstance(self._model, WatchesTraining) else None
        if trouble is not None:
            message = f"training was stopped at step {self.step} ({self._kept()}): {trouble}."
            self._journal.say(message)
            raise TrainingError(message)

    def _kept(self) -> str:
        return "no checkpoint was saved before" if self._last_good is None else f"step {self._last_good} is kept"

    def _stop(self, step: int, objective: str, term: str, value: float) -> None:
        message = (
            f"the {term.replace('_', ' ')} of the objective '{objective}' became {value} at step {step} "
            f"({self._kept()}); "
            "lower the learning rate of its optimiser, or look for extreme values in the data."
        )
        self._journal.say(message)
        raise TrainingError(message)

    def _save(self) -> None:
        """Save a checkpoint of what is known to be finite; a full disk is a warning, not an end."""
        self._look()
        for name, tensor in self._model.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                self._stop(self.step, ", ".join(s.objective.name for s in self._steps), f"weight {name}", math.nan)
        tensors: dict[str, Tensor] = {}
        scalars: dict[str, Any] = {}
        for objective_step in self._steps:
            own_tensors, own_scalars = objective_step.state()
            tensors |= own_tensors
            scalars |= own_scalars
        state = CheckpointState(
            step=self.step,
            micro_batch=self.micro_batch,
            seconds=self.seconds,
            identity=self._settings.identity,
            optimiser=scalars,
            scaler=self._fabric.strategy.precision.state_dict(),
        )
        try:
            save_checkpoint(self._folder, Checkpoint(state, self._model.state_dict(), self.average.tensors, tensors))
        except OSError as error:
            self._journal.say(f"warning: no checkpoint at step {self.step} ({error}); training goes on")
        else:
            self._last_good = self.step
        self._saved = time.monotonic()

    def _resume(self) -> None:
        found = load_newest(self._folder, self._settings.identity, self._journal.say)
        if found is None:
            self._journal.rewind(0)
            self._journal.say(f"training from the start, {self._settings.steps} steps")
            return
        self._model.load_state_dict(found.weights)
        self.average.restore(found.ema)
        for objective_step in self._steps:
            objective_step.restore({**found.optimiser, **found.state.optimiser})
        if found.state.scaler:
            self._fabric.strategy.precision.load_state_dict(found.state.scaler)
        self.step = self._last_good = found.state.step
        self.micro_batch = found.state.micro_batch
        self._earlier_seconds = found.state.seconds
        self._journal.rewind(self.step)
        self._journal.say(f"training goes on from the checkpoint of step {self.step}")
