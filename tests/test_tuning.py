"""Searching settings: what is suggested next, what may be searched, and what must stay as it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from _model_cases import CASES, SPECS

from augment.config import MODELS, RunConfig
from augment.errors import InputError
from augment.training import check_model
from augment.tuning import AT_RANDOM, Settings, Space, Tried, described, search_space, setting, suggest, with_settings
from models._searched import OneOf, Range

SPACE: Space = {"beta": Range(0.01, 100, log=True), "latent": Range(1, 64, whole=True), "way": OneOf((None, "a", "b"))}
TRIALS = 40


def distance(settings: Settings) -> float:
    """How far settings lie from the best there are: beta 3, latent 20, way a."""
    away = abs(math.log10(settings["beta"] / 3)) / 4 + abs(settings["latent"] - 20) / 63
    return away + (settings["way"] != "a")


def search(trials: int, seed: int, refuse: Any = lambda _: 0) -> list[Tried]:
    """The trials of a search for the settings that ``distance`` calls best."""
    tried: list[Tried] = []
    for _ in range(trials):
        settings = suggest(SPACE, tried, seed)
        assert settings is not None
        refusals = refuse(settings)
        tried.append(Tried(settings, None if refusals else -distance(settings), refusals))
    return tried


def test_a_suggestion_follows_from_the_seed_and_the_trials_before_it_alone() -> None:
    first, again = search(12, seed=3), search(12, seed=3)
    assert first == again
    assert suggest(SPACE, first[:9], 3) == first[9].settings, "a search that begins in the middle takes the same way"
    assert search(1, seed=4) != first[:1]


def test_later_trials_lie_nearer_the_best_settings_than_those_drawn_at_random() -> None:
    gains = []
    for seed in range(5):
        away = [distance(one.settings) for one in search(TRIALS, seed)]
        gains.append(np.mean(away[:AT_RANDOM]) - np.mean(away[-AT_RANDOM:]))
    assert np.mean(gains) > 0.3


def test_a_search_learns_where_gates_refuse_the_rows() -> None:
    def refuse(settings: Settings) -> int:
        return int(settings["latent"] > 10) + int(settings["latent"] > 30)

    late = [one for seed in range(5) for one in search(TRIALS, seed, refuse)[-AT_RANDOM:]]
    refused = np.mean([one.refusals > 0 for one in late])
    assert refused < 0.5, f"{refused:.0%} of late trials are refused; of random ones 84% would be"


def test_settings_that_no_search_would_draw_tell_it_nothing_and_are_no_error() -> None:
    odd = Tried({"beta": 1e6, "latent": None, "way": "c"}, 0.5, 0)
    drawn = suggest(SPACE, [odd], 0)
    assert drawn is not None
    assert set(drawn) == set(SPACE)


def test_no_settings_are_tried_twice_and_a_space_comes_to_its_end() -> None:
    space: Space = {"way": OneOf(("a", "b", "c")), "light": OneOf((True, False))}
    tried: list[Tried] = []
    while (settings := suggest(space, tried, 0)) is not None:
        assert settings not in [one.settings for one in tried]
        tried.append(Tried(settings, 0.0, 0))
    assert len(tried) == 6


def test_optuna_says_as_much_afterwards_as_before() -> None:
    before = optuna.logging.get_verbosity()
    suggest(SPACE, [], 0)
    assert optuna.logging.get_verbosity() == before


def test_suggestions_stay_within_their_bounds_and_are_written_with_three_digits() -> None:
    for one in search(30, seed=1):
        assert 0.01 <= one.settings["beta"] <= 100
        assert float(f"{one.settings['beta']:.3g}") == one.settings["beta"]
        assert isinstance(one.settings["latent"], int)
        assert one.settings["way"] in (None, "a", "b")


def run_of(kind: str, **sections: Any) -> RunConfig:
    return RunConfig.model_validate({"model": {"kind": kind}, **sections})


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_model_can_be_searched_and_takes_the_ends_of_its_bounds(kind: str) -> None:
    config = run_of(kind)
    space = search_space(config)
    assert sum(key.startswith("model.") for key in space) >= 2
    for key, bounds in space.items():
        for value in bounds.ends:
            changed = with_settings(config, {key: value})
            assert setting(changed, key) == value
            assert with_settings(changed, {key: setting(config, key)}) == config


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_every_choice_and_both_ends_of_every_bound_make_a_model(kind: str, form: str) -> None:
    config = run_of(kind)
    for key, bounds in search_space(config, ["generate", "plan"]).items():
        for value in bounds.values if isinstance(bounds, OneOf) else bounds.ends:
            assert check_model(with_settings(config, {key: value}).model, SPECS[form]) > 0, f"{key}: {value}"


def test_model_ratio_and_selection_are_searched_and_what_is_kept_is_not() -> None:
    config = run_of("vae", plan={"kind": "multiply", "factor": 2})
    space = search_space(config)
    assert {"model.beta", "plan.factor", "generate.operator", "generate.select.density"} <= set(space)
    kept = search_space(config, ["model", "generate.select.density"])
    assert not any(key.startswith("model.") for key in kept)
    assert set(space) - set(kept) > {"model.beta", "generate.select.density"}
    assert "generate.select.nearest_ratio" in kept
    assert described(kept)["plan.factor"] == {"low": 1.25, "high": 5, "log": True, "whole": False}


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["model.betta"], "--keep: 'model.betta' is no setting that is searched; did you mean 'model.beta'?"),
        (["model", "generate", "plan"], "--keep leaves no setting to be searched; keep fewer."),
    ],
)
def test_a_wrong_keep_is_one_sentence(keep: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        search_space(run_of("vae"), keep)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "keep", [["model", "model.beta"], ["plan", "plan"], ["generate.select", "generate.select.density"], ["train.steps"]]
)
def test_what_stays_may_be_named_twice_or_be_no_setting_that_is_searched(keep: list[str]) -> None:
    space = search_space(run_of("vae"), keep)
    assert not any(key == name or key.startswith(f"{name}.") for key in space for name in keep)


def test_a_run_file_that_no_search_goes_with_is_refused_before_the_first_trial() -> None:
    config = run_of("flow_matching", model={"kind": "flow_matching", "label_dropout": 0})
    assert "model.guidance" in search_space(config)
    with pytest.raises(InputError, match=r"guidance 0\.5 needs the velocity .* name what is to stay with --keep\.$"):
        search_space(config, ["model.label_dropout"])
    assert "model.guidance" not in search_space(config, ["model.label_dropout", "model.guidance"])


def test_settings_that_do_not_go_together_are_refused_with_the_models_own_words() -> None:
    config = run_of("flow_matching", model={"kind": "flow_matching", "label_dropout": 0})
    with pytest.raises(InputError, match=r"these settings do not go together: guidance 2 needs the velocity"):
        with_settings(config, {"model.guidance": 2.0})
    with pytest.raises(InputError, match="these settings do not go together: "):
        with_settings(config, {"plan.everywhere": -1.0})


def test_rows_that_somebody_else_made_have_a_ratio_and_a_selection_to_be_searched() -> None:
    config = run_of("from_files", model={"kind": "from_files", "path": "rows.csv"})
    space = search_space(config)
    assert "plan.everywhere" in space
    assert not any(key.startswith("model.") or key == "generate.temperature" for key in space)
