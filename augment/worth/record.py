"""What a worth stage found out: the verdict, how sure it is, and every arm that it rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FILE = "worth.json"
Metric = Literal["balanced_accuracy", "macro_f1", "average_precision"]
Verdict = Literal["helps", "no clear difference", "harms", "not measurable here"]


class Lift(BaseModel):
    """A difference of mean scores on test rows and its 95 % interval; p adjusted for all arms with synthetic rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float | None
    high: float | None
    p: float | None = None


class ArmRecord(BaseModel):
    """An arm: its mean scores over seeds, and its lift over the best arm without synthetic rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    learner: str
    method: str
    role: str
    validation: float  # of the metric, by which arms are chosen
    test: dict[str, float]  # balanced_accuracy, macro_f1, worst_recall, calibration_error, log_loss, average_precision
    by_seed: list[float]  # of the metric, on test rows
    lift: Lift | None  # null for the best arm without synthetic rows itself


class WorthRecord(BaseModel):
    """The whole; ``verdict`` is null where nothing could be measured, and the sentence says why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict | None
    sentence: str
    metric: Metric
    seeds: int
    generators: int
    rows: dict[str, int] = {}  # labelled rows of train, validation, test and synthetic
    scarce: list[str] = []
    arms: list[ArmRecord] = []
    best_with: str | None = None
    best_without: str | None = None
    lift: dict[str, Any] = {}
    by_metric: dict[str, Lift] = {}
    recalls: dict[str, dict[str, float]] = {}  # of each class, of the best arm with and without
    equivalent: dict[str, Any] = {}
    curve: dict[str, Any] = {}  # rows of each scarce class, and mean scores
    search: dict[str, Any] = {}  # of classical policies
    notes: list[str] = []

    @classmethod
    def load(cls, path: Path) -> WorthRecord:
        """Read what :meth:`save` wrote."""
        return cls.model_validate_json(path.read_text())

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n")
