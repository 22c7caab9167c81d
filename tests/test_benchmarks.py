"""Benchmarks of training: they run on tiny data, go on where they were stopped, and say what was measured."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _model_cases import SPECS, generator, some_rows

from augment.config import MODELS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
KEYS = {"machine", "versions", "rows"}


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny files in the formats of binarised MNIST and MNIST."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    (folder / "binarized-mnist").mkdir()
    bits = {
        part: np.packbits(draw.random((rows, 784)) < 0.2, axis=1)
        for part, rows in (("train", 90), ("valid", 20), ("test", 20))
    }
    np.savez(folder / "binarized-mnist" / "binarized_mnist_larochelle.npz", **bits)
    (folder / "mnist").mkdir()
    for part, rows in (("train", 50_040), ("t10k", 20)):
        header = bytes([0, 0, 8, 3]) + np.array([rows, 28, 28], ">i4").tobytes()
        greys = np.tile(draw.integers(0, 256, (20, 28, 28), np.uint8), (rows // 20, 1, 1))
        (folder / "mnist" / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + greys.tobytes(), 1))
        header = bytes([0, 0, 8, 1]) + np.array([rows], ">i4").tobytes()
        (folder / "mnist" / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + bytes(rows), 1))
    return folder


def run(*arguments: str) -> dict[str, Any]:
    """What a benchmark prints."""
    result = subprocess.run([sys.executable, *arguments, "--json"], capture_output=True, text=True, check=True)
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


@pytest.mark.slow
def test_the_likelihood_is_measured_once_and_then_kept(data: Path, tmp_path: Path) -> None:
    asked = (
        str(BENCHMARKS / "likelihood.py"), "--data", str(data), "--minutes", "0.01", "--test-rows", "3",
        "--importance", "20", "--device", "cpu", "--folder", str(tmp_path),
        "--cases", "vae static", "iaf_vae cifar10-jpeg",
    )  # fmt: skip
    printed = run(*asked)
    assert set(printed) == KEYS
    row, absent = printed["rows"]
    assert row["data"].startswith("static binarised MNIST")
    assert row["rows"] == {"train": 90, "validation": 20, "test": 3}
    assert row["curve"][-1]["step"] == row["steps"]
    assert 0 < row["iwae"] < row["elbo"] + 5 * row["elbo_standard_error"]
    assert row["ratio"] == round(row["target"] / row["iwae"], 4)
    assert "no data" in absent["absent"]
    assert run(*asked)["rows"][0] == row


def test_photos_that_are_not_there_are_reported_as_absent(tmp_path: Path) -> None:
    (row,) = run(str(BENCHMARKS / "colour_photos.py"), "--data", str(tmp_path), "--folder", str(tmp_path))["rows"]
    assert row["ratio"] is None
    assert "train.zip" in row["absent"]


def test_settings_of_a_group_are_changed_one_by_one() -> None:
    from colour_photos import config_of

    config = config_of("vae", ["vae.width=24", "vae.optimiser.learning_rate=0.5", "warp_vae.width=9"])
    assert (config.width, config.optimiser.learning_rate) == (24, 0.5)


def test_kernels_are_named_without_what_they_were_made_for() -> None:
    from _step_profile import short

    assert short("void at::native::reduce_kernel<128, 4, float>(int)") == "at::native::reduce_kernel"
    assert short("aten::mul") == "aten::mul"


def test_bits_are_drawn_anew_with_the_batch_and_again_for_the_same_one(data: Path, tmp_path: Path) -> None:
    from _likelihood_data import dynamic_mnist

    found = dynamic_mnist(data)
    rows = found.rows(tmp_path, torch.device("cpu"))
    here, there = np.arange(20), np.arange(20, 40)  # the same greys, by the fixture
    first = rows.batch(here).x
    assert set(first.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(rows.batch(here).x, first)
    assert not torch.equal(rows.batch(there).x, first)
    drawn = torch.stack([rows.batch(here + 20 * k).x for k in range(400)])
    greys = torch.from_numpy(found.train[:20]).float() / 255
    assert (drawn.add(1).div(2).mean(0) - greys).abs().max() < 0.13
    assert torch.equal(torch.from_numpy(found.test), torch.from_numpy(dynamic_mnist(data).test))


def test_static_rows_are_the_bits_of_the_file(data: Path, tmp_path: Path) -> None:
    from _likelihood_data import static_mnist

    found = static_mnist(data)
    with np.load(data / "binarized-mnist" / "binarized_mnist_larochelle.npz") as file:
        bits = np.unpackbits(file["train"], axis=1)[:, :784]
    x = found.rows(tmp_path, torch.device("cpu")).batch(np.array([4, 2])).x
    assert torch.equal(x.reshape(2, 784), torch.from_numpy(bits[[4, 2]]).float() * 2 - 1)


def test_bounds_of_rows_do_not_depend_on_how_many_are_asked_for(data: Path) -> None:
    from _likelihood_data import in_chunks, static_mnist

    found = static_mnist(data)

    def bound(batch: Any, generator: torch.Generator) -> torch.Tensor:
        return batch.x.flatten(1).sum(1) + torch.rand(len(batch.y), generator=generator)

    all_ = in_chunks(found, found.test, 5, torch.device("cpu"), bound)
    assert np.array_equal(in_chunks(found, found.test[:10], 5, torch.device("cpu"), bound), all_[:10])
    assert found.some_test_rows(7).shape == (7, 1, 28, 28)


def test_speed_is_counted_from_the_first_warm_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import _training_cases as cases

    clock = iter([100.0, 102.0, 104.0])
    monkeypatch.setattr(cases.time, "monotonic", lambda: next(clock))
    window = cases.Window(8, torch.device("cpu"))
    for step in (10, 20, 60):
        window.note(step)
    assert window.speed().images_per_second == 40 * 8 / 2
    with pytest.raises(RuntimeError, match="too few steps"):
        cases.Window(8, torch.device("cpu")).speed()


@pytest.mark.parametrize("kind", ["gan", "vae_gan", "alpha_gan"])
def test_the_plain_loop_moves_every_net_that_our_trainer_moves(kind: str) -> None:
    from _plain_training import LOOPS

    model = MODELS[kind].model_validate({"width": 8}).build(SPECS["grid"], generator())
    batch = some_rows(SPECS["grid"], torch.arange(6) % 3)
    before = [[weight.detach().clone() for weight in objective.parameters] for objective in model.objectives()]
    LOOPS[kind](model, generator())(batch.x, batch.y)
    for objective, weights in zip(model.objectives(), before, strict=True):
        moved = [not torch.equal(new, old) for new, old in zip(objective.parameters, weights, strict=True)]
        assert sum(moved) >= len(moved) - 1, objective.name  # a relative loss says nothing of the bias of a score


def test_the_critic_of_the_plain_loop_minimises_what_ours_does() -> None:
    from _plain_training import critic_loss

    model: Any = MODELS["vae_gan"].model_validate({"width": 8}).build(SPECS["grid"], generator())
    contest = model.contest
    real, *made = (some_rows(SPECS["grid"], torch.arange(6) % 3, seed).x for seed in (1, 2, 3))
    y = torch.arange(6) % 3
    terms, _ = contest.critic_terms(real, made, y, generator(5))
    torch.testing.assert_close(critic_loss(contest, real, made, y, generator(5)), terms["loss"])


def test_a_net_that_knows_nothing_needs_eight_bits_for_a_grey_value(tmp_path: Path) -> None:
    from _training_cases import CASES, HELD_OUT, Request, bits_per_dim, build

    model: Any = build(CASES["pixelcnn pythae"])
    with torch.no_grad():
        for weights in model.net.last.parameters():
            weights.zero_()
    rows = np.random.default_rng(0).integers(256, size=(2, 1, 28, 28), dtype=np.uint8)
    np.save(tmp_path / HELD_OUT, rows)
    assert bits_per_dim(model.net, Request("pixelcnn pythae", str(tmp_path), 40, 2, 1, "cpu")) == pytest.approx(8)


@pytest.mark.slow
def test_our_trainer_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    from _training_cases import Request
    from models_vs_peers import prepare, train

    title = prepare(None, 200, tmp_path)
    assert title == "made images (enlarged digits of scikit-learn), 200 rows"
    request = Request("vae mlp", str(tmp_path), 40, 16, 1, "cpu")
    speed = train(Path(sys.executable), "_our_training.py", request)
    assert speed["images_per_second"] > 0
    assert speed["peak_anonymous_mib"] > 100
    assert speed["peak_cuda_mib"] is None


@pytest.mark.slow
def test_peers_that_cannot_be_installed_are_reported_as_absent(tmp_path: Path) -> None:
    (tmp_path / "in the way").touch()
    asked = ("--environments", str(tmp_path / "in the way"), "--rows", "50", "--cases", "vae mlp")
    (row,) = run(str(BENCHMARKS / "models_vs_peers.py"), *asked)["rows"]
    assert row["ratio"] is None
    assert "in the way" in row["absent"]


def test_an_interval_of_paired_differences_is_students() -> None:
    from scarce_images import interval

    assert interval([0.01, 0.02, 0.03]) == {"mean": 0.02, "low": -0.00484, "high": 0.04484}  # t(0.975, 2) = 4.3027
    assert interval([0.01]) == {"mean": 0.01, "low": None, "high": None}


def test_the_best_arms_are_chosen_on_validation_rows_and_compared_on_test_rows() -> None:
    from scarce_images import CLASSICAL, SYNTHETIC, summarised

    arms = (*CLASSICAL, *SYNTHETIC)
    validation = dict.fromkeys(arms, 0.1) | {"shifts": 0.7, "affine + gain": 0.8, "shifts + gain + synthetic": 0.8}
    test = dict.fromkeys(arms, 0.9) | {"affine + gain": 0.5, "shifts + gain + synthetic": 0.6}
    measured = {
        arm: {
            part: dict.fromkeys(("balanced_accuracy", "scarce_recall"), figures[arm])
            for part, figures in (("validation", validation), ("test", test))
        }
        for arm in arms
    }
    cell = {"data": "d", "kind": "k", "arms": measured, "cpu_seconds": {"train": 1.0}, "settings": {}}
    row = summarised([cell, cell, {"data": "d", "kind": "k", "absent": "no memory"}])
    assert row["seeds"] == 2
    assert row["best"]["without"] == "affine + gain"
    assert row["best"]["with"] == "shifts + gain + synthetic"
    assert row["best"]["balanced_accuracy"] == {"mean": 0.1, "low": 0.1, "high": 0.1}
    assert row["differences"]["affine + gain + synthetic"]["scarce_recall"]["mean"] == 0.4
    assert row["ratio"] == pytest.approx(1.2)


def test_shifts_move_whole_pixels_and_classes_have_the_same_mass() -> None:
    from scarce_images import CLASSES, CLASSICAL, Pool

    from models._contract import Batch

    generator = torch.Generator().manual_seed(0)
    y = torch.arange(CLASSES).repeat_interleave(torch.arange(1, CLASSES + 1))
    x = torch.zeros(len(y), 1, 28, 28) - 1
    x[:, :, 14, 14] = 2 * (y[:, None] + 1) / CLASSES - 1
    drawn = Pool(Batch(x, y)).draw(200, generator)
    assert torch.allclose(drawn.sum((1, 2, 3)), (torch.arange(CLASSES).repeat_interleave(200) + 1) / CLASSES)
    shifted = CLASSICAL["shifts"](drawn, generator)
    assert torch.allclose(shifted.amax((1, 2, 3)), drawn.amax((1, 2, 3)), atol=1e-4)
    places = shifted.flatten(1).argmax(1)
    found = torch.stack([places // 28, places % 28]) - 14
    assert torch.equal(found.unique(), torch.arange(-2, 3))


def test_cost_grows_beside_the_next_smaller_case_of_the_same_code() -> None:
    from evidence_cost import summarised

    def cell(kind: str, rows: int, gates: float, code: str = "new") -> dict[str, Any]:
        seconds = {"training": 10.0, "encoders": gates / 4, "audit": gates * 3 / 4, "arms": 1.0, "parts": 4.0}
        known = {"kind": kind, "data": f"{kind} {rows}", "code": code, "peak_gib": 1.5, "refused_by": []}
        return known | {"training_rows": rows, "cpu_seconds": seconds}

    first, second, third = cell("table", 1_000, 4.0), cell("table", 2_000, 5.0), cell("table", 8_000, 80.0)
    others = [cell("table", 4_000, 5.0, "old"), cell("neighbours", 4_000, 5.0), {**second, "absent": "no memory"}]
    rows = [summarised(one, [third, *others, second, first]) for one in (first, second, third)]
    assert [row["ratio"] for row in rows] == [None, 0.625, 4.0]
    assert "growth" not in rows[0]
    assert rows[2]["growth"]["gates"] == 2
    assert rows[2]["growth"]["training"] == 0
    example = summarised(cell("example", 500, 5.0), others)
    assert (example["ratio"], example["worth_in_trainings"]) == (0.5, 0.5)
    neighbours = summarised(cell("neighbours", 8_000, 80.0), others)
    assert neighbours["ratio"] == 0.75
    assert neighbours["cpu_seconds"]["measures"] == 60
    assert neighbours["growth"]["measures"] == 4


def test_digits_are_split_by_class_into_rows_to_learn_from_and_others_to_judge() -> None:
    from digits_likelihood import SPEC, as_tensor, split

    rows = split(0)
    assert (rows.train.shape, tuple(rows.test.shape)) == ((1000, 1, 8, 8), (797, 1, 8, 8))
    assert np.abs(np.bincount(rows.train_y) / 1000 - np.bincount(rows.test_y.numpy()) / 797).max() < 0.002
    levels = (rows.test + 1) * 8
    assert torch.equal(levels, levels.round())
    assert (int(levels.min()), int(levels.max())) == (0, (SPEC.spans[0].levels or 0) - 1)
    assert not torch.equal(rows.test, split(1).test)
    together = torch.cat([as_tensor(torch.from_numpy(rows.train)), rows.test]).flatten(1)
    assert len(together.unique(dim=0)) == len(split(1).test) + 1000  # no row is on both sides


def test_drawing_is_measured_beside_whole_passes_of_the_same_weights() -> None:
    from sampling import Case, measured

    row = measured(Case("pixelcnn", (3, 4, 5), 4, 2, 3), torch.device("cpu"), torch.get_num_threads(), 1)
    assert row["case"] == "pixelcnn 4x5x3, batch 2"
    assert row["blocks"] == 3
    assert row["extrapolated"] == "the plain way was timed at 4 of 60 values"
    assert row["ratio"] > 0
    assert row["images_per_second"] > 0


def test_drawing_is_measured_anew_of_the_kinds_that_are_asked_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sampling

    tiny = [sampling.Case(kind, (1, 2, 2), 3, 1, 2) for kind in ("pixelcnn", "gated_pixelcnn")]
    monkeypatch.setattr(sampling, "CASES", tiny)
    monkeypatch.setattr(sampling, "RESULTS", tmp_path)
    written = tmp_path / "sampling.json"
    kept = [{"case": case.title, "device": device, "ratio": -1} for case in tiny for device in ("cpu", "a GPU")]
    written.write_text(json.dumps({"rows": kept}))
    monkeypatch.setattr(sys, "argv", ["sampling.py", "--json", "--kinds", "gated_pixelcnn", "--repeats", "1"])
    assert sampling.main() == 0
    rows = json.loads(written.read_text())["rows"]
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    assert [(row["case"], row["device"]) for row in rows] == [(row["case"], row["device"]) for row in kept]
    assert [row["ratio"] > 0 for row in rows] == [False, False, True, False]
