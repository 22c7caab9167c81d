"""A warp-VAE: it learns how rows of a class differ, and varies a real row by that; it draws no pixels of its own.

A conditional variational autoencoder over pairs (x, x') of rows of one class (Auto-Encoding Variational Bayes,
arXiv:1312.6114). Its decoder maps a code z to a smooth change: an affine map, grids of displacements, the thickness of
strokes, and light; x' is the changed x, up to noise. A change depends on z alone and not on x, so that what the large
classes show reaches a class of few rows. Dreaming More Data, arXiv:1510.02795, learned such transformations, class by
class and without a decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models._continuous import as_rows
from models._contract import (
    Batch,
    Form,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    Span,
    TensorSpec,
    TrainingDefaults,
)
from models._gaussian import Gaussian, kl_divergence, normal_noise
from models._latents import ACTIVE_VARIANCE
from models._nets import NetSize, first_weights, make_encoder
from models._pairs import same_class_partners
from models._searched import OneOf, Range, Searched
from models._warp import Change, apply_change, jacobian_determinants

SMALLEST_SIDE = 4  # of a grid that has anything to bend
LIGHT_NODES = 4  # of the grid of log gain, each way
# A stroke of one or two pixels turns grey where it is moved by parts of a pixel, more than those of real rows are.
COARSE_SIDE, COARSE_SPREAD, FINE_SPREAD = 16, 0.3, 0.5
FURTHER, TRIES = 1.5, 5  # a change that leaves a row as it is grows by this factor, so often at most


class ChangeDecoder(nn.Module):
    """The change that a code ``(B, latent)`` stands for, whatever the row; an odd function of it.

    The code 0 changes nothing, and each part of the change of -z is the opposite of that of z. The two lead a place
    back to first order in z: velocities alone exactly, but for their small steps; together with the affine map up to
    second order, since the parts are undone in the order in which they were done and not in the reverse one. Pixels
    come back less well: reading twice between pixels blurs, and thinning gives no covered detail back.

    A raw output of one is a change of ordinary size for rows of ``size`` (H, W). All velocities together stay, each
    way, within 0.3 of the distance between the nodes of their grid, so that the small steps of
    :func:`models._warp.flow_along` are far from the first fold.
    """

    bounds: Tensor
    slopes: Tensor

    def __init__(self, latent: int, hidden: int, size: Sequence[int], grids: Sequence[int], *, light: bool) -> None:
        super().__init__()
        self.side, self.grids, self.light = max(size), tuple(grids), light
        ways = [(nodes, side) for nodes in grids for side in reversed(size)]  # x before y
        bounds = [0.3 * side / (nodes - 1) / len(grids) for nodes, side in ways]
        slopes = [0.1 * side / bound for (_, side), bound in zip(ways, bounds, strict=True)]
        self.register_buffer("bounds", torch.tensor(bounds).reshape(-1, 2, 1, 1), persistent=False)
        self.register_buffer("slopes", torch.tensor(slopes).reshape(-1, 2, 1, 1), persistent=False)
        self.sizes = [4, 2, 1, *(2 * nodes**2 for nodes in grids)]
        if light:
            self.sizes += [1, LIGHT_NODES**2]
        self.net = nn.Sequential(
            nn.Linear(latent, hidden, bias=False),
            nn.Tanh(),
            nn.Linear(hidden, hidden, bias=False),
            nn.Tanh(),
            nn.Linear(hidden, sum(self.sizes), bias=False),
        )

    def forward(self, z: Tensor) -> Change:
        """The changes of codes ``(B, latent)``."""
        linear, shift, thickness, *rest = self.net(z).float().split(self.sizes, dim=1)
        velocities = []
        for nodes, bound, slope, raw in zip(self.grids, self.bounds, self.slopes, rest, strict=False):
            velocities.append(bound * torch.tanh(slope * raw.reshape(-1, 2, nodes, nodes)))
        dark = linear.new_zeros(len(z), 1)
        gamma, gain = (0.5 * rest[-2], 0.5 * rest[-1]) if self.light else (dark, dark.expand(-1, LIGHT_NODES**2))
        return Change(
            linear=0.3 * linear.reshape(-1, 2, 2),
            shift=0.1 * self.side * shift,
            velocities=tuple(velocities),
            thickness=torch.tanh(thickness[:, 0]),
            gamma=gamma[:, 0],
            gain=gain.reshape(-1, 1, LIGHT_NODES, LIGHT_NODES),
        )


class WarpVae(GenerativeModel):
    """p(x'|x) = E exp(-precision d(T_z(x), x')) over z ~ N(0, I), up to a constant; T_z is the change of z.

    d is the mean over all pixels of the squared difference of the blurred rows, so that ``precision`` stands for
    N / (2 sigma^2) with N pixels. Bounded through q(z|x, x', y) as an ELBO is. It is no likelihood of rows: blurred
    pixels forgive what no smooth change can reach, and leave grain open.

    The pairs (x, x') and (x', x) are as likely, and the model is made to know it: their posteriors are N(m, v) and
    N(-m, v), and the change of -z has the opposite parts of that of z. Squared errors ask for a darker, blurred row
    wherever the target is not known; such a drift of all samples one way cannot be learned. ``stiffness`` is the
    penalty in nats on a velocity of the longer side at one node, for each grid; ``spread`` scales z in a draw.
    """

    def __init__(
        self,
        spec: TensorSpec,
        encoder: nn.Module,
        decoder: ChangeDecoder,
        settings: WarpVaeConfig,
        *,
        spread: float,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.decoder = decoder
        self.settings = settings
        self.spread = spread

    def objectives(self) -> Sequence[Objective]:
        """One, over the pairs that a batch holds, so that a batch must not be split."""
        return [Objective("elbo", tuple(self.parameters()), self._loss, self.settings.optimiser, batch_statistics=True)]

    def posterior(self, x: Tensor, target: Tensor, y: Tensor) -> Gaussian:
        """q(z|x, x', y): which change takes ``x`` to ``target``; N(m, v) where q(z|x', x, y) is N(-m, v)."""
        forth, back = torch.cat([x, target], dim=1), torch.cat([target, x], dim=1)
        means, log_variances = self.encoder(torch.cat([forth, back]), y.repeat(2)).float().chunk(2, dim=1)
        (mean, opposite), (one, other) = means.chunk(2), log_variances.chunk(2)
        return Gaussian((mean - opposite) / 2, ((one + other) / 2).clamp(-8, 2))

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        partners = same_class_partners(batch.y, generator)
        alone = partners == torch.arange(len(partners), device=partners.device)
        target = batch.x[partners]
        posterior = self.posterior(batch.x, target, batch.y)
        z = posterior.at(normal_noise(posterior.mean.shape, generator, posterior.mean.device))
        change = self.decoder(z)
        changed, field = apply_change(batch.x, change)
        squares = functional.avg_pool2d(changed - target, 3, stride=1, padding=1).square().flatten(1).mean(1)
        reconstruction = _mean_of_pairs(self.settings.precision * squares, alone)
        kl = _mean_of_pairs(kl_divergence(posterior, _standard_normal(posterior.mean)).sum(1), alone)
        penalty = _mean_of_pairs(self._penalty(change), alone)
        terms = {"loss": reconstruction + self.settings.beta * kl + penalty}
        logged = {"reconstruction": reconstruction, "kl": kl, "penalty": penalty}
        with torch.no_grad():
            active = (posterior.mean.var(0, unbiased=False) > ACTIVE_VARIANCE).sum().float()
            told = {"active_units": active, "paired": (~alone).float().mean()}
            return terms | {k: v.detach() for k, v in logged.items()} | told | _sizes(change, field)

    def _penalty(self, change: Change) -> Tensor:
        """What the velocities cost, ``(B,)`` in nats."""
        cost = change.shift.new_zeros(len(change.shift))
        for stiffness, velocity in zip(self.settings.stiffness, change.velocities, strict=True):
            cost = cost + stiffness * (velocity / self.decoder.side).square().flatten(1).sum(1)
        return cost

    @torch.no_grad()
    def sample_from(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, C, H, W)``: each exemplar, changed by a z from N(0, I) times ``spread`` and ``temperature``.

        On few levels a small change may round to none; such a z grows until the row is no copy of its exemplar.
        """
        z = (
            self.spread
            * temperature
            * normal_noise((len(exemplars), self.settings.latent), generator, exemplars.device)
        )
        originals = as_rows(self.spec, exemplars)
        rows = self._changed(exemplars, z)
        for _ in range(TRIES):
            copies = (rows == originals).flatten(1).all(dim=1)
            if not copies.any():
                break
            z = torch.where(copies[:, None], FURTHER * z, z)
            rows = self._changed(exemplars, z)
        return rows

    def _changed(self, exemplars: Tensor, z: Tensor) -> Tensor:
        return as_rows(self.spec, apply_change(exemplars, self.decoder(z), crisp=True)[0])


def _standard_normal(like: Tensor) -> Gaussian:
    zeros = torch.zeros_like(like)
    return Gaussian(zeros, zeros)


def _mean_of_pairs(values: Tensor, alone: Tensor) -> Tensor:
    """The mean over the rows that have a partner; zero if none has."""
    return torch.where(alone, 0.0, values).sum() / (~alone).sum().clamp(min=1)


def _sizes(change: Change, field: Tensor) -> dict[str, Tensor]:
    """How far the changes of a batch go: root mean squares, and the determinant nearest to a fold."""
    return {
        "displacement_pixels": field.square().sum(1).mean().sqrt(),
        "thickness": change.thickness.square().mean().sqrt(),
        "log_gain": change.gain.square().mean().sqrt(),
        "smallest_jacobian": jacobian_determinants(field).min(),
    }


class WarpVaeConfig(ModelConfig):
    """Settings of :class:`WarpVae`. It accepts grids only: the values of a vector have no neighbours to move to."""

    accepts: ClassVar[frozenset[Form]] = frozenset({"grid"})
    refuses: ClassVar[str] = "the values of a table's row have no neighbours that they could be moved to"
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "none"
    objective_names: ClassVar[tuple[str, ...]] = ("elbo",)
    operators: ClassVar[tuple[str, ...]] = ("exemplar",)
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str] = "Dreaming More Data, arXiv:1510.02795; Auto-Encoding Variational Bayes, arXiv:1312.6114"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=1500, batch_size=64, ema_decay=0.995)
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(5e-4, 5e-3, log=True),
        "latent": Range(4, 32, log=True, whole=True),
        "precision": Range(250, 4_000, log=True),
        "light": OneOf((True, False)),
        "spread": Range(0.25, 1),
    }

    kind: Literal["warp_vae"] = "warp_vae"
    latent: int = Field(10, ge=1, le=256, description="Latent numbers, each a way in which rows of a class differ.")
    width: int = Field(16, ge=8, le=1024, description="Channels of the encoder's first stage.")
    depth: int = Field(1, ge=1, le=16, description="Residual blocks in each stage of the encoder.")
    embedding: int = Field(16, ge=1, le=1024, description="Length of the vector that stands for a class.")
    hidden: int = Field(64, ge=8, le=4096, description="Hidden units of the decoder.")
    grids: tuple[int, ...] = Field(
        (3,), max_length=4, description="Nodes, each way, of each grid of displacements; none: affine maps alone."
    )
    stiffness: tuple[float, ...] = Field(
        (50.0,), max_length=4, description="Nats for a displacement of one side at one node, for each grid."
    )
    light: bool = Field(True, description="Whether brightness and contrast change too.")
    precision: float = Field(
        1000.0, gt=0, le=1e6, allow_inf_nan=False, description="Nats for a mean squared error of one, in [-1, 1]."
    )
    beta: float = Field(1.0, ge=0, le=1000, allow_inf_nan=False, description="Weight of the KL term.")
    spread: float | None = Field(
        None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="Spread of z in a draw; 1: its prior's, null: by the size of a row.",
    )
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=2e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    @model_validator(mode="after")
    def _grids_are_stiff(self) -> Self:
        if len(self.grids) != len(self.stiffness):
            raise ValueError(
                f"grids has {len(self.grids)} and stiffness {len(self.stiffness)} entries; give each grid one"
            )
        if not all(2 <= nodes <= 32 for nodes in self.grids):
            raise ValueError("a grid of displacements has 2 to 32 nodes each way")
        if not all(0 <= value < float("inf") for value in self.stiffness):
            raise ValueError("a stiffness is a number of nats, 0 or more")
        return self

    def reads_pairs(self) -> bool:
        """True: it learns how two rows of a class differ."""
        return True

    def build(self, spec: TensorSpec, generator: torch.Generator) -> WarpVae:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: rows that are vectors, of more than one span, or of fewer than four pixels a side.
        """
        if spec.form != "grid":
            raise ValueError(f"a warp_vae needs rows that are grids: {self.refuses}")
        if len(spec.spans) != 1 or spec.spans[0].kind != "continuous":
            raise ValueError("a warp_vae reads a grid as one continuous span of pixels")
        channels, *size = spec.shape
        if min(size) < SMALLEST_SIDE:
            raise ValueError(f"a warp_vae needs at least {SMALLEST_SIDE} pixels a side, this grid has {min(size)}")
        pair = TensorSpec((2 * channels, *size), (Span("continuous", 2 * spec.size),), spec.num_classes)
        with first_weights(generator):
            encoder = make_encoder(pair, 2 * self.latent, NetSize(self.width, self.depth, self.embedding, 0.0))
            decoder = ChangeDecoder(self.latent, self.hidden, size, self.grids, light=self.light)
        by_size = FINE_SPREAD if max(size) > COARSE_SIDE else COARSE_SPREAD
        return WarpVae(spec, encoder, decoder, self, spread=self.spread or by_size)
