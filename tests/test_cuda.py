"""A CUDA device: every model trains, goes on and draws there as on a CPU. All is skipped where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _model_cases import CASES, DRAWN_CASES, MODELS, SPECS, draw, exemplars_for, generator, settings_offering, some_rows
from _raster_proofs import drawn_by_whole_passes, levels_drawn, levels_spec, stirred
from _toy_training import VECTOR, Line, squares
from torch import Tensor

import augment.training._loop as trainer
from augment._devices import Precision, choose_device, choose_precision
from augment.progress import Progress, silent
from augment.training._batches import Rows, Sampler
from augment.training._journal import Journal
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric
from models._contract import Batch, GenerativeModel, ModelConfig, TensorSpec
from models._grey_levels import uniform_noise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

STEPS = 12
UNREPEATED = {"warp_vae"}  # CUDA sums the gradient of grid_sample in the order in which threads arrive
every_model = pytest.mark.parametrize(("kind", "form"), CASES)


class StoppedError(Exception):
    """Ends a training from inside its listener."""


def stopping_at(step: int) -> Progress:
    def listen(_stage: str, done: int, _total: int, _unit: str, _values: Mapping[str, float] | None = None) -> None:
        if done == step:
            raise StoppedError

    return listen


@pytest.fixture(autouse=True)
def _tell_the_listener_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "SHOW_SECONDS", 0.0)


def rows_of(spec: TensorSpec, folder: Path) -> Rows:
    made = some_rows(spec, torch.arange(60) % spec.num_classes)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", made.x.numpy())
    np.save(folder / "y.npy", made.y.numpy())
    return Rows(folder, Tensor.float, torch.device("cuda", 0))


def training_of(
    model: GenerativeModel,
    spec: TensorSpec,
    folder: Path,
    progress: Progress = silent,
    *,
    identity: dict[str, Any],
    precision: Precision = "32-true",
    compiled: bool = False,
    every_step: bool = False,
) -> TrainingLoop:
    rows = rows_of(spec, folder / "rows")
    settings = LoopSettings(
        steps=STEPS, ema_decay=0.9, schedule="cosine", warmup_steps=2, compiled=compiled, seed=1, identity=identity,
        checkpoint_seconds=0.0 if every_step else 1e9,
    )  # fmt: skip
    return TrainingLoop(
        model,
        fabric=open_fabric(torch.device("cuda", 0), precision),
        rows=rows,
        sampler=Sampler(rows.labels, 16, 1, "rows"),
        settings=settings,
        folder=folder,
        journal=Journal(folder),
        progress=progress,
    )


def loop_of(config: ModelConfig, spec: TensorSpec, *about: Any, **how: Any) -> TrainingLoop:
    """A training of the model that ``config`` builds."""
    return training_of(config.build(spec, generator()), spec, *about, identity=config.model_dump(mode="json"), **how)


def weights(loop: TrainingLoop) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in loop.average.tensors.items()}


def different(first: TrainingLoop, second: TrainingLoop) -> list[str]:
    others = weights(second)
    return [name for name, value in weights(first).items() if not torch.equal(value, others[name])]


def resumed(config: ModelConfig, spec: TensorSpec, folder: Path, **how: Any) -> TrainingLoop:
    """A training that was ended at half of its steps, and went on."""
    with pytest.raises(StoppedError):
        loop_of(config, spec, folder, stopping_at(STEPS // 2), every_step=True, **how).run()
    loop = loop_of(config, spec, folder, **how)
    loop.run()
    return loop


@every_model
def test_a_training_that_was_ended_goes_on_to_the_same_bytes(kind: str, form: str, tmp_path: Path) -> None:
    if kind in UNREPEATED:
        pytest.skip("an operation of it has no kernel on a GPU that adds up in one order")
    unbroken = loop_of(MODELS[kind](), SPECS[form], tmp_path / "unbroken")
    unbroken.run()
    assert different(resumed(MODELS[kind](), SPECS[form], tmp_path / "broken"), unbroken) == []


@every_model
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_training_of_less_precision_learns_finite_weights_and_goes_on(
    kind: str, form: str, precision: Precision, tmp_path: Path
) -> None:
    for tensor in weights(resumed(MODELS[kind](), SPECS[form], tmp_path, precision=precision)).values():
        assert torch.isfinite(tensor.float()).all()


@every_model
def test_a_compiled_training_takes_the_steps_of_one_that_is_not(kind: str, form: str, tmp_path: Path) -> None:
    loops = [loop_of(MODELS[kind](), SPECS[form], tmp_path / str(c), compiled=c) for c in (False, True)]
    for loop in loops:
        loop.run()
    plain, compiled = (weights(loop) for loop in loops)
    for name, tensor in plain.items():
        assert torch.allclose(tensor.float(), compiled[name].float(), atol=0.02, rtol=0.02), name


@every_model
def test_a_model_starts_on_a_gpu_with_the_weights_that_it_has_on_a_cpu(kind: str, form: str, tmp_path: Path) -> None:
    loop = loop_of(MODELS[kind](), SPECS[form], tmp_path)
    expected = MODELS[kind]().build(SPECS[form], generator()).state_dict()
    assert [n for n, value in weights(loop).items() if not torch.equal(value, expected[n])] == []


def on_gpu(model: GenerativeModel, spec: TensorSpec, operator: str, labels: Tensor) -> Tensor:
    """Rows that the model draws on the GPU, with noise of seed 3."""
    real = some_rows(spec, torch.arange(30) % 3)
    exemplars = [rows.cuda()[: len(labels)] for rows in exemplars_for(real, torch.arange(24) % 3, operator)]
    noise = torch.Generator("cuda").manual_seed(3)
    return draw(model, labels.cuda(), noise, operator, exemplars=exemplars).cpu()


@pytest.mark.parametrize(("kind", "form", "operator"), DRAWN_CASES)
def test_rows_drawn_on_a_gpu_follow_from_the_seed_and_leave_the_cpu_as_it_was(
    kind: str, form: str, operator: str
) -> None:
    spec = SPECS[form]
    model = settings_offering(kind, operator).build(spec, generator()).eval().cuda()
    labels, before = torch.arange(24) % 3, torch.get_rng_state()
    first, second = (on_gpu(model, spec, operator, labels) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()
    assert torch.equal(before, torch.get_rng_state())


EXACT = [MODELS[kind]() for kind, form in CASES if form == "grid" and MODELS[kind].likelihood == "exact"]
COARSE = [MODELS["gated_pixelcnn"].model_validate({"scales": scales}) for scales in (2, 3)]  # graphs of 2 and 4 rows


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(
    "config", [*EXACT, *COARSE], ids=lambda config: f"{config.kind} {getattr(config, 'scales', 1)}"
)
def test_rows_that_played_graphs_draw_are_those_of_whole_passes(config: ModelConfig, colours: int) -> None:
    spec = levels_spec((colours, 12, 5), 4)
    model: Any = stirred(config.build(spec, generator())).float().to("cuda")
    labels = torch.arange(4, device="cuda") % 3
    on_gpu = torch.Generator(device="cuda")
    found = levels_drawn(model, model.sample(labels, on_gpu.manual_seed(5), temperature=0.8))
    noise = uniform_noise(model.grid, 4, on_gpu.manual_seed(5), model.net.where)
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise, 0.8))


def test_weights_learned_on_a_gpu_draw_on_a_cpu(tmp_path: Path) -> None:
    config, spec = MODELS["vae"](), SPECS["grid"]
    loop = loop_of(config, spec, tmp_path)
    loop.run()
    model = config.build(spec, generator(5)).eval()
    model.load_state_dict(weights(loop))
    assert torch.isfinite(draw(model, torch.arange(6) % 3, generator())).all()


def test_batches_are_the_same_from_the_gpu_and_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = rows_of(SPECS["grid"], tmp_path)
    monkeypatch.setattr("augment.training._batches.RESIDENT_BYTES", 0)
    read = rows_of(SPECS["grid"], tmp_path)
    some = np.array([3, 1, 59])
    assert all(torch.equal(a, b) for a, b in zip(kept.batch(some), read.batch(some), strict=True))
    assert kept.batch(some).x.is_cuda


def test_a_gpu_whose_memory_is_too_short_takes_the_batch_in_parts(tmp_path: Path) -> None:
    """Memory really runs out; what is learned is that of the whole batch but for rounding."""

    def hungry(model: Line, batch: Batch) -> dict[str, Tensor]:
        torch.empty(len(batch.y) * (torch.cuda.mem_get_info()[1] // 8), dtype=torch.uint8, device="cuda")
        return squares(model, batch)

    whole, parts = (
        training_of(Line(loss), VECTOR, tmp_path / loss.__name__, identity={}) for loss in (squares, hungry)
    )
    for loop in (whole, parts):
        loop.run()
    assert whole.micro_batch == 16
    assert parts.micro_batch < 8
    assert torch.allclose(weights(parts)["weight"], weights(whole)["weight"], atol=1e-6)


def test_a_gpu_is_chosen_by_itself_and_computes_in_bfloat16_where_it_can() -> None:
    device = choose_device("auto")
    assert device.type == "cuda"
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert choose_precision("auto", device) == ("bf16-mixed" if native else "32-true")
