"""An autoregressive model of the columns of a table's row, in a stated order, and of its label.

MADE: Masked Autoencoder for Distribution Estimation, arXiv:1502.03509. The label comes first: p(x, y) = p(y) p(x|y),
and ln p(x|y) is the sum over columns of ln p(column|earlier columns, y), each a softmax over bins of the number
(:mod:`models._factors`), over levels, or over categories. So p(x|y), p(y), p(x) and p(y|x) are all known exactly, and
drawn from. It knows no order but its own: rows of which later columns alone are known are not completed.

Exactly of the values that the net is given: a number that is missing in a table is encoded as a random draw, with a
column after it that says so. Whatever is said of such a row depends on that draw, over which nothing is summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from models._bayes import SeenClasses, class_log_joint, refuse_other_rows
from models._contract import (
    Batch,
    Form,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    TensorSpec,
    TrainingDefaults,
)
from models._factors import Factors, draw_outcomes, factors_of, ordered
from models._levels import refuse_other_temperatures
from models._made import MadeNet, MadeSize, draw
from models._nets import first_weights
from models._searched import OneOf, Range, Searched
from models._settings import Embedding

UNITS = 16  # hidden features for a factor, unless a row has so many that they would be more than MOST_FEATURES
MOST_FEATURES = 4096
MOST_WEIGHTS = 200_000_000  # each of which has a mask beside it: 1.6 GB
VALUES_AT_ONCE = 2**25  # logits that are in memory at a time when a likelihood is computed

Seed = Annotated[int, Field(ge=0, lt=2**53, strict=True)]


class MaskedMlp(GenerativeModel):
    """p(x|y) as a product over the columns, each given all that come before it in the order, and p(y).

    p(y) is that of the rows it was trained on, as often as they were in the batches. A row is drawn column by column;
    the temperature divides the logits. Every draw takes one uniform number a column.
    """

    def __init__(self, spec: TensorSpec, net: MadeNet, settings: MaskedMlpConfig) -> None:
        super().__init__()
        self.spec = spec
        self.net = net
        self.settings = settings
        self.classes = SeenClasses(spec.num_classes)

    @property
    def order(self) -> tuple[int, ...]:
        """The numbers of the columns in the order in which they are drawn; a span of categories is one column."""
        return self.net.order

    def objectives(self) -> Sequence[Objective]:
        """One: -ln p(x|y) in nats. What it takes to learn p(y) is to count."""
        return [Objective("likelihood", tuple(self.parameters()), self._loss, self.settings.optimiser)]

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        self.classes.count(batch.y)
        return {"loss": -self.net.log_likelihood(batch.x, batch.y).mean()}

    @torch.no_grad()
    def log_likelihood(self, batch: Batch) -> Tensor:
        """ln p(x|y) in nats, shape ``(B,)``: a density of numbers, a probability of levels and categories.

        Raises:
            ValueError: a value lies between two of its levels, or a category is not one-hot; rows have another shape,
                or not a label of the classes each.
        """
        refuse_other_rows(self.spec, batch.y, batch.x)
        at_once = max(1, VALUES_AT_ONCE // sum(len(g.numbers) * g.outcome.outcomes for g in self.net.factors.groups))
        parts = zip(torch.split(batch.x, at_once), torch.split(batch.y, at_once), strict=True)
        return torch.cat([self.net.log_likelihood(x, y) for x, y in parts])

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, D)``, drawn column by column.

        Raises:
            ValueError: a label is none of the classes; the temperature is negative, infinite, or not a number.
        """
        return self.complete(
            torch.zeros(len(labels), self.spec.size, device=labels.device, dtype=self.net.direct.weight.dtype),
            torch.zeros(self.spec.size, dtype=torch.bool, device=labels.device),
            labels,
            generator,
            temperature,
        )

    @torch.no_grad()
    def complete(
        self, x: Tensor, known: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, D)`` with the values of ``x`` where ``known`` ``(D,)`` is true, the others drawn given them.

        Raises:
            ValueError: an unknown column comes before a known one in the order, or is known in part; a known number is
                not finite, a known value lies between its levels, or a known category is not one-hot; rows have another
                shape, or not a label of the classes each; the temperature is negative, infinite, or not a number.
        """
        refuse_other_rows(self.spec, labels, x)
        refuse_other_temperatures(temperature)
        count = columns_known(known, self.net.factors, self.order)
        told = set(self.order[:count])
        for outcome, numbers, places in self.net.factors.groups:
            if given := [own for number, own in zip(numbers, places, strict=True) if number in told]:
                outcome.refuse_impossible(x[:, given])
        like = self.net.direct.weight
        shape = (len(labels), self.net.factors.count)
        uniform = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
        rows = draw(self.net, labels, uniform, temperature, x, count)
        return torch.where(known, x, rows.to(x.dtype))

    @torch.no_grad()
    def class_logits(self, x: Tensor) -> Tensor:
        """ln p(x, y) in nats of rows ``(B, D)`` and every class, ``(B, num_classes)``; its softmax is p(y|x).

        Of a row with a missing number it is that of the draw which stands for the number.
        """
        return class_log_joint(self, x, self.classes.log_prior())

    @torch.no_grad()
    def sample_labels(self, rows: int, generator: torch.Generator) -> Tensor:
        """So many labels drawn from p(y), ``(rows,)``; rows that are then sampled for them are drawn from p(x, y)."""
        return self._labels(self.classes.log_prior().expand(rows, -1), generator)

    @torch.no_grad()
    def sample_labels_of(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A label for each row ``(B, D)``, drawn from p(y|x), ``(B,)``.

        Raises:
            ValueError: a row has no probability of any class, since a value of it is missing or out of all bounds, or
                it is refused by :meth:`log_likelihood`.
        """
        logits = self.class_logits(x)
        unknown = logits.softmax(1).isnan().any(1)
        if unknown.any():
            raise ValueError(
                f"no label can be drawn for row {int(unknown.nonzero()[0])}, since no class gives it a probability; "
                "leave out rows with a value that is missing or out of all bounds"
            )
        return self._labels(logits, generator)

    def _labels(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand((len(logits), 1), generator=generator, device=logits.device, dtype=logits.dtype)
        index, _ = draw_outcomes(logits[:, None], uniform, 1.0)
        return index[:, 0]


def columns_known(known: Tensor, factors: Factors, order: tuple[int, ...]) -> int:
    """How many columns are known, ``known`` being a boolean for each value of a row, ``(D,)``.

    Raises:
        ValueError: it is none; a column is known in part; an unknown column comes before a known one in the order.
    """
    if known.shape != (len(factors.of_value),) or known.dtype != torch.bool:
        raise ValueError(
            f"the mask of known values has a boolean for each of {len(factors.of_value)} values, not "
            f"{tuple(known.shape)} of {known.dtype}"
        )
    told = [known[factors.places(number)] for number in order]
    halves = [number for number, values in zip(order, told, strict=True) if values.any() != values.all()]
    if halves:
        raise ValueError(f"a category is known or not, and of column {halves[0]} some values are known, others not")
    flags = [bool(values.all()) for values in told]
    count = sum(flags)
    if not all(flags[:count]):
        raise ValueError(
            f"what is known comes before what is drawn, and column {order[flags.index(False)]} is unknown but comes "
            "before a known one; train with `order` such that it comes later, or leave the later one to be drawn"
        )
    return count


class MaskedMlpConfig(ModelConfig):
    """Settings of :class:`MaskedMlp`. It accepts vectors only: a grid's values are too many to be columns."""

    accepts: ClassVar[frozenset[Form]] = frozenset({"vector"})
    refuses: ClassVar[str] = "the values of an image are no columns, and pixelcnn knows which are neighbours"
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "exact"
    objective_names: ClassVar[tuple[str, ...]] = ("likelihood",)
    evaluations_per_sample: ClassVar[int] = 1  # a column at a time: what layers have heard is kept
    paper: ClassVar[str] = "MADE: Masked Autoencoder for Distribution Estimation, arXiv:1502.03509"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=1000, batch_size=64, ema_decay=0.99, sampling="rows")
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(5e-4, 1e-2, log=True),
        "optimiser.weight_decay": Range(0.1, 10, log=True),
        "dropout": Range(0, 0.6),
        "terms": OneOf((2, 3, 4, 6, 8)),
        "order": OneOf(("columns", "reversed", 1, 2, 3)),
    }

    kind: Literal["masked_mlp"] = "masked_mlp"
    order: Literal["columns", "reversed"] | Seed | tuple[Seed, ...] = Field(
        "columns",
        description="Order in which columns are drawn, each given those before it: as they are, reversed, shuffled by "
        "a seed, or their numbers from 0; a number that may be missing is two columns, the second says whether it is.",
    )
    bins: int = Field(32, ge=2, le=1024, description="Bins of a number without levels: equal shares of the normal.")
    terms: int = Field(
        4, ge=0, le=64, description="Polynomials that the logits of bins are sums of; 0: a free logit for each bin."
    )
    units: int | None = Field(
        None, ge=1, le=1024, description="Hidden units of a layer for each column; null: 16, fewer of very wide rows."
    )
    depth: int = Field(1, ge=0, le=16, description="Residual layers between the first and the last.")
    embedding: Embedding = 16
    dropout: float = Field(0.3, ge=0, lt=1, allow_inf_nan=False, description="Share of hidden values left out.")
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=2e-3, betas=(0.9, 0.99), weight_decay=1.0),
        description="The step of the one objective.",
    )

    @field_validator("order", mode="before")
    @classmethod
    def _is_an_order(cls, order: Any) -> Any:
        listed = isinstance(order, list | tuple) and all(type(number) is int and number >= 0 for number in order)
        if listed or isinstance(order, str | int):
            return order
        raise ValueError(
            "an order is columns, reversed, a seed, or a list of the numbers of columns from 0, such as [1, 0], and "
            f"this one is {order}"
        )

    @model_validator(mode="after")
    def _has_bins_for_its_terms(self) -> Self:
        if self.terms >= self.bins:
            raise ValueError(f"{self.bins} bins are told apart by {self.bins - 1} terms at most; lower terms, or set 0")
        return self

    def drawing_order(self) -> str:
        """That of the setting ``order``."""
        if isinstance(self.order, str):
            return "column by column, " + ("as they are" if self.order == "columns" else "from the last to the first")
        if isinstance(self.order, int):
            return f"column by column, shuffled by the seed {self.order}"
        return f"column by column, those of the numbers {', '.join(map(str, self.order))}, counted from 0"

    def build(self, spec: TensorSpec, generator: torch.Generator) -> MaskedMlp:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: rows are grids; a value has too many levels; the order names no such columns; the net is too
                large.
        """
        if spec.form != "vector":
            raise ValueError(f"a {self.kind} needs rows that are vectors, and these have the shape {spec.shape}")
        factors = factors_of(spec, self.bins, self.terms)
        order = ordered(self.order, factors.count)
        units = self.units or max(1, min(UNITS, MOST_FEATURES // factors.count))
        size = MadeSize(units, self.depth, self.embedding, self.dropout)
        refuse_large_made(factors, size)
        with first_weights(generator):
            net = MadeNet(factors, order, spec.num_classes, size)
        return MaskedMlp(spec, net, self)


def weights_of(factors: Factors, size: MadeSize) -> int:
    """How many weights the maps of a net have, those that a mask leaves out among them; biases are not counted."""
    features, values = size.units * factors.count, len(factors.of_value)
    outputs = sum(len(group.numbers) * group.outcome.parts for group in factors.groups)
    heard = values * (features + outputs) + features * (size.depth * features + outputs)
    return heard + size.embedding * (features * (1 + size.depth) + outputs)


def refuse_large_made(factors: Factors, size: MadeSize) -> None:
    """Nothing, if so many weights fit into memory.

    Raises:
        ValueError: they do not.
    """
    weights = weights_of(factors, size)
    if weights > MOST_WEIGHTS:
        columns = f"{factors.count:,} columns" if factors.count > 1 else "one column"
        raise ValueError(
            f"these settings make {weights:,} weights of {columns}, of {MOST_WEIGHTS:,} at most; lower units or depth, "
            "or leave columns out"
        )
