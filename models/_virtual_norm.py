"""Virtual batch normalisation: a row is normalised with a fixed reference batch, never with its batch mates.

Improved Techniques for Training GANs, arXiv:1606.03498, section 3.5. The statistics of a row are those of the reference
batch and the row together, each of the B + 1 with the same weight; reference rows have those of the reference alone. A
layer gets both in one batch, the reference first. Scale and shift follow from the condition, as in
:mod:`models._conditional_norm`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models._nets import FiLM

EPSILON = 1e-5


class VirtualBatchNorm(nn.Module):
    """Features ``(reference + B, channels, ...)`` normalised with the first ``reference`` of them."""

    def __init__(self, channels: int, condition: int, reference: int) -> None:
        super().__init__()
        self.reference = reference
        self.film = FiLM(condition, channels)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Features of the same shape."""
        places = [*range(2, h.dim())]
        means, squares = (part.mean(places) if places else part for part in (h.float(), h.float().square()))
        mean, second = self._with_reference(means), self._with_reference(squares)
        scale = torch.rsqrt((second - mean.square()).clamp(min=0) + EPSILON)
        shape = (*mean.shape, *[1] * len(places))
        out: Tensor = self.film((h - mean.reshape(shape)) * scale.reshape(shape), condition)
        return out

    def _with_reference(self, own: Tensor) -> Tensor:
        """Statistics of each row ``(reference + B, channels)`` from the rows' own."""
        common = own[: self.reference].mean(0, keepdim=True)
        together = torch.lerp(common, own[self.reference :], 1 / (self.reference + 1))
        return torch.cat([common.expand(self.reference, -1), together])
