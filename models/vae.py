"""A class-conditional variational autoencoder for vectors and grids.

Auto-Encoding Variational Bayes, arXiv:1312.6114; conditional as in Sohn et al. 2015 (Learning Structured Output
Representation using Deep Conditional Generative Models).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models._contract import (
    Batch,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    TensorSpec,
    TrainingDefaults,
)
from models._gaussian import Gaussian, free_bits_penalty, importance_weighted_bound, kl_divergence, normal_noise
from models._heads import Heads, ObservationSetting, SigmaSetting
from models._latents import ACTIVE_VARIANCE, PRIOR_WEIGHT, Prior, arc, default_latent, warmed_up
from models._nets import LARGEST_WORKING_SIDE, NetSize, defaults_for, first_weights, make_decoder, make_encoder
from models._searched import Range, Searched
from models._settings import Beta, Dropout, Embedding, KlWarmup, Resolution, Spread, Width

LARGEST_FULL = 256  # latents whose covariance is full: 32,896 numbers a row


class Posterior(nn.Module):
    """q(z|x, y) = N(mu, L L'): of independent latents, or ``correlated`` with a full lower triangle L.

    ``net`` gives ``outputs(latent, correlated)`` numbers a row: mu, 2 ln L_ii, and L_ij for i > j, row by row (An
    Introduction to Variational Autoencoders, arXiv:1906.02691, section 2.5.1).
    """

    below: Tensor

    def __init__(self, net: nn.Module, latent: int, *, correlated: bool) -> None:
        super().__init__()
        self.net = net
        self.latent = latent
        self.correlated = correlated
        self.register_buffer("below", torch.tril_indices(latent, latent, -1), persistent=False)

    @staticmethod
    def outputs(latent: int, *, correlated: bool) -> int:
        """How many numbers the net gives for each row."""
        return 2 * latent + (latent * (latent - 1) // 2 if correlated else 0)

    def forward(self, x: Tensor, y: Tensor) -> Gaussian:
        """The posterior of each row; its 2 ln L_ii stay between -12 and 4."""
        mean, log_variance, entries = self.net(x, y).float().tensor_split([self.latent, 2 * self.latent], dim=1)
        log_variance = log_variance.clamp(-12, 4)
        if not self.correlated:
            return Gaussian(mean, log_variance)
        lower = entries.new_zeros(len(mean), self.latent, self.latent)
        lower[:, self.below[0], self.below[1]] = entries
        return Gaussian(mean, log_variance, lower)


class VariationalAutoencoder(GenerativeModel):
    """p(x|y) = E p(x|z, y) over z ~ p(z|y), bounded through q(z|x, y).

    The weight of the KL term rises in a straight line from 0 to ``beta`` over the share ``kl_warmup`` of the training
    steps. KL(p(z|y) || N(0, I)) of every class, and of rows without a label, counts in the loss with ``prior_weight``,
    however few rows a class has: the priors of scarce classes are held there most. ``spread`` scales the deviations of
    z from the prior's mean in :meth:`sample`, and there alone.
    """

    kl_weight: Tensor

    def __init__(
        self,
        spec: TensorSpec,
        encoder: nn.Module,
        decoder: nn.Module,
        heads: Heads,
        settings: VaeConfig,
        *,
        latent: int,
        spread: float,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.settings = settings
        self.latent = latent
        self.spread = spread
        self.prior = Prior(spec.num_classes, latent, learned=settings.prior == "per_class")
        self.posterior = Posterior(encoder, latent, correlated=settings.posterior == "full")
        self.decoder = decoder
        self.heads = heads
        self.register_buffer("kl_weight", torch.tensor(settings.beta), persistent=False)

    def begin_step(self, step: int, steps: int) -> None:
        """Set the weight of the KL term."""
        self.kl_weight.fill_(warmed_up(self.settings.beta, self.settings.kl_warmup, step, steps))

    def objectives(self) -> Sequence[Objective]:
        """One: the negative ELBO, with free bits, beta, and the hold on the prior."""
        # the threshold of the free bits and an optimal scale are of a whole batch, so it must not be split
        whole = self.settings.free_bits > 0 or self.heads.by_batch
        return [
            Objective("elbo", tuple(self.parameters()), self._loss, self.settings.optimiser, batch_statistics=whole)
        ]

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(batch.x, batch.y)
        raw = self.decoder(self._code(posterior, generator), batch.y)
        nll = self.heads.negative_log_likelihood(raw, batch.x).mean()
        kl = kl_divergence(posterior, self.prior(batch.y))
        held = self.prior.divergence()
        loss = nll + self.kl_weight * (
            free_bits_penalty(kl, self.settings.free_bits) + self.settings.prior_weight * held
        )
        active = (posterior.mean.detach().var(0, unbiased=False) > ACTIVE_VARIANCE).sum().float()
        scale = self.heads.mean_scale(raw)
        return {
            "loss": loss,
            "nll": nll.detach(),
            "kl": kl.detach().sum(1).mean(),
            "kl_weight": self.kl_weight.clone(),
            "prior_kl": held.detach(),
            "active_units": active,
        } | ({} if scale is None else {"sigma": scale})

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)``: z from the prior, its spread scaled by ``temperature``, decoded and drawn."""
        z = self._code(self.prior(labels), generator, self.spread * temperature)
        return self.heads.draw(self.decoder(z, labels), generator, temperature)

    @torch.no_grad()
    def resample(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``: z from the posterior of each exemplar, its spread scaled, decoded and drawn."""
        z = self._code(self.posterior(exemplars, labels), generator, temperature)
        return self.heads.draw(self.decoder(z, labels), generator, temperature)

    @torch.no_grad()
    def interpolate(
        self, first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``: z at a uniform place on the arc between codes of two exemplars, decoded and drawn."""
        begin, end = (self._code(self.posterior(rows, labels), generator, temperature) for rows in (first, second))
        place = torch.rand((len(labels), 1), generator=generator, device=labels.device)
        z = arc(begin, end, self.prior(labels), place)
        return self.heads.draw(self.decoder(z, labels), generator, temperature)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """The means of the posteriors, ``(B, latent)``."""
        mean: Tensor = self.posterior(batch.x, batch.y).mean
        return mean

    @torch.no_grad()
    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Rows ``(B, *shape)`` at the centre of their likelihood given codes ``(B, latent)``."""
        return self.heads.centre(self.decoder(latents, labels))

    @torch.no_grad()
    def elbo(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The evidence lower bound in nats, shape ``(B,)``: one draw of z, KL in closed form; no beta, no free bits."""
        posterior = self.posterior(batch.x, batch.y)
        raw = self.decoder(self._code(posterior, generator), batch.y)
        return -self.heads.negative_log_likelihood(raw, batch.x) - kl_divergence(posterior, self.prior(batch.y)).sum(1)

    @torch.no_grad()
    def iwae(self, batch: Batch, generator: torch.Generator, importance_samples: int) -> Tensor:
        """The importance-weighted bound in nats, shape ``(B,)`` (arXiv:1509.00519, equation 8)."""
        posterior, prior = self.posterior(batch.x, batch.y), self.prior(batch.y)

        def log_weights(count: int) -> Tensor:
            noise = normal_noise((count, *posterior.mean.shape), generator, batch.y.device)
            z = posterior.at(noise)
            log_ratio = (prior.log_density(z) - posterior.log_density_at(noise)).sum(2)
            raw = self.decoder(z.flatten(0, 1), batch.y.repeat(count))
            rows = batch.x.repeat(count, *[1] * (batch.x.dim() - 1))
            log_likelihood = -self.heads.negative_log_likelihood(raw, rows).reshape(count, -1)
            weights: Tensor = log_ratio + log_likelihood
            return weights

        return importance_weighted_bound(log_weights, importance_samples, len(batch.y))

    def _code(self, gaussian: Gaussian, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        return gaussian.at(temperature * normal_noise(gaussian.mean.shape, generator, gaussian.mean.device))


class VaeConfig(ModelConfig):
    """Settings of :class:`VariationalAutoencoder`; what is null depends on the size of a row."""

    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "bound"
    objective_names: ClassVar[tuple[str, ...]] = ("elbo",)
    operators: ClassVar[tuple[str, ...]] = ("prior", "posterior", "interpolation")
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str] = "Auto-Encoding Variational Bayes, arXiv:1312.6114"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=1500, batch_size=64, ema_decay=0.995, sampling="root")
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(3e-4, 3e-3, log=True),
        "beta": Range(0.25, 4, log=True),
        "latent": Range(4, 64, log=True, whole=True),
        "dropout": Range(0, 0.5),
    }

    kind: Literal["vae"] = "vae"
    latent: int | None = Field(None, ge=1, le=4096, description="Latent numbers; null: by the size of a row.")
    width: Width = None
    depth: int = Field(1, ge=1, le=16, description="Residual blocks, in each stage of a grid.")
    embedding: Embedding = 64
    dropout: Dropout = None
    resolution: Resolution = LARGEST_WORKING_SIDE
    observation: ObservationSetting = "auto"
    sigma: SigmaSetting = "learned"
    posterior: Literal["diagonal", "full"] = Field(
        "diagonal", description="Covariance of q(z|x): of independent latents, or a full one."
    )
    beta: Beta = 1.0
    kl_warmup: KlWarmup = 0.0
    free_bits: float = Field(0.0, ge=0, le=100, allow_inf_nan=False, description="Nats of KL a latent has for free.")
    prior: Literal["standard", "per_class"] = Field(
        "per_class", description="p(z|y): N(0, I), or learned for each class."
    )
    prior_weight: float = Field(
        PRIOR_WEIGHT,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="How strongly learned priors are held near N(0, I).",
    )
    spread: Spread = None
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    @model_validator(mode="after")
    def _refuse_what_would_do_nothing(self) -> Self:
        if self.prior == "standard" and self.prior_weight != PRIOR_WEIGHT:
            raise ValueError("prior_weight is of learned priors; set prior to per_class, or leave it out")
        return self

    def build(self, spec: TensorSpec, generator: torch.Generator) -> VariationalAutoencoder:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: a grid of more than one span; a likelihood that does not fit the values; a full covariance of
                more latents than it can have.
        """
        defaults = defaults_for(spec)
        dropout = defaults.dropout if self.dropout is None else self.dropout
        size = NetSize(self.width or defaults.width, self.depth, self.embedding, dropout, self.resolution)
        latent = self.latent or default_latent(spec)
        correlated = self.posterior == "full"
        if correlated and latent > LARGEST_FULL:
            raise ValueError(
                f"a full covariance of {latent} latents would take {latent * (latent + 1) // 2} numbers a row; set "
                f"latent to {LARGEST_FULL} at most, or posterior to diagonal"
            )
        heads = Heads(spec, self.observation, self.sigma)
        with first_weights(generator):
            encoder = make_encoder(spec, Posterior.outputs(latent, correlated=correlated), size)
            decoder = make_decoder(spec, latent, size, heads.raw_size)
        spread = defaults.spread if self.spread is None else self.spread
        return VariationalAutoencoder(spec, encoder, decoder, heads, self, latent=latent, spread=spread)
