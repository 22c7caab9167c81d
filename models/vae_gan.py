"""A class-conditional autoencoder whose likelihood is measured in the features of a critic.

Autoencoding beyond pixels using a learned similarity metric (VAE/GAN), arXiv:1512.09300. By default the critic is that
of :mod:`models.gan`: relativistic pairing, its gradient penalised, more for tables and less for grids. The paper's rule
that leaves out the step of a net that is ahead is not kept: the penalties hold the critic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from models._adversarial import LOSSES, LossName
from models._autoencoder import USUAL_WIDTHS, Autoencoder, make_autoencoder, suited
from models._contest import (
    AT_REAL_ROWS,
    NO_PENALTY,
    R1,
    R2,
    UNHELD,
    Augmentation,
    Contest,
    CriticDropout,
    PenaltyEvery,
    SpectralNorm,
    filled_in,
    suited_changes,
)
from models._contract import (
    Batch,
    Form,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    TensorSpec,
    TrainingDefaults,
)
from models._critics import make_critic
from models._gaussian import kl_divergence
from models._generators import Decoded, NetSetting
from models._latents import ACTIVE_VARIANCE
from models._nets import LARGEST_WORKING_SIDE, NetSize, first_weights
from models._searched import Range, Searched
from models._settings import SPREAD, Beta, CriticWidth, Depth, Embedding, Latent, Resolution, Spread, Width, usually
from models._watching import Watch

Ruler = Literal["unit", "real"]
# A critic of a few hundred rows of many categories runs away: on German credit always with 1, now and then with 6.
# With 0.1 for grids more pictures are out of the range of real ones.
USUAL_R1: dict[Form, float] = {"vector": 10.0, "grid": 0.4}
# pictures of far latents have too much ink, or too little
USUAL_SPREAD: dict[Form, float] = {"vector": 1.0, "grid": 0.75}


class LearnedSimilarityAutoencoder(GenerativeModel):
    """Rows G(z, y) with z ~ N(0, I), or z ~ q(z|x, y) for a row like x; a critic scores both kinds beside real rows.

    The encoder descends ``beta`` x KL + likelihood, the generator ``gamma`` x likelihood + what the critic's scores of
    both kinds of rows say, and the critic its own loss alone. The likelihood term never reaches the critic, which
    would shrink its features, and the scores never reach the encoder.
    """

    def __init__(self, spec: TensorSpec, autoencoder: Autoencoder, contest: Contest, settings: VaeGanConfig) -> None:
        super().__init__()
        self.spec = spec
        self.autoencoder = autoencoder
        self.contest = contest
        self.settings = settings
        self.watch = Watch()

    def begin_step(self, step: int, steps: int) -> None:
        """Say which step comes, and how long the training is."""
        self.contest.begin_step(step)
        self.watch.begin_step(steps)

    def objectives(self) -> Sequence[Objective]:
        """The encoder's, the generator's and the critic's; the terms of each by the paper's names in its log."""
        settings, nets = self.settings, self.autoencoder
        whole = settings.ruler == "real"
        return [
            Objective(
                "encoder",
                tuple(nets.encoder.parameters()),
                self._encoder_loss,
                settings.encoder_optimiser,
                batch_statistics=whole,
            ),
            Objective(
                "generator",
                tuple(nets.generator.parameters()),
                self._generator_loss,
                settings.optimiser,
                batch_statistics=whole,
            ),
            Objective("critic", tuple(self.contest.critic.parameters()), self._critic_loss, settings.critic_optimiser),
        ]

    def trouble(self) -> str | None:
        """What the training cannot recover from, and what to change; None where there is nothing."""
        return self.watch.trouble()

    def _encoder_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.autoencoder.posterior(batch.x, batch.y)
        z = posterior.at(self.autoencoder.noise(batch.y, generator))
        (reconstruction,) = self.autoencoder.decoded((z,), batch.y, generator)
        features = self.contest.scored([batch.x, reconstruction.rows], batch.y, generator).features
        kl = kl_divergence(posterior, self.autoencoder.prior(batch.y)).sum(1).mean()
        likelihood = self.likelihood(features[0], features[1])
        active = (posterior.mean.detach().var(0, unbiased=False) > ACTIVE_VARIANCE).sum().float()
        return {
            "loss": self.settings.beta * kl + likelihood,
            "kl": kl,
            "likelihood": likelihood,
            "active_units": active,
        }

    def _generator_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        rows = [decoded.rows for decoded in self._both_kinds(batch, generator)]
        score, features = self.contest.scored([batch.x, *rows], batch.y, generator)
        likelihood, adversarial = self.likelihood(features[0], features[1]), self.contest.against(score[1:], score[0])
        return {
            "loss": self.settings.gamma * likelihood + adversarial,
            "likelihood": likelihood,
            "adversarial": adversarial,
        }

    def _critic_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            rows = [decoded.rows for decoded in self._both_kinds(batch, generator)]
        terms, _ = self.contest.critic_terms(batch.x, rows, batch.y, generator)
        self.watch.update(terms["told"], terms["variety"])
        return terms

    def _both_kinds(self, batch: Batch, generator: torch.Generator) -> tuple[Decoded, ...]:
        """Reconstructions, and rows of the prior; no gradient reaches the encoder."""
        nets = self.autoencoder
        with torch.no_grad():
            code = nets.posterior(batch.x, batch.y).at(nets.noise(batch.y, generator))
        return nets.decoded((code, nets.noise(batch.y, generator)), batch.y, generator)

    def likelihood(self, real: Tensor, reconstructed: Tensor) -> Tensor:
        """Half the squared distance of features ``(B, width)``, summed over them, the mean over rows: section 3.1.

        Its unit is 1, as in the paper, or the spread of the features of real rows, which a critic may stretch at will.
        """
        distance = 0.5 * (real.detach() - reconstructed).square().sum(1).mean()
        if self.settings.ruler == "unit":
            return distance
        variance = real.detach().var(0, unbiased=False).mean()
        return distance / torch.where(variance > 0, variance, 1.0)

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)`` of codes from the prior, whose spread is scaled by ``temperature``."""
        return self.autoencoder.sample(labels, generator, temperature)

    def resample(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)`` of codes from the posterior of each exemplar."""
        return self.autoencoder.resample(exemplars, labels, generator, temperature)

    def interpolate(
        self, first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)`` of codes at a uniform place on the arc between those of two exemplars."""
        return self.autoencoder.interpolate(first, second, labels, generator, temperature)

    def encode(self, batch: Batch) -> Tensor:
        """The means of the posteriors, ``(B, latent)``."""
        return self.autoencoder.encode(batch)

    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Rows ``(B, *shape)`` of codes ``(B, latent)``, with the likeliest categories."""
        return self.autoencoder.decode(latents, labels)


class VaeGanConfig(ModelConfig):
    """Settings of :class:`LearnedSimilarityAutoencoder`; what is null depends on the form of a row."""

    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "none"
    objective_names: ClassVar[tuple[str, ...]] = ("encoder", "generator", "critic")
    operators: ClassVar[tuple[str, ...]] = ("prior", "posterior", "interpolation")
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str] = "Autoencoding beyond pixels using a learned similarity metric, arXiv:1512.09300"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=2000, batch_size=64, ema_decay=0.995)
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(2e-4, 3e-3, log=True),
        "critic_optimiser.learning_rate": Range(2e-4, 3e-3, log=True),
        "gamma": Range(1e-4, 1, log=True),
        "beta": Range(0.1, 10, log=True),
        "r1": Range(0.01, 30, log=True),
    }

    kind: Literal["vae_gan"] = "vae_gan"
    loss: LossName = Field(
        "relativistic", description="What critic and generator make of the scores; the paper's is minimax."
    )
    gamma: float = Field(
        0.01, ge=0, le=1000, allow_inf_nan=False, description="Weight of the likelihood beside the scores."
    )
    beta: Beta = 1.0
    ruler: Ruler = Field(
        "real",
        description="Unit of the features that a likelihood is measured in: 1 as in the paper, or their spread.",
    )
    r1: R1 = Field(None, description=usually(AT_REAL_ROWS, USUAL_R1))
    r2: R2 = None
    penalty_every: PenaltyEvery = 1
    spectral_norm: SpectralNorm = False
    net: NetSetting = "auto"
    augmentation: Augmentation = None
    latent: Latent = 16
    spread: Spread = Field(None, description=usually(SPREAD, USUAL_SPREAD))
    width: Width = Field(None, description=USUAL_WIDTHS)
    critic_width: CriticWidth = None
    depth: Depth = 1
    embedding: Embedding = 64
    critic_dropout: CriticDropout = 0.0
    resolution: Resolution = LARGEST_WORKING_SIDE
    encoder_optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.9, 0.99)), description="The step of the encoder."
    )
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.0, 0.99), clip_norm=None),
        description="The step of the generator.",
    )
    critic_optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.0, 0.99), clip_norm=None),
        description="The step of the critic.",
    )

    @model_validator(mode="after")
    def _refuse_what_holds_no_critic(self) -> Self:
        if self.loss == "wasserstein" and self.r1 == 0 and not self.spectral_norm:
            raise ValueError(UNHELD)
        if self.penalty_every > 1 and self.r1 == 0 and not self.r2:
            raise ValueError(NO_PENALTY)
        return self

    def build(self, spec: TensorSpec, generator: torch.Generator) -> LearnedSimilarityAutoencoder:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: a grid of more than one span; an augmentation that does not fit the rows.
        """
        net, width = suited(spec, self.net, self.width)
        changes = suited_changes(spec, self.augmentation)
        size = NetSize(width, self.depth, self.embedding, 0.0, self.resolution)
        of_critic = size._replace(width=self.critic_width or width, dropout=self.critic_dropout)
        with first_weights(generator):
            spread = USUAL_SPREAD[spec.form] if self.spread is None else self.spread
            autoencoder = make_autoencoder(spec, self.latent, size, net, spread)
            critic = make_critic(spec, of_critic, net, spectral=self.spectral_norm)
        penalties = filled_in(self.r1, self.r2, USUAL_R1[spec.form])
        loss, every = LOSSES[self.loss], self.penalty_every
        contest = Contest(spec, critic, loss, penalties, penalty_every=every, changes=changes)
        return LearnedSimilarityAutoencoder(spec, autoencoder, contest, self)
