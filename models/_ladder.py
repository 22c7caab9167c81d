"""A ResNet VAE: a ladder of latent maps for grids, inferred from the top down.

Improving Variational Inference with Inverse Autoregressive Flow, arXiv:1606.04934, section 4.2 and appendix C. On the
way up each rung reads the image. On the way down rung l gives its prior p(z_l | z_>l, y); its posterior
q(z_l | z_>l, x, y) joins what both ways found, and is bent by convolutional flow steps. Residual branches count a
tenth, and nothing is normalised. The paper's ladder has one resolution (``levels`` = 1); with more of them the upper
rungs see the whole picture through few convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._contract import TensorSpec
from models._gaussian import Gaussian
from models._iaf import Flow, FlowSize, Inferred, Noise, at_least_float32, grid_step
from models._latents import arc
from models._nets import LabelEmbedding, grid_stages

BRANCH = 0.1  # what a residual branch counts
FIRST_SPREAD = 0.1  # of the first weights that tell a distribution: priors and posteriors begin near N(0, I)


class LadderSize(NamedTuple):
    """The finest side in pixels, resolutions (each half of the one before, at most down to one place), rungs in each,
    deterministic channels, latent maps of a rung, label embedding and dropout."""

    side: int
    levels: int
    rungs: int
    channels: int
    maps: int
    embedding: int
    dropout: float


class Seen(NamedTuple):
    """What the way up found for one rung: the posterior's shift ``(B, 2 maps, ...)`` and the flow's context."""

    shift: Tensor
    context: Tensor


class Told(NamedTuple):
    """What the way down says before z_l is drawn: its prior, its part of the posterior and the inner features."""

    prior: Gaussian
    seen: Seen
    inner: Tensor


class Drawn(NamedTuple):
    """z_l after the flow, ln q - ln p and the sum of ln g, of each latent ``(B, maps, height, width)``."""

    z: Tensor
    kl: Tensor
    log_stretch: Tensor


class Rung(nn.Module):
    """One block of the ladder; all that goes in and out is ``(B, channels, height, width)`` of its resolution."""

    def __init__(self, size: LadderSize, flow: FlowSize) -> None:
        super().__init__()
        self.channels, self.maps = size.channels, size.maps
        self.label_up = nn.Linear(size.embedding, size.channels)
        self.label_down = nn.Linear(size.embedding, size.channels)
        self.up_first = _conv(size.channels, size.channels)
        self.up_second = _conv(size.channels, 2 * size.channels + 2 * size.maps, told=2 * size.maps)
        self.down_first = _conv(size.channels, 2 * size.channels + 4 * size.maps, told=4 * size.maps)
        self.down_second = _conv(size.channels + size.maps, size.channels)
        self.dropout = nn.Dropout2d(size.dropout)
        steps = (grid_step(size.maps, size.channels, flow, reverse=step % 2 == 1) for step in range(flow.steps))
        self.flow = Flow(list(steps), location_only=flow.location_only)

    def up(self, h: Tensor, label: Tensor) -> tuple[Tensor, Seen]:
        """The features for the next rung, and what the image says of z_l."""
        inner = self.up_first(functional.elu(h + self.label_up(label)[:, :, None, None]))
        out = self.up_second(self.dropout(functional.elu(inner)))
        shift, context, branch = out.split([2 * self.maps, self.channels, self.channels], dim=1)
        return h + BRANCH * branch, Seen(at_least_float32(shift), context)

    def down(self, h: Tensor, label: Tensor) -> Told:
        """What is known of z_l from the latents above it and the label."""
        out = self.down_first(functional.elu(h + self.label_down(label)[:, :, None, None]))
        prior, shift, context, inner = out.split([2 * self.maps, 2 * self.maps, self.channels, self.channels], dim=1)
        mean, log_variance = at_least_float32(prior).chunk(2, dim=1)
        return Told(Gaussian(mean, log_variance.clamp(-8, 4)), Seen(at_least_float32(shift), context), inner)

    def infer(self, told: Told, seen: Seen, noise: Noise) -> Drawn:
        """z_l from its posterior; where neither way says anything, that is the prior."""
        shift, log_ratio = (told.seen.shift + seen.shift).chunk(2, dim=1)
        p = told.prior
        q_0 = Gaussian(p.at(shift), (p.log_variance + log_ratio).clamp(-12, 4))
        eps = noise(shift.shape)
        z, log_stretch = self.flow(q_0.at(eps), told.seen.context + seen.context)
        return Drawn(z, q_0.log_density_at(eps) - log_stretch - p.log_density(z), log_stretch)

    def join(self, h: Tensor, inner: Tensor, z: Tensor) -> Tensor:
        """The features below the rung, which know z_l."""
        out: Tensor = h + BRANCH * self.down_second(self.dropout(functional.elu(torch.cat([inner, z], dim=1))))
        return out


Choose = Callable[[Rung, Told, int], Tensor]


class Ladder(nn.Module):
    """The latents of all rungs, counted from the top, and the decoder that they are part of.

    ``outputs`` are the raw outputs for each value.

    Raises:
        ValueError: the grid has more than one span.
    """

    def __init__(self, spec: TensorSpec, size: LadderSize, flow: FlowSize, *, outputs: int) -> None:
        super().__init__()
        if len(spec.spans) != 1:
            raise ValueError(f"a grid is read as one span, this one has {len(spec.spans)}")
        pixels, height, width = spec.shape
        patch, stages, _ = grid_stages(height, width, size.channels, size.side)
        self.shape, self.channels = spec.shape, size.channels
        self.padding = (0, stages[0][1] * patch - width, 0, stages[0][0] * patch - height)
        sides = _halved(stages[0], size.levels)
        self.places = [(size.maps, *side) for side in reversed(sides) for _ in range(size.rungs)]
        self.gates = 0 if flow.location_only else flow.steps * sum(math.prod(place) for place in self.places)
        self.label = LabelEmbedding(spec.num_classes, size.embedding)
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.first = _conv(pixels * patch**2, size.channels)
        self.coarser = nn.ModuleList(_conv(size.channels, size.channels, stride=2) for _ in sides[1:])
        self.rungs = nn.ModuleList(Rung(size, flow) for _ in self.places)
        self.top = nn.Linear(size.embedding, size.channels * math.prod(sides[-1]))
        self.last = _conv(size.channels, pixels * patch**2 * outputs)

    def _rungs(self) -> list[Rung]:
        return cast("list[Rung]", list(self.rungs))

    def read(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """The way up: shift and context of each rung from the top, one after the other."""
        label = self.label(y)
        h = self.first(self.unshuffle(functional.pad(x, self.padding)))
        coarser = iter(self.coarser)
        found: list[Seen] = []
        for rung, place in zip(reversed(self._rungs()), reversed(self.places), strict=True):
            if h.shape[2:] != place[1:]:
                h = next(coarser)(h)
            h, seen = rung.up(h, label)
            found.append(seen)
        return tuple(part for seen in reversed(found) for part in seen)

    def infer(self, evidence: tuple[Tensor, ...], y: Tensor, noise: Noise) -> Inferred:
        """One draw of all latents from their posteriors; a group is a map of a rung."""
        codes, divergences, log_dets = [], [], []

        def choose(rung: Rung, told: Told, i: int) -> Tensor:
            drawn = rung.infer(told, Seen(*evidence[2 * i : 2 * i + 2]), noise)
            codes.append(drawn.z.flatten(1))
            divergences.append(drawn.kl.sum((2, 3)))
            log_dets.append(drawn.log_stretch.sum((1, 2, 3)))
            return drawn.z

        raw = self.descend(y, choose)
        kl = torch.cat(divergences, dim=1)
        return Inferred(raw, torch.cat(codes, dim=1), kl, torch.stack(log_dets).sum(0))

    def generate(self, y: Tensor, noise: Noise) -> Tensor:
        """Raw outputs ``(B, raw_size)`` for latents drawn from their priors, one rung after the other."""
        return self.descend(y, lambda _, told, __: told.prior.at(noise(told.prior.mean.shape)))

    def decode(self, codes: Tensor, y: Tensor) -> Tensor:
        """Raw outputs ``(B, raw_size)`` for the latents of all rungs ``(B, latents)``."""
        parts = self._parts(codes)
        return self.descend(y, lambda _, __, i: parts[i])

    def between(self, first: Tensor, second: Tensor, y: Tensor, place: Tensor) -> Tensor:
        """Raw outputs ``(B, raw_size)`` at ``place`` ``(B, 1)`` on the arcs between the codes of each rung."""
        begin, end = self._parts(first), self._parts(second)

        def choose(_rung: Rung, told: Told, i: int) -> Tensor:
            prior = Gaussian(told.prior.mean.flatten(1), told.prior.log_variance.flatten(1))
            return arc(begin[i].flatten(1), end[i].flatten(1), prior, place).reshape(begin[i].shape)

        return self.descend(y, choose)

    def _parts(self, codes: Tensor) -> list[Tensor]:
        """The latents of each rung ``(B, maps, height, width)``."""
        parts = torch.split(codes, [math.prod(place) for place in self.places], dim=1)
        return [part.reshape(-1, *place) for part, place in zip(parts, self.places, strict=True)]

    def divergence(self) -> Tensor:
        """0: each prior but the topmost depends on the latents above it, and none is held near N(0, I)."""
        return self.top.weight.new_zeros(())

    def descend(self, y: Tensor, choose: Choose) -> Tensor:
        """The way down, where ``choose`` gives the latents of rung i, ``(B, maps, height, width)``."""
        label = self.label(y)
        h = self.top(label).reshape(len(y), self.channels, *self.places[0][1:])
        for i, (rung, place) in enumerate(zip(self._rungs(), self.places, strict=True)):
            if h.shape[2:] != place[1:]:
                h = functional.interpolate(h, size=place[1:], mode="nearest")
            told = rung.down(h, label)
            h = rung.join(h, told.inner, choose(rung, told, i))
        out = self.shuffle(self.last(functional.elu(h)))
        raw: Tensor = out[:, :, : self.shape[1], : self.shape[2]].flatten(1)
        return raw


def _halved(side: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """Sides of so many resolutions, the finest first, or of as many as there are down to a single place."""
    sides = [side]
    while len(sides) < levels and max(sides[-1]) > 1:
        sides.append((math.ceil(sides[-1][0] / 2), math.ceil(sides[-1][1] / 2)))
    return sides


def _conv(inputs: int, outputs: int, *, stride: int = 1, told: int = 0) -> nn.Conv2d:
    """A 3x3 convolution that keeps the spread of its input; its first ``told`` outputs begin small."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    with torch.no_grad():
        nn.init.normal_(conv.weight, std=1 / math.sqrt(9 * inputs))
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has one
        conv.weight[:told] *= FIRST_SPREAD
    return conv
