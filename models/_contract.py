"""What every generative model promises: the records it is built from and the methods it offers.

A model sees one tensor. A :class:`TensorSpec` says what that tensor means, an :class:`Objective` says which
parameters one loss may move, and :class:`GenerativeModel` returns the objectives and draws samples. Nothing here
knows a file, a data frame or a flow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models._searched import Searched

Form = Literal["vector", "grid"]


class Span(NamedTuple):
    """A run of adjacent values in the flattened tensor that is read as one thing.

    ``continuous`` values are z-scored or in [-1, 1]; with ``levels`` they take that many evenly spaced values in
    [-1, 1], as an image's grey levels do (256; scikit-learn's digits 17). ``categorical`` spans are one-hot.
    """

    kind: Literal["continuous", "categorical"]
    width: int
    levels: int | None = None


@dataclass(frozen=True)
class TensorSpec:
    """The meaning of a batch ``x`` of shape ``(B, *shape)`` and of its labels ``y`` in ``[0, num_classes)``.

    ``shape`` is ``(D,)`` for a vector or ``(C, H, W)`` for a grid; the spans cover the flattened shape in order.

    Raises:
        ValueError: the spans do not cover the shape.
    """

    shape: tuple[int, ...]
    spans: tuple[Span, ...]
    num_classes: int

    def __post_init__(self) -> None:
        if sum(span.width for span in self.spans) != self.size:
            raise ValueError(f"spans cover {sum(s.width for s in self.spans)} values, the shape holds {self.size}")

    @property
    def size(self) -> int:
        """Number of values in one row."""
        return math.prod(self.shape)

    @property
    def form(self) -> Form:
        """``grid`` for ``(C, H, W)``, else ``vector``."""
        return "grid" if len(self.shape) == 3 else "vector"

    def as_json(self) -> dict[str, Any]:
        """The spec as plain JSON values, read back by :meth:`from_json`."""
        return {
            "shape": list(self.shape),
            "spans": [list(span) for span in self.spans],
            "num_classes": self.num_classes,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TensorSpec:
        """The spec that :meth:`as_json` wrote."""
        return cls(
            shape=tuple(value["shape"]),
            spans=tuple(Span(*span) for span in value["spans"]),
            num_classes=value["num_classes"],
        )


class Batch(NamedTuple):
    """Rows and their labels: ``x`` is ``(B, *shape)`` float, ``y`` is ``(B,)`` int64.

    ``y`` is 0 everywhere when the data have no label column, and -1 where a row has none.
    """

    x: Tensor
    y: Tensor


Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class OptimiserConfig(BaseModel):
    """Settings of the AdamW step that one objective takes (Decoupled Weight Decay Regularization, arXiv:1711.05101)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(1e-3, gt=0, le=10, allow_inf_nan=False, description="Peak step size.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Decay rates of the first and second moment.")
    epsilon: float = Field(1e-8, gt=0, le=1, allow_inf_nan=False, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.0, ge=0, le=10, allow_inf_nan=False, description="Decoupled weight decay.")
    clip_norm: float | None = Field(
        1.0, gt=0, allow_inf_nan=False, description="Largest gradient norm of the objective; null: not clipped."
    )


