"""An encoder and a generator that meet in the same latents: codes of rows, and rows of codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models._contract import Batch, TensorSpec
from models._gaussian import Gaussian, normal_noise
from models._generators import Decoded, Generator, NetName, NetSetting, make_generator, suited_net
from models._latents import Prior, arc
from models._nets import GridEncoder, NetSize, VectorEncoder

USUAL_WIDTH: dict[NetName, int] = {"mlp": 128, "resnet": 24}
USUAL_WIDTHS = (
    f"Hidden units, or channels of the first stage; null: {USUAL_WIDTH['mlp']}, or {USUAL_WIDTH['resnet']} of "
    "convolutions."
)
LOG_VARIANCE_RANGE = (-12.0, 4.0)


class Autoencoder(nn.Module):
    """q(z|x, y) = N(mean, diag variance) by ``encoder``, which gives both, and rows G(z, y); the prior is N(0, I).

    ``spread`` scales the deviations of z in :meth:`sample`, and there alone.
    """

    def __init__(self, encoder: nn.Module, generator: Generator, num_classes: int, spread: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.generator = generator
        self.spread = spread
        self.prior = Prior(num_classes, generator.latent, learned=False)

    def posterior(self, x: Tensor, y: Tensor) -> Gaussian:
        """Where the code of each row may lie."""
        mean, log_variance = self.encoder(x, y).float().chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def noise(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal numbers ``(B, latent)``, one row for each label."""
        return normal_noise((len(y), self.generator.latent), generator, y.device)

    def decoded(self, codes: tuple[Tensor, ...], y: Tensor, generator: torch.Generator) -> tuple[Decoded, ...]:
        """Rows of several kinds of codes ``(B, latent)`` with the same labels, in one pass."""
        rows, raw = self.generator.at(torch.cat(codes), y.repeat(len(codes)), generator)
        return tuple(map(Decoded, rows.chunk(len(codes)), raw.chunk(len(codes))))

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
        """Rows ``(B, *shape)`` of codes from the prior, whose spread is scaled."""
        return self._drawn(self.spread * temperature * self.noise(labels, generator), labels, generator, temperature)

    @torch.no_grad()
    def resample(self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
        """Rows ``(B, *shape)`` of codes from the posterior of each exemplar, whose spread is scaled."""
        z = self._near(exemplars, labels, generator, temperature)
        return self._drawn(z, labels, generator, temperature)

    @torch.no_grad()
    def interpolate(
        self, first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, temperature: float
    ) -> Tensor:
        """Rows ``(B, *shape)`` of codes at a uniform place on the arc between codes of two exemplars."""
        begin, end = (self._near(rows, labels, generator, temperature) for rows in (first, second))
        place = torch.rand((len(labels), 1), generator=generator, device=labels.device)
        return self._drawn(arc(begin, end, self.prior(labels), place), labels, generator, temperature)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """The means of the posteriors, ``(B, latent)``."""
        return self.posterior(batch.x, batch.y).mean

    @torch.no_grad()
    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Rows ``(B, *shape)`` of codes ``(B, latent)``, with the likeliest categories."""
        return self.generator.at(latents, labels, None, 0.0).rows

    def _near(self, x: Tensor, y: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
        return self.posterior(x, y).at(temperature * self.noise(y, generator))

    def _drawn(self, z: Tensor, y: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
        return self.generator.at(z, y, generator, temperature).rows


def suited(spec: TensorSpec, net: NetSetting, width: int | None) -> tuple[NetName, int]:
    """The kind of net for rows of ``spec`` and its width, where they are not said.

    Raises:
        ValueError: convolutions are asked for rows that are vectors.
    """
    kind = suited_net(spec, net)
    return kind, width or USUAL_WIDTH[kind]


def make_autoencoder(spec: TensorSpec, latent: int, size: NetSize, net: NetName, spread: float) -> Autoencoder:
    """An autoencoder of rows of ``spec``, whose two nets are of the same kind and size.

    Raises:
        ValueError: a ``resnet`` for a grid of more than one span.
    """
    encoder = (GridEncoder if net == "resnet" else VectorEncoder)(spec, 2 * latent, size)
    decoder = make_generator(spec, latent, size, net, "row")
    return Autoencoder(encoder, decoder, spec.num_classes, spread)
