"""Where a run's synthetic rows come from: a model that is trained, or files that somebody else's generator wrote.

The one place that tells the two apart. Both leave an artifact that stands for the generator, and shards of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from augment.errors import InputError
from augment.given import FromFiles
from augment.operators import OPERATORS, chosen_operator
from augment.progress import Progress, silent
from augment.store import ArtifactRef, Store
from models._searched import OneOf, Searched

if TYPE_CHECKING:
    from augment.config import GenerateSection, RunConfig, TrainSection
    from augment.generation import ShardRequest
    from models._contract import ModelConfig

WEIGHT_BYTES = 4  # of a parameter: weights are kept as 32-bit floats
Plan = dict[str, Any]


class Maker(Protocol):
    """What makes the synthetic rows of a run."""

    def refuse(self) -> None:
        """Return if the run's settings make sense for it.

        Raises:
            InputError: one does not; the sentence begins with its key.
        """
        ...

    def prepare(self, real: ArtifactRef, store: Store, progress: Progress = silent) -> ArtifactRef:
        """The artifact that stands for the generator."""
        ...

    def shard(
        self, model: ArtifactRef, real: ArtifactRef, request: ShardRequest, store: Store, progress: Progress = silent
    ) -> ArtifactRef:
        """One shard of rows, of what :meth:`prepare` left."""
        ...

    def plan(self, real: ArtifactRef, planned: Plan, store: Store) -> Plan:
        """``planned`` (:class:`augment.plan.PlanRecord` as JSON) with how the rows are made, and what that costs.

        Raises:
            InputError: what is to make the rows does not fit the data.
        """
        ...

    def searched(self) -> Mapping[str, Searched]:
        """The settings of how rows are made that a search varies, by their keys in the run file, and their bounds."""
        ...


def maker(config: RunConfig) -> Maker:
    """What makes the synthetic rows of the run that ``config`` describes."""
    if isinstance(config.model, FromFiles):
        return Given(config.model, config)
    return Trained(config.model, config.train, config.generate, config.seed)


@dataclass(frozen=True)
class Trained:
    """Rows that are drawn from a model, trained on the training rows."""

    model: ModelConfig
    train: TrainSection
    generate: GenerateSection
    seed: int

    def refuse(self) -> None:
        """Refuse an operator that the model does not offer."""
        chosen_operator(self.model, self.generate.operator)

    def prepare(self, real: ArtifactRef, store: Store, progress: Progress = silent) -> ArtifactRef:
        """The trained model; see :func:`augment.training.train`."""
        from augment.training import train

        return train(real, self.model, self.train, self.seed, store, progress)

    def shard(
        self, model: ArtifactRef, real: ArtifactRef, request: ShardRequest, store: Store, progress: Progress = silent
    ) -> ArtifactRef:
        """Rows drawn from the model; see :func:`augment.generation.generate_shard`."""
        from augment.generation import generate_shard

        return generate_shard(model, real, self.generate, request, self.seed, store, progress)

    def plan(self, real: ArtifactRef, planned: Plan, store: Store) -> Plan:
        """The model, its training and its drawing; nothing is trained."""
        from augment.codec import Codec
        from augment.encoding import encode
        from augment.generation import default_shard_rows
        from augment.training import (
            check_model,
            refuse_share_of_all,
            refuse_small_batches,
            refuse_without_pairs,
            training_choices,
        )

        encoded = store.path(encode(real, self.seed, store))
        spec = Codec.load(encoded / "codec.json").spec
        parameters, choices = check_model(self.model, spec), training_choices(self.model, self.train)
        refuse_small_batches(self.model, choices.batch_size)
        refuse_without_pairs(self.model, encoded, choices.batch_size)
        refuse_share_of_all(choices.labelled, encoded)
        drawing = described_drawing(self.model, self.generate.operator)
        shard_rows = self.generate.shard_rows or default_shard_rows(spec)
        return {
            **planned,
            "model": {
                "kind": self.model.kind,
                "shape": list(spec.shape),
                "parameters": parameters,
                "device": self.train.device,
                **choices.model_dump(mode="json"),
            },
            "drawing": drawing,
            "cost": {
                "steps": choices.steps,
                "rows_trained_on": choices.steps * choices.batch_size,
                "weights_bytes": parameters * WEIGHT_BYTES,
                **cost_of_drawing(drawing["evaluations_per_sample"], shard_rows, planned["classes"]),
                **size_of_rows(store.path(real), planned["classes"]),
            },
        }

    def searched(self) -> Mapping[str, Searched]:
        """What the model lets be searched, the temperature, and the operator where it offers several."""
        found = {f"model.{name}": bounds for name, bounds in self.model.searched.items()}
        found |= {f"generate.{name}": bounds for name, bounds in self.generate.searched.items()}
        if len(self.model.offered()) > 1:
            found["generate.operator"] = OneOf(self.model.offered())
        return found


@dataclass(frozen=True)
class Given:
    """Rows that are there already, taken from files."""

    files: FromFiles
    config: RunConfig

    def refuse(self) -> None:
        """Refuse an operator, a placement and several generators: nothing is drawn from a model or trained."""
        if self.config.worth.generators > 1:
            raise InputError(
                "worth.generators asks for several trainings, and the rows of from_files come from one generator; "
                "leave it out"
            )
        operator = self.config.generate.operator
        if operator is not None:
            raise InputError(
                f"generate.operator '{operator}' draws from a model, and the rows of from_files are there already; "
                "leave it out"
            )
        for name, place in self.config.placement:
            if place != "here":
                raise InputError(
                    f"placement.{name} '{place}' is for models, and the rows of from_files are only read; leave it out"
                )

    def prepare(self, real: ArtifactRef, store: Store, progress: Progress = silent) -> ArtifactRef:
        """The rows in the data's types; see :func:`augment.given.taking.take_rows`."""
        from augment.given.taking import take_rows

        return take_rows(self.files, real, store, progress)

    def shard(
        self, model: ArtifactRef, real: ArtifactRef, request: ShardRequest, store: Store, progress: Progress = silent
    ) -> ArtifactRef:
        """A seeded choice of the rows; see :func:`augment.given.drawing.take_shard`."""
        from augment.given.drawing import TakenRequest, take_shard

        assert isinstance(request, TakenRequest)
        return take_shard(model, real, request, self.config.seed, store, progress)

    def plan(self, real: ArtifactRef, planned: Plan, store: Store) -> Plan:
        """The files, and the rows that they hold of each class; they are read for it, as a run does."""
        from augment.given.drawing import default_rows
        from augment.given.taking import described_files, supply_of

        model = self.prepare(real, store)
        supply = supply_of(model, store)
        assert supply is not None
        classes = [{**row, "available": supply.rows.get(row["name"], 0)} for row in planned["classes"]]
        rows = sum(min(row["synthetic"], row["available"]) for row in classes)
        files, notes = described_files(model, store)
        shard_rows = self.config.generate.shard_rows or default_rows(model, store)
        return {
            **planned,
            "classes": classes,
            "notes": [*planned["notes"], *notes],
            "warnings": [*planned["warnings"], *_shortages(classes, supply.strangers)],
            "model": {"kind": self.files.kind, "path": str(self.files.path), **files},
            "cost": {
                "rows_drawn": rows,
                "shards": math.ceil(rows / shard_rows),
                **size_of_rows(store.path(real), planned["classes"]),
            },
        }

    def searched(self) -> Mapping[str, Searched]:
        """Nothing: the rows are there already."""
        return {}


