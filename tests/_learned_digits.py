"""A short training on scikit-learn's digits, and what models of grey levels must reach by it."""

from __future__ import annotations

import math
from typing import Any

import torch
from _model_cases import generator, train
from _toy_mixtures import load_digits

from models._bayes import class_log_joint
from models._contract import Batch

STEPS = 200
INDEPENDENT = 2.22  # bits per dimension of a model of each pixel by itself, given the class
SUSPICIOUS = 1.5  # fewer than models of held-out digits have, which end near 1.75


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
    """Better than pixels by themselves, not as if pixels were known beforehand, and the class is heard."""
    bits, recognised = found
    assert bits < INDEPENDENT, f"{bits:.2f} bits per dimension: no better than pixels by themselves"
    assert bits > SUSPICIOUS, f"{bits:.2f} bits per dimension: too good to be true, pixels are known beforehand"
    assert recognised > 0.5, f"{recognised:.0%} of the digits are recognised: the class is not heard"
