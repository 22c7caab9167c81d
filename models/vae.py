"""A class-conditional variational autoencoder for vectors and grids.

Auto-Encoding Variational Bayes, arXiv:1312.6114; conditional as in Sohn et al. 2015 (Learning Structured Output
Representation using Deep Conditional Generative Models).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
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
from models._heads import draw, negative_log_likelihood
from models._nets import NetSize, defaults_for, make_decoder, make_encoder

ACTIVE_VARIANCE = 0.01  # a latent whose posterior mean varies less over the rows carries nothing (arXiv:1509.00519)
PRIOR_PACE = 4.0  # the means of a prior travel further than weights do; their steps are so much longer


class Posterior(nn.Module):
    """q(z|x, y): means and log-variances ``(B, latent)`` from a net with twice as many outputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, y: Tensor) -> Gaussian:
        """The posterior of each row; its variances stay within e^-12 and e^4."""
        mean, log_variance = self.net(x, y).float().chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(-12, 4))


class Prior(nn.Module):
    """p(z|y) = N(mean_y, diag variance_y), where rows without a label have one of their own.

    ``learned`` says whether means and variances are parameters; else, and before training, all are N(0, I). Of a
    class of few rows the posteriors do not fill N(0, I), and a draw from where there are none decodes to a torn row or
    to one of another class; a learned prior is where they are.
    """

    table: Tensor

    def __init__(self, num_classes: int, latent: int, *, learned: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        table = torch.zeros(num_classes + 1, 2 * latent)
        if learned:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table, persistent=False)

    def forward(self, y: Tensor) -> Gaussian:
        """The prior of each row."""
        return self._gaussian(self.table[torch.where(y < 0, self.num_classes, y)])

    def divergence(self) -> Tensor:
        """The sum over all classes of KL(p(z|y) || N(0, I)) in nats."""
        prior = self._gaussian(self.table)
        zeros = torch.zeros_like(prior.mean)
        return kl_divergence(prior, Gaussian(zeros, zeros)).sum()

    def _gaussian(self, rows: Tensor) -> Gaussian:
        mean, log_variance = (PRIOR_PACE * rows).chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(-6, 2))


class VariationalAutoencoder(GenerativeModel):
    """p(x|y) = E p(x|z, y) over z ~ p(z|y), bounded through q(z|x, y).

    KL(p(z|y) || N(0, I)) of every class counts in the loss with ``prior_weight``, about as if each class had so large
    a share of all rows in N(0, I) besides its own: the priors of scarce classes are held there most. ``spread`` scales
    the deviations of z from the prior's mean in :meth:`sample`, and there alone.
    """

    def __init__(
        self,
        spec: TensorSpec,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        latent: int,
        beta: float = 1.0,
        free_bits: float = 0.0,
        learned_prior: bool = False,
        prior_weight: float = 0.001,
        spread: float = 1.0,
        optimiser: OptimiserConfig | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.latent = latent
        self.beta = beta
        self.free_bits = free_bits
        self.optimiser = optimiser or OptimiserConfig()
        self.prior_weight = prior_weight
        self.spread = spread
        self.prior = Prior(spec.num_classes, latent, learned=learned_prior)
        self.posterior = Posterior(encoder)
        self.decoder = decoder

    def objectives(self) -> Sequence[Objective]:
        """One: the negative ELBO, with free bits, beta, and the hold on the prior."""
        # the threshold of the free bits is on a mean over the batch, so a batch must not be split
        return [
            Objective("elbo", tuple(self.parameters()), self._loss, self.optimiser, batch_statistics=self.free_bits > 0)
        ]

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(batch.x, batch.y)
        z = posterior.at(normal_noise(posterior.mean.shape, generator, posterior.mean.device))
        nll = negative_log_likelihood(self.spec, self.decoder(z, batch.y), batch.x).mean()
        kl = kl_divergence(posterior, self.prior(batch.y))
        active = (posterior.mean.detach().var(0, unbiased=False) > ACTIVE_VARIANCE).sum().float()
        held = self.prior_weight * self.prior.divergence()
        loss = nll + self.beta * (free_bits_penalty(kl, self.free_bits) + held)
        return {"loss": loss, "nll": nll.detach(), "kl": kl.detach().sum(1).mean(), "active_units": active}

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)``: z from the prior, its spread scaled by ``temperature``, decoded and drawn."""
        noise = normal_noise((len(labels), self.latent), generator, labels.device)
        z = self.prior(labels).at(self.spread * temperature * noise)
        return draw(self.spec, self.decoder(z, labels), generator, temperature)

    @torch.no_grad()
    def elbo(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The evidence lower bound in nats, shape ``(B,)``: one draw of z, KL in closed form; no beta, no free bits."""
        posterior = self.posterior(batch.x, batch.y)
        z = posterior.at(normal_noise(posterior.mean.shape, generator, posterior.mean.device))
        nll = negative_log_likelihood(self.spec, self.decoder(z, batch.y), batch.x)
        return -nll - kl_divergence(posterior, self.prior(batch.y)).sum(1)

    @torch.no_grad()
    def iwae(self, batch: Batch, generator: torch.Generator, importance_samples: int) -> Tensor:
        """The importance-weighted bound in nats, shape ``(B,)`` (arXiv:1509.00519, equation 8)."""
        posterior, prior = self.posterior(batch.x, batch.y), self.prior(batch.y)

        def log_weights(count: int) -> Tensor:
            z = posterior.at(normal_noise((count, *posterior.mean.shape), generator, batch.y.device))
            log_ratio = (prior.log_density(z) - posterior.log_density(z)).sum(2)
            raw = self.decoder(z.flatten(0, 1), batch.y.repeat(count))
            nll = negative_log_likelihood(self.spec, raw, batch.x.repeat(count, *[1] * (batch.x.dim() - 1)))
            weights: Tensor = log_ratio - nll.reshape(count, -1)
            return weights

        return importance_weighted_bound(log_weights, importance_samples)


