"""The switches of Improved Techniques for Training GANs, arXiv:1606.03498; all are off by default.

What each does is in the module of its own: :mod:`models._adversarial` (feature matching and smoothed labels),
:mod:`models._minibatch`, :mod:`models._history` and :mod:`models._semi_supervised`. Virtual batch normalisation is a
choice of how the generator normalises, see :mod:`models._virtual_norm`.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Techniques(BaseModel):
    """Which techniques a training takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature_matching: bool = Field(
        False, description="The generator matches the mean of the critic's features of real rows, in place of its loss."
    )
    minibatch_kernels: int = Field(
        0, ge=0, le=1000, description="Kernels by which the critic compares the rows of a batch; 0: it does not."
    )
    minibatch_numbers: int = Field(8, ge=1, le=1000, description="Numbers in each kernel.")
    historical_averaging: float = Field(
        0.0, ge=0, le=1000, allow_inf_nan=False, description="Weight that pulls both nets to the mean of their past."
    )
    real_target: float = Field(
        1.0,
        gt=0.5,
        le=1,
        allow_inf_nan=False,
        description="How sure the critic should be of real rows: one-sided label smoothing below 1.",
    )
    classify: bool = Field(
        False,
        description="The critic tells the classes, and synthetic rows as one more, instead of reading labels; rows "
        "without a label teach it too, as measured with augmentation [noise], r1 0.1 and train.labelled 0.5.",
    )
    label_weight: float = Field(
        1.0, gt=0, le=1000, allow_inf_nan=False, description="Weight of the labels where the critic tells classes."
    )
    entropy_weight: float = Field(
        0.2,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Weight of how undecided such a critic is between the classes of rows without a label.",
    )

    @model_validator(mode="after")
    def _refuse_settings_of_what_is_off(self) -> Self:
        numbers = type(self).model_fields["minibatch_numbers"].default
        if not self.minibatch_kernels and self.minibatch_numbers != numbers:
            raise ValueError("minibatch_numbers is of kernels; set minibatch_kernels too, or leave it out")
        for name in ("label_weight", "entropy_weight"):
            if not self.classify and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of a critic that tells classes; set classify to true, or leave it out")
        return self
