"""A mixture of logistics over the levels of whole places, as an exact probability of each channel's levels.

PixelCNN++, arXiv:1701.05517, sections 2.1 and 2.2. A component is chosen for a place; its mean for a channel moves
linearly with the values of the earlier channels. A level's probability is the mass of its bin, the two outermost bins
reach to infinity, and so the levels' sum to one. Given earlier channels, a component counts by how well it foretold
them: p(x_c | x_<c) = sum_k p(k | x_<c) p_k(x_c | x_<c).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models._grey_levels import GreyGrid
from models._heads import FINE_LOG_SCALE_RANGE, logistic_log_mass


@dataclass(frozen=True)
class LogisticMixture:
    """The head of a net that is asked once a place: what comes later in a place changes only the mixture.

    For each component the net gives a logit of its weight, a mean and the logarithm of a scale for each channel, and a
    coupling for each pair of channels: K (1 + 2 C + C (C - 1) / 2) outputs.
    """

    grid: GreyGrid
    components: int

    groups = 1

    def orders(self) -> Tensor:
        """All zero: nothing in a place is heard."""
        channels = self.grid.channels
        return torch.zeros(self.components * (1 + 2 * channels + channels * (channels - 1) // 2), dtype=torch.int64)

    def logits(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Logarithms of probabilities ``(B, C, levels, H, W)``, of outputs ``(B, outputs, H, W)``."""
        channels = range(self.grid.channels)
        return torch.stack([self.logits_of(outputs, x[:, :channel], channel) for channel in channels], dim=1)

    def logits_of(self, share: Tensor, earlier: Tensor, channel: int) -> Tensor:
        """Logarithms of probabilities ``(B, levels, ...)`` of a channel, of outputs ``(B, outputs, ...)``.

        ``earlier`` are the values of the channels before it, ``(B, channel, ...)``.
        """
        outputs = self._by_component(share)
        joint = outputs[:, :, 0]  # ln p(k), then ln p(k, x_<c), (B, K, ...)
        for before in range(channel):
            joint = joint + self._log_mass(outputs, earlier[:, :before], before, earlier[:, before])
        levels = torch.arange(self.grid.levels, device=share.device)
        every = self.grid.values(levels, outputs.dtype).reshape(1, -1, *[1] * (share.ndim - 2))
        masses = self._log_mass(outputs.unsqueeze(3), earlier.unsqueeze(2), channel, every)  # (B, K, levels, ...)
        return (joint.log_softmax(1).unsqueeze(2) + masses).logsumexp(1)

    def log_likelihood(self, outputs: Tensor, index: Tensor) -> Tensor:
        """ln p in nats ``(B,)`` of levels ``(B, C, H, W)``; only their bins are computed."""
        outputs = self._by_component(outputs)
        x = self.grid.values(index, outputs.dtype)
        joint = outputs[:, :, 0].log_softmax(1)
        for channel in range(self.grid.channels):
            joint = joint + self._log_mass(outputs, x[:, :channel], channel, x[:, channel])
        return joint.logsumexp(1).flatten(1).sum(1)

    def _by_component(self, outputs: Tensor) -> Tensor:
        """``(B, K, outputs of one, ...)``, in 32 bits at least."""
        exact = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return torch.unflatten(exact, 1, (self.components, -1))

    def _log_mass(self, outputs: Tensor, earlier: Tensor, channel: int, x: Tensor) -> Tensor:
        """ln of the mass that each component gives values ``x`` ``(B, ...)``: ``(B, K, ...)``.

        ``outputs`` are ``(B, K, outputs of one, ...)`` and ``earlier`` ``(B, channel, ...)``.
        """
        channels = self.grid.channels
        first = 1 + 2 * channels + channel * (channel - 1) // 2
        couplings = outputs[:, :, first : first + channel].tanh()
        # the components begin side by side, since those that begin in one place stay together for long
        centres = torch.linspace(-1, 1, self.components, device=x.device, dtype=x.dtype)
        mean = outputs[:, :, 1 + channel] + (couplings * earlier[:, None]).sum(2)
        mean = mean + centres.reshape(-1, *[1] * (mean.ndim - 2))
        log_scale = outputs[:, :, 1 + channels + channel].clamp(*FINE_LOG_SCALE_RANGE)
        return logistic_log_mass(torch.stack([mean, log_scale], 1), x[:, None], self.grid.levels)
