"""Seeds and generators derived from names, so that no draw depends on how many were made before it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SEED_BITS = 53  # a published seed must survive readers that hold numbers as doubles


def derive_seed(*parts: str | int) -> int:
    """A seed below 2^53 that is a function of ``parts`` alone, such as ``derive_seed(7, "train", step)``."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def numpy_generator(*parts: str | int) -> np.random.Generator:
    """A NumPy generator seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: str | int, device: str = "cpu") -> torch.Generator:
    """A torch generator on ``device`` seeded by :func:`derive_seed`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(*parts))
