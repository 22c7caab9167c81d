"""Historical averaging: a player is pulled to the mean of where it has been.

Improved Techniques for Training GANs, arXiv:1606.03498, section 3.3. Two players that circle about an equilibrium are
drawn into it, as the mean of a circle is its middle.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class History(nn.Module):
    """The mean over the steps of each parameter of a player, kept with the weights.

    ``parameters`` are those of the player, always in the same order.
    """

    count: Tensor

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._names: list[str] = []
        for place, parameter in enumerate(parameters):
            self._names.append(f"mean_{place}")
            self.register_buffer(self._names[-1], torch.zeros_like(parameter.detach()))

    @torch.no_grad()
    def note(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take the parameters of one more step into the means."""
        self.count += 1
        for name, parameter in zip(self._names, parameters, strict=True):
            mean: Tensor = getattr(self, name)
            mean.add_((parameter.detach() - mean) / self.count)

    def distance(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """||theta - mean of all theta noted||^2, a scalar; only theta has a gradient. 0 before any is noted."""
        pairs = zip(self._names, parameters, strict=True)
        squares = [(parameter - getattr(self, name)).square().sum() for name, parameter in pairs]
        return torch.stack(squares).sum() * (self.count > 0)
