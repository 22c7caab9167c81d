"""Every model that draws in raster order: what a value hears, that probabilities sum to one, caches and completion."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _model_cases import MODELS, generator, some_rows
from _raster_proofs import (
    check_class_moves,
    check_drawing_has_the_likelihood,
    check_masks,
    check_no_leak,
    check_rows_can_be_played_again,
    check_sums_to_one,
    check_takes_no_rows,
    deaf,
    drawn_by_whole_passes,
    layers_with_class,
    levels_drawn,
    levels_spec,
    masks_of_own_places,
    stirred,
)
from pydantic import ValidationError

from models._contract import Batch, ModelConfig, Span, TensorSpec
from models._grey_levels import uniform_noise
from models._raster_model import ORDER, RasterModel, where_in

SHAPES = {"grey": ((1, 5, 6), 5), "colour": ((3, 3, 4), 4)}
SMALL: dict[str, Any] = {"width": 6, "head_width": 7, "first_kernel": 5, "depth": 2, "embedding": 4}
SETTINGS: dict[str, dict[str, Any]] = {
    "pixelcnn": {"kind": "pixelcnn"},
    "diagonal_bilstm": {"kind": "diagonal_bilstm"},
    "diagonal_bilstm as published": {"kind": "diagonal_bilstm", "paper_exact": True, "skip": False},
    "row_lstm": {"kind": "row_lstm"},
    "row_lstm of 3 places": {"kind": "row_lstm", "kernel": 3, "skip": False},
    "row_lstm as published": {"kind": "row_lstm", "paper_exact": True, "skip": False},
}
every_model = pytest.mark.parametrize("name", SETTINGS)
BY_ITSELF = {"gated_pixelcnn"}  # held to the same in a file of its own, by each head and on all scales

STIRRED = 0.3  # less leaves what is heard too weak to change a level


def config_of(name: str, **settings: Any) -> ModelConfig:
    asked = {**SMALL, **SETTINGS.get(name, {"kind": name}), **settings}
    return MODELS[asked["kind"]].model_validate(asked)


def build(name: str, shape: tuple[int, int, int], levels: int, classes: int = 3) -> Any:
    return config_of(name).build(levels_spec(shape, levels, classes), generator())


def test_every_kind_that_draws_in_raster_order_is_held_to_this() -> None:
    spec = levels_spec((1, 4, 4), 3)
    grids = [config() for config in MODELS.values() if config.likelihood == "exact" and "grid" in config.accepts]
    raster = {config.kind for config in grids if isinstance(config.build(spec, generator()), RasterModel)}
    assert raster == BY_ITSELF | {settings["kind"] for settings in SETTINGS.values()}
    assert {config.drawing_order() for config in grids} == {ORDER}


@every_model
@pytest.mark.parametrize("channels", [1, 3])
def test_no_value_hears_itself_or_a_later_one(name: str, channels: int) -> None:
    check_no_leak(build(name, (channels, 5, 6), 3))


@pytest.mark.parametrize("name", [*SETTINGS, "gated_pixelcnn"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_alone_misses_the_value_of_its_own_place(name: str, channels: int) -> None:
    check_masks(build(name, (channels, 5, 6), 3))


@pytest.mark.parametrize("name", ["pixelcnn", "gated_pixelcnn"])
def test_mask_a_instead_of_b_is_found_in_every_layer_behind_the_first(name: str) -> None:
    behind = len(masks_of_own_places(build(name, (1, 5, 6), 3))) - 1
    assert behind > 4
    for number in range(1, behind + 1):
        model = build(name, (1, 5, 6), 3)
        masks_of_own_places(model)[number].zero_()
        with pytest.raises(AssertionError, match=f"mask A instead of B in layer {number}$"):
            check_masks(model)


@every_model
@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 1, 2)])
def test_the_probabilities_of_all_images_sum_to_one(name: str, shape: tuple[int, int, int]) -> None:
    check_sums_to_one(stirred(build(name, shape, 3, classes=2)))


@every_model
def test_the_class_moves_every_layer(name: str) -> None:
    model = stirred(build(name, (1, 5, 6), 5))
    layers = layers_with_class(model)
    assert len(layers) == len({id(module) for module in model.modules() if module_has_weights_of_features(module)})
    check_class_moves(model, [layer.of_class for layer in layers])


def module_has_weights_of_features(module: torch.nn.Module) -> bool:
    """Whether a module is a masked map, each of which belongs to a layer."""
    return hasattr(module, "mask")


@every_model
def test_a_forgotten_class_is_found_as_a_layer_that_it_does_not_move(name: str) -> None:
    model = deaf(stirred(build(name, (1, 5, 6), 5)))
    with pytest.raises(AssertionError, match="the class does not move layer 0"):
        check_class_moves(model, [layer.of_class for layer in layers_with_class(model)])


@every_model
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("colours", SHAPES)
def test_caches_draw_what_whole_passes_draw(name: str, colours: str, classes: int, rows: int) -> None:
    model = stirred(build(name, *SHAPES[colours], classes=classes), by=STIRRED)
    labels = torch.arange(rows) % classes
    found = levels_drawn(model, model.sample(labels, generator(5), temperature=0.8))
    noise = uniform_noise(model.grid, rows, generator(5), model.net.where)
    assert torch.equal(found, drawn_by_whole_passes(model, labels, noise, 0.8))
    assert len(found.unique()) > 1  # the noise and the weights decide, not one level


@every_model
@pytest.mark.parametrize("colours", SHAPES)
def test_a_sample_has_the_likelihood_with_which_it_was_drawn(name: str, colours: str) -> None:
    model, labels = stirred(build(name, *SHAPES[colours]), by=STIRRED), torch.tensor([0, 1, 2, -1])
    check_drawing_has_the_likelihood(model, model.net.places(labels), labels)


@every_model
@pytest.mark.parametrize("colours", SHAPES)
def test_a_row_that_is_captured_draws_the_rows_below(name: str, colours: str) -> None:
    check_rows_can_be_played_again(stirred(build(name, *SHAPES[colours]), by=STIRRED), torch.tensor([0, 1, 2]))


@every_model
def test_a_completed_row_is_drawn_at_its_temperature(name: str) -> None:
    model, labels = stirred(build(name, *SHAPES["grey"]), by=STIRRED), torch.tensor([0, 1, 2])
    x = some_rows(model.spec, labels, seed=3).x
    mask = (torch.arange(30) < 9).reshape(5, 6)
    noise = uniform_noise(model.grid, 3, generator(5), model.net.where)
    usual, cold = (drawn_by_whole_passes(model, labels, noise, heat, model.grid.index(x), 9) for heat in (1.0, 0.05))
    assert torch.equal(model.grid.index(model.complete(x, mask, labels, generator(5), 0.05)), cold)
    assert not torch.equal(usual, cold)


def test_the_planes_beside_the_values_are_one_the_row_and_the_column() -> None:
    ones, row, column = where_in(build("pixelcnn", (1, 3, 5), 3).grid)
    assert torch.equal(ones, torch.ones(3, 5))
    assert torch.equal(row, torch.tensor([-1.0, 0.0, 1.0])[:, None].expand(3, 5))
    assert torch.equal(column, torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).expand(3, 5))


@every_model
def test_a_likelihood_of_many_rows_is_computed_in_parts_that_fit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stirred(build(name, *SHAPES["grey"]))
    batch = some_rows(model.spec, torch.arange(5) % 3)
    batch, sizes = Batch(batch.x.double(), batch.y), []
    whole, of_net = model.log_likelihood(batch), model.net.log_likelihood
    monkeypatch.setattr(model.net, "log_likelihood", lambda x, y: sizes.append(len(x)) or of_net(x, y))
    widest = max(max(weights.shape[:2]) for weights in model.parameters() if weights.dim() > 1)
    monkeypatch.setattr("models._raster_model.VALUES_AT_ONCE", 2 * 30 * max(widest, 5))
    torch.testing.assert_close(model.log_likelihood(batch), whole)
    assert sizes == [2, 2, 1]


@every_model
@pytest.mark.parametrize("known", [0, 1, 9, 12])
@pytest.mark.parametrize("colours", SHAPES)
def test_a_completed_row_keeps_what_is_known_and_is_drawn_as_by_whole_passes(
    name: str, colours: str, known: int
) -> None:
    model, labels = stirred(build(name, *SHAPES[colours]), by=STIRRED), torch.tensor([0, 1, 2])
    x = some_rows(model.spec, labels, seed=3).x
    mask = (torch.arange(x[0, 0].numel()) < known).reshape(x.shape[2:])
    completed = model.complete(x, mask, labels, generator(5))
    assert torch.equal(completed[:, :, mask], x[:, :, mask])
    noise = uniform_noise(model.grid, 3, generator(5), model.net.where)
    given = model.grid.index(x)
    assert torch.equal(model.grid.index(completed), drawn_by_whole_passes(model, labels, noise, 1.0, given, known))
    if known == 9:
        assert not torch.equal(completed, model.complete(x, mask, labels, generator(6)))
        other = model.complete(-x, mask, labels, generator(5))
        assert not torch.equal(completed[:, :, ~mask], other[:, :, ~mask])  # what is known is heard


@every_model
@pytest.mark.parametrize("temperature", [-0.5, math.inf, math.nan])
def test_no_temperature_but_a_number_from_0_on_is_accepted(name: str, temperature: float) -> None:
    model, labels = build(name, *SHAPES["grey"]), torch.tensor([0, 1])
    x, known = some_rows(model.spec, labels).x, torch.ones(5, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="the temperature is a finite number from 0 on"):
        model.sample(labels, generator(), temperature)
    with pytest.raises(ValueError, match="the temperature is a finite number from 0 on"):
        model.complete(x, known, labels, generator(), temperature)


@every_model
def test_a_model_of_64_bits_knows_the_likelihood_of_what_it_draws(name: str) -> None:
    model, labels = build(name, *SHAPES["grey"]).double().eval(), torch.tensor([0, 1])
    x = model.sample(labels, generator())
    assert x.dtype == torch.float64
    assert torch.isfinite(model.log_likelihood(Batch(x, labels))).all()
    known = torch.arange(30).reshape(5, 6) < 9
    assert torch.equal(model.complete(x, known, labels, generator())[:, :, known], x[:, :, known])


@every_model
def test_a_model_of_16_bits_draws_levels_that_are_told_apart(name: str) -> None:
    model, labels = build(name, (1, 4, 5), 256).to(torch.bfloat16).eval(), torch.tensor([0, 1, 2])
    x = model.sample(labels, generator())
    assert torch.equal(model.grid.values(model.grid.index(x)), x)


@every_model
@pytest.mark.parametrize("colours", SHAPES)
def test_no_rows_are_as_good_as_many(name: str, colours: str) -> None:
    check_takes_no_rows(build(name, *SHAPES[colours]))


@every_model
def test_dropout_is_of_training_alone(name: str) -> None:
    model = build(name, *SHAPES["grey"])
    batch = some_rows(model.spec, torch.tensor([0, 1]))
    assert not torch.equal(model.log_likelihood(batch), model.log_likelihood(batch))
    model.eval()
    assert torch.equal(model.log_likelihood(batch), model.log_likelihood(batch))
    assert torch.isfinite(model.log_likelihood(Batch(batch.x, torch.tensor([-1, -1])))).all()


@every_model
def test_the_weights_of_a_net_are_counted_without_memory_for_them(name: str) -> None:
    with torch.device("meta"):
        counted = build(name, *SHAPES["grey"])
    assert {weights.device.type for weights in counted.parameters()} == {"meta"}
    assert [w.shape for w in counted.parameters()] == [w.shape for w in build(name, *SHAPES["grey"]).parameters()]


@every_model
@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (TensorSpec((5,), (Span("continuous", 5),), 2), "needs rows that are grids"),
        (TensorSpec((1, 4, 4), (Span("continuous", 16),), 2), "these values have none"),
        (TensorSpec((2, 4, 4), (Span("continuous", 16, 4), Span("continuous", 16, 4)), 2), "this one has 2"),
        (levels_spec((1, 4, 4), 1000), "256 levels at most, these have 1000"),
        (levels_spec((3, 128, 128), 256), "49,152 values .* until there are 12,288 at most"),
        (levels_spec((9, 4, 4), 4), "each of 9 channels needs a feature"),
    ],
)
def test_rows_that_it_cannot_learn_are_refused_before_training(name: str, spec: TensorSpec, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        config_of(name).build(spec, generator())


KERNELS = (".conv.weight", ".linear.weight", ".above", ".beside")


@every_model
def test_the_weights_that_are_counted_are_those_of_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    for module in ("models.pixelcnn", "models._raster_lstm"):
        monkeypatch.setattr(f"{module}.refuse_large_net", counted.append)
    model = build(name, (3, 4, 5), 6)
    assert counted == [sum(w.numel() for key, w in model.named_parameters() if key.endswith(KERNELS))]


@every_model
def test_a_net_that_no_memory_holds_is_refused_before_it_is_made(name: str) -> None:
    with pytest.raises(ValueError, match=r"weights, of 200,000,000 at most"):
        config_of(name, width=1024, depth=32, first_kernel=31).build(levels_spec((1, 8, 8), 17, 10), generator())


@every_model
@pytest.mark.parametrize("setting", ["kernel", "first_kernel"])
def test_a_kernel_without_a_centre_is_refused(name: str, setting: str) -> None:
    if setting not in type(config_of(name)).model_fields:
        pytest.skip("it has no such kernel")
    with pytest.raises(ValidationError, match="its side is odd, not 4"):
        config_of(name, **{setting: 4})
