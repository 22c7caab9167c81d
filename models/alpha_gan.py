"""A class-conditional autoencoder both of whose densities are replaced by critics.

Variational Approaches for Auto-Encoding Generative Adversarial Networks (alpha-GAN), arXiv:1706.04987. Four nets: an
encoder, a generator, a critic of rows and a critic of codes. The critic of codes reads the label too: one that does not
could only hold the mixture of all classes' codes to the prior, and a draw of a scarce class would decode to a row of
none. In its loss codes of the prior are the real ones; the paper's first version has them exchanged (equations 16 and
17), which would make the encoder flee from the prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from models._adversarial import LOSSES, AdversarialLoss, LossName
from models._autoencoder import USUAL_WIDTH, USUAL_WIDTHS, Autoencoder, make_autoencoder, suited
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
from models._continuous import split_spans
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
from models._critics import make_critic
from models._generators import Decoded, NetSetting
from models._latents import ACTIVE_VARIANCE
from models._nets import LARGEST_WORKING_SIDE, NetSize, first_weights
from models._penalties import Penalties
from models._searched import Range, Searched
from models._settings import SPREAD, CriticWidth, Depth, Embedding, Latent, Resolution, Spread, Width, usually
from models._watching import Watch

# The paper's: with D the probability that a row is real, R = -ln D + ln(1 - D) = -score estimates ln(synthetic / real),
# and its mean over codes of rows KL(q || p) in nats, where the critic of codes is the best there is.
DENSITY_RATIO = AdversarialLoss(LOSSES["minimax"].critic, torch.neg)
# A table's hundred rows are soon known by heart; with 0.4 for grids more pictures are out of the range of real ones.
USUAL_R1: dict[Form, float] = {"vector": 1.0, "grid": 0.8}
# pictures of far latents have too much ink, or too little
USUAL_SPREAD: dict[Form, float] = {"vector": 1.0, "grid": 0.55}


class AutoEncodingAdversarialNet(GenerativeModel):
    """Rows G(z, y) with z ~ N(0, I), or z ~ q(z|x, y) for a row like x; one critic scores rows, another codes.

    The encoder descends ``reconstruction`` x error + what the critic of codes says of its codes, the generator
    ``reconstruction`` x error + what the critic of rows says of both kinds of rows, and each critic its own loss alone.
    """

    def __init__(
        self, spec: TensorSpec, autoencoder: Autoencoder, rows: Contest, codes: Contest, settings: AlphaGanConfig
    ) -> None:
        super().__init__()
        self.spec = spec
        self.autoencoder = autoencoder
        self.rows = rows
        self.codes = codes
        self.settings = settings
        self.watch = Watch()

    def begin_step(self, step: int, steps: int) -> None:
        """Say which step comes, and how long the training is."""
        for critic in (self.rows, self.codes):
            critic.begin_step(step // self.settings.critic_every)
        self.watch.begin_step(steps)

    def objectives(self) -> Sequence[Objective]:
        """The encoder's, the generator's, and the two critics'."""
        settings, nets = self.settings, self.autoencoder
        every = settings.critic_every
        return [
            Objective("encoder", tuple(nets.encoder.parameters()), self._encoder_loss, settings.encoder_optimiser),
            Objective("generator", tuple(nets.generator.parameters()), self._generator_loss, settings.optimiser),
            Objective(
                "critic", tuple(self.rows.critic.parameters()), self._critic_loss, settings.critic_optimiser, every
            ),
            Objective(
                "code_critic", tuple(self.codes.critic.parameters()), self._code_loss, settings.critic_optimiser, every
            ),
        ]

    def trouble(self) -> str | None:
        """What the training cannot recover from, and what to change; None where there is nothing."""
        return self.watch.trouble()

    def _encoder_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        nets, y = self.autoencoder, batch.y
        code = self._code(batch, generator)
        (reconstruction,) = nets.decoded((code,), y, generator)
        error = reconstruction_error(self.spec, reconstruction, batch.x)
        score = self.codes.scored([nets.noise(y, generator), code], y, generator).score
        adversarial = self.codes.against(score[1:], score[0])
        return {
            "loss": self.settings.reconstruction * error + adversarial,
            "reconstruction": error,
            "adversarial": adversarial,
            "active_units": (code.detach().var(0, unbiased=False) > ACTIVE_VARIANCE).sum().float(),
        }

    def _generator_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        both = self._both_kinds(batch, generator)
        error = reconstruction_error(self.spec, both[0], batch.x)
        score = self.rows.scored([batch.x, *(decoded.rows for decoded in both)], batch.y, generator).score
        adversarial = self.rows.against(score[1:], score[0])
        return {
            "loss": self.settings.reconstruction * error + adversarial,
            "reconstruction": error,
            "adversarial": adversarial,
        }

    def _critic_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            rows = [decoded.rows for decoded in self._both_kinds(batch, generator)]
        terms, _ = self.rows.critic_terms(batch.x, rows, batch.y, generator)
        self.watch.update(terms["told"], terms["variety"])
        return terms

    def _code_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            code = self._code(batch, generator)
        return self.codes.critic_terms(self.autoencoder.noise(batch.y, generator), [code], batch.y, generator)[0]

    def _code(self, batch: Batch, generator: torch.Generator) -> Tensor:
        nets = self.autoencoder
        return nets.posterior(batch.x, batch.y).at(nets.noise(batch.y, generator))

    def _both_kinds(self, batch: Batch, generator: torch.Generator) -> tuple[Decoded, ...]:
        """Reconstructions, and rows of the prior; no gradient reaches the encoder."""
        with torch.no_grad():
            code = self._code(batch, generator)
        return self.autoencoder.decoded((code, self.autoencoder.noise(batch.y, generator)), batch.y, generator)

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


