"""The gate likelihood: odd rows and wrong labels are found by ln p(x|y), and fresh real rows pass."""

from __future__ import annotations

import itertools
import json
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from _toy_mixtures import load_digits
from scipy.ndimage import uniform_filter
from torch import Tensor

from augment.checks._contract import Finding
from augment.checks.likelihood import Likelihood
from augment.config import RunConfig
from augment.gates import load_gates
from augment.generation import generate_shard
from augment.ingest import ingest
from augment.makers import maker
from augment.plan import rows_to_draw
from augment.rounds import round_requests
from augment.store import Store
from augment.validation import active_checks, conclude, judge_shard, make_reference
from models._bayes import class_log_joint
from models._contract import Batch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts that import each other by their plain names
import likelihood_gate as benchmark

NAMES = [str(digit) for digit in range(10)]
LEARNED, HELD_OUT, DRAWN = 90, 24, 50  # rows of each class
Rows = dict[int, Tensor]


class PixelsApart:
    """ln p(x|y) of a softmax for each pixel of each class, all apart: counts of the levels of real rows."""

    def __init__(self, rows: Rows) -> None:
        levels = torch.arange(17)
        counts = [(self.index(x)[:, None] == levels[None, :, None]).double().sum(0) for x in rows.values()]
        self.log_share = torch.stack([((c + 0.2) / (c + 0.2).sum(0)).log() for c in counts])  # (10, 17, 64)

    @staticmethod
    def index(x: Tensor) -> Tensor:
        return ((x.flatten(1) + 1) * 8).round().long()

    def log_likelihood(self, batch: Batch) -> Tensor:
        table = self.log_share[batch.y]
        return table.gather(1, self.index(batch.x)[:, None]).sum((1, 2))


@cache
def digits() -> Rows:
    found = load_digits()
    rows = found.pixels.reshape(-1, 1, 8, 8)
    return {digit: rows[found.digit == digit] for digit in range(10)}


def parts(seed: int = 0) -> tuple[Rows, Rows, Rows]:
    """Rows to learn from, held-out ones, and fresh ones, by class."""
    noise = torch.Generator().manual_seed(seed)
    shuffled = {y: x[torch.randperm(len(x), generator=noise)] for y, x in digits().items()}
    cuts = [0, LEARNED, LEARNED + HELD_OUT, LEARNED + HELD_OUT + DRAWN]
    first, second, third = ({y: x[a:b] for y, x in shuffled.items()} for a, b in itertools.pairwise(cuts))
    return first, second, third


def found_in(synthetic: Rows, seed: int = 0, check: Likelihood | None = None) -> Finding:
    learned, held_out, _ = parts(seed)
    return (check or Likelihood()).compared(PixelsApart(learned), held_out, synthetic, NAMES)


def failed(found: Finding) -> set[str]:
    """Which figures are not what is expected of them."""
    wrong = set()
    for expectation in found.set_expectations:
        low, high = (expectation.arguments.get(name) for name in ("min_value", "max_value"))
        value = found.metrics[str(expectation.column).removeprefix("likelihood.")]
        if (low is not None and value < low) or (high is not None and value > high):
            wrong.add(str(expectation.column))
    return wrong


def some(rows: Rows, change: object, share: float = 1.0) -> Rows:
    """Rows of which a share is changed."""
    return {y: torch.cat([change(x[: int(share * len(x))]), x[int(share * len(x)) :]]) for y, x in rows.items()}  # type: ignore[operator]


def noise_like(x: Tensor) -> Tensor:
    return torch.randint(17, x.shape, generator=torch.Generator().manual_seed(1)) / 8 - 1.0


def blurred(x: Tensor) -> Tensor:
    mean = uniform_filter(x.numpy(), (1, 1, 3, 3), mode="nearest")
    return (torch.from_numpy(mean) * 8).round() / 8


def likeliest(x: Tensor, model: PixelsApart, y: int) -> Tensor:
    """The one row that the model finds most probable of all, again and again."""
    return (model.log_share[y].argmax(0) / 8 - 1.0).float().reshape(1, 1, 8, 8).repeat(len(x), 1, 1, 1)


def test_fresh_real_rows_are_as_usual_and_as_well_recognised_as_held_out_ones() -> None:
    found = found_in(parts()[2])
    assert failed(found) == set()
    assert found.value == pytest.approx(0.1, abs=0.05)
    assert found.floor == pytest.approx(0.1, abs=0.01)
    assert found.severity is None


