"""How what a net gives for a place becomes a probability of each level of each of the place's channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models._grey_levels import GreyGrid


class LevelHead(Protocol):
    """A distribution over the levels of each channel, given those of the earlier channels of the place."""

    @property
    def groups(self) -> int:
        """For how many channels a net is asked at each place, of one after the other; it hears those before."""
        ...

    def orders(self) -> Tensor:
        """Of which of the groups each of the outputs of a net is, ``(outputs,)``."""
        ...

    def logits(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Logits ``(B, C, levels, H, W)``, of outputs ``(B, outputs, H, W)`` for rows ``(B, C, H, W)``."""
        ...

    def logits_of(self, share: Tensor, earlier: Tensor, channel: int) -> Tensor:
        """Those of a channel of one place, ``(B, levels)``.

        ``share`` is the group's share of the outputs ``(B, share)``, ``earlier`` the values ``(B, channel)``.
        """
        ...

    def log_likelihood(self, outputs: Tensor, index: Tensor) -> Tensor:
        """ln p in nats ``(B,)`` of levels ``(B, C, H, W)``."""
        ...


@dataclass(frozen=True)
class Softmax:
    """A softmax over the levels of each channel, of whose net's outputs each is the logit of one level."""

    grid: GreyGrid

    @property
    def groups(self) -> int:
        """One for each channel."""
        return self.grid.channels

    def orders(self) -> Tensor:
        """Those of a channel after those of another."""
        return torch.arange(self.grid.channels).repeat_interleave(self.grid.levels)

    def logits(self, outputs: Tensor, x: Tensor) -> Tensor:
        """``(B, C, levels, H, W)``; of ``x`` ``(B, C, H, W)`` only the shape is read: the outputs heard it."""
        return outputs.reshape(len(x), self.grid.channels, self.grid.levels, *x.shape[2:])

    def logits_of(self, share: Tensor, earlier: Tensor, channel: int) -> Tensor:
        """``(B, levels)``; the share has heard ``earlier``."""
        return share

    def log_likelihood(self, outputs: Tensor, index: Tensor) -> Tensor:
        """ln p in nats ``(B,)`` of levels ``(B, C, H, W)``."""
        return self.grid.log_likelihood(self.logits(outputs, index), index)
