"""A critic against the nets whose rows it scores: who learns what from whom.

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
from models._contract import TensorSpec
from models._critics import Critic, Scored, scored_kinds, scored_with_gradients
from models._generators import as_seen
from models._penalties import Penalties, one_centred, zero_centred
from models._spectral import iterate
from models._watching import relative_variety

AT_REAL_ROWS = "Weight of the critic's squared gradient at real rows"
R1 = Annotated[
    float | None,
    Field(ge=0, le=1000, allow_inf_nan=False, description=f"{AT_REAL_ROWS}; null: by the form of a row."),
]
R2 = Annotated[
    float | None,
    Field(ge=0, le=1000, allow_inf_nan=False, description="The same at synthetic rows; null: as r1."),
]
PenaltyEvery = Annotated[
    int, Field(ge=1, le=64, description="Steps of a critic between two times that penalties are taken.")
]
NO_PENALTY = "penalty_every is of penalties, and none has a weight; raise r1, or leave it out"
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
    Field(
        description="How rows are changed before the critic sees them; null: noise on the numbers of a table, shift of "
        "images."
    ),
]


def filled_in(r1: float | None, r2: float | None, usual: float) -> Penalties:
    """The weights that are given, ``usual`` for an r1 and that of real rows for an r2 that is None."""
    at_real = usual if r1 is None else r1
    return Penalties(at_real, at_real if r2 is None else r2)


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

    ``penalties`` are taken every ``penalty_every`` steps with so much more weight; ``changes`` are made to whatever the
    critic sees, see :mod:`models._augmentation`.
    """

    def __init__(
        self,
        spec: TensorSpec,
        critic: Critic,
        loss: AdversarialLoss,
        penalties: Penalties,
        *,
        penalty_every: int = 1,
        changes: Sequence[ChangeName] = (),
    ) -> None:
        super().__init__()
        self.spec = spec
        self.critic = critic
        self.loss = loss
        self.penalties = penalties
        self.penalty_every = penalty_every
        self.changes = tuple(changes)
        self.penalised = True

    def begin_step(self, step: int) -> None:
        """Say which step comes, from 0: whether it takes the penalties."""
        self.penalised = step % self.penalty_every == 0

    def critic_terms(
        self, real: Tensor, synthetic: Sequence[Tensor], y: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Scored]:
        """The critic's ``loss`` for real rows and for each kind of synthetic ones, all ``(B, *shape)``, and its terms.

        Beside them how well it tells rows apart: ``told`` is the share of pairs whose real row scores higher, the
        accuracies are those of a threshold midway between the mean scores, ``gap`` is what lies between these, and
        ``variety``, of the last kind, is that of :func:`models._watching.relative_variety`. What was scored follows, as
        :func:`models._critics.scored_kinds` gives it. No gradient reaches those that made the rows.
        """
        if self.training:
            iterate(self.critic)
        kinds = [rows.detach() for rows in (real.float(), *synthetic)]
        seen = self._seen(kinds, generator)
        scored, squared = self._scored_with_gradients(seen, y)
        of_real, of_synthetic = scored.score[0], scored.score[1:]
        penalties = self._penalties(seen, squared, y, generator)
        terms = {"adversarial": self.loss.critic(of_real, of_synthetic).mean(), **penalties}
        with torch.no_grad():
            middle = (of_real.mean() + of_synthetic.mean()) / 2
            figures = {
                "told": (of_real > of_synthetic).float().mean(),
                "accuracy_real": (of_real > middle).float().mean(),
                "accuracy_synthetic": (of_synthetic <= middle).float().mean(),
                "gap": of_real.mean() - of_synthetic.mean(),
                "variety": relative_variety(kinds[0], kinds[-1], y, generator),
            }
        return {"loss": torch.stack([*terms.values()]).sum(), **terms, **figures}, scored

    def scored(self, kinds: Sequence[Tensor], y: Tensor, generator: torch.Generator) -> Scored:
        """Scores ``(kinds, B)`` and features ``(kinds, B, width)`` of each kind of rows ``(B, *shape)``.

        Gradients reach those that made the rows, and never the critic. Real rows come first: nobody made them, and a
        pass of their own leaves them out of the way back.
        """
        seen = self._seen([rows.float() for rows in kinds], generator)
        fixed = 0 if seen[0].requires_grad else 1
        with passed_through(self.critic):
            parts = [scored_kinds(self.critic, part, y) for part in (seen[:fixed], seen[fixed:]) if part]
        return Scored(*(torch.cat(both) for both in zip(*parts, strict=True)))

    def against(self, synthetic: Tensor, real: Tensor | None) -> Tensor:
        """What those minimise who made the rows, a scalar, for scores ``(kinds, B)`` of their rows and ``(B,)``.

        Those of real rows are looked at where the loss is relative alone.
        """
        if not self.loss.relative:
            return self.loss.generator(synthetic).mean()
        assert real is not None
        return self.loss.generator(synthetic - real).mean()

    def _seen(self, kinds: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Each kind of rows as the critic reads it, row i of all of them changed in the same way."""
        change = draw_changes(self.spec, self.changes, len(kinds[0]), generator)
        return [change(as_seen(self.spec, rows)) for rows in kinds]

    def _scored_with_gradients(self, seen: Sequence[Tensor], y: Tensor) -> tuple[Scored, Tensor]:
        """What the critic makes of each kind of rows, and squared gradients ``(kinds, B)``; 0 where none is asked for.

        In one pass, unless they are asked for at real rows alone or at synthetic ones alone.
        """
        at_real, at_synthetic = (bool(weight) and self.penalised for weight in (self.penalties.r1, self.penalties.r2))
        if at_real == at_synthetic:
            return self._read(seen, y, with_gradients=at_real)
        real, squared_of_real = self._read(seen[:1], y, with_gradients=at_real)
        synthetic, squared_of_synthetic = self._read(seen[1:], y, with_gradients=at_synthetic)
        scored = Scored(*(torch.cat(both) for both in zip(real, synthetic, strict=True)))
        return scored, torch.cat([squared_of_real, squared_of_synthetic])

    def _read(self, kinds: Sequence[Tensor], y: Tensor, *, with_gradients: bool) -> tuple[Scored, Tensor]:
        """One pass of some kinds of rows, their squared gradients 0 where they are not asked for."""
        if not with_gradients:
            scored = scored_kinds(self.critic, kinds, y)
            return scored, torch.zeros_like(scored.score)
        scored, squared = scored_with_gradients(self.critic, kinds, y)
        return scored, squared

    def _penalties(
        self, seen: Sequence[Tensor], squared: Tensor, y: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted penalties by name; zero in a step that does not take them, so that their mean is right."""
        weights, others = self.penalties, len(seen) - 1
        found = {"r1": (weights.r1, zero_centred(squared[0])), "r2": (weights.r2, zero_centred(squared[1:]))}
        if weights.gradient:
            between = torch.zeros((), device=y.device)
            if self.penalised:
                real, synthetic = torch.cat([seen[0]] * others), torch.cat([*seen[1:]])
                between = one_centred(self.critic, real, synthetic, y.repeat(others), generator)
            found["gradient_penalty"] = (weights.gradient, between)
        return {name: weight * self.penalty_every * at.mean() for name, (weight, at) in found.items() if weight}