def test_sets_of_fresh_real_rows_hardly_ever_fail() -> None:
    alarms = [failed(found_in(parts(seed)[2], seed)) for seed in range(100)]
    assert sum(map(bool, alarms)) <= 1, alarms


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_wrong_labels_are_not_recognised(share: float) -> None:
    fresh = parts()[2]
    moved = {
        y: torch.cat([fresh[(y + 1) % 10][: int(share * DRAWN)], x[int(share * DRAWN) :]]) for y, x in fresh.items()
    }
    assert "likelihood.recognised" in failed(found_in(moved))


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("change", [noise_like, blurred])
def test_noise_and_blur_are_odd(change: object, share: float) -> None:
    assert "likelihood.odd" in failed(found_in(some(parts()[2], change, share)))


def test_rows_that_are_too_likely_are_odd_though_they_are_recognised() -> None:
    model = PixelsApart(parts()[0])
    found = found_in({y: likeliest(x, model, y) for y, x in parts()[2].items()})
    assert failed(found) == {"likelihood.odd"}
    assert found.metrics == {"odd": 1.0, "recognised": 1.0}


def test_fewer_rows_are_granted_more_by_chance() -> None:
    held_out, fresh = parts()[1:]
    few = {y: x[:4] for y, x in fresh.items()}
    assert found_in(few).limit > found_in(fresh).limit  # type: ignore[operator]
    alone = Likelihood().compared(PixelsApart(parts()[0]), {3: held_out[3]}, {3: fresh[3]}, NAMES)
    assert alone.limit > found_in(fresh).limit  # type: ignore[operator]


def test_a_failure_is_a_warning_unless_it_is_to_refuse() -> None:
    assert Likelihood().graded == "warning"
    assert Likelihood(refuses=True).graded == "critical"


# What a probability says of rows


def test_the_prior_decides_between_classes_that_are_as_likely() -> None:
    class Equal:
        def log_likelihood(self, batch: Batch) -> Tensor:
            return torch.full((len(batch.y),), -3.0)

    joint = class_log_joint(Equal(), torch.zeros(2, 1), torch.tensor([0.25, 0.75]).log())
    torch.testing.assert_close(joint.softmax(1), torch.tensor([[0.25, 0.75]] * 2))
    torch.testing.assert_close(joint.logsumexp(1), torch.tensor([-3.0, -3.0]))


# In the benchmark


def test_a_cell_of_the_benchmark_records_what_drew_its_rows() -> None:
    codes = {case: benchmark.rows_code(case) for case in ("clean", "wrong labels", "vae", "gan")}
    assert codes["clean"] == codes["wrong labels"]
    assert len(set(codes.values())) == 3


# In the audit


def audited(kind: str, folder: Path, **settings: object) -> dict[str, object]:
    """The gates of a run of a few steps on digits."""
    config = RunConfig.model_validate(
        {
            "name": "judged",
            "source": {"kind": "digits"},
            "split": {"train_per_class": dict.fromkeys(NAMES, 20)},
            "plan": {"kind": "counts", "counts": dict.fromkeys(NAMES, 3)},
            "model": {"kind": kind, **settings},
            "train": {"steps": 3, "device": "cpu"},
            "checks": [{"kind": "likelihood", "refuses": True}],
            "worth": {"seeds": 0},
            "store": str(folder),
        }
    )
    store, checks = Store.open(config.store), active_checks(config.checks)
    rows = maker(config)
    real = ingest(config.source, config.split, config.seed, store)
    model = rows.prepare(real, store)
    reference = make_reference(real, checks, config.seed, store)
    wanted = rows_to_draw(config.plan, real, store)
    requests = round_requests(config.generate, model, wanted, [], 0, store)
    shards = [generate_shard(model, real, config.generate, request, config.seed, store) for request in requests]
    judged = [judge_shard(shard, reference, real, checks, store) for shard in shards]
    audit = store.path(conclude(real, reference, model, wanted, shards, judged, checks, store))
    gates = {gate.gate: gate for gate in load_gates(audit / "gates.json")}
    details = json.loads((audit / "metrics.json").read_text())["details"].get("likelihood", {})
    return {"gate": gates["likelihood"], "details": details}


@pytest.mark.slow
def test_the_audit_asks_the_model_of_the_run_where_it_can_be_asked(tmp_path: Path) -> None:
    known = audited("pixelcnn", tmp_path / "a", width=8, depth=1)
    gate = known["gate"]
    assert gate.passed is False  # after three steps every level is drawn as often: nothing is recognised
    assert gate.severity == "critical"
    assert gate.floor == pytest.approx(0.1, abs=0.02)
    assert set(known["details"]["classes"]) == set(NAMES)
    unknown = audited("vae", tmp_path / "b")["gate"]
    assert unknown.passed is None
    assert unknown.sentence == "What drew these rows does not compute how probable a row is."
