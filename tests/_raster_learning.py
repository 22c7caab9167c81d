"""Whether a model that draws in raster order learns digits: beyond single pixels, by the class, and not too well."""

from __future__ import annotations

import math
from typing import Any

import torch
from _model_cases import generator, train
from _raster_proofs import levels_spec
from _toy_mixtures import load_digits

from models._bayes import class_log_joint
from models._contract import Batch, ModelConfig

STEPS = 200
INDEPENDENT = 2.22  # bits per dimension of a model of each pixel by itself, given the class
SUSPICIOUS = 1.5  # fewer than models of held-out digits have, which end near 1.75


def digits_model(config: ModelConfig) -> Any:
    """A model of scikit-learn's digits."""
    return config.build(levels_spec((1, 8, 8), 17, 10), generator())


def learned(model: Any) -> tuple[float, float]:
    """Bits per dimension of 797 held-out digits after a short training on 1,000, and the share that is recognised."""
    digits = load_digits()
    order = torch.randperm(len(digits.digit), generator=generator(0))
    (x, y), (held, truth) = ((digits.pixels[i].reshape(-1, 1, 8, 8), digits.digit[i]) for i in order.split(1000))
    train(model, Batch(x, y), STEPS)
    bits = -model.log_likelihood(Batch(held, truth)).mean() / (64 * math.log(2))
    some = slice(0, 200)
    recognised = class_log_joint(model, held[some], torch.zeros(10)).argmax(1) == truth[some]
    return float(bits), float(recognised.float().mean())


def check_learns(found: tuple[float, float]) -> None:
    """Held-out digits are likelier than pixel by pixel, not likelier than they can be, and told apart."""
    bits, recognised = found
    assert bits < INDEPENDENT, f"{bits:.2f} bits per dimension: no better than pixels by themselves"
    assert bits > SUSPICIOUS, f"{bits:.2f} bits per dimension: too good to be true, pixels are known beforehand"
    assert recognised > 0.5, f"{recognised:.0%} of the digits are recognised: the class is not heard"
