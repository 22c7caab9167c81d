"""A variational autoencoder around nets whose posterior and likelihood are known."""

from __future__ import annotations

from torch import nn

from models._contract import OptimiserConfig, TensorSpec
from models._heads import Heads
from models.vae import VariationalAutoencoder


def vae_around(
    encoder: nn.Module,
    decoder: nn.Module,
    spec: TensorSpec,
    *,
    latent: int,
    correlated: bool = False,
    beta: float = 1.0,
    free_bits: float = 0.0,
    learned_prior: bool = False,
) -> VariationalAutoencoder:
    """A model whose loss is the plain bound but for what is given."""
    return VariationalAutoencoder(
        spec,
        encoder,
        decoder,
        latent=latent,
        heads=Heads(spec),
        correlated=correlated,
        beta=beta,
        kl_warmup=0.0,
        free_bits=free_bits,
        learned_prior=learned_prior,
        prior_weight=0.001,
        spread=1.0,
        optimiser=OptimiserConfig(),
    )
