"""The limits of the gate likelihood: fresh rows hardly ever fail, however many rows the classes have and spread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from augment.checks._contract import Evidence, Finding, Learned
from augment.checks.likelihood import Likelihood
from augment.errors import StoreError
from augment.schema import DatasetSchema
from augment.store import ArtifactRef, Store
from models._bayes import Usual
from models._contract import Batch

Rows = dict[int, Tensor]


class Told:
    """ln p(x|y) is the first value of a row for the class that its second one names, and 5 nats less for any other."""

    def __init__(self) -> None:
        self.evaluated: list[int] = []

    def log_likelihood(self, batch: Batch) -> Tensor:
        self.evaluated.append(len(batch.y))
        return batch.x[:, 0] - 5 * (batch.x[:, 1] != batch.y)


def normal(sizes: Mapping[int, int], seed: int = 0, spreads: Mapping[int, float] | None = None) -> Rows:
    """Rows of each class whose nats are normal around -100."""
    noise = torch.Generator().manual_seed(seed)
    spread = spreads or {}
    nats = {y: -100 + spread.get(y, 1.0) * torch.randn(rows, generator=noise) for y, rows in sizes.items()}
    return {y: torch.stack([of, torch.full_like(of, y)], dim=1) for y, of in nats.items()}


def found_in(held_out: Rows, synthetic: Rows, classes: int | None = None, model: Told | None = None) -> Finding:
    names = [str(y) for y in range(classes or len(held_out))]
    return Likelihood().compared(model or Told(), held_out, synthetic, names)


def least_recognised(found: Finding) -> float:
    low = [e.arguments["min_value"] for e in found.set_expectations if e.arguments.get("min_value") is not None]
    return float(low[0])


def ten(rows: int) -> dict[int, int]:
    return dict.fromkeys(range(10), rows)


# Fresh rows


@pytest.mark.parametrize(
    ("sizes", "spreads"),
    [
        ({0: 100, 1: 8, 2: 8, 3: 8, 4: 8}, {1: 2.0, 2: 2.0, 3: 2.0, 4: 2.0}),
        ({0: 100, 1: 10}, {1: 3.0}),
        ({0: 100, 1: 5}, {1: 3.0}),
        (ten(24), {}),
        (ten(5), {}),
        ({0: 20}, {}),
    ],
    ids=str,
)
def test_fresh_rows_hardly_ever_fail(sizes: dict[int, int], spreads: dict[int, float]) -> None:
    alarms = 0
    for seed in range(60):
        found = found_in(normal(sizes, seed, spreads), normal(dict.fromkeys(sizes, 100), 1000 + seed, spreads))
        alarms += found.value > found.limit  # type: ignore[operator]
    assert alarms <= 3


def test_a_class_without_synthetic_rows_decides_nothing() -> None:
    held_out, fresh = normal(ten(24), spreads={9: 50.0}), normal(ten(50), 1)
    del fresh[9]
    without = found_in({y: held_out[y] for y in fresh}, fresh, 10)
    assert found_in(held_out, fresh, 10) == without
    assert "9" not in without.details["classes"]


def test_what_real_rows_have_is_measured_in_the_mean_over_classes() -> None:
    held_out = normal({0: 100, 1: 10}, 3, {1: 3.0})
    y = torch.arange(2).repeat_interleave(torch.tensor([100, 10]))
    odd = Usual.learn(torch.cat([held_out[0], held_out[1]])[:, 0], y, 0.05).odd_held_out.double()
    found = found_in(held_out, normal({0: 100, 1: 100}, 1))
    assert found.floor == pytest.approx(float(odd[:100].mean() + odd[100:].mean()) / 2)
    assert found.floor != pytest.approx(float(odd.mean()), abs=0.005)
    assert found.limit > 1.5 * max(found.floor, 0.1)  # type: ignore[operator, type-var]


def test_rows_that_are_all_odd_are_a_share_of_one_and_no_more() -> None:
    found = found_in(normal(ten(24)), normal(ten(50), 1, dict.fromkeys(range(10), 1e9)))
    assert found.value == 1.0


@pytest.mark.parametrize("held_out", [ten(2), ten(4), {0: 19}, {0: 10, 1: 5, 2: 4, 3: 4}], ids=str)
def test_nothing_is_judged_beside_few_held_out_rows(held_out: dict[int, int]) -> None:
    found = found_in(normal(held_out), normal(dict.fromkeys(held_out, 50), 1))
    assert not found.applies
    assert found.sentence.endswith("raise split.validation.")


def test_a_class_of_few_held_out_rows_is_left_out() -> None:
    found = found_in(normal({0: 20, 1: 5, 2: 4}), normal(dict.fromkeys(range(3), 30), 1))
    assert set(found.details["classes"]) == {"0", "1"}


# Limits


def test_fewer_held_out_rows_are_granted_more_by_chance_in_both_figures() -> None:
    fresh = normal(ten(50), 1)
    many, few = (found_in(normal(ten(rows)), fresh) for rows in (100, 12))
    assert few.limit > many.limit + 0.02  # type: ignore[operator]
    assert least_recognised(few) < least_recognised(many) - 0.01


def test_fewer_synthetic_rows_are_granted_more_by_chance_in_both_figures() -> None:
    held_out = normal(ten(24))
    many, few = (found_in(held_out, normal(ten(rows), 1)) for rows in (100, 4))
    assert few.limit > many.limit + 0.02  # type: ignore[operator]
    assert least_recognised(few) < least_recognised(many) - 0.01


@pytest.mark.parametrize("classes", [1, 10, 60, 1000])
def test_evaluations_are_limited_whatever_the_number_of_classes(classes: int) -> None:
    model, rows = Told(), normal(dict.fromkeys(range(classes), 150))
    found = found_in(rows, rows, model=model)
    assert found.applies
    assert max(model.evaluated) >= 20
    assert sum(model.evaluated) <= 2 * 20_000
    judged = found.details["classes"]
    assert len(judged) == min(classes, 66, 20_000 // classes // 5)
    assert {of["rows"] for of in judged.values()} == {{1: 100, 10: 100, 60: 5, 1000: 5}[classes]}


def test_nats_that_are_no_number_are_odd_and_not_recognised() -> None:
    held_out, fresh = normal(ten(24)), normal(ten(40), 1)
    before = found_in(held_out, fresh)
    for rows in fresh.values():
        rows[::2, 0] = torch.tensor([float("nan"), float("-inf")]).repeat(10)
    found = found_in(held_out, fresh)
    assert found.value == pytest.approx(0.5 + before.value / 2, abs=0.03)  # type: ignore[operator]
    assert found.metrics["recognised"] == pytest.approx(0.5)


@pytest.mark.parametrize("nats", [float("nan"), float("inf"), float("-inf")])
def test_nothing_is_judged_where_held_out_rows_have_no_finite_nats(nats: float) -> None:
    held_out = normal(ten(24))
    held_out[3][0, 0] = nats
    found = found_in(held_out, normal(ten(40), 1))
    assert not found.applies
    assert "no finite ln p of 1 of 240" in found.sentence


def test_rows_of_the_only_class_are_not_said_to_be_recognised() -> None:
    found = found_in(normal({0: 40}), normal({0: 40}, 1))
    assert set(found.metrics) == {"odd"}
    assert {e.column for e in found.set_expectations} == {"likelihood.odd"}
    assert "labelled" not in found.sentence
    assert set(found.details["classes"]["0"]) == {"odd", "rows"}


# What is usual


def test_usual_rows_are_measured_from_the_others_of_their_class_in_units_of_their_spread() -> None:
    nats, y = torch.tensor([1.0, 2.0, 6.0, 4.0, -12.0, -18.0, -30.0]), torch.tensor([0, 0, 0, 0, 1, 1, 1])
    usual = Usual.learn(nats, y, 0.0001)
    torch.testing.assert_close(usual.means, torch.tensor([3.25, -20.0]).double())
    pooled = (14.75 + 168) / 5
    torch.testing.assert_close(
        usual.spreads**2, torch.tensor([(14.75 + 4 * pooled) / 7, (168 + 4 * pooled) / 6]).double()
    )
    left_out = []
    for i in range(7):
        classes = [nats[(y == c) & (torch.arange(7) != i)] for c in (0, 1)]
        squares = [float(((of - of.mean()) ** 2).sum()) for of in classes]
        own = int(y[i])
        variance = (squares[own] + 4 * sum(squares) / 4) / (len(classes[own]) - 1 + 4)
        left_out.append(float(nats[i] - classes[own].mean()) / variance**0.5)
    assert (float(usual.low), float(usual.high)) == pytest.approx((min(left_out), max(left_out)))


def test_a_class_of_wider_nats_has_no_more_odd_rows() -> None:
    rows, y = normal({0: 400, 1: 400}, 0, {1: 5.0}), torch.arange(2).repeat_interleave(400)
    usual = Usual.learn(torch.cat([rows[0], rows[1]])[:, 0], y, 0.05)
    of_class = [float(usual.odd_held_out[y == c].double().mean()) for c in (0, 1)]
    assert of_class == pytest.approx([0.1, 0.1], abs=0.03)


def test_rows_that_are_all_as_likely_are_usual() -> None:
    y = torch.zeros(30, dtype=torch.int64)
    usual = Usual.learn(torch.full((30,), -7.0), y, 0.05)
    assert usual.odd(torch.tensor([-7.0, -7.1]), y[:2]).tolist() == [False, True]


def test_a_class_of_one_row_says_nothing_of_what_is_usual() -> None:
    with pytest.raises(ValueError, match="two rows of each class at least, not 1"):
        Usual.learn(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([0, 0, 1]), 0.05)


# Which model is asked


def evidence_of(folder: Path, kind: str, likes: bytes) -> Evidence:
    """Of a model in a store of ``folder`` whose weights are ``likes``, written over others."""
    store = Store.open(str(folder))

    def fill(work: Path) -> None:
        spec = {"shape": [1, 4, 4], "spans": [["continuous", 16, 16]], "num_classes": 2}
        (work / "settings.json").write_text(json.dumps({"model": {"kind": kind}, "spec": spec}))
        (work / "weights.safetensors").write_bytes(b"weights")

    model = store.write("train", "0" * 32, fill)
    (store.path(model) / "weights.safetensors").write_bytes(likes)
    nothing = ArtifactRef(stage="real", key="0" * 32, sha256="0" * 64)
    return Evidence(
        schema=DatasetSchema(columns=(), label=None, classes=()),
        real=nothing,
        model=model,
        real_path=folder,
        model_path=store.path(model),
        shards=[],
        shard_paths=[],
        judged_paths=[],
        records=[],
        wanted={},
    )


def test_a_model_that_does_not_know_its_likelihood_is_not_loaded(tmp_path: Path) -> None:
    found = Likelihood().find(evidence_of(tmp_path, "vae", b"no weights at all"), Learned({}, tmp_path))
    assert not found.applies
    assert found.sentence == "What drew these rows does not compute how probable a row is."


def test_a_model_that_was_altered_is_not_asked(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, "pixelcnn", b"altered")
    with pytest.raises(StoreError, match="missing or altered"):
        Likelihood().find(evidence, Learned({}, tmp_path))
