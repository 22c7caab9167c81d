"""Flow matching along straight paths, class-conditional, with guidance and, as an option, with exemplars.

Flow Matching for Generative Modeling, arXiv:2210.02747; Flow Straight and Fast (rectified flow), arXiv:2209.03003;
Classifier-Free Diffusion Guidance, arXiv:2207.12598. t = 0 is noise and t = 1 is data. No likelihood is computed.

Given an exemplar, another row of the class, the flow learns p(x'|x, y): what a class varies by is then learned from
all classes, and can reach one of few rows (arXiv:1711.04340, arXiv:2203.09739).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models._continuous import as_continuous, as_rows, split_spans
from models._contract import (
    Batch,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    TensorSpec,
    TrainingDefaults,
)
from models._gaussian import normal_noise
from models._nets import LARGEST_WORKING_SIDE, first_weights, make_velocity, velocity_size
from models._pairs import same_class_partners
from models._searched import Range, Searched
from models._settings import Dropout, Embedding, Resolution, Width
from models._solvers import SOLVERS, SolverName, integrate
from models._unet import Exemplars

TimesName = Literal["uniform", "logit_normal"]
NO_LABEL = -1
# Heun, and a flow that runs backwards, ask for the velocity of a category at t = 1 too, where no time is left. A step
# and its half end a little before that, and a time that is much shorter would send the point far past its end.
SHORTEST_TIME_LEFT = 0.49  # of a step of the solver
PARTS_OF_THE_PATH = ("early", "middle", "late")


class FlowMatching(GenerativeModel):
    """p(x|y): where the flow dx/dt = v(x, t, y) from t = 0 to 1 carries N(0, I).

    ``guidance`` is w in v = v(x, t, none) + w (v(x, t, y) - v(x, t, none)): 1 is the flow of the class as it was
    learned, 0 that of all rows. (arXiv:2207.12598 calls w - 1 its weight.) ``exemplar_guidance`` is w where an
    exemplar is given, in both terms. ``velocity`` is called with x, t, labels and exemplars, see
    :func:`models._nets.make_velocity`; ``reads_exemplars`` says whether it takes any.
    """

    def __init__(self, spec: TensorSpec, velocity: nn.Module, settings: FlowMatchingConfig) -> None:
        super().__init__()
        self.spec = spec
        self.velocity = velocity
        self.settings = settings

    def objectives(self) -> Sequence[Objective]:
        """One: the squared error of the velocity; of pairs that are formed in the batch, where exemplars are read."""
        settings = self.settings
        return [
            Objective(
                "flow", tuple(self.parameters()), self._loss, settings.optimiser, batch_statistics=settings.exemplar
            )
        ]

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """E |v(x_t, t, y) - (x_1 - x_0)|^2 with x_t = (1 - t) x_0 + t x_1 (arXiv:2210.02747, equation 23).

        See :func:`path_errors` for categories. The error is logged for each third of the path too, and the mean size of
        v beside it.
        """
        x_1 = as_continuous(self.spec, batch.x, generator)
        x_0 = normal_noise(x_1.shape, generator, x_1.device)
        t = draw_times(len(x_1), self.settings.times, generator)
        along = t.reshape(-1, *[1] * (x_1.dim() - 1))
        x_t = (1 - along) * x_0 + along * x_1
        y = torch.where(_chance(self.settings.label_dropout, batch.y, generator), NO_LABEL, batch.y)
        raw = self.velocity(x_t, t, y, self._partners(batch, generator)).float()
        errors = path_errors(self.spec, raw, x_0, x_1)
        terms = {"loss": errors.mean()}
        third = (3 * t).long().clamp(max=2)
        for i, name in enumerate(PARTS_OF_THE_PATH):
            own = third == i
            terms[f"loss_{name}"] = torch.where(own, errors, 0).sum().detach() / own.sum().clamp(min=1)
        v = as_velocity(self.spec, raw.detach(), x_t, t, SHORTEST_TIME_LEFT / self.settings.solver_steps)
        return terms | {"speed": v.abs().mean()}

    def _partners(self, batch: Batch, generator: torch.Generator) -> Exemplars | None:
        """For each row another of its class, where there is one that differs from it; and not always then.

        A row beside itself would teach to copy.
        """
        if not self.settings.exemplar:
            return None
        x = batch.x[same_class_partners(batch.y, generator)]
        differs = (x != batch.x).flatten(1).any(1)
        given = differs & ~_chance(self.settings.exemplar_dropout, batch.y, generator)
        return Exemplars(as_continuous(self.spec, x, None), given)

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)`` where the flow carries noise whose deviations ``temperature`` scales."""
        exemplars = None
        if self.settings.exemplar:
            none = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
            exemplars = Exemplars(torch.zeros(len(labels), *self.spec.shape, device=labels.device), none)
        return self._draw(labels, exemplars, self.settings.guidance, generator, temperature)

    @torch.no_grad()
    def sample_from(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``, each as another of the class of its exemplar might be.

        Raises:
            ValueError: the model was built without exemplars.
        """
        if not self.settings.exemplar:
            raise ValueError("this model was trained without exemplars; set model.exemplar to true and train it again")
        beside = Exemplars(as_continuous(self.spec, exemplars, None), torch.ones_like(labels, dtype=torch.bool))
        return self._draw(labels, beside, self.settings.exemplar_guidance, generator, temperature)

    def _draw(
        self, y: Tensor, exemplars: Exemplars | None, guidance: float, generator: torch.Generator, temperature: float
    ) -> Tensor:
        x_0 = temperature * normal_noise((len(y), *self.spec.shape), generator, y.device)
        x_1 = self.flow(x_0, y, exemplars, guidance=guidance)
        return as_rows(self.spec, x_1)

    def flow(
        self, x: Tensor, y: Tensor, exemplars: Exemplars | None = None, *, guidance: float, backwards: bool = False
    ) -> Tensor:
        """Where the flow carries ``x`` from noise to data, or ``backwards`` from data to noise, ``(B, *shape)``."""
        begin, end = (1.0, 0.0) if backwards else (0.0, 1.0)

        def v(x: Tensor, t: float) -> Tensor:
            return self.guided_velocity(x, t, y, exemplars, guidance=guidance)

        return integrate(SOLVERS[self.settings.solver], v, x, self.settings.solver_steps, begin=begin, end=end)

    def guided_velocity(
        self, x: Tensor, t: float, y: Tensor, exemplars: Exemplars | None = None, *, guidance: float
    ) -> Tensor:
        """v of no label + guidance x (v of the label - v of no label), in one batch; one of them alone for 0 and 1."""
        if guidance in {0.0, 1.0}:
            asked = y if guidance else torch.full_like(y, NO_LABEL)
            return self._velocity(x, t, asked, exemplars)
        both = None if exemplars is None else Exemplars(*(torch.cat([part, part]) for part in exemplars))
        asked = torch.cat([torch.full_like(y, NO_LABEL), y])
        of_none, of_label = self._velocity(torch.cat([x, x]), t, asked, both).chunk(2)
        return of_none + guidance * (of_label - of_none)

    def _velocity(self, x: Tensor, t: float, y: Tensor, exemplars: Exemplars | None) -> Tensor:
        times = torch.full((len(x),), t, device=x.device)
        shortest = SHORTEST_TIME_LEFT / self.settings.solver_steps
        return as_velocity(self.spec, self.velocity(x, times, y, exemplars).float(), x, times, shortest)


def path_errors(spec: TensorSpec, raw: Tensor, x_0: Tensor, x_1: Tensor) -> Tensor:
    """How far the net's outputs are from what they stand for, ``(B,)``: a mean over numbers and categorical spans.

    The squared error of the velocity of each number, the cross-entropy in nats of each category (arXiv:2406.04843).
    """
    total, parts = torch.zeros(len(raw), device=raw.device), 0
    for span, outputs, start, end in zip(spec.spans, *(split_spans(spec, x) for x in (raw, x_0, x_1)), strict=True):
        if span.kind == "categorical":
            total = total - (outputs.log_softmax(1) * (end + 1) / 2).sum(1)
            parts += 1
        else:
            total = total + (outputs - (end - start)).square().sum(1)
            parts += span.width
    return total / parts


def as_velocity(spec: TensorSpec, raw: Tensor, x: Tensor, t: Tensor, shortest: float) -> Tensor:
    """The velocity at ``x`` and times ``t`` ``(B,)`` that the net's outputs stand for.

    For numbers it is the output. For a category the outputs are logits of where x ends, and
    v = (E[x_1 | x] - x) / (1 - t), which is the same field (arXiv:2406.04843, equation 8); no time left that is less
    than ``shortest`` is divided by.
    """
    left = (1 - t).clamp(min=shortest)[:, None]
    parts = [
        (2 * outputs.softmax(1) - 1 - point) / left if span.kind == "categorical" else outputs
        for span, outputs, point in zip(spec.spans, split_spans(spec, raw), split_spans(spec, x), strict=True)
    ]
    return torch.cat(parts, dim=1).reshape(raw.shape)


def draw_times(count: int, times: TimesName, generator: torch.Generator) -> Tensor:
    """Times ``(count,)`` in [0, 1), each uniform, or the logistic function of a standard normal (arXiv:2403.03206).

    Their quantiles are evenly spaced around one random number, which lowers the variance of the loss (arXiv:2107.00630,
    section I.1); each by itself is distributed as if drawn alone.
    """
    u = torch.rand((), generator=generator, device=generator.device)
    quantiles = (u + torch.arange(count, device=generator.device) / count) % 1
    if times == "uniform":
        return quantiles
    return torch.sigmoid(torch.special.ndtri(quantiles.clamp(1e-6, 1 - 1e-6)))


def _chance(probability: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """True with ``probability``, for each entry of ``like``."""
    return torch.rand(like.shape, generator=generator, device=like.device) < probability


class FlowMatchingConfig(ModelConfig):
    """Settings of :class:`FlowMatching`; what is null depends on the form of a row."""

    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "none"
    objective_names: ClassVar[tuple[str, ...]] = ("flow",)
    operators: ClassVar[tuple[str, ...]] = ("prior", "exemplar")
    evaluations_per_sample: ClassVar[int] = 20
    paper: ClassVar[str] = "Flow Matching for Generative Modeling, arXiv:2210.02747"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=2000, batch_size=64, ema_decay=0.995)
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(5e-4, 5e-3, log=True),
        "dropout": Range(0, 0.5),
        "label_dropout": Range(0.05, 0.3),
        "guidance": Range(0.5, 3),
    }

    kind: Literal["flow_matching"] = "flow_matching"
    width: Width = None
    depth: int | None = Field(None, ge=1, le=16, description="Residual blocks, in each stage and direction of a grid.")
    embedding: Embedding = 64
    dropout: Dropout = None
    resolution: Resolution = LARGEST_WORKING_SIDE
    label_dropout: float = Field(
        0.1, ge=0, lt=1, allow_inf_nan=False, description="Share of the rows whose label is hidden in training."
    )
    guidance: float = Field(
        1.0,
        ge=0,
        le=20,
        allow_inf_nan=False,
        description="How far the label pulls: 1 as learned, more for surer and less varied rows, 0 not at all.",
    )
    times: TimesName = Field("uniform", description="How the times of training are distributed over the path.")
    solver: SolverName = Field(
        "midpoint",
        description="How the flow is solved: euler in few steps narrows the spread, heun ends where v is known least.",
    )
    solver_steps: int = Field(10, ge=1, le=1000, description="Steps of the solver for a row.")
    exemplar: bool = Field(False, description="Whether rows can be drawn from a real row of their class.")
    exemplar_dropout: float = Field(
        0.5, ge=0, lt=1, allow_inf_nan=False, description="Share of the rows whose exemplar is hidden in training."
    )
    exemplar_guidance: float = Field(
        1.0, ge=0, le=20, allow_inf_nan=False, description="The guidance where an exemplar is given."
    )
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=2e-3, betas=(0.9, 0.99)),
        description="The step of the one objective.",
    )

    @model_validator(mode="after")
    def _refuse_what_would_do_nothing(self) -> Self:
        for name in () if self.exemplar else ("exemplar_dropout", "exemplar_guidance"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of flows that read exemplars; set exemplar to true, or leave it out")
        return self

    @model_validator(mode="after")
    def _refuse_what_is_not_trained(self) -> Self:
        weights = {"guidance": self.guidance, "exemplar_guidance": self.exemplar_guidance}
        if self.guidance != 1 and self.offered() == ("exemplar",):
            raise ValueError(
                "guidance is of rows without an exemplar, which exemplar_dropout 0 does not train; raise it"
            )
        for name, weight in weights.items():
            if weight != 1 and not self.label_dropout:
                raise ValueError(
                    f"{name} {weight:g} needs the velocity of rows without a label, which is not trained with "
                    f"label_dropout 0; raise label_dropout, or set {name} to 1"
                )
        return self

    def offered(self) -> tuple[str, ...]:
        """``prior``, and ``exemplar`` where exemplars are read; not ``prior`` where they are never hidden."""
        if not self.exemplar:
            return ("prior",)
        return ("exemplar", "prior") if self.exemplar_dropout else ("exemplar",)

    def reads_pairs(self) -> bool:
        """Whether rows are learned beside exemplars."""
        return self.exemplar

    def evaluations(self, operator: str | None = None) -> int:
        """Evaluations of the net for one row: twice as many where guidance compares two."""
        guidance = self.exemplar_guidance if (operator or self.offered()[0]) == "exemplar" else self.guidance
        alone = guidance in {0.0, 1.0}
        return self.solver_steps * SOLVERS[self.solver].evaluations * (1 if alone else 2)

    def build(self, spec: TensorSpec, generator: torch.Generator) -> FlowMatching:
        """A model for ``spec`` whose first weights follow from ``generator`` alone."""
        size = velocity_size(spec, self.width, self.depth, self.embedding, self.dropout, self.resolution)
        with first_weights(generator):
            velocity = make_velocity(spec, size, exemplars=self.exemplar)
        return FlowMatching(spec, velocity, self)