def _shortages(classes: list[Plan], strangers: int) -> list[str]:
    """What of the files the gates will refuse, as sentences."""
    said = []
    short = [f"{row['name'] or 'all'} ({row['available']:,})" for row in classes if row["available"] < row["synthetic"]]
    if short:
        said.append(
            f"fewer rows in the files than the plan wants, for which the gate class_plan refuses: {', '.join(short)}"
        )
    if strangers:
        said.append(f"rows whose label is no class of the data, for which the gate structure refuses: {strangers:,}")
    return said


def described_drawing(model: ModelConfig, asked: str | None) -> Plan:
    """How rows are drawn by the operator that is ``asked`` for, null: the model's first, and how else they could be."""
    operator = chosen_operator(model, asked)
    return {
        "operator": operator,
        "parents": OPERATORS[operator].parents,
        "sentence": OPERATORS[operator].sentence,
        "offered": list(model.offered()),
        "evaluations_per_sample": model.evaluations(operator),
    }


def cost_of_drawing(evaluations: int, shard_rows: int, classes: list[Plan]) -> dict[str, int]:
    """Rows, evaluations of the model and shards of the first round; what is rejected and drawn again comes on top."""
    rows = sum(row["synthetic"] for row in classes)
    return {
        "rows_drawn": rows,
        "evaluations": rows * evaluations,
        "shards": math.ceil(rows / shard_rows),
    }


def size_of_rows(real: Path, classes: list[Plan]) -> dict[str, int]:
    """About the bytes of the drawn rows and of all published ones, if synthetic rows take the room of real ones."""
    sizes = {part: (real / f"{part}.parquet").stat().st_size for part in ("train", "validation", "test")}
    trained = sum(row["train"] for row in classes)
    drawn = sizes["train"] * sum(row["synthetic"] for row in classes) // max(trained, 1)
    return {"drawn_bytes": drawn, "published_bytes": sum(sizes.values()) + drawn}