def reconstruction_error(spec: TensorSpec, reconstruction: Decoded, x: Tensor) -> Tensor:
    """The mean |x - x'| of the values of rows ``(B, *shape)``, a scalar; a category is one, with its cross-entropy."""
    total, count = torch.zeros(len(x), device=x.device), 0
    parts = (split_spans(spec, values) for values in (x.float(), reconstruction.rows, reconstruction.raw))
    for span, real, rows, raw in zip(spec.spans, *parts, strict=True):
        if span.kind == "categorical":
            total, count = total - (real * functional.log_softmax(raw, dim=1)).sum(1), count + 1
        else:
            total, count = total + (real - rows).abs().sum(1), count + span.width
    return total.mean() / count


class AlphaGanConfig(ModelConfig):
    """Settings of :class:`AutoEncodingAdversarialNet`; what is null depends on the form of a row."""

    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "none"
    objective_names: ClassVar[tuple[str, ...]] = ("encoder", "generator", "critic", "code_critic")
    operators: ClassVar[tuple[str, ...]] = ("prior", "posterior", "interpolation")
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str] = "Variational Approaches for Auto-Encoding Generative Adversarial Networks, arXiv:1706.04987"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=2000, batch_size=64, ema_decay=0.995)
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(2e-4, 3e-3, log=True),
        "critic_optimiser.learning_rate": Range(2e-4, 3e-3, log=True),
        "reconstruction": Range(0.1, 30, log=True),
        "r1": Range(0.01, 3, log=True),
    }

    kind: Literal["alpha_gan"] = "alpha_gan"
    loss: Literal["density_ratio"] | LossName = Field(
        "relativistic",
        description="What generator and critic of rows make of its scores; the paper's is density_ratio.",
    )
    code_loss: Literal["density_ratio"] | LossName = Field(
        "density_ratio", description="The same of the encoder and the critic of codes."
    )
    reconstruction: float = Field(
        1.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Weight of the mean absolute error of reconstructions, the paper's lambda.",
    )
    r1: R1 = Field(None, description=usually(AT_REAL_ROWS, USUAL_R1))
    r2: R2 = None
    code_r1: float = Field(
        0.1,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Weight of the squared gradient of the critic of codes, at codes of the prior and of rows.",
    )
    penalty_every: PenaltyEvery = 1
    spectral_norm: SpectralNorm = False
    critic_every: int = Field(1, ge=1, le=20, description="Steps of encoder and generator for one of the critics.")
    net: NetSetting = "auto"
    augmentation: Augmentation = None
    latent: Latent = 16
    spread: Spread = Field(None, description=usually(SPREAD, USUAL_SPREAD))
    width: Width = Field(None, description=USUAL_WIDTHS)
    critic_width: CriticWidth = Field(
        None, description=f"The same of the critics; null: as width, and {USUAL_WIDTH['mlp']} of that of codes."
    )
    depth: Depth = 1
    embedding: Embedding = 64
    critic_dropout: CriticDropout = 0.0
    resolution: Resolution = LARGEST_WORKING_SIDE
    encoder_optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.0, 0.99)), description="The step of the encoder."
    )
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.0, 0.99), clip_norm=None),
        description="The step of the generator.",
    )
    critic_optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.0, 0.99), clip_norm=None),
        description="The step of either critic.",
    )

    @model_validator(mode="after")
    def _refuse_what_holds_no_critic(self) -> Self:
        held = ((self.loss, self.r1), (self.code_loss, self.code_r1))
        if ("wasserstein", 0) in held and not self.spectral_norm:
            raise ValueError(UNHELD)
        if self.penalty_every > 1 and self.r1 == 0 and not (self.r2 or self.code_r1):
            raise ValueError(NO_PENALTY)
        return self

    def build(self, spec: TensorSpec, generator: torch.Generator) -> AutoEncodingAdversarialNet:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: a grid of more than one span; convolutions for vectors; an augmentation that does not fit.
        """
        net, width = suited(spec, self.net, self.width)
        changes = suited_changes(spec, self.augmentation)
        size = NetSize(width, self.depth, self.embedding, 0.0, self.resolution)
        of_critic = size._replace(width=self.critic_width or width, dropout=self.critic_dropout)
        code_spec = TensorSpec((self.latent,), (Span("continuous", self.latent),), spec.num_classes)
        code_size = size._replace(width=self.critic_width or USUAL_WIDTH["mlp"])
        with first_weights(generator):
            spread = USUAL_SPREAD[spec.form] if self.spread is None else self.spread
            autoencoder = make_autoencoder(spec, self.latent, size, net, spread)
            critic = make_critic(spec, of_critic, net, spectral=self.spectral_norm)
            code_critic = make_critic(code_spec, code_size, "mlp", spectral=self.spectral_norm)
        of_rows, of_codes = filled_in(self.r1, self.r2, USUAL_R1[spec.form]), Penalties(self.code_r1, self.code_r1)
        every = self.penalty_every
        rows = Contest(spec, critic, _loss(self.loss), of_rows, penalty_every=every, changes=changes)
        codes = Contest(code_spec, code_critic, _loss(self.code_loss), of_codes, penalty_every=every)
        return AutoEncodingAdversarialNet(spec, autoencoder, rows, codes, self)


def _loss(name: Literal["density_ratio"] | LossName) -> AdversarialLoss:
    return DENSITY_RATIO if name == "density_ratio" else LOSSES[name]
