"""A class-conditional generative adversarial net for vectors and grids.

Generative Adversarial Nets, arXiv:1406.2661. The defaults are those of The GAN is dead; long live the GAN! (R3GAN,
arXiv:2501.05441): relativistic pairing, with the critic's gradient penalised at real and at synthetic rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models._adversarial import LOSSES, LossName, feature_matching, smoothed
from models._contest import (
    NO_PENALTY,
    Augmentation,
    Contest,
    PenaltyEvery,
    SpectralNorm,
    filled_in,
    passed_through,
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
from models._generators import Generator, NetName, NetSetting, NormName, as_seen, make_generator, suited_net
from models._history import History
from models._nets import LARGEST_WORKING_SIDE, NetSize, first_weights
from models._penalties import Penalties
from models._searched import Range, Searched
from models._semi_supervised import supervised, undecided
from models._settings import SPREAD, CriticWidth, Depth, Dropout, Embedding, Latent, Resolution, Spread, Width, usually
from models._techniques import Techniques
from models._watching import Watch

USUAL_DROPOUT: dict[Form, float] = {"vector": 0.5, "grid": 0.0}  # a table of a hundred rows is soon known by heart
SMOOTHED = ("minimax", "non_saturating")  # losses whose critic says how probably a row is real
USUAL_WIDTH: dict[Form, dict[NetName, int]] = {"vector": {"mlp": 128}, "grid": {"mlp": 256, "resnet": 24}}
USUAL_PENALTY = 1.0  # with 0.3 the generator of a small mixture of pictures keeps to one of its parts
# Latents far from the mean of a net that has seen few rows are drawn as pictures of no class (arXiv:1809.11096).
USUAL_SPREAD: dict[Form, float] = {"vector": 1.0, "grid": 0.8}


class GenerativeAdversarialNet(GenerativeModel):
    """Rows G(z, y), z ~ N(0, I), that a critic learns to tell from real ones while G learns that it cannot.

    The synthetic rows of a step are asked of the labels of the batch.
    """

    def __init__(self, spec: TensorSpec, generator: Generator, contest: Contest, settings: GanConfig) -> None:
        super().__init__()
        self.spec = spec
        self.generator = generator
        self.contest = contest
        self.settings = settings
        self.techniques = settings.techniques
        self.histories = nn.ModuleDict()
        if self.techniques.historical_averaging:
            self.histories.update({name: History(net.parameters()) for name, net in self._players().items()})
        self.spread = USUAL_SPREAD[spec.form] if settings.spread is None else settings.spread
        self.watch = Watch()

    def _players(self) -> dict[str, nn.Module]:
        return {"critic": self.contest.critic, "generator": self.generator}

    def begin_step(self, step: int, steps: int) -> None:
        """Say which step comes, and how long the training is."""
        self.contest.begin_step(step)
        self.watch.begin_step(steps)

    def objectives(self) -> Sequence[Objective]:
        """The critic's and, every ``critic_steps`` steps, the generator's."""
        settings = self.settings
        compares = self.techniques.minibatch_kernels > 0 or self.techniques.feature_matching
        # labels are averaged over the rows that have one, singular vectors move with each pass
        uneven = self.techniques.classify or settings.spectral_norm
        whole = settings.norm == "batch" or compares or uneven or len(self.histories) > 0
        return [
            Objective(
                "critic",
                tuple(self.contest.critic.parameters()),
                self._critic_loss,
                settings.critic_optimiser,
                batch_statistics=whole,
            ),
            Objective(
                "generator",
                tuple(self.generator.parameters()),
                self._generator_loss,
                settings.optimiser,
                every=settings.critic_steps,
                batch_statistics=whole,
            ),
        ]

    def trouble(self) -> str | None:
        """What the training cannot recover from, and what to change; None where there is nothing."""
        return self.watch.trouble()

    def _critic_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            rows = self.generator(batch.y, generator)
        terms, scored = self.contest.critic_terms(batch.x, [rows], batch.y, generator)
        self.watch.update(terms["told"], terms["variety"])
        added = self._labels(scored.features[0], batch.y) | self._past("critic")
        return {**terms, **added, "loss": terms["loss"] + sum(added.values())}

    def _generator_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        rows = self.generator(batch.y, generator)
        compared = self.contest.loss.relative or self.techniques.feature_matching
        score, features = self.contest.scored([batch.x, rows] if compared else [rows], batch.y, generator)
        if self.techniques.feature_matching:
            loss = feature_matching(features[0], features[1])
        else:
            loss = self.contest.against(score[-1:], score[0] if compared else None)
        with passed_through(self.contest.critic):
            labels = self._labels(features[-1], batch.y)
        labels.pop("undecided", None)  # a border between classes is the critic's to move, and no place for rows
        added = labels | self._past("generator")
        return {"loss": loss + sum(added.values()), **added}

    def _labels(self, features: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The weighted terms of a critic that tells classes, for rows with ``features`` and labels, -1 for none."""
        if not self.techniques.classify:
            return {}
        logits = self.contest.critic.class_logits(features).float()
        return {
            "labels": self.techniques.label_weight * supervised(logits, y),
            "undecided": self.techniques.entropy_weight * undecided(logits, y),
        }

    def _past(self, player: str) -> dict[str, Tensor]:
        """What pulls a player to its past, weighted."""
        if player not in self.histories:
            return {}
        history, parameters = self.histories[player], list(self._players()[player].parameters())
        assert isinstance(history, History)
        if self.training:
            history.note(parameters)
        return {"history": self.techniques.historical_averaging * history.distance(parameters)}

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)`` of latents whose spread is scaled by ``temperature``."""
        rows: Tensor = self.generator(labels, generator, temperature, self.spread)
        return rows

    def class_logits(self, x: Tensor) -> Tensor:
        """ln p(y|x) of rows ``(B, *shape)`` up to a number for each row, ``(B, num_classes)``, as the critic has it.

        Of a model with ``techniques.classify`` alone.
        """
        critic = self.contest.critic
        logits: Tensor = critic.class_logits(critic.net(as_seen(self.spec, x.float())))
        return logits


class GanConfig(ModelConfig):
    """Settings of :class:`GenerativeAdversarialNet`; what is null depends on the form of a row, or on the loss."""

    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "none"
    objective_names: ClassVar[tuple[str, ...]] = ("critic", "generator")
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str] = "Generative Adversarial Nets, arXiv:1406.2661"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=2500, batch_size=64, ema_decay=0.995)
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(2e-4, 3e-3, log=True),
        "critic_optimiser.learning_rate": Range(2e-4, 3e-3, log=True),
        "r1": Range(0.01, 3, log=True),
        "r2": Range(0.01, 3, log=True),
        "critic_dropout": Range(0, 0.5),
    }

    kind: Literal["gan"] = "gan"
    loss: LossName = Field("relativistic", description="What the two nets minimise.")
    r1: float | None = Field(
        None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Weight of the critic's squared gradient at real rows; null: 1, or 0 with the wasserstein loss.",
    )
    r2: float | None = Field(
        None, ge=0, le=1000, allow_inf_nan=False, description="The same at synthetic rows; null: as r1."
    )
    gradient_penalty: float | None = Field(
        None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Weight that holds the critic's gradient between rows near 1; null: 10 with the wasserstein loss.",
    )
    penalty_every: PenaltyEvery = 1
    spectral_norm: SpectralNorm = False
    critic_steps: int = Field(1, ge=1, le=20, description="Steps of the critic for one of the generator.")
    net: NetSetting = "auto"
    norm: NormName = Field("row", description="What the generator normalises: each row, or by class over the batch.")
    augmentation: Augmentation = None
    latent: Latent = 32
    width: Width = Field(
        None,
        description=f"Hidden units, or channels of the first stage; null: {USUAL_WIDTH['vector']['mlp']} for a table, "
        f"{USUAL_WIDTH['grid']['mlp']} for images, {USUAL_WIDTH['grid']['resnet']} of convolutions.",
    )
    critic_width: CriticWidth = None
    depth: Depth = 1
    embedding: Embedding = 64
    critic_dropout: Dropout = Field(
        None, description=usually("Share of the critic's hidden values left out", USUAL_DROPOUT)
    )
    resolution: Resolution = LARGEST_WORKING_SIDE
    spread: Spread = Field(None, description=usually(SPREAD, USUAL_SPREAD))
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.0, 0.99), clip_norm=None),
        description="The step of the generator.",
    )
    techniques: Techniques = Field(
        Techniques(), description="Switches of Improved Techniques for Training GANs, all off by default."
    )
    critic_optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.0, 0.99), clip_norm=None),
        description="The step of the critic.",
    )

    @model_validator(mode="after")
    def _refuse_what_holds_no_critic(self) -> Self:
        r1, r2, gradient = self.penalties()
        if gradient and (r1 or r2):
            raise ValueError(
                "r1 and r2 pull the critic's gradient to 0, gradient_penalty to 1; set gradient_penalty to 0, or both "
                "r1 and r2"
            )
        if self.loss == "wasserstein" and not (gradient or r1 or self.spectral_norm):
            raise ValueError(
                "the wasserstein loss has no bound without a hold on the critic at real rows; raise r1, or instead of "
                "r1 and r2 gradient_penalty, or set spectral_norm to true"
            )
        names = " or ".join(SMOOTHED)
        if self.techniques.classify and self.loss not in SMOOTHED:
            raise ValueError(
                f"techniques.classify needs a loss that says how probably a row is real; set loss to {names}"
            )
        if self.techniques.classify and self.techniques.minibatch_kernels:
            raise ValueError(
                "techniques.classify and techniques.minibatch_kernels exclude each other, since a row's class would "
                "depend on its batch; leave either out"
            )
        if self.techniques.real_target < 1 and self.loss not in SMOOTHED:
            raise ValueError(f"techniques.real_target is of losses with a probability; set loss to {names}")
        if self.penalty_every > 1 and not (r1 or r2 or gradient):
            raise ValueError(NO_PENALTY)
        return self

    def penalties(self) -> Penalties:
        """The weights of the penalties, those that are null filled in."""
        held = self.loss == "wasserstein"
        gradient = self.gradient_penalty
        if gradient is None:
            gradient = 10.0 if held and not (self.r1 or self.r2 or self.spectral_norm) else 0.0
        usual = 0.0 if held or gradient else USUAL_PENALTY
        return filled_in(self.r1, self.r2, usual)._replace(gradient=gradient)

    def smallest_batch(self) -> int:
        """Two rows where the generator normalises over them, or the critic compares them."""
        return 2 if self.norm == "batch" or self.techniques.minibatch_kernels else 1

    def classifies(self) -> bool:
        """Whether the critic learns classes."""
        return self.techniques.classify

    def build(self, spec: TensorSpec, generator: torch.Generator) -> GenerativeAdversarialNet:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: a grid of more than one span; an augmentation that does not fit the rows; no classes to tell.
        """
        changes = suited_changes(spec, self.augmentation)
        if self.techniques.classify and spec.num_classes < 2:
            raise ValueError("techniques.classify needs rows of two classes at least; leave it out")
        kind = suited_net(spec, self.net)
        width = self.width or USUAL_WIDTH[spec.form][kind]
        size = NetSize(width, self.depth, self.embedding, 0.0, self.resolution)
        dropout = USUAL_DROPOUT[spec.form] if self.critic_dropout is None else self.critic_dropout
        of_critic = size._replace(width=self.critic_width or width, dropout=dropout)
        with first_weights(generator):
            net = make_generator(spec, self.latent, size, kind, self.norm)
            critic = make_critic(spec, of_critic, kind, spectral=self.spectral_norm, techniques=self.techniques)
        target = self.techniques.real_target
        loss = LOSSES[self.loss] if target == 1 else smoothed(LOSSES[self.loss], target)
        contest = Contest(spec, critic, loss, self.penalties(), penalty_every=self.penalty_every, changes=changes)
        return GenerativeAdversarialNet(spec, net, contest, self)
