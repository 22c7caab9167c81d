"""The run file: one object that says everything about a run, checked whole before anything is started.

Each section is an object that can do its job (``config.source.read()``, ``config.model.build(...)``); the field
``kind`` picks its class among those found in the package. Defaults live here and in those classes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

import augment.checks
import augment.sources
import models
from augment._plugins import find_plugins, kind_of, one_of
from augment.checks._contract import Check
from augment.errors import InputError
from augment.given import FromFiles
from augment.makers import maker
from augment.sources._contract import Source
from models._contract import ModelConfig
from models._searched import OneOf, Range, Searched

SOURCES = find_plugins(augment.sources, Source)
MODELS = find_plugins(models, ModelConfig)
CHECKS = find_plugins(augment.checks, Check)

if TYPE_CHECKING:
    AnySource = Source
    AnyModel = ModelConfig | FromFiles
    AnyCheck = Check
else:
    AnySource = one_of(SOURCES)
    AnyModel = one_of({**MODELS, kind_of(FromFiles): FromFiles})
    AnyCheck = one_of(CHECKS)

Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Base of all sections: immutable, and unknown keys are errors; ``searched`` as of a model's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    searched: ClassVar[Mapping[str, Searched]] = {}


class SplitSection(Section):
    """Which real rows are for training, for validation and for the test."""

    test: Fraction = Field(0.2, description="Share of the rows of each class that only the final measure sees.")
    validation: Fraction = Field(0.1, description="Share of the rows of each class that settings may be chosen on.")
    train_per_class: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="Cut these classes to so many training rows, {class: rows}; the test part keeps its size."
    )
    group: str | None = Field(None, description="A column whose equal values stay on one side of the split.")
    column: str | None = Field(None, description="A column that says train, validation or test for each row.")

    @model_validator(mode="after")
    def _leaves_rows_to_train(self) -> SplitSection:
        if self.test + self.validation >= 1:
            raise ValueError("test and validation together leave no rows to train on")
        if self.group is not None and self.column is not None:
            raise ValueError("group and column cannot both be given")
        return self


class TrainSection(Section):
    """How long, on what and how the model is trained; what is null is the model's own default."""

    steps: int | None = Field(None, ge=1, le=10**9, description="Training steps.")
    batch_size: int | None = Field(None, ge=1, le=10**6, description="Rows in a step.")
    ema_decay: float | None = Field(None, ge=0, lt=1, allow_inf_nan=False, description="Decay of the averaged weights.")
    schedule: Literal["constant", "linear", "cosine"] | None = Field(None, description="Learning rate over the steps.")
    warmup_steps: int | None = Field(
        None, ge=0, le=10**9, description="Steps over which the learning rate rises from zero."
    )
    sampling: Literal["rows", "root", "equal"] | None = Field(
        None, description="Share of a class in the batches: as its rows, as their square root, or equal for all."
    )
    labelled: float | None = Field(
        None,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of rows with a label in the batches, where some have none; null: as they are in the data. "
        "Each class is drawn once an epoch at least.",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto",
        description="auto: bfloat16 on a GPU that has it, else 32 bits; bf16-mixed may also pay on a CPU with AMX.",
    )
    checkpoint_seconds: float = Field(30.0, ge=0, allow_inf_nan=False, description="Seconds between checkpoints.")
    threads: int = Field(
        1, ge=1, le=1024, description="CPU threads; more pay for large images on a machine with nothing else to do."
    )
    compile: bool = Field(False, description="Compile the losses with torch.compile.")


