"""Generators: nets from noise and a label to rows that a critic reads as it would read real ones.

A critic tells what is between two categories or two levels from what is not. So it is shown rows as they will be
published, and gradients pass as if they were not rounded (straight through, arXiv:1308.3432): categories are drawn by
the Gumbel-max rule, whose gradient is that of a softmax (Gumbel-softmax, arXiv:1611.01144); levels are rounded.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models._conditional_norm import NormedGridBlock, NormedVectorBlock
from models._continuous import as_continuous, as_rows, split_spans
from models._contract import TensorSpec
from models._gaussian import normal_noise
from models._nets import Block, GridBlock, GridDecoder, NetSize, VectorBlock, VectorDecoder
from models._virtual_norm import VirtualBatchNorm

REACH = 1.25  # of values with levels: most pixels of a drawing have the outermost level, which must be easy to reach

NormName = Literal["row", "batch", "virtual"]
REFERENCE = 64  # rows of the batch that virtual batch normalisation refers to
NetName = Literal["mlp", "resnet"]
NetSetting = Annotated[
    Literal["auto", NetName],
    Field(description="Kind of all nets; auto: residual convolutions for grids above 8x8, else linear layers."),
]
LARGEST_MLP_SIDE = 8  # pixels; linear layers see so few in a tenth of the time that convolutions take, and as well


class Decoded(NamedTuple):
    """Rows ``(B, *shape)``, and the numbers ``(B, size)`` of the net that they were made of."""

    rows: Tensor
    raw: Tensor


class Generator(nn.Module):
    """Rows for latents ``(B, latent)`` and labels, by a ``net`` that gives a number for each value of a row.

    A net that normalises by a reference batch gets so many fixed latents before the others, of the first classes in
    turn.
    """

    reference_z: Tensor
    reference_y: Tensor

    def __init__(self, spec: TensorSpec, net: nn.Module, latent: int, reference: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.net = net
        self.latent = latent
        self.register_buffer("reference_z", torch.randn(reference, latent))
        self.register_buffer("reference_y", torch.arange(reference) % spec.num_classes)

    def forward(self, y: Tensor, generator: torch.Generator, temperature: float = 1.0, spread: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)`` for labels ``(B,)``; all noise is scaled by ``temperature``, latents by ``spread``."""
        z = spread * temperature * normal_noise((len(y), self.latent), generator, y.device)
        return self.at(z, y, generator, temperature).rows

    def at(self, z: Tensor, y: Tensor, generator: torch.Generator | None, temperature: float = 1.0) -> Decoded:
        """Rows for latents ``(B, latent)``; without a generator categories are the likeliest."""
        both = torch.cat([self.reference_z, z]), torch.cat([self.reference_y, y])
        raw = self.net(*both)[len(self.reference_y) :].float()
        uniform = None
        if any(span.kind == "categorical" for span in self.spec.spans):
            uniform = torch.full_like(raw, 0.5)
            if generator is not None:
                uniform = torch.rand(raw.shape, generator=generator, device=y.device)
        return Decoded(shown(self.spec, raw, uniform, temperature), raw)


def shown(spec: TensorSpec, raw: Tensor, uniform: Tensor | None, temperature: float = 1.0) -> Tensor:
    """Rows ``(B, *shape)`` for a net's outputs ``(B, size)``, through which gradients pass.

    Numbers without levels are the outputs, levels the nearest to a multiple of their tanh, and categories are drawn
    from a softmax with the numbers ``uniform`` ``(B, size)``, which rows without categories do not need.
    """
    soft = []
    noise = [None] * len(spec.spans) if uniform is None else split_spans(spec, uniform)
    for span, outputs, chance in zip(spec.spans, split_spans(spec, raw), noise, strict=True):
        if span.kind == "categorical":
            assert chance is not None, "categories are drawn"
            gumbel = -torch.log(-torch.log(chance.clamp(1e-20, 1 - 1e-7)))
            soft.append(functional.softmax(outputs + temperature * gumbel, dim=1))
        else:
            soft.append(outputs if span.levels is None else REACH * torch.tanh(outputs))
    values = torch.cat(soft, dim=1).reshape(-1, *spec.shape)
    return values + (as_rows(spec, values) - values).detach()


def as_seen(spec: TensorSpec, rows: Tensor) -> Tensor:
    """Rows as a critic reads them: the outermost levels further out, so that a smooth critic tells them from the next.

    Gradients pass as if nothing was moved.
    """
    return rows + (as_continuous(spec, rows.detach(), None) - rows).detach()


def suited_net(spec: TensorSpec, asked: NetSetting) -> NetName:
    """The kind of net for rows of ``spec``, where it is not said.

    Raises:
        ValueError: convolutions are asked for rows that are vectors.
    """
    if asked == "resnet" and spec.form == "vector":
        raise ValueError("a resnet needs rows that are grids; set net to mlp or auto")
    if asked != "auto":
        return asked
    return "resnet" if spec.form == "grid" and max(spec.shape[1:]) > LARGEST_MLP_SIDE else "mlp"


def make_generator(spec: TensorSpec, latent: int, size: NetSize, net: NetName, norm: NormName) -> Generator:
    """A generator of rows of ``spec``: ``row`` normalises within a row, ``batch`` and ``virtual`` by class and batch.

    Raises:
        ValueError: a ``resnet`` for a grid of more than one span.
    """
    reference = REFERENCE if norm == "virtual" else 0
    decoder = GridDecoder if net == "resnet" else VectorDecoder
    virtual = partial(VirtualBatchNorm, reference=reference)
    blocks: dict[NormName, tuple[Block, Block]] = {
        "row": (GridBlock, VectorBlock),
        "batch": (NormedGridBlock, NormedVectorBlock),
        "virtual": (partial(NormedGridBlock, norm=virtual), partial(NormedVectorBlock, norm=virtual)),
    }
    block = blocks[norm][0 if net == "resnet" else 1]
    return Generator(spec, decoder(spec, latent, size, spec.size, block), latent, reference)
