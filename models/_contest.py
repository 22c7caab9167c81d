"""A critic against the nets whose rows it scores, where several of them make rows: who learns what from whom.

Of autoencoders that are judged by a critic both what they reconstruct and what they make of the prior are synthetic
rows. Each kind counts the same, and all together count as the real rows do: a critic at rest says one half, and the
logarithm of a density ratio is what its score estimates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from models._adversarial import AdversarialLoss
from models._augmentation import ChangeName, draw_changes, refuse_unfit, usual_changes
from models._contract import Form, TensorSpec
from models._critics import Critic, Scored
from models._generators import as_seen
from models._penalties import zero_centred
from models._spectral import iterate
from models._watching import Watch, relative_variety

R1 = Annotated[
    float | None,
    Field(
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Weight of the critic's squared gradient at real rows; null: by the form of a row.",
    ),
]
R2 = Annotated[
    float | None,
    Field(ge=0, le=1000, allow_inf_nan=False, description="The same at synthetic rows; null: as r1."),
]
USUAL_R1: dict[Form, float] = {"vector": 1.0, "grid": 0.1}  # a table's hundred rows are soon known by heart
UNHELD = (
    "the wasserstein loss has no bound without a hold on the critic; leave the weight of its squared gradient above 0, "
    "or set spectral_norm to true"
)
SpectralNorm = Annotated[bool, Field(description="Whether every layer of a critic is spectrally normalised.")]
CriticDropout = Annotated[
    float, Field(ge=0, lt=1, allow_inf_nan=False, description="Share of the critic's hidden values left out.")
]
Augmentation = Annotated[
    tuple[ChangeName, ...] | None,
    Field(description="How rows are changed before the critic sees them; null: by the form of a row."),
]


def suited_changes(spec: TensorSpec, asked: Sequence[ChangeName] | None) -> tuple[ChangeName, ...]:
    """How a critic sees rows of ``spec`` changed, also where it is not said.

    Raises:
        ValueError: changes that do not fit the rows.
    """
    changes = usual_changes(spec) if asked is None else tuple(asked)
    refuse_unfit(spec, changes)
    return changes


@contextmanager
def passed_through(net: nn.Module) -> Iterator[None]:
    """A block in which gradients go through ``net`` and reach none of its parameters."""
    own = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in own:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in own:
            parameter.requires_grad_(True)


class Contest(nn.Module):
    """A critic of rows, what it minimises, and what they minimise whose rows it scores.

    ``r1`` and ``r2`` are the weights of the critic's squared gradient at real and at synthetic rows, None as the
    settings say; ``changes`` are made to whatever it sees.
    """

    def __init__(
        self,
        spec: TensorSpec,
        critic: Critic,
        loss: AdversarialLoss,
        *,
        r1: float | None,
        r2: float | None,
        changes: Sequence[ChangeName] = (),
    ) -> None:
        super().__init__()
        self.spec = spec
        self.critic = critic
        self.loss = loss
        at_real = USUAL_R1[spec.form] if r1 is None else r1
        self.weights = {"r1": at_real, "r2": at_real if r2 is None else r2}
        self.changes = tuple(changes)
        self.watch = Watch()

    def critic_terms(
        self, real: Tensor, synthetic: Sequence[Tensor], y: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The critic's ``loss`` for real rows and for each kind of synthetic ones, all ``(B, *shape)``, and its terms.

        ``told`` is the share of pairs whose real row scores higher; ``variety``, of the last kind, is that of
        :func:`models._watching.relative_variety`. No gradient reaches those that made the rows.
        """
        if self.training:
            iterate(self.critic)
        kinds = [rows.detach() for rows in (real.float(), *synthetic)]
        seen = self._seen(kinds, generator)
        score = _scored(self.critic, seen, y).score
        terms = {"adversarial": self.loss.critic(score[0], score[1:]).mean()}
        if self.weights["r1"]:
            terms["r1"] = self.weights["r1"] * zero_centred(self.critic, seen[0], y).mean()
        if self.weights["r2"]:
            others = torch.cat(seen[1:])
            terms["r2"] = self.weights["r2"] * zero_centred(self.critic, others, y.repeat(len(synthetic))).mean()
        with torch.no_grad():
            told = (score[0] > score[1:]).float().mean()
            variety = relative_variety(kinds[0], kinds[-1], y, generator)
            if self.training:
                self.watch.update(told, variety)
        return {"loss": torch.stack([*terms.values()]).sum(), **terms, "told": told, "variety": variety}

    def scored(self, real: Tensor, synthetic: Sequence[Tensor], y: Tensor, generator: torch.Generator) -> Scored:
        """Scores ``(1 + kinds, B)`` and features ``(1 + kinds, B, width)`` of real rows and of each kind of synthetic.

        Gradients reach those that made the rows, and never the critic.
        """
        seen = self._seen([real.float(), *synthetic], generator)
        with passed_through(self.critic):
            return _scored(self.critic, seen, y)

    def against(self, score: Tensor) -> Tensor:
        """What those minimise who made the rows, a scalar, for the scores of :meth:`scored`."""
        return self.loss.generator(score[1:] - score[0] if self.loss.relative else score[1:]).mean()

    def _seen(self, kinds: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Each kind of rows as the critic reads it, row i of all of them changed in the same way."""
        change = draw_changes(self.spec, self.changes, len(kinds[0]), generator)
        return [change(as_seen(self.spec, rows)) for rows in kinds]


def _scored(critic: Critic, kinds: Sequence[Tensor], y: Tensor) -> Scored:
    """Scores and features of several kinds of rows with the same labels, in one pass."""
    score, features = critic.scored(torch.cat([*kinds]), y.repeat(len(kinds)))
    shape = (len(kinds), len(y))
    return Scored(score.float().reshape(shape), features.float().reshape(*shape, -1))
