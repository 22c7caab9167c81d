"""Adversarial training is watched: a critic that runs away and a generator that collapses stop it with a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from _model_cases import SPECS, generator, some_rows
from _toy_training import VECTOR, make_loop
from torch import Tensor

from augment.errors import TrainingError
from models._contract import Batch, OptimiserConfig
from models._critics import Scored
from models._watching import FEWEST, Watch, relative_variety
from models.gan import GanConfig, GenerativeAdversarialNet

LABELS = torch.arange(12) % 3
FAST, STILL = OptimiserConfig(learning_rate=0.02), OptimiserConfig(learning_rate=1e-9)


def watched(told: float, variety: float, steps: int, of: int = 1000) -> str | None:
    watch = Watch()
    watch.begin_step(of)
    for _ in range(steps):
        watch.update(torch.tensor(told), torch.tensor(variety))
    return watch.trouble()


def test_a_critic_that_tells_every_row_apart_for_half_the_training_has_run_away() -> None:
    assert watched(1.0, 1.0, 100) is None
    assert watched(0.95, 1.0, 1000) is None
    sentence = watched(1.0, 1.0, 500)
    assert sentence is not None
    assert "the critic has run away: it tells 99" in sentence
    assert "raise model.r1 and model.r2, lower model.critic_optimiser.learning_rate" in sentence


def test_a_generator_whose_rows_are_all_alike_has_collapsed() -> None:
    assert watched(0.6, 0.0, 100) is None
    assert watched(0.6, 0.3, 1000) is None
    sentence = watched(0.6, 0.0, 400)
    assert sentence is not None
    assert "the generator has collapsed: two of its rows of a class lie 2% as far apart" in sentence
    assert "set model.loss to relativistic" in sentence


def test_a_short_training_is_not_judged_by_a_handful_of_steps() -> None:
    assert watched(1.0, 0.0, FEWEST, of=FEWEST) is None


def test_the_variety_is_that_of_rows_of_a_class_beside_real_ones() -> None:
    x = some_rows(SPECS["vector"], LABELS).x
    assert relative_variety(x, x, LABELS, generator()) == 1
    torch.testing.assert_close(relative_variety(x, 0.5 * x, LABELS, generator()), torch.tensor(0.5))
    of_class = torch.stack([x[label] for label in LABELS])  # far apart, but not within a class
    assert relative_variety(x, of_class, LABELS, generator()) == 0
    assert relative_variety(of_class, x, LABELS, generator()) == 1  # there is nothing to compare with
    assert relative_variety(x[:3], x[:3], LABELS[:3], generator()) == 1


def built(**settings: Any) -> GenerativeAdversarialNet:
    return GanConfig(**settings).build(VECTOR, generator())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"r1": 0.0, "critic_dropout": 0.0, "augmentation": (), "critic_optimiser": FAST, "optimiser": STILL},
            "the critic has run away",
        ),
        ({"latent": 1, "critic_optimiser": STILL, "optimiser": STILL}, "the generator has collapsed"),
    ],
)
def test_a_training_that_is_lost_is_stopped_early_and_says_what_to_change(
    tmp_path: Path, settings: Mapping[str, Any], sentence: str
) -> None:
    model = built(**settings)
    if "latent" in settings:
        with torch.no_grad():
            model.generator.net.last.weight.zero_()  # type: ignore[operator,union-attr]
    loop = make_loop(tmp_path, model, steps=600, checkpoint_seconds=1e9)
    with pytest.raises(TrainingError, match=rf"training was stopped at step \d+0 \(.*\): {sentence}.*; raise model.r1"):
        loop.run()
    assert loop.step < 400
    assert sentence in (tmp_path / "train.log").read_text()


def test_the_figures_that_are_watched_are_logged(tmp_path: Path) -> None:
    make_loop(tmp_path, built(), steps=10, checkpoint_seconds=1e9).run()
    *_, line = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    own = {"adversarial", "r1", "r2", "told", "accuracy_real", "accuracy_synthetic", "gap", "variety"}
    assert {f"critic.{name}" for name in {*own, "loss", "gradient_norm"}} <= set(line)
    assert {"generator.loss", "generator.gradient_norm"} <= set(line)


def test_the_accuracies_and_the_gap_are_those_of_the_scores() -> None:
    model = built(augmentation=())

    def first_value(x: Tensor, _y: Tensor) -> Scored:
        return Scored(x[:, 0] + 0 * model.contest.critic.head.last.bias, x)

    model.contest.critic.scored = first_value  # type: ignore[method-assign]
    model.generator.forward = lambda y, _noise: torch.zeros(len(y), 4)  # type: ignore[method-assign,assign]
    x = torch.tensor([4.0, 4.0, -1.0, 1.0])[:, None] * torch.ones(4, 4)
    critic, _ = model.eval().objectives()
    terms = critic.loss(Batch(x, torch.zeros(4, dtype=torch.int64)), generator())
    assert terms["told"] == 0.75
    assert terms["gap"] == 2
    assert terms["accuracy_real"] == 0.5  # the threshold is 1
    assert terms["accuracy_synthetic"] == 1
    assert terms["r1"] == 0.5


def test_what_is_watched_is_kept_with_the_weights_and_moves_in_training_alone() -> None:
    model = built()
    critic, _ = model.objectives()
    rows = some_rows(VECTOR, LABELS % 2)
    model.eval()
    critic.loss(rows, generator())
    assert float(model.watch.told) == 0.5
    model.train()
    critic.loss(rows, generator())
    assert {"watch.told", "watch.variety"} <= set(model.state_dict())
    assert float(model.watch.variety) != 1
