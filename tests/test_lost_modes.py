"""Minibatch discrimination brings back modes that the plain loss loses; nets, first weights and steps are the same."""

from __future__ import annotations

import pytest
import torch
from _model_cases import draw, generator, train
from _toy_mixtures import Covered, plane_spec, ring_covered, ring_rows

from models._techniques import Techniques
from models.gan import GanConfig

COMPARING = Techniques(minibatch_kernels=8, minibatch_numbers=4)


def covered_ring(techniques: Techniques, seed: int) -> Covered:
    """How 2,000 rows of a small net, whose critic nothing holds, cover the 8 Gaussians that it was trained on."""
    config = GanConfig(loss="non_saturating", r1=0, width=64, critic_dropout=0, augmentation=(), techniques=techniques)
    model = config.build(plane_spec(1), generator(seed))
    train(model, ring_rows(5000, seed=1), steps=500)
    return ring_covered(draw(model, torch.zeros(2000, dtype=torch.int64), generator(3), "prior"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_critic_that_compares_rows_brings_back_modes_that_the_plain_loss_loses(seed: int) -> None:
    plain, comparing = covered_ring(Techniques(), seed), covered_ring(COMPARING, seed)
    assert plain.modes <= 2, plain
    assert comparing.modes >= 6, comparing
    assert comparing.share > 0.4, comparing
