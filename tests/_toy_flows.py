"""What the tests of flows share: small specs, small settings, and a velocity that keeps what it was asked."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models._contract import Span, TensorSpec
from models._unet import Exemplars
from models.flow_matching import FlowMatching, FlowMatchingConfig

MIXED = TensorSpec((6,), (Span("continuous", 2), Span("categorical", 3), Span("continuous", 1, 5)), 3)
GRID = TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 3)
LINE = TensorSpec((1,), (Span("continuous", 1),), 2)
PLANE = TensorSpec((2,), (Span("continuous", 2),), 9)
SMALL: dict[str, Any] = {"width": 32, "depth": 1, "dropout": 0.0}


class Recorded(nn.Module):
    """A velocity that keeps what it was asked; each label has a speed of its own, and an exemplar adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Tensor, Tensor, Tensor, Exemplars | None]] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor, exemplars: Exemplars | None = None) -> Tensor:
        self.asked.append((x, t, y, exemplars))
        speed = (y + 2).float().reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)
        return speed if exemplars is None else speed + exemplars.x


def recorded(spec: TensorSpec, **settings: Any) -> tuple[FlowMatching, Recorded]:
    """A model with such a velocity, and the velocity."""
    net = Recorded()
    return FlowMatching(spec, net, FlowMatchingConfig(**settings)), net