class SelectSection(Section):
    """Which of the drawn rows that the gates accept are kept. Limits are what real validation rows score.

    Each share is of validation rows, class by class: as many of them would not be selected either.
    """

    searched: ClassVar[Mapping[str, Searched]] = dict.fromkeys(
        ("label_confidence", "nearest_ratio", "density"), OneOf((None, 0.02, 0.05, 0.1, 0.2))
    )

    label_confidence: Fraction | None = Field(
        None,
        description="Leave out rows that a classifier of real rows believes their label less than all but this share "
        "of validation rows; null: not asked.",
    )
    nearest_ratio: Fraction | None = Field(
        None,
        description="Leave out rows that lie nearer to training rows, beside validation rows, than all but this share "
        "of validation rows do: near copies; null: not asked.",
    )
    density: Fraction | None = Field(
        None,
        description="Leave out rows that lie in fewer neighbourhoods of real rows of their class than all but this "
        "share of validation rows: odd ones; null: not asked.",
    )
    compare: bool = Field(
        False, description="Measure the worth of unselected, selected and as many random rows of the first round too."
    )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each criterion that is asked for."""
        named = {name: getattr(self, name) for name in ("label_confidence", "nearest_ratio", "density")}
        return {name: share for name, share in named.items() if share is not None}

    @model_validator(mode="after")
    def _compares_something(self) -> SelectSection:
        if self.compare and not self.shares:
            raise ValueError("compare has nothing to compare; give label_confidence, nearest_ratio or density")
        return self


class GenerateSection(Section):
    """How synthetic rows are drawn; changing it does not train again."""

    searched: ClassVar[Mapping[str, Searched]] = {"temperature": Range(0.6, 1.2)}

    operator: str | None = Field(
        None, description="How rows are drawn, null: the model's first way; `augment models` lists what each offers."
    )
    temperature: float = Field(
        1.0, gt=0, le=10, allow_inf_nan=False,
        description="Spread of the noise; 1: that of the model's own settings, which can be less than as learned.",
    )  # fmt: skip
    batch_size: int = Field(256, ge=1, le=10**5, description="Rows drawn at once; part of what decides the bytes.")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads; part of what decides the bytes.")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, mps.")
    shard_rows: int | None = Field(None, ge=1, le=10**7, description="Rows in a shard; null: as many as 64 MiB hold.")
    rounds: int = Field(3, ge=0, le=100, description="How often rejected rows are drawn again.")
    select: SelectSection = Field(
        default_factory=SelectSection, description="Which drawn rows are kept; without criteria, all that gates accept."
    )


class BalancePlan(Section):
    """Bring every class to the size of the largest, and give each class some synthetic rows."""

    searched: ClassVar[Mapping[str, Searched]] = {"everywhere": Range(0.1, 2, log=True)}

    kind: Literal["balance"] = "balance"
    everywhere: float = Field(
        0.25, ge=0, le=100, allow_inf_nan=False,
        description="Synthetic rows that every class gets at least, as a share of the largest class.",
    )  # fmt: skip


class MultiplyPlan(Section):
    """Make every class ``factor`` times as large."""

    searched: ClassVar[Mapping[str, Searched]] = {"factor": Range(1.25, 5, log=True)}

    kind: Literal["multiply"]
    factor: float = Field(gt=1, le=10**6, allow_inf_nan=False, description="Rows after over rows before.")


class CountsPlan(Section):
    """Draw exactly so many synthetic rows of each class."""

    kind: Literal["counts"]
    counts: dict[str, Annotated[int, Field(ge=0, le=10**10)]] = Field(description="Synthetic rows, {class: rows}.")


AnyPlan = Annotated[BalancePlan | MultiplyPlan | CountsPlan, Field(discriminator="kind")]


class WorthSection(Section):
    """Whether the synthetic rows help a classifier, measured on held-out real rows."""

    seeds: int = Field(8, ge=0, le=100, description="Paired repetitions; 0: not measured, and said so.")
    gate: Literal["strict", "report"] = Field(
        "strict", description="strict: what harms is refused; report: it is published with the verdict on the card."
    )
    metric: Literal["balanced_accuracy", "macro_f1", "average_precision"] = Field(
        "balanced_accuracy", description="The score whose lift decides; average_precision is for two classes."
    )
    generators: int = Field(
        1, ge=1, le=100, description="Trainings of the model that the seeds are spread over; the first is published."
    )
    search: int = Field(
        24, ge=0, le=1000, description="Classifiers trained to find the best classical augmentation of images."
    )
    measurable_at: float = Field(
        0.05, gt=0, le=1, allow_inf_nan=False,
        description="A lift that must have been within reach of seeds and test rows for there to be none.",
    )  # fmt: skip


class PlacementSection(Section):
    """Where the two heavy stages run: ``here``, or the name of a deployment on a GPU pool."""

    train: str = Field("here", description="here, or FLOW/DEPLOYMENT.")
    generate: str = Field("here", description="here, or FLOW/DEPLOYMENT.")


class RunConfig(Section):
    """A whole run, from the source to the published dataset."""

    name: str = Field(
        "dataset", pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$",
        description="The dataset's name: small letters, digits, dot, dash, underscore.",
    )  # fmt: skip
    seed: int = Field(0, ge=0, lt=2**53, description="Every random draw of the run follows from it.")
    source: AnySource = Field(default_factory=SOURCES["digits"], description="Where the real rows come from.")
    split: SplitSection = Field(default_factory=SplitSection, description="Train, validation and test.")
    model: AnyModel = Field(
        default_factory=MODELS["vae"], description="The generative model, or files that hold its rows."
    )
    train: TrainSection = Field(default_factory=TrainSection, description="How it is trained.")
    generate: GenerateSection = Field(default_factory=GenerateSection, description="How rows are drawn.")
    plan: AnyPlan = Field(default_factory=BalancePlan, description="How many synthetic rows of each class.")
    checks: list[AnyCheck] = Field([], description="Amends the default checks by kind.")
    worth: WorthSection = Field(default_factory=WorthSection, description="Whether synthetic rows help.")
    placement: PlacementSection = Field(default_factory=PlacementSection, description="Where stages run.")
    store: str = Field("./store", description="The folder of artifacts and published datasets.")

    @model_validator(mode="after")
    def _sections_fit_the_model(self) -> RunConfig:
        try:
            maker(self).refuse()
        except InputError as error:
            raise ValueError(str(error)) from None
        return self


def absolute_paths(section: Any, folder: Path) -> Any:
    """``section`` with every relative path in it taken from ``folder``."""
    if isinstance(section, Path):
        return folder / section.expanduser()
    if isinstance(section, Source):
        return section.absolute(folder)
    if isinstance(section, BaseModel):
        changed = {name: absolute_paths(value, folder) for name, value in section}
        return section.model_copy(update=changed)
    return section


def relative_paths(section: Any, where: str = "") -> list[str]:
    """The fields of ``section`` that hold a relative path, as ``source.path``."""
    if isinstance(section, Path):
        return [] if section.is_absolute() else [where]
    if isinstance(section, Source):
        test = section.test_source()
        return [
            f"{prefix}.{name}".lstrip(".")
            for prefix, source in ((where, section), (f"{where}.test".lstrip("."), test))
            for name, value in source or ()
            if isinstance(value, Path) and not value.is_absolute()
        ]
    if isinstance(section, BaseModel):
        return [p for name, value in section for p in relative_paths(value, f"{where}.{name}".lstrip("."))]
    return []