def default_latent(spec: TensorSpec) -> int:
    """As many latents as a row of this size needs: 7 for 13 values, 16 for 8x8, 32 for 28x28, 45 for 32x32 in colour.

    More would stay unused by most rows, and be filled with chance by those of scarce classes.
    """
    return max(4, round(min(2 * math.sqrt(spec.size), 6 * math.sqrt(math.sqrt(spec.size)))))


class VaeConfig(ModelConfig):
    """Settings of :class:`VariationalAutoencoder`; what is null depends on the size of a row."""

    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "bound"
    objective_names: ClassVar[tuple[str, ...]] = ("elbo",)
    operators: ClassVar[tuple[str, ...]] = ("prior",)
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str] = "Auto-Encoding Variational Bayes, arXiv:1312.6114"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=1500, batch_size=64, ema_decay=0.995, sampling="root")

    kind: Literal["vae"] = "vae"
    latent: int | None = Field(None, ge=1, le=4096, description="Latent numbers; null: by the size of a row.")
    width: int | None = Field(None, ge=8, le=4096, description="Hidden units, or channels of the first stage.")
    depth: int = Field(1, ge=1, le=16, description="Residual blocks, in each stage of a grid.")
    embedding: int = Field(64, ge=1, le=1024, description="Length of the vector that stands for a class.")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of hidden values left out; null: by the form of a row.",
    )
    beta: float = Field(1.0, ge=0, le=1000, allow_inf_nan=False, description="Weight of the KL term; 1: the bound.")
    free_bits: float = Field(0.0, ge=0, le=100, allow_inf_nan=False, description="Nats of KL a latent has for free.")
    prior: Literal["standard", "per_class"] = Field(
        "per_class", description="p(z|y): N(0, I), or learned for each class."
    )
    prior_weight: float = Field(
        0.001, ge=0, le=1000, allow_inf_nan=False, description="How strongly learned priors are held near N(0, I)."
    )
    spread: float | None = Field(
        None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="Spread of z in a draw, over its prior's; null: by the form of a row.",
    )
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    def build(self, spec: TensorSpec, generator: torch.Generator) -> VariationalAutoencoder:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: a grid of more than one span.
        """
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        defaults = defaults_for(spec)
        dropout = defaults.dropout if self.dropout is None else self.dropout
        size = NetSize(self.width or defaults.width, self.depth, self.embedding, dropout)
        latent = self.latent or default_latent(spec)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            encoder = make_encoder(spec, 2 * latent, size)
            decoder = make_decoder(spec, latent, size)
        return VariationalAutoencoder(
            spec,
            encoder,
            decoder,
            latent=latent,
            beta=self.beta,
            free_bits=self.free_bits,
            learned_prior=self.prior == "per_class",
            prior_weight=self.prior_weight,
            spread=defaults.spread if self.spread is None else self.spread,
            optimiser=self.optimiser,
        )
