"""Settings that several families have: their ranges and what they mean, said once; each family gives its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from models._contract import Form

Width = Annotated[
    int | None,
    Field(ge=8, le=4096, description="Hidden units, or channels of the first stage; null: by the form of a row."),
]
CriticWidth = Annotated[
    int | None,
    Field(ge=8, le=4096, description="The same of a critic; null: as width."),
]
Depth = Annotated[int, Field(ge=1, le=16, description="Residual blocks of each net, in each stage of a grid.")]
Latent = Annotated[int, Field(ge=1, le=4096, description="Latent numbers.")]
Embedding = Annotated[int, Field(ge=1, le=1024, description="Length of the vector that stands for a class.")]
Dropout = Annotated[
    float | None,
    Field(ge=0, lt=1, allow_inf_nan=False, description="Share of hidden values left out; null: by the form of a row."),
]
Resolution = Annotated[
    int,
    Field(
        ge=4,
        le=256,
        description="Longest side in pixels that convolutions work on; larger grids are cut into patches.",
    ),
]
Beta = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False, description="Weight of the KL term; 1: the bound.")]
KlWarmup = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False, description="Share of the steps in which the KL's weight rises to beta."),
]
SPREAD = "Spread of z in a draw, over its prior's"
Spread = Annotated[
    float | None,
    Field(gt=0, le=10, allow_inf_nan=False, description=f"{SPREAD}; null: by the form of a row."),
]


def usually(what: str, usual: Mapping[Form, float]) -> str:
    """What a setting is to a family that takes these values where it is null."""
    return f"{what}; null: {usual['vector']:g} for a table, {usual['grid']:g} for images."
