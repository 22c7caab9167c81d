"""Whether adversarial training still goes anywhere: what two nets make of each other, smoothed over the steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models._pairs import same_class_partners

HORIZON = 0.1  # of all steps: over so many the figures are smoothed
FEWEST = 50  # steps; a short run is not judged by a handful
RUN_AWAY = 0.99  # of the pairs of a real and a synthetic row are told apart; they start at a half
COLLAPSED = 0.05  # of the distance of two real rows of a class lies between two synthetic ones; it starts at all of it


class Watch(nn.Module):
    """The smoothed share of pairs that a critic tells apart, and the smoothed variety of the synthetic rows.

    Both are kept with the weights, so that a resumed training ends where an unbroken one would.
    """

    told: Tensor
    variety: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("told", torch.tensor(0.5))
        self.register_buffer("variety", torch.tensor(1.0))
        self.pace = 1.0 / FEWEST

    def begin_step(self, steps: int) -> None:
        """Say how many steps the whole training has."""
        self.pace = 1 / max(FEWEST, HORIZON * steps)

    @torch.no_grad()
    def update(self, told: Tensor, variety: Tensor) -> None:
        """Take the figures of one step, both scalars; those of a net that is not in training count for nothing."""
        if not self.training:
            return
        self.told.lerp_(told, self.pace)
        self.variety.lerp_(variety, self.pace)

    def trouble(self) -> str | None:
        """What is lost and what to change, in one sentence without its full stop; None where nothing is."""
        told, variety = torch.stack([self.told, self.variety]).tolist()
        if variety < COLLAPSED:
            return (
                f"the generator has collapsed: two of its rows of a class lie {variety:.0%} as far apart as two real "
                "ones; raise model.r1 and model.r2, lower model.optimiser.learning_rate, or set model.loss to "
                "relativistic"
            )
        if told > RUN_AWAY:
            return (
                f"the critic has run away: it tells {told:.1%} of the synthetic rows from real ones, which leaves the "
                "generator nothing to follow; raise model.r1 and model.r2, lower model.critic_optimiser.learning_rate, "
                "or set model.augmentation"
            )
        return None


@torch.no_grad()
def relative_variety(real: Tensor, synthetic: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """The mean squared distance of two synthetic rows of a class over that of two real ones, its root, a scalar.

    1 where no two real rows of a class are in the batch, or all of them are the same.
    """
    partners = same_class_partners(y, generator)
    between = [(rows - rows[partners]).flatten(1).float().square().mean() for rows in (synthetic, real)]
    return torch.where(between[1] > 0, between[0] / between[1].clamp(min=1e-12), 1.0).sqrt()
