"""A variational autoencoder around nets whose posterior and likelihood are known."""

from __future__ import annotations

from torch import nn

from models._contract import TensorSpec
from models._heads import Heads
from models.vae import VaeConfig, VariationalAutoencoder


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
    settings = VaeConfig(
        beta=beta,
        free_bits=free_bits,
        posterior="full" if correlated else "diagonal",
        prior="per_class" if learned_prior else "standard",
    )
    return VariationalAutoencoder(spec, encoder, decoder, Heads(spec), settings, latent=latent, spread=1.0)
