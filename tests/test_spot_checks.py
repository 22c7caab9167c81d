"""Rows that are drawn while a model is trained: what is measured of them, when, and that training does not notice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from _model_cases import CASES, SPECS, some_rows
from _toy_training import VECTOR, DuelConfig, Line, make_loop, squares
from _trees import make_real
from test_training import assert_equal_bytes
from torch import Tensor

import augment.training._loop as trainer
from augment.config import MODELS, TrainSection
from augment.store import Store
from augment.training import train
from augment.training._loop import TrainingLoop
from augment.training._spot_checks import MOMENTS, MOST_ROWS, Moments, SpotChecks, moments, rows_of_classes

FIGURES = {"coverage", "coverage_of_real", "near_copies"}


def real_rows(seed: int, rows: int = 40) -> dict[int, Tensor]:
    """Rows of two classes around (0, ...) and (10, ...)."""
    noise = torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(seed))
    return {0: noise[0], 1: 10 + noise[1]}


TRAIN, HELD_OUT = real_rows(0), real_rows(1)


class Given(Line):
    """A model that draws what it is told to: ``draw`` gets the number of rows of a class, and the class."""

    def __init__(self, draw: Any) -> None:
        super().__init__(squares)
        self._draw = draw

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        counts = torch.bincount(labels).tolist()
        return torch.cat([self._draw(count, y, generator) for y, count in enumerate(counts)])


def checks(rows: int = 40, every: int = 10, operator: str = "prior") -> SpotChecks:
    return SpotChecks(VECTOR, operator, TRAIN, HELD_OUT, Moments(rows, every), 3)


def figures_of(draw: Any, rows: int = 40) -> Mapping[str, float]:
    return checks(rows).figures(Given(draw), 10)


def test_fresh_rows_cover_as_much_as_training_rows_do_and_copy_none() -> None:
    fresh = real_rows(2)
    found = figures_of(lambda count, y, _noise: fresh[y][:count])
    assert found["coverage"] == pytest.approx(found["coverage_of_real"], abs=0.1)
    assert found["coverage"] > 0.8
    assert found["near_copies"] == 0


@pytest.mark.parametrize(("train", "held_out"), [(200, 8), (10, 100)])
def test_a_perfect_generator_covers_what_real_rows_do_where_the_sides_are_unequal(train: int, held_out: int) -> None:
    found = [
        SpotChecks(
            VECTOR, "prior", real_rows(3 * seed, train), real_rows(3 * seed + 1, held_out), Moments(40, 10), seed
        ).figures(Given(lambda count, y, _noise, seed=seed: real_rows(3 * seed + 2, 40)[y][:count]), 10)
        for seed in range(30)
    ]
    covered, of_real = (sum(f[name] for f in found) / len(found) for name in ("coverage", "coverage_of_real"))
    assert covered == pytest.approx(of_real, abs=0.05)


def test_a_class_whose_held_out_rows_are_all_the_same_does_not_count() -> None:
    same = {0: HELD_OUT[0], 1: HELD_OUT[1][:1].expand(40, -1)}
    fresh = Given(lambda count, y, _noise: real_rows(2)[y][:count])
    found, alone = (
        SpotChecks(VECTOR, "prior", TRAIN, held_out, Moments(80, 10), 3).figures(fresh, 10)
        for held_out in (same, {0: HELD_OUT[0][:40]})
    )
    assert found == alone
    assert not SpotChecks(VECTOR, "prior", TRAIN, {1: same[1]}, Moments(80, 10), 3).due(10, 10)


def test_classes_of_one_side_alone_take_no_rows_from_the_others() -> None:
    assert rows_of_classes({0: 90, 1: 90, 2: 90, 3: 1}, {0: 90, 3: 90, 4: 90}, 64) == {0: 64}


def test_equal_rows_are_no_copies_where_as_many_real_rows_are_equal() -> None:
    twice = {y: rows[:20].repeat(2, 1) for y, rows in TRAIN.items()}
    found = SpotChecks(VECTOR, "prior", twice, HELD_OUT, Moments(40, 10), 3)
    assert found.figures(Given(lambda count, y, _noise: twice[y][:count]), 10)["near_copies"] == 0


def test_the_real_rows_that_are_drawn_from_change_from_step_to_step() -> None:
    seen: list[Tensor] = []

    class Noting(Given):
        def sample_from(self, x: Tensor, labels: Tensor, noise: torch.Generator, temperature: float = 1.0) -> Tensor:
            seen.append(x.clone())
            return x

    for step in (10, 20, 10):
        checks(operator="exemplar").figures(Noting(None), step)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_copies_of_training_rows_are_counted_and_no_others() -> None:
    fresh = real_rows(2)
    assert figures_of(lambda count, y, _noise: TRAIN[y][:count])["near_copies"] == 1
    half = figures_of(lambda count, y, _noise: torch.cat([TRAIN[y][: count // 2], fresh[y][: count // 2]]))
    assert half["near_copies"] == 0.5
    assert figures_of(lambda count, y, _noise: HELD_OUT[y][:count])["near_copies"] == 0


def test_a_lost_class_is_not_covered_and_neither_is_a_lost_mode() -> None:
    fresh = real_rows(2)
    whole = figures_of(lambda count, y, _noise: fresh[y][:count])["coverage"]
    other = figures_of(lambda count, _y, _noise: fresh[0][:count])["coverage"]
    assert other == pytest.approx(whole / 2, abs=0.1)
    assert figures_of(lambda count, y, _noise: fresh[y][:1].expand(count, -1))["coverage"] < whole / 2


def test_rows_that_are_not_finite_cover_nothing_and_are_no_copies() -> None:
    found = figures_of(lambda count, _y, _noise: torch.full((count, 4), torch.nan))
    assert (found["coverage"], found["near_copies"]) == (0, 0)


def test_what_is_drawn_follows_from_the_seed_and_the_step() -> None:
    seen: list[Tensor] = []

    def noting(count: int, y: int, noise: torch.Generator) -> Tensor:
        seen.append(torch.randn(count, 4, generator=noise))
        return seen[-1]

    for step in (10, 20, 10):
        torch.rand(1)
        checks().figures(Given(noting), step)
    assert torch.equal(seen[0], seen[4])
    assert not torch.equal(seen[0], seen[2])


def test_rows_drawn_from_real_ones_are_no_copies_as_long_as_they_move_as_mild_variants_do() -> None:
    class Varying(Given):
        def sample_from(self, x: Tensor, labels: Tensor, noise: torch.Generator, temperature: float = 1.0) -> Tensor:
            assert ((x.mean(1) > 5) == (labels == 1)).all()
            return x + self._draw(len(x), 0, noise)

    moved, still = (
        Varying(lambda count, _y, noise, size=size: size * torch.randn(count, 4, generator=noise)) for size in (0.05, 0)
    )
    assert checks(operator="exemplar").figures(moved, 10)["near_copies"] < 0.2
    assert checks(operator="exemplar").figures(still, 10)["near_copies"] == 1


def test_moments_are_as_many_as_the_share_of_a_training_allows_and_the_last_step_is_one() -> None:
    assert moments(2500, 64, 1) == (MOST_ROWS, 2500 // MOMENTS)
    assert moments(2000, 64, 20).rows * 20 * (2000 / moments(2000, 64, 20).every) <= 0.06 * 2000 * 64
    assert moments(3, 8, 20).every == 3
    due = [step for step in range(1, 31) if checks(every=12).due(step, 30)]
    assert due == [12, 24, 30]
    alone = SpotChecks(VECTOR, "prior", TRAIN, {0: HELD_OUT[0][:1]}, Moments(40, 1), 3)
    assert not alone.due(30, 30)


def test_many_classes_share_the_rows_that_are_drawn() -> None:
    many = {y: torch.randn(5, 4, generator=torch.Generator().manual_seed(y)) for y in range(100)}
    drawn: list[int] = []

    def noting(count: int, y: int, noise: torch.Generator) -> Tensor:
        drawn.append(count)
        return torch.randn(count, 4, generator=noise)

    SpotChecks(VECTOR, "prior", many, many, Moments(64, 1), 3).figures(Given(noting), 1)
    assert sum(drawn) <= 64
    assert set(drawn) == {0, 2}


# In training


@pytest.fixture(autouse=True)
def _read_the_losses_by_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOOK_SECONDS", 1e9)


def lines_of(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def duel(folder: Path, spot_checks: SpotChecks | None, **settings: Any) -> TrainingLoop:
    model = DuelConfig().build(VECTOR, torch.Generator().manual_seed(1))
    return make_loop(folder, model, spot_checks=spot_checks, **{"checkpoint_seconds": 1e9, **settings})


def test_training_is_the_same_with_spot_checks_and_without(tmp_path: Path) -> None:
    with_, without = (duel(tmp_path / name, found) for name, found in (("a", checks(every=7)), ("b", None)))
    with_.run()
    without.run()
    assert_equal_bytes(with_, without)
    assert [line["step"] for line in lines_of(tmp_path / "a") if "coverage" in line] == [7, 14, 21, 28, 30]
    assert all(set(line) >= FIGURES for line in lines_of(tmp_path / "a") if "coverage" in line)
    assert not any("coverage" in line for line in lines_of(tmp_path / "b"))


def test_the_averaged_weights_draw_in_evaluation_mode_and_the_model_gets_its_own_back(tmp_path: Path) -> None:
    seen: list[tuple[bool, Tensor]] = []

    class Noting(Line):
        def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
            seen.append((self.training, self.weight.detach().clone()))
            return super().sample(labels, generator, temperature)

    model = Noting(squares)
    loop = make_loop(tmp_path, model, spot_checks=checks(every=30), checkpoint_seconds=1e9)
    loop.run()
    ((training, weight),) = seen
    assert not training
    assert torch.equal(weight, loop.average.tensors["weight"])
    assert not torch.equal(model.weight, weight)
    assert model.training


def test_a_training_that_was_killed_goes_on_with_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def killed_at(step: int) -> Any:
        def listen(stage: str, done: int, total: int, unit: str, values: object = None) -> None:
            if done == step:
                raise KilledError

        return listen

    monkeypatch.setattr(trainer, "SHOW_SECONDS", 0.0)
    duel(tmp_path / "whole", checks(every=4)).run()
    for step in (3, 8, 18, 25):
        saving = duel(tmp_path / "killed", checks(every=4), progress=killed_at(step), checkpoint_seconds=0.0)
        with pytest.raises(KilledError):
            saving.run()
    duel(tmp_path / "killed", checks(every=4)).run()
    whole, killed = (
        [{name: line[name] for name in ("step", *FIGURES)} for line in lines_of(tmp_path / name) if "coverage" in line]
        for name in ("whole", "killed")
    )
    assert killed == whole
    assert [line["step"] for line in whole] == [4, 8, 12, 16, 20, 24, 28, 30]


def test_a_model_that_cannot_draw_is_trained_all_the_same(tmp_path: Path) -> None:
    class Broken(Line):
        def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
            raise ValueError("not today")

    loop, without = (
        make_loop(tmp_path / name, Broken(squares), spot_checks=found)
        for name, found in (("a", checks(every=5)), ("b", None))
    )
    loop.run()
    without.run()
    assert loop.step == 30
    assert_equal_bytes(loop, without)
    log = (tmp_path / "a" / "train.log").read_text()
    assert log.count("no rows are drawn to look at from now on: ValueError: not today") == 1


@pytest.mark.parametrize(("kind", "form"), sorted(dict(CASES).items()))  # of a grid where the kind takes both
def test_every_kind_of_model_draws_by_the_operator_that_it_offers_first(kind: str, form: str) -> None:
    config, spec = MODELS[kind](), SPECS[form]
    some = {y: some_rows(spec, torch.full((8,), y), seed=y).x.flatten(1) for y in range(3)}
    model = config.build(spec, torch.Generator().manual_seed(1)).eval()
    found = SpotChecks(spec, config.offered()[0], some, some, Moments(24, 1), 3).figures(model, 1)
    assert set(found) == FIGURES
    assert all(0 <= value <= 1 for value in found.values())


def test_a_trained_model_says_how_much_it_covered_and_copied(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    config = MODELS["vae"].model_validate({"width": 8})
    ref = train(make_real(store), config, TrainSection(steps=20, batch_size=16, device="cpu"), 7, store)
    folder = store.path(ref)
    *_, last = lines_of(folder)
    assert last["step"] == 20
    assert all(0 <= last[name] <= 1 for name in FIGURES)
    assert last["coverage_of_real"] == 1  # the parts of these data hold the same rows
    assert "no rows are drawn" not in (folder / "train.log").read_text()
