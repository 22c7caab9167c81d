"""How a model is trained, where the run file does not say: its own defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from augment.training._batches import Sampling
from augment.training._optimisation import Schedule
from models._contract import ModelConfig

if TYPE_CHECKING:
    from augment.config import TrainSection

WARMUP_SHARE = 4  # the default warm-up takes at most one step in so many


class TrainingChoices(BaseModel):
    """The settings of a training that its result depends on, with the model's own defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int
    batch_size: int
    ema_decay: float
    schedule: Schedule
    warmup_steps: int
    sampling: Sampling
    labelled: float | None
    threads: int
    precision: str
    compile: bool


def training_choices(model: ModelConfig, settings: TrainSection) -> TrainingChoices:
    """What ``settings`` say, completed by the defaults of ``model``."""
    default = type(model).training
    steps = settings.steps or default.steps
    warmup = settings.warmup_steps
    if warmup is None:
        warmup = min(default.warmup_steps, steps // WARMUP_SHARE)
    return TrainingChoices(
        steps=steps,
        batch_size=settings.batch_size or default.batch_size,
        ema_decay=default.ema_decay if settings.ema_decay is None else settings.ema_decay,
        schedule=settings.schedule or default.schedule,
        warmup_steps=warmup,
        sampling=settings.sampling or default.sampling,
        labelled=settings.labelled,
        threads=settings.threads,
        precision=settings.precision,
        compile=settings.compile,
    )
