"""A class-conditional variational autoencoder whose posterior is bent by an inverse autoregressive flow.

Improving Variational Inference with Inverse Autoregressive Flow, arXiv:1606.04934. The posterior is not held to a
Gaussian of independent latents, so the bound is tighter and more of the row reaches the latents. The flow is used for
inference alone: a sample costs one pass of the decoder. Two architectures: ``flat`` has one vector of latents, for
vectors and small grids; ``ladder`` has maps of latents in many rungs, for larger grids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from models._contract import (
    Batch,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    TensorSpec,
    TrainingDefaults,
)
from models._flat import FlatLatents
from models._gaussian import free_bits_penalty, importance_weighted_bound, normal_noise
from models._heads import Heads, ObservationSetting, SigmaSetting
from models._iaf import FlowSize, Inferred, Noise
from models._ladder import Ladder, LadderSize
from models._latents import PRIOR_WEIGHT, default_latent, warmed_up
from models._nets import LARGEST_WORKING_SIDE, NetSize, defaults_for, first_weights, suits_ladder
from models._searched import Range, Searched
from models._settings import Beta, Dropout, Embedding, KlWarmup, Resolution, Spread, Width

ACTIVE_NATS = 0.05  # a group of latents whose mean KL is less carries nothing


class IafVae(GenerativeModel):
    """p(x|y) = E p(x|z, y) over z ~ p(z|y), bounded through a posterior q(z|x, y) that a flow bends.

    ``kl_warmup``, ``prior_weight`` and ``spread`` mean what they do in :class:`models.vae.VariationalAutoencoder`.
    """

    kl_weight: Tensor

    def __init__(
        self,
        spec: TensorSpec,
        latents: FlatLatents | Ladder,
        heads: Heads,
        settings: IafVaeConfig,
        *,
        spread: float,
    ) -> None:
        super().__init__()
        self.spec, self.latents, self.heads = spec, latents, heads
        self.settings, self.spread = settings, spread
        self.prior_weight = PRIOR_WEIGHT if settings.prior_weight is None else settings.prior_weight
        self.register_buffer("kl_weight", torch.tensor(settings.beta), persistent=False)

    def begin_step(self, step: int, steps: int) -> None:
        """Set the weight of the KL term."""
        self.kl_weight.fill_(warmed_up(self.settings.beta, self.settings.kl_warmup, step, steps))

    def objectives(self) -> Sequence[Objective]:
        """One: the negative ELBO, with free bits, beta, and the hold on the priors."""
        # the threshold of the free bits and an optimal scale are of a whole batch, so it must not be split
        whole = self.settings.free_bits > 0 or self.heads.by_batch
        return [
            Objective("elbo", tuple(self.parameters()), self._loss, self.settings.optimiser, batch_statistics=whole)
        ]

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        inferred = self._infer(batch, generator)
        nll = self.heads.negative_log_likelihood(inferred.raw, batch.x).mean()
        # of one draw, a group's share can be negative: without free bits nothing must be cut off
        kl = (
            free_bits_penalty(inferred.kl, self.settings.free_bits)
            if self.settings.free_bits
            else inferred.kl.sum(1).mean()
        )
        loss = nll + self.kl_weight * (kl + self.prior_weight * self.latents.divergence())
        groups, log_det = inferred.kl.detach().mean(0), inferred.log_det.detach().mean()
        return {
            "loss": loss,
            "nll": nll.detach(),
            "kl": groups.sum(),
            "kl_with_free_bits": kl.detach(),
            "kl_weight": self.kl_weight.clone(),
            "active_groups": (groups > ACTIVE_NATS).sum().float(),
            "log_det": log_det,
            "gate": torch.exp(log_det / max(self.latents.gates, 1)),  # geometric mean; 1: the flow does nothing
        }

    def _infer(self, batch: Batch, generator: torch.Generator, temperature: float = 1.0) -> Inferred:
        return self.latents.infer(
            self.latents.read(batch.x, batch.y), batch.y, _noise(generator, batch.y.device, temperature)
        )

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)``: z from the prior, its spread scaled by ``temperature``, decoded and drawn."""
        noise = _noise(generator, labels.device, self.spread * temperature)
        return self.heads.draw(self.latents.generate(labels, noise), generator, temperature)

    @torch.no_grad()
    def resample(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``: z from the posterior of each exemplar, decoded and drawn."""
        raw = self._infer(Batch(exemplars, labels), generator, temperature).raw
        return self.heads.draw(raw, generator, temperature)

    @torch.no_grad()
    def interpolate(
        self, first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, *shape)``: z at a uniform place on the arc between codes of two exemplars, decoded and drawn."""
        begin, end = (self._infer(Batch(rows, labels), generator, temperature).codes for rows in (first, second))
        place = torch.rand((len(labels), 1), generator=generator, device=labels.device)
        return self.heads.draw(self.latents.between(begin, end, labels, place), generator, temperature)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """Where the flow takes the mean of z_0, ``(B, latents)``: the mean of z_T has no closed form."""
        evidence = self.latents.read(batch.x, batch.y)
        return self.latents.infer(evidence, batch.y, lambda shape: torch.zeros(shape, device=batch.y.device)).codes

    @torch.no_grad()
    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Rows ``(B, *shape)`` at the centre of their likelihood given codes ``(B, latents)``."""
        return self.heads.centre(self.latents.decode(latents, labels))

    @torch.no_grad()
    def elbo(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The evidence lower bound in nats, shape ``(B,)``: one draw of z; no beta, no free bits."""
        inferred = self._infer(batch, generator)
        return -self.heads.negative_log_likelihood(inferred.raw, batch.x) - inferred.kl.sum(1)

    @torch.no_grad()
    def iwae(self, batch: Batch, generator: torch.Generator, importance_samples: int) -> Tensor:
        """The importance-weighted bound in nats, shape ``(B,)`` (arXiv:1509.00519, equation 8)."""
        evidence = self.latents.read(batch.x, batch.y)
        noise = _noise(generator, batch.y.device)

        def log_weights(count: int) -> Tensor:
            x, y, *seen = (part.repeat(count, *[1] * (part.dim() - 1)) for part in (*batch, *evidence))
            inferred = self.latents.infer(tuple(seen), y, noise)
            weights = -self.heads.negative_log_likelihood(inferred.raw, x) - inferred.kl.sum(1)
            return weights.reshape(count, -1)

        return importance_weighted_bound(log_weights, importance_samples, len(batch.y))


def _noise(generator: torch.Generator, device: torch.device, scale: float = 1.0) -> Noise:
    return lambda shape: scale * normal_noise(shape, generator, device)


class IafVaeConfig(ModelConfig):
    """Settings of :class:`IafVae`; what is null depends on the size of a row and on the architecture."""

    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "bound"
    objective_names: ClassVar[tuple[str, ...]] = ("elbo",)
    operators: ClassVar[tuple[str, ...]] = ("prior", "posterior", "interpolation")
    evaluations_per_sample: ClassVar[int] = 1
    paper: ClassVar[str] = "Improving Variational Inference with Inverse Autoregressive Flow, arXiv:1606.04934"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=1500, batch_size=64, ema_decay=0.995, sampling="root")
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(3e-4, 3e-3, log=True),
        "beta": Range(0.25, 4, log=True),
        "dropout": Range(0, 0.5),
        "steps": Range(1, 4, whole=True),
    }

    kind: Literal["iaf_vae"] = "iaf_vae"
    architecture: Literal["auto", "flat", "ladder"] = Field(
        "auto",
        description="One vector of latents, or maps of latents in a ladder of rungs; auto: by the size of a row.",
    )
    latent: int | None = Field(None, ge=1, le=4096, description="Latent numbers (flat); null: by the size of a row.")
    maps: int | None = Field(None, ge=1, le=256, description="Latent maps of a rung (ladder); null: 4.")
    levels: int | None = Field(
        None, ge=1, le=8, description="Resolutions, each half of the one before (ladder; the paper's: 1); null: 3."
    )
    width: Width = None
    depth: int | None = Field(None, ge=1, le=64, description="Residual blocks of a stage, or rungs of a level.")
    embedding: Embedding = 64
    dropout: Dropout = None
    steps: int = Field(2, ge=0, le=64, description="Steps of the flow; 0: the posterior is a diagonal Gaussian.")
    hidden: int | None = Field(
        None, ge=2, le=8192, description="Hidden units of a step; null: 128, and width in a ladder."
    )
    layers: int | None = Field(None, ge=0, le=8, description="Hidden layers of a step; null: 2, and 1 in a ladder.")
    context: int | None = Field(None, ge=1, le=4096, description="Numbers told to every step (flat); null: 32.")
    location_only: bool = Field(False, description="The steps move the latents and do not scale them.")
    resolution: Resolution = LARGEST_WORKING_SIDE
    observation: ObservationSetting = "auto"
    sigma: SigmaSetting = "learned"
    beta: Beta = 1.0
    kl_warmup: KlWarmup = 0.0
    free_bits: float = Field(
        0.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Nats of KL that a latent, or a map of a rung, has for free.",
    )
    prior: Literal["standard", "per_class"] = Field(
        "per_class", description="p(z|y): N(0, I), or learned for each class (ladder: always learned)."
    )
    prior_weight: float | None = Field(
        None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="How strongly learned priors are held near N(0, I) (flat); null: 0.001.",
    )
    spread: Spread = None
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=1e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    @model_validator(mode="after")
    def _refuse_what_would_do_nothing(self) -> Self:
        for name in ("hidden", "layers", "location_only", "context"):
            if not self.steps and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of the steps of a flow, and steps is 0; leave it out, or set steps")
        if self.prior == "standard" and self.prior_weight is not None:
            raise ValueError("prior_weight is of learned priors; set prior to per_class, or leave it out")
        return self

    def build(self, spec: TensorSpec, generator: torch.Generator) -> IafVae:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: a grid of more than one span; a likelihood that does not fit the values; a ladder for a vector
                or with a standard prior; a setting of the other architecture.
        """
        ladder = suits_ladder(spec, self.architecture)
        self._refuse_foreign(ladder=ladder)
        defaults = defaults_for(spec)
        heads = Heads(spec, self.observation, self.sigma)
        with first_weights(generator):
            latents = self._ladder(spec, heads) if ladder else self._flat(spec, heads)
        return IafVae(spec, latents, heads, self, spread=defaults.spread if self.spread is None else self.spread)

    def _refuse_foreign(self, *, ladder: bool) -> None:
        if ladder and self.prior == "standard":
            raise ValueError("the priors of a ladder are learned; leave prior at per_class or set architecture to flat")
        flat_alone, ladder_alone = ("latent", "context", "prior_weight"), ("maps", "levels")
        other, foreign = ("flat", flat_alone) if ladder else ("ladder", ladder_alone)
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} belongs to the {other} architecture; leave it out or set architecture to {other}"
                )

    def _flat(self, spec: TensorSpec, heads: Heads) -> FlatLatents:
        defaults = defaults_for(spec)
        dropout = defaults.dropout if self.dropout is None else self.dropout
        return FlatLatents(
            spec,
            NetSize(self.width or defaults.width, self.depth or 1, self.embedding, dropout, self.resolution),
            self._flow_size(self.hidden or 128, layers=2),
            latent=self.latent or default_latent(spec),
            context=self.context or 32,
            outputs=heads.raw_size,
            learned_prior=self.prior == "per_class",
        )

    def _ladder(self, spec: TensorSpec, heads: Heads) -> Ladder:
        channels = self.width or 32
        return Ladder(
            spec,
            LadderSize(
                side=self.resolution,
                levels=self.levels or 3,
                rungs=self.depth or 1,
                channels=channels,
                maps=self.maps or 4,
                embedding=self.embedding,
                dropout=self.dropout or 0.0,
            ),
            self._flow_size(self.hidden or channels, layers=1),
            outputs=heads.outputs[0],
        )

    def _flow_size(self, hidden: int, layers: int) -> FlowSize:
        return FlowSize(self.steps, hidden, layers if self.layers is None else self.layers, self.location_only)
