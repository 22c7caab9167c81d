"""The flow of a search with trials that are made at once: what it learns, and what a trial that fails costs it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from _small_store import Stages, write_stages
from test_comparison import CLASSES, HELD_OUT, trial, worth_of

from augment.comparison import Cost, Trial, compare, load_comparison
from augment.config import RunConfig
from augment.errors import InputError
from augment.store import ArtifactRef
from augment.tuning import AT_RANDOM, found_out, search_space, setting
from flows import candidates, tasks
from flows import tune_generator as flow

TRIALS = AT_RANDOM + 8


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    real: dict[str, list[Any]] = {"train": [*CLASSES] * 4, "validation": HELD_OUT, "test": HELD_OUT}
    return write_stages(tmp_path / "store", real=real)


def config_of(stages: Stages, **changed: Any) -> RunConfig:
    return RunConfig.model_validate({"store": str(stages.store.root), "worth": {"seeds": 2}, **changed})


class Kept:
    """A run that remembers what it keeps."""

    def __init__(self) -> None:
        self.refs: list[ArtifactRef] = []
        self.status = ""

    def keep(self, ref: ArtifactRef) -> ArtifactRef:
        self.refs.append(ref)
        return ref

    def ended(self, status: str) -> None:
        self.status = status


class Searches:
    """The flow over made trials: with a temperature above 0.9 more validation rows are right, the more the higher."""

    def __init__(self, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stages, self.run = stages, Kept()
        self.measured: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.refuse: dict[str, list[str]] = {}
        monkeypatch.setattr(flow, "RunProgress", lambda: lambda *_: None)
        monkeypatch.setattr(candidates, "announce", lambda _: None)
        monkeypatch.setattr(candidates, "candidate", self.candidate)
        monkeypatch.setattr(candidates, "measure_winner", self.measure)
        monkeypatch.setattr(tasks, "ingest", lambda _: stages.real)
        monkeypatch.setattr(tasks, "refuse_unmeasurable", lambda *_: None)
        monkeypatch.setattr(tasks, "cost_of", lambda *_: Cost())
        monkeypatch.setattr(tasks, "compare", self.compare)
        monkeypatch.setattr(flow, "recorded", self.recorded)

    def recorded(self, _: RunConfig) -> Any:
        return contextlib.nullcontext(self.run)

    def candidate(self, config: RunConfig, name: str, settings: dict[str, Any]) -> Trial:
        if name in self.fail:
            raise self.fail[name]
        right = round(15 + 14 * (config.generate.temperature - 0.6) / 0.6)
        found = trial(self.stages, name, [] if name in self.refuse else [right, right], self.refuse.get(name, []))
        return found.model_copy(update={"settings": settings, "used": [self.stages.model]})

    def measure(self, config: RunConfig, run: Any, winner: Trial) -> ArtifactRef:
        self.measured.append(winner.name)
        return worth_of(self.stages)

    def compare(self, config: RunConfig, trials: Any, costs: Any, worth: Any, searched: Any) -> ArtifactRef:
        return compare("wine", trials, costs, worth, "balanced_accuracy", 2, self.stages.store, searched)

    def made(self, config: RunConfig, trials: int = TRIALS, keep: list[str] | None = None) -> Any:
        outcome = flow.outcome_of(flow.tune_generator.fn(config, trials, keep))
        return outcome.comparison


@pytest.fixture
def searches(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> Searches:
    return Searches(stages, monkeypatch)


def temperatures(found: Any) -> list[float]:
    """In the order of the trials, without the run file's own."""
    by_number = sorted(found.entries, key=lambda entry: int(entry.name.removeprefix("trial-")))
    return [entry.settings["generate.temperature"] for entry in by_number[1:]]


def test_later_trials_have_more_of_what_earlier_ones_scored_with(searches: Searches) -> None:
    gains = []
    for seed in range(4):
        tried = temperatures(searches.made(config_of(searches.stages, seed=seed)))
        gains.append(sum(tried[AT_RANDOM:]) / len(tried[AT_RANDOM:]) - sum(tried[:AT_RANDOM]) / AT_RANDOM)
    assert sum(gains) / len(gains) > 0.05