Loss = Callable[[Batch, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Objective:
    """One loss, and the only parameters that it may move.

    ``loss(batch, generator)`` returns scalars (means over the batch); the one named ``loss`` is minimised, the others
    are logged. The objective takes a step every ``every`` training steps. ``batch_statistics`` says that the loss of
    a batch is not the mean of the losses of its parts (batch normalisation, minibatch features), so that the trainer
    must not split it when memory is short.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    loss: Loss
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    every: int = 1
    batch_statistics: bool = False


class GenerativeModel(nn.Module, ABC):
    """A distribution over rows of a :class:`TensorSpec`, given a class.

    How it draws rows is said by the protocols below, of which it keeps one at least.
    """

    spec: TensorSpec

    @abstractmethod
    def objectives(self) -> Sequence[Objective]:
        """The losses of one training step, in the order in which they are taken."""

    def begin_step(self, step: int, steps: int) -> None:
        """Set what depends on how far training is, before step ``step`` (from 0) of ``steps``; nothing by default.

        What it sets must follow from its arguments alone, so that a resumed training equals an unbroken one: keep it
        in a buffer that is not persistent.
        """


# In every operator all noise comes from ``generator`` and is drawn for the whole batch, so that row i depends on its
# own label and exemplars and on its place in the batch, never on the other rows. ``temperature`` scales the spread of
# the noise. ``labels`` are (B,), rows and exemplars (B, *shape).


@runtime_checkable
class SamplesPrior(Protocol):
    """The operator ``prior``: rows that follow from a label alone."""

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)`` for ``labels`` ``(B,)``."""
        ...


@runtime_checkable
class ResamplesPosterior(Protocol):
    """The operator ``posterior``: a real row is encoded, and one drawn from where its code may lie."""

    def resample(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``, each after its exemplar; a temperature of 0 takes the mean of the posterior."""
        ...


@runtime_checkable
class InterpolatesRows(Protocol):
    """The operator ``interpolation``: two real rows of a class, and one between them."""

    def interpolate(
        self, first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``, each at a random place between the codes of its two exemplars."""
        ...


@runtime_checkable
class VariesExemplars(Protocol):
    """The operator ``exemplar``: a real row of a class, and one that varies it as rows of a class vary."""

    def sample_from(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``, each after its exemplar."""
        ...


@runtime_checkable
class HasLatents(Protocol):
    """A model whose rows have codes, which can be looked at."""

    def encode(self, batch: Batch) -> Tensor:
        """The means of the posteriors, ``(B, latent)``."""
        ...

    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Rows ``(B, *shape)`` at the centre of their likelihood given codes ``(B, latent)``: no noise is drawn."""
        ...


@runtime_checkable
class WatchesTraining(Protocol):
    """A model that knows by its buffers, which a resumed training gets back, that training has become pointless."""

    def trouble(self) -> str | None:
        """What cannot be recovered from and what to change, a sentence without its full stop; None: nothing is."""
        ...


@runtime_checkable
class BoundsLikelihood(Protocol):
    """A model with a lower bound on ln p(x|y) in nats a row."""

    def elbo(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The evidence lower bound in nats, shape ``(B,)``."""
        ...

    def iwae(self, batch: Batch, generator: torch.Generator, importance_samples: int) -> Tensor:
        """The bound with k importance samples in nats, shape ``(B,)`` (arXiv:1509.00519, equation 8)."""
        ...


@runtime_checkable
class KnowsLikelihood(Protocol):
    """A model that computes ln p(x|y) itself, in nats a row."""

    def log_likelihood(self, batch: Batch) -> Tensor:
        """ln p(x|y) in nats, shape ``(B,)``: no bound, and nothing is drawn."""
        ...


@runtime_checkable
class CompletesRows(Protocol):
    """A model that draws the rest of a row whose first places are known: of a grid, or columns of a vector."""

    def complete(
        self, x: Tensor, known: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)`` with the values of ``x`` where ``known`` is true.

        ``known`` is ``(H, W)`` of a grid, for every channel, or ``(D,)`` of a vector.

        Raises:
            ValueError: an unknown place comes before a known one in the order in which places are drawn.
        """
        ...


@runtime_checkable
class ClassifiesRows(Protocol):
    """A model that also says which class a row is of, where :meth:`ModelConfig.classifies` says that it learns to."""

    def class_logits(self, x: Tensor) -> Tensor:
        """ln p(y|x) of rows ``(B, *shape)`` up to a number for each row, ``(B, num_classes)``."""
        ...


class TrainingDefaults(BaseModel):
    """How long and how a model is trained when the run file does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int
    batch_size: int
    ema_decay: float = 0.999
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: int = 50
    sampling: Literal["rows", "root", "equal"] = "rows"


class ModelConfig(BaseModel, ABC):
    """The settings of one model; ``kind`` names it in the run file.

    A subclass in a module of this package whose name does not start with an underscore is found by itself. It sets
    ``kind`` as a ``Literal`` with a default, and the class variables below; ``operators`` are all that a model of some
    settings offers, ``evaluations_per_sample`` is that of the default ones, and ``searched`` says within what bounds
    settings (``optimiser.learning_rate``) are tried where they are searched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepts: ClassVar[frozenset[Form]] = frozenset({"vector", "grid"})
    refuses: ClassVar[str] = ""  # why not the other form, of a model that accepts one alone: a clause for people
    likelihood: ClassVar[Literal["exact", "bound", "none"]]
    objective_names: ClassVar[tuple[str, ...]]
    operators: ClassVar[tuple[str, ...]] = ("prior",)
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str]
    training: ClassVar[TrainingDefaults]
    searched: ClassVar[Mapping[str, Searched]] = {}

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _keep_the_rest_of_a_group(cls, given: Any) -> Any:
        """Of a group of settings such as ``optimiser``, what is not given stays as this model has it."""
        if not isinstance(given, Mapping):
            return given
        groups = {
            name: field.default
            for name, field in cls.model_fields.items()
            if isinstance(field.default, BaseModel) and isinstance(given.get(name), Mapping)
        }
        return {**given, **{name: {**default.model_dump(), **given[name]} for name, default in groups.items()}}

    def offered(self) -> tuple[str, ...]:
        """The operators that a model of these settings offers, the one that is used by default first."""
        return self.operators

    def reads_pairs(self) -> bool:
        """Whether a model of these settings learns from pairs of rows of a class, formed in the batch."""
        return False

    def smallest_batch(self) -> int:
        """How many rows a batch has at least for a model of these settings to learn from it."""
        return 1

    def classifies(self) -> bool:
        """Whether a model of these settings is :class:`ClassifiesRows`: an exact likelihood is, by Bayes' rule."""
        return self.likelihood == "exact"

    def drawing_order(self) -> str | None:
        """In which order the values of a row are drawn, a clause for people; None: all at once."""
        return None

    def evaluations(self, operator: str | None = None) -> int:
        """How often the net is evaluated for one row drawn by ``operator``, None: the first that is offered.

        An encoder that reads the row's parents is not counted.
        """
        return self.evaluations_per_sample

    @abstractmethod
    def build(self, spec: TensorSpec, generator: torch.Generator) -> GenerativeModel:
        """A model for ``spec`` whose first weights are drawn from ``generator``.

        Raises:
            ValueError: the settings cannot be used for this spec, in one sentence.
        """
