"""One vector of latents for a row, whose posterior an inverse autoregressive flow bends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models._contract import TensorSpec
from models._gaussian import Gaussian
from models._iaf import Flow, FlowSize, Inferred, Noise, at_least_float32, vector_step
from models._latents import Prior, arc
from models._nets import LabelEmbedding, NetSize, make_decoder, make_encoder


class FlatLatents(nn.Module):
    """One vector of latents with p(z|y) learned per class or N(0, I), and its encoder, flow and decoder.

    The encoder gives mu, ln sigma^2 and the context h; z_0 = mu + sigma eps goes through the flow, which hears h and
    the label in every step.
    """

    def __init__(
        self,
        spec: TensorSpec,
        size: NetSize,
        flow: FlowSize,
        *,
        latent: int,
        context: int,
        outputs: int,
        learned_prior: bool,
    ) -> None:
        super().__init__()
        self.latent = latent
        self.gates = 0 if flow.location_only else flow.steps * latent
        self.prior = Prior(spec.num_classes, latent, learned=learned_prior)
        self.encoder = make_encoder(spec, 2 * latent + context, size)
        self.label = LabelEmbedding(spec.num_classes, context)
        steps = (vector_step(latent, 2 * context, flow, reverse=step % 2 == 1) for step in range(flow.steps))
        self.flow = Flow(list(steps), location_only=flow.location_only)
        self.decoder = make_decoder(spec, latent, size, outputs)

    def read(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """mu, ln sigma^2 within -12 and 4, and the context: of the row and of its label."""
        out = at_least_float32(self.encoder(x, y))
        mean, log_variance, h = out.tensor_split([self.latent, 2 * self.latent], dim=1)
        return mean, log_variance.clamp(-12, 4), torch.cat([h, self.label(y)], dim=1)

    def infer(self, evidence: tuple[Tensor, ...], y: Tensor, noise: Noise) -> Inferred:
        """One draw from the posterior; a group is a latent."""
        mean, log_variance, h = evidence
        q_0 = Gaussian(mean, log_variance)
        eps = noise(mean.shape)
        z, log_stretch = self.flow(q_0.at(eps), h)
        kl = q_0.log_density_at(eps) - log_stretch - self.prior(y).log_density(z)
        return Inferred(self.decode(z, y), z, kl, log_stretch.sum(1))

    def generate(self, y: Tensor, noise: Noise) -> Tensor:
        """Raw outputs ``(B, raw_size)`` for latents drawn from p(z|y)."""
        return self.decode(self.prior(y).at(noise((len(y), self.latent))), y)

    def decode(self, codes: Tensor, y: Tensor) -> Tensor:
        """Raw outputs ``(B, raw_size)`` for latents ``(B, latent)``."""
        raw: Tensor = self.decoder(codes, y)
        return raw

    def between(self, first: Tensor, second: Tensor, y: Tensor, place: Tensor) -> Tensor:
        """Raw outputs ``(B, raw_size)`` at ``place`` ``(B, 1)`` on the arc between two codes of rows of y."""
        return self.decode(arc(first, second, self.prior(y), place), y)

    def divergence(self) -> Tensor:
        """The sum over all classes of KL(p(z|y) || N(0, I)) in nats."""
        return self.prior.divergence()