def test_another_seed_tries_other_settings_and_the_same_one_the_same(searches: Searches) -> None:
    first, again, other = (
        temperatures(searches.made(config_of(searches.stages, seed=seed), trials=3)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_the_first_alone_is_measured_on_test_rows_and_all_is_kept(searches: Searches) -> None:
    found = searches.made(config_of(searches.stages), trials=4)
    assert searches.measured == [found.winner] == [found.entries[0].name]
    assert searches.stages.model in searches.run.refs
    assert searches.run.status == "compared"
    assert any("chosen among 4" in note for note in found.notes)


def test_settings_that_the_data_do_not_allow_end_their_trial_alone(searches: Searches) -> None:
    searches.fail["trial-1"] = InputError("generate.select.density: too few validation rows.")
    found = searches.made(config_of(searches.stages), trials=4)
    assert [entry.verdict for entry in found.entries].count("failed") == 1
    assert found.entries[-1].reasons == ["generate.select.density: too few validation rows."]
    searches.fail["trial-0"] = InputError("the run file does not fit.")
    with pytest.raises(InputError, match="the run file does not fit"):
        searches.made(config_of(searches.stages), trials=4)


def test_what_the_search_learns_of_a_trial_is_its_score_or_how_many_gates_refused_it(
    searches: Searches, stages: Stages
) -> None:
    config = config_of(stages)
    space = search_space(config)
    good, better = (trial(stages, name, right) for name, right in (("a", [22, 22]), ("b", [25, 25])))
    low, high = (found_out(config, one, space, stages.store) for one in (good, better))
    assert low.score is not None
    assert high.score is not None
    assert high.score > low.score > 0
    surer = found_out(config, trial(stages, "c", [22, 22], sure=0.7), space, stages.store)
    assert surer.score is not None
    assert surer.score != low.score, "of equal lifts the log loss decides"
    assert surer.score == pytest.approx(low.score, abs=1e-3)
    refused = found_out(config, trial(stages, "d", failed=["coverage", "joint"]), space, stages.store)
    assert (refused.score, refused.refusals) == (None, 2)
    broken = candidates.failed(config, "e", stages.real, {"model.beta": 2.0}, InputError("no"))
    assert found_out(config, broken, space, stages.store).refusals == 1
    assert found_out(config, broken, space, stages.store).settings["model.beta"] == 2.0
    assert low.settings["plan.everywhere"] == setting(config, "plan.everywhere")
    assert low.settings["generate.operator"] == "prior", "what is left to the model is its first"


def test_where_all_is_refused_nothing_is_measured(searches: Searches) -> None:
    searches.refuse = {f"trial-{number}": ["coverage"] for number in range(3)}
    found = searches.made(config_of(searches.stages), trials=3)
    assert (found.winner, searches.measured) == (None, [])


def test_a_search_ends_where_all_settings_were_tried(searches: Searches) -> None:
    keep = ["model", "plan", "generate.temperature", "generate.select"]
    found = searches.made(config_of(searches.stages), trials=20, keep=keep)
    assert len(found.entries) == 3, "three ways to draw, of which the run file's is the first"


def test_a_search_that_nothing_is_chosen_by_is_refused(searches: Searches) -> None:
    with pytest.raises(InputError, match=r"worth\.seeds is 0, and settings are chosen by their worth"):
        searches.made(config_of(searches.stages, worth={"seeds": 0}))


def test_the_comparison_comes_back_with_the_bounds_that_were_searched(searches: Searches, stages: Stages) -> None:
    config = config_of(stages)
    found = searches.made(config, trials=3, keep=["model"])
    assert set(found.searched) == set(search_space(config, ["model"]))
    made = searches.compare(config, [trial(stages, "a", [22, 23])], [Cost()], worth_of(stages), found.searched)
    assert load_comparison(made, stages.store).searched == found.searched
