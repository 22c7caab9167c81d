"""The trainer: every model's objectives, stopped anywhere and going on as if it had not been."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from _toy_training import VECTOR, Duel, DuelConfig, Line, make_loop, save_rows, squares
from torch import Tensor

from augment._devices import choose_device, choose_precision
from augment.config import MODELS, TrainSection
from augment.errors import InputError, TrainingError
from augment.training import _batches as batches
from augment.training import _loop as trainer
from augment.training import build_model, check_model, train_key
from augment.training._batches import Rows, Sampler, class_quotas
from augment.training._choices import training_choices
from augment.training._journal import Journal
from augment.training._loop import TrainingLoop
from augment.training._optimisation import learning_rate_factor
from models._contract import Batch, Objective, Span, TensorSpec

TESTS = Path(__file__).parent


class StoppedError(Exception):
    """Raised by a listener in the place of a crash."""


def everything(loop: TrainingLoop) -> dict[str, Tensor]:
    """All tensors of a run."""
    found = {f"average/{name}": tensor for name, tensor in loop.average.tensors.items()}
    found |= {f"weights/{name}": tensor for name, tensor in loop._model.state_dict().items()}
    for step in loop._steps:
        found |= step.state()[0]
    return found


def assert_equal_bytes(one: TrainingLoop, other: TrainingLoop) -> None:
    left, right = everything(one), everything(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def stopping_at(*steps: int) -> Callable[..., None]:
    left = set(steps)

    def listen(stage: str, done: int, total: int, unit: str, values: object = None) -> None:
        if done in left:
            left.remove(done)
            raise StoppedError

    return listen


@pytest.fixture(autouse=True)
def _read_the_losses_by_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOOK_SECONDS", 1e9)  # so that a slow machine records the same lines


@pytest.fixture
def unbroken(tmp_path: Path) -> TrainingLoop:
    loop = make_loop(tmp_path / "unbroken", checkpoint_seconds=1e9)
    loop.run()
    return loop


def metric_steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_was_stopped_five_times_ends_with_the_same_bytes(
    tmp_path: Path, unbroken: TrainingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SHOW_SECONDS", 0.0)
    listen = stopping_at(1, 2, 7, 15, 29)
    stops = 0
    while True:
        loop = make_loop(tmp_path / "broken", progress=listen)
        try:
            loop.run()
            break
        except StoppedError:
            stops += 1
    assert stops == 5
    assert_equal_bytes(loop, unbroken)
    steps = metric_steps(tmp_path / "broken")
    assert steps == sorted(set(steps))
    assert steps[-1] == 30


def test_a_run_resumed_between_two_checkpoints_takes_the_steps_again(
    tmp_path: Path, unbroken: TrainingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SHOW_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "LOOK_EVERY", 1)
    first = make_loop(tmp_path, progress=stopping_at(10))
    with pytest.raises(StoppedError):
        first.run()
    later = make_loop(tmp_path, progress=stopping_at(20), checkpoint_seconds=1e9)
    with pytest.raises(StoppedError):
        later.run()
    assert metric_steps(tmp_path) == list(range(1, 21))
    last = make_loop(tmp_path)
    last.run()
    assert "goes on from the checkpoint of step 9" in (tmp_path / "train.log").read_text()
    assert metric_steps(tmp_path) == list(range(1, 31))
    assert_equal_bytes(last, unbroken)


def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_is_used(
    tmp_path: Path, unbroken: TrainingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SHOW_SECONDS", 0.0)
    with pytest.raises(StoppedError):
        make_loop(tmp_path, progress=stopping_at(12)).run()
    newest = tmp_path / "checkpoints/step-000011/ema.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    loop = make_loop(tmp_path)
    loop.run()
    log = (tmp_path / "train.log").read_text()
    assert "skipped the checkpoint step-000011: ema.safetensors is not what was written" in log
    assert "goes on from the checkpoint of step 10" in log
    assert_equal_bytes(loop, unbroken)


def start(folder: Path, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(TESTS / "_toy_training.py"), str(folder), str(steps)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_loses_little_and_changes_nothing(tmp_path: Path, number: signal.Signals) -> None:
    steps = 80
    with start(tmp_path, steps) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "20":
                process.send_signal(number)
                break
        process.stdout.read()
    assert process.returncode != 0
    saved = sorted((tmp_path / "checkpoints").glob("step-*"))
    assert saved
    assert "finished" not in (tmp_path / "train.log").read_text()
    if number != signal.SIGKILL:
        assert f"signal {number.value} came: saving" in (tmp_path / "train.log").read_text()
    resumed = make_loop(tmp_path, steps=steps, checkpoint_seconds=1e9)
    resumed.run()
    whole = make_loop(tmp_path / "whole", steps=steps, checkpoint_seconds=1e9)
    whole.run()
    assert_equal_bytes(resumed, whole)


def test_a_signal_is_handed_on_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "SHOW_SECONDS", 0.0)

    def mine(number: int, frame: FrameType | None) -> None:
        raise StoppedError

    def listen(stage: str, done: int, total: int, unit: str, values: object = None) -> None:
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(StoppedError):
            make_loop(tmp_path, progress=listen, checkpoint_seconds=1e9).run()
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000004"]


def test_no_gradient_leaks_into_the_parameters_of_another_objective(tmp_path: Path) -> None:
    model = DuelConfig().build(VECTOR, torch.Generator().manual_seed(1))
    loop = make_loop(tmp_path, model)
    left, right = loop._steps
    batch = loop._rows.batch(np.arange(8))
    before = model.right.weight.clone()
    left.take(batch, 8, 1, 1.0)
    assert model.right.weight.grad is None
    assert torch.equal(model.right.weight, before)
    weights = [parameter.clone() for parameter in model.left.parameters()]
    gradients = [parameter.grad.clone() for parameter in model.left.parameters() if parameter.grad is not None]
    right.take(batch, 8, 1, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.left.parameters(), strict=True))
    assert all(
        torch.equal(a, p.grad) for a, p in zip(gradients, model.left.parameters(), strict=True) if p.grad is not None
    )
    assert not torch.equal(model.right.weight, before)


def test_an_objective_takes_its_step_every_so_often(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, steps=5)
    loop.run()
    left, right = loop._steps
    assert left.state()[0]["left/0/step"] == 5
    assert right.state()[0]["right/0/step"] == 3


def test_training_changes_no_random_state_and_does_not_depend_on_it(tmp_path: Path, unbroken: TrainingLoop) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    loop = make_loop(tmp_path, checkpoint_seconds=1e9)
    torch.manual_seed(5)
    loop.run()
    assert torch.equal(torch.rand(3), expected)
    assert_equal_bytes(loop, unbroken)


@pytest.mark.parametrize(("value", "word"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_loss_that_is_not_finite_stops_with_its_name_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, value: float, word: str
) -> None:
    calls = 0

    def loss(model: Line, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        terms = squares(model, batch)
        return {**terms, "penalty": terms["loss"].detach() * (value if calls == 13 else 1)}

    with pytest.raises(
        TrainingError, match=f"penalty of the objective 'line' became {word} at step 13 .step 12 is kept"
    ):
        make_loop(tmp_path, Line(loss)).run()
    assert "became" in (tmp_path / "train.log").read_text()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000011", "step-000012"]


def test_a_gradient_that_is_not_finite_is_found_although_the_loss_is(tmp_path: Path) -> None:
    def loss(model: Line, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (model.weight - model.weight.detach()).abs().sqrt().sum()}  # the root's slope at 0 is infinite

    with pytest.raises(TrainingError, match="gradient norm of the objective 'line' became"):
        make_loop(tmp_path, Line(loss)).run()


def memory_for(rows: int) -> Callable[[Line, Batch], dict[str, Tensor]]:
    def loss(model: Line, batch: Batch) -> dict[str, Tensor]:
        if len(batch.y) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory (as it were)")
        return squares(model, batch)

    return loss


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_too_little_memory_halves_the_batch_and_keeps_its_effect(tmp_path: Path, rows: int) -> None:
    whole = make_loop(tmp_path / "a", Line(memory_for(99)), steps=10, batch_size=11, checkpoint_seconds=1e9)
    whole.run()
    parts = make_loop(tmp_path / "b", Line(memory_for(rows)), steps=10, batch_size=11, checkpoint_seconds=1e9)
    parts.run()
    assert whole.micro_batch == 11
    assert parts.micro_batch <= rows
    torch.testing.assert_close(parts._model.state_dict(), whole._model.state_dict())
    assert "memory ran out at step 1" in (tmp_path / "b/train.log").read_text()
    one, other = (json.loads((tmp_path / n / "metrics.jsonl").read_text().splitlines()[0]) for n in "ab")
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    again = make_loop(tmp_path / "b", Line(memory_for(rows)), steps=10, batch_size=11, checkpoint_seconds=1e9)
    again.run()
    assert again.micro_batch == parts.micro_batch  # remembered, not found out again


def test_a_loss_over_the_whole_batch_is_not_split_when_memory_is_short(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, Line(memory_for(4), batch_statistics=True))
    with pytest.raises(TrainingError, match=r"ran out in the objective 'line' with 8 rows.*depends on the whole"):
        loop.run()


def test_no_memory_for_a_single_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="with a single row"):
        make_loop(tmp_path, Line(memory_for(0))).run()


def test_another_configuration_or_other_data_are_refused(tmp_path: Path) -> None:
    make_loop(tmp_path, steps=3).run()
    with pytest.raises(InputError, match='data: "abc" -> "xyz"'):
        make_loop(tmp_path, steps=3, identity={"model": {"width": 8}, "data": "xyz"}).run()


def test_the_average_follows_the_weights_and_copies_counters(tmp_path: Path) -> None:
    model = DuelConfig().build(VECTOR, torch.Generator().manual_seed(1))
    first = model.right.weight.detach().clone()
    loop = make_loop(tmp_path, model, steps=1)
    loop.run()
    # decay at the first step: (1 + 0) / (10 + 0)
    expected = 0.1 * first + 0.9 * model.right.weight
    torch.testing.assert_close(loop.average.tensors["right.weight"], expected)
    assert loop.average.tensors["seen"] == 2 - 1


def test_the_learning_rate_rises_and_falls_as_said() -> None:
    factors = [learning_rate_factor(step, 110, "linear", 10) for step in range(110)]
    assert factors[0] == 0.1
    assert factors[9] == 1.0
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert factors[109] == pytest.approx(0.01)
    assert learning_rate_factor(60, 110, "cosine", 10) == pytest.approx(0.5)
    assert learning_rate_factor(109, 110, "constant", 10) == 1.0
    assert learning_rate_factor(3, 5, "cosine", 0) < learning_rate_factor(2, 5, "cosine", 0)


LABELS = np.array([0] * 100 + [1] * 4 + [-1] * 20)


def test_an_epoch_gives_each_class_its_share_and_each_row_of_a_class_the_same() -> None:
    for sampling, expected in {"rows": (100, 4, 20), "root": (87, 17, 20), "equal": (52, 52, 20)}.items():
        sampler = Sampler(LABELS, 124, 3, sampling)  # type: ignore[arg-type]
        drawn = np.bincount(sampler.indices(5), minlength=124)
        assert (drawn[:100].sum(), drawn[100:104].sum(), drawn[104:].sum()) == expected
        assert np.ptp(drawn[:100]) <= 1
        assert np.ptp(drawn[100:104]) <= 1


def test_batches_are_a_function_of_the_step_and_pass_over_the_epochs_without_a_gap() -> None:
    forward = Sampler(LABELS, 50, 3, "rows")
    steps = [forward.indices(step) for step in range(6)]
    backward = Sampler(LABELS, 50, 3, "rows")
    for step in (5, 0, 3):
        assert np.array_equal(backward.indices(step), steps[step])
    joined = np.concatenate(steps)
    assert np.array_equal(np.sort(joined[:124]), np.arange(124))
    assert not np.array_equal(joined[:124], joined[124:248])
    assert np.bincount(Sampler(LABELS, 300, 3, "rows").indices(0), minlength=124).min() == 2


def test_shares_add_up_to_the_rows() -> None:
    counts = np.array([127, 10, 126, 10, 3, 1])
    for exponent in (0.0, 0.5, 1.0):
        assert class_quotas(np.arange(6), counts, exponent).sum() == counts.sum()


def test_rows_gathered_from_the_file_are_those_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_rows(tmp_path)
    mapped = Rows(folder, Tensor.float, torch.device("cpu"))
    monkeypatch.setattr(batches, "is_resident", lambda *_: True)
    resident = Rows(folder, Tensor.float, torch.device("cpu"))
    assert resident._resident is not None
    assert mapped._resident is None
    indices = np.array([3, 0, 20, 3])
    assert all(torch.equal(a, b) for a, b in zip(resident.batch(indices), mapped.batch(indices), strict=True))


def test_metrics_that_were_cut_short_are_removed_on_resume(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in (10, 20, 30):
        journal.record(step, 1.0, {"loss": 2.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    journal.rewind(20)
    assert metric_steps(tmp_path) == [10, 20]


def test_a_device_that_is_not_there_is_refused() -> None:
    absent = f"cuda:{torch.cuda.device_count() + 7}"
    with pytest.raises(InputError, match=f"the device '{absent}' is not there"):
        choose_device(absent)
    with pytest.raises(InputError, match="16-mixed needs a CUDA device"):
        choose_precision("16-mixed", torch.device("cpu"))
    assert choose_precision("auto", torch.device("cpu")) == "32-true"


def test_a_model_larger_than_memory_is_counted_without_being_made() -> None:
    vast = MODELS["iaf_vae"](latent=4096, hidden=8192, layers=8, steps=64)
    assert check_model(vast, TensorSpec((13,), (Span("continuous", 13),), 3)) > 10**10


def test_a_model_is_refused_for_data_that_it_does_not_take() -> None:
    grid = TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 2)
    with pytest.raises(InputError, match=r"'duel' learns tables, and these data are images of shape \(1, 8, 8"):
        check_model(DuelConfig(), grid)
    assert check_model(DuelConfig(), VECTOR) == 2 * 4 * 9 + 4 + 8 * 4 + 4 + 4 * 4 + 4


def test_settings_that_a_model_cannot_use_are_an_input_error() -> None:
    class Narrow(DuelConfig):
        def build(self, _spec: TensorSpec, _generator: torch.Generator) -> Duel:
            raise ValueError("width must be even")

    with pytest.raises(InputError, match=r"model.duel cannot be built .*width must be even\."):
        build_model(Narrow(), VECTOR, 0)


def test_what_is_left_out_is_the_models_own_default() -> None:
    choices = training_choices(DuelConfig(), TrainSection(batch_size=5))
    assert (choices.steps, choices.batch_size, choices.ema_decay, choices.warmup_steps) == (30, 5, 0.9, 5)
    assert training_choices(DuelConfig(), TrainSection(steps=8)).warmup_steps == 2


def test_every_objective_is_compiled_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled: list[object] = []

    def remember(loss: object) -> object:
        compiled.append(loss)
        return loss

    monkeypatch.setattr(torch, "compile", remember)
    model = DuelConfig().build(VECTOR, torch.Generator().manual_seed(1))
    loop = make_loop(tmp_path, model)
    for objective in model.objectives():
        assert isinstance(objective, Objective)
        trainer.ObjectiveStep(objective, loop._fabric, model, compiled=True)
    assert len(compiled) == 2


def test_the_key_follows_the_settings_that_change_the_weights() -> None:
    from augment.store import ArtifactRef

    real = ArtifactRef(stage="ingest", key="k", sha256="0" * 64)

    def key(seed: int = 0, **settings: object) -> str:
        return train_key(real, DuelConfig(), TrainSection.model_validate(settings), seed)

    assert key() == key(steps=30) == key(device="cuda:1") == key(checkpoint_seconds=3)
    assert len({key(), key(steps=31), key(sampling="root"), key(precision="bf16-mixed"), key(1)}) == 5
