"""The warp-VAE learns how rows of a class differ, carries it to classes of one row, and copies nothing."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from _model_cases import train
from torch import Tensor

from models._contract import Batch, Span, TensorSpec, VariesExemplars
from models._warp import Change, apply_change, jacobian_determinants, read_at
from models.warp_vae import WarpVae, WarpVaeConfig

SIDE = 16
GREYS = TensorSpec((1, SIDE, SIDE), (Span("continuous", SIDE**2, 256),), 3)
SPREAD_X, SPREAD_LIGHT = 1.5, 0.25  # deviations within a class: pixels across, and of the logarithm of brightness


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pixels(spec_shape: tuple[int, ...], levels: int | None = 256, classes: int = 3) -> TensorSpec:
    return TensorSpec(spec_shape, (Span("continuous", math.prod(spec_shape), levels),), classes)


def _picture(label: int, across: Tensor, light: Tensor) -> Tensor:
    """A disc, a bar or a pair of discs, moved ``across`` pixels and lit by the factor exp(``light``); on 256 levels."""
    places = torch.arange(SIDE) - (SIDE - 1) / 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    x = x - across[:, None, None]
    if label == 0:
        shape = torch.exp(-((x**2 + y**2) / 8))
    elif label == 1:
        shape = torch.exp(-(x**2 / 18 + y**2 / 1.5))
    else:
        shape = torch.exp(-(x**2 + (y - 4) ** 2) / 3) + torch.exp(-(x**2 + (y + 4) ** 2) / 3)
    lit = 0.5 * shape * torch.exp(light)[:, None, None]
    return ((lit.clamp(0, 1) * 255).round() / 127.5 - 1)[:, None]


def _large_class(count: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of class 0, and by how much each is moved and lit."""
    across = SPREAD_X * torch.randn(count, generator=_generator(1)).clamp(-2, 2)
    light = SPREAD_LIGHT * torch.randn(count, generator=_generator(2)).clamp(-2, 2)
    return _picture(0, across, light), across, light


def _measured(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The centre of mass of each row, across and down in pixels, and the logarithm of its mass."""
    brightness = (rows[:, 0] + 1) / 2
    places = torch.arange(SIDE) - (SIDE - 1) / 2
    mass = brightness.sum((1, 2))
    return (
        (brightness * places).sum((1, 2)) / mass,
        (brightness * places[:, None]).sum((1, 2)) / mass,
        mass.log(),
    )


class Trained(NamedTuple):
    """A model of one large class, one row of class 1 and two of class 2, and its rows."""

    model: WarpVae
    rows: Batch


@pytest.fixture(scope="module")
def trained() -> Trained:
    zero = torch.zeros(1)
    few = [_picture(1, zero, zero), _picture(2, zero - 1, zero), _picture(2, zero + 1, zero)]
    rows = Batch(torch.cat([_large_class()[0], *few]), torch.tensor([0] * 300 + [1, 2, 2]))
    model = WarpVaeConfig(width=8, latent=4, spread=1.0).build(GREYS, _generator())
    train(model, rows, steps=500)
    return Trained(model, rows)


class Backwards(WarpVae):
    """A model that reads along the field the wrong way when it draws."""

    def _changed(self, exemplars: Tensor, z: Tensor) -> Tensor:
        right = self.decoder(z)
        wrong = Change(-right.linear, -right.shift, tuple(-v for v in right.velocities), *right[3:])
        return apply_change(exemplars, wrong)[0]


def check_a_code_leads_to_its_target(model: WarpVae) -> None:
    """Changed by the mean code of a pair, the first of the pair is where the second is, and as bright."""
    rows, _, _ = _large_class()
    first, target = rows[:100], rows[100:200]
    zeros = torch.zeros(100, dtype=torch.int64)
    with torch.no_grad():
        reached = model._changed(first, model.posterior(first, target, zeros).mean)
    for name, index, spread in (("place", 0, SPREAD_X), ("brightness", 2, SPREAD_LIGHT)):
        before, after, wanted = (_measured(x)[index] for x in (first, reached, target))
        left = (after - wanted).square().mean().sqrt().item()
        assert left < 0.4 * (before - wanted).square().mean().sqrt().item(), f"the {name} of the target is not reached"
        assert left < spread


@pytest.mark.slow
def test_a_known_translation_and_a_known_light_are_recovered(trained: Trained) -> None:
    check_a_code_leads_to_its_target(trained.model)


@pytest.mark.slow
def test_a_field_that_is_applied_the_wrong_way_round_is_found_out(trained: Trained) -> None:
    model = WarpVaeConfig(width=8, latent=4).build(GREYS, _generator())
    model.__class__ = Backwards
    model.load_state_dict(trained.model.state_dict())
    with pytest.raises(AssertionError, match="the place of the target is not reached"):
        check_a_code_leads_to_its_target(model)


@pytest.mark.slow
def test_samples_vary_as_two_rows_of_the_class_differ(trained: Trained) -> None:
    rows, across, light = _large_class()
    drawn = trained.model.sample_from(rows, torch.zeros(300, dtype=torch.int64), _generator(3))
    difference = [after - before for after, before in zip(_measured(drawn), _measured(rows), strict=True)]
    # x' - x of two independent rows has twice the variance of one
    for change, truth in ((difference[0], across), (difference[2], light)):
        expected = math.sqrt(2) * truth.std().item()
        assert change.std().item() == pytest.approx(expected, rel=0.3)
        assert abs(change.mean().item()) < 0.35 * expected
    assert difference[1].std() < 0.3, "no row of the class is moved up or down"


@pytest.mark.slow
def test_what_a_large_class_shows_reaches_a_class_of_one_row(trained: Trained) -> None:
    bar = trained.rows.x[300:301].expand(200, -1, -1, -1)
    drawn = trained.model.sample_from(bar, torch.ones(200, dtype=torch.int64), _generator(4))
    across, down, light = _measured(drawn)
    assert across.std().item() == pytest.approx(math.sqrt(2) * SPREAD_X, rel=0.4)
    assert light.std().item() == pytest.approx(math.sqrt(2) * SPREAD_LIGHT, rel=0.4)
    assert down.std() < 0.4
    assert len(drawn.unique(dim=0)) == 200


@pytest.mark.slow
def test_samples_follow_their_exemplar(trained: Trained) -> None:
    parents = trained.rows.x[[0, 300, 301]]
    y = torch.arange(300) % 3
    drawn = trained.model.sample_from(parents[y], y, _generator(5))

    def profile(rows: Tensor) -> Tensor:
        """The brightness of each line, which no move across changes, of a row of length one."""
        lines = (rows[:, 0] + 1).sum(2)
        return lines / lines.norm(dim=1, keepdim=True)

    nearest = torch.cdist(profile(drawn), profile(parents)).argmin(1)
    assert (nearest == y).float().mean() > 0.97


@pytest.mark.slow
def test_no_field_of_a_trained_model_folds(trained: Trained) -> None:
    z = 3 * torch.randn(200, 4, generator=_generator())
    x = torch.zeros(200, 1, SIDE, SIDE)
    with torch.no_grad():
        assert jacobian_determinants(apply_change(x, trained.model.decoder(z))[1]).min() > 0


def test_a_decoder_of_zeros_leaves_rows_as_they_are() -> None:
    for shape in ((1, 8, 8), (3, 9, 21)):
        spec = _pixels(shape)
        model = WarpVaeConfig(width=8).build(spec, _generator())
        for parameter in model.decoder.parameters():
            torch.nn.init.zeros_(parameter)
        x = (torch.randint(256, (4, *shape), generator=_generator()) / 127.5) - 1
        rows = model.sample_from(x, torch.zeros(4, dtype=torch.int64), _generator())
        torch.testing.assert_close(rows, x, atol=1e-6, rtol=0)


def test_no_sample_is_a_copy_of_its_exemplar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On two levels small changes round to none."""
    model = WarpVaeConfig(width=8, spread=0.2).build(_pixels((1, 8, 8), levels=2), _generator())
    with torch.no_grad():
        model.decoder.net[-1].weight.mul_(5)
    x = torch.where(torch.rand(200, 1, 8, 8, generator=_generator(1)) < 0.5, 1.0, -1.0)
    zeros = torch.zeros(200, dtype=torch.int64)

    def copies() -> int:
        return int((model.sample_from(x, zeros, _generator()) == x).flatten(1).all(1).sum())

    assert copies() == 0
    monkeypatch.setattr("models.warp_vae.TRIES", 0)
    assert copies() > 0, "nothing was at stake"


@pytest.mark.parametrize("levels", [None, 2, 17, 256])
def test_samples_keep_to_the_levels_of_the_data(levels: int | None) -> None:
    spec = _pixels((2, 12, 9), levels)
    model = WarpVaeConfig(width=8).build(spec, _generator())
    assert isinstance(model, VariesExemplars)
    x = torch.rand(5, 2, 12, 9, generator=_generator()) * 2 - 1
    rows = model.sample_from(x, torch.zeros(5, dtype=torch.int64), _generator(1))
    assert rows.abs().max() <= 1
    if levels:
        steps = (rows + 1) * (levels - 1) / 2
        torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)


def test_a_row_depends_on_its_own_exemplar_alone() -> None:
    model = WarpVaeConfig(width=8, spread=0.2).build(_pixels((1, 8, 8), levels=2), _generator())
    x = torch.where(torch.rand(9, 1, 8, 8, generator=_generator(1)) < 0.5, 1.0, -1.0)
    others = x.clone()
    others[1:] = -1.0  # no change alters them: they are tried again and again
    zeros = torch.zeros(9, dtype=torch.int64)
    first, again = (model.sample_from(rows, zeros, _generator(2)) for rows in (x, others))
    assert torch.equal(first[0], again[0])
    assert torch.equal(again[1:], others[1:])


def test_a_row_without_a_partner_counts_nothing() -> None:
    spec = _pixels((1, 8, 8), 17)
    model = WarpVaeConfig(width=8).build(spec, _generator())
    pair = torch.rand(2, 1, 8, 8, generator=_generator()) * 2 - 1
    loss = model.objectives()[0].loss
    # rows are encoded alone, so that noise aside the pair's mean is the batch's: without noise they are equal
    model.encoder.register_forward_hook(lambda _module, _inputs, out: torch.cat([out[:, :10], out[:, 10:] - 100], 1))
    alone = torch.rand(3, 1, 8, 8, generator=_generator(1)) * 2 - 1
    whole = loss(Batch(torch.cat([pair, alone]), torch.tensor([0, 0, 1, 2, -1])), _generator())
    by_itself = loss(Batch(pair, torch.tensor([0, 0])), _generator())
    torch.testing.assert_close(whole["reconstruction"], by_itself["reconstruction"], atol=0.1, rtol=0.01)
    nobody = loss(Batch(alone, torch.tensor([1, 2, -1])), _generator())
    assert nobody["loss"] == 0
    nobody["loss"].backward()


def test_what_is_logged_is_in_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _pixels((1, 8, 8), 17)
    model = WarpVaeConfig(width=8, latent=2).build(spec, _generator())
    x = torch.rand(6, 1, 8, 8, generator=_generator()) * 2 - 1
    none = model.decoder(torch.zeros(6, 2))
    moved = none._replace(shift=torch.tensor([[0.3, -0.4]]).expand(6, 2))
    monkeypatch.setattr(model.decoder, "forward", lambda _z: moved)
    terms = model.objectives()[0].loss(Batch(x, torch.zeros(6, dtype=torch.int64)), _generator())
    assert terms["displacement_pixels"].item() == pytest.approx(math.hypot(0.3, 0.4))
    assert terms["smallest_jacobian"].item() == pytest.approx(1)
    assert terms["thickness"] == terms["log_gain"] == terms["penalty"] == 0
    assert model.objectives()[0].batch_statistics


def test_stiffness_counts_displacements_in_sides() -> None:
    model = WarpVaeConfig(width=8, grids=(3, 5), stiffness=(50.0, 100.0)).build(_pixels((1, 8, 8), 17), _generator())
    change = model.decoder(torch.zeros(2, 10))
    coarse, fine = torch.zeros(2, 2, 3, 3), torch.zeros(2, 2, 5, 5)
    coarse[0, 0, 0, 0], fine[1, 1, 2, 2] = 0.8, 0.8  # a tenth of the side
    cost = model._penalty(change._replace(velocities=(coarse, fine)))
    torch.testing.assert_close(cost, torch.tensor([50 * 0.01, 100 * 0.01]))


def test_without_light_only_places_and_strokes_change() -> None:
    model = WarpVaeConfig(width=8, light=False).build(_pixels((1, 8, 8), 17), _generator())
    change = model.decoder(torch.randn(4, 10, generator=_generator()))
    assert not change.gamma.any()
    assert not change.gain.any()
    assert change.thickness.all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 64), (2, 9, 21), (1, 4, 5)])
def test_grids_of_many_sizes_are_learned_and_varied(shape: tuple[int, ...]) -> None:
    model = WarpVaeConfig(width=8, latent=3).build(_pixels(shape), _generator())
    x = torch.rand(4, *shape, generator=_generator()) * 2 - 1
    y = torch.tensor([0, 0, 1, 1])
    terms = model.objectives()[0].loss(Batch(x, y), _generator())
    assert all(torch.isfinite(value) for value in terms.values())
    rows = model.sample_from(x, y, _generator())
    assert rows.shape == x.shape
    assert torch.equal(rows, model.sample_from(x, y, _generator()))
    assert not torch.equal(rows, model.sample_from(x, y, _generator(1)))


def test_a_pair_read_backwards_is_the_same_change_undone() -> None:
    model = WarpVaeConfig(width=8).build(_pixels((1, 12, 12)), _generator())
    x, target = torch.rand(2, 5, 1, 12, 12, generator=_generator()) * 2 - 1
    y = torch.tensor([0, 0, 1, 2, -1])
    forth, back = model.posterior(x, target, y), model.posterior(target, x, y)
    torch.testing.assert_close(forth.mean, -back.mean)
    torch.testing.assert_close(forth.log_variance, back.log_variance)
    assert forth.mean.abs().max() > 1e-3
    z = torch.randn(5, 10, generator=_generator())
    change, undone = model.decoder(z), model.decoder(-z)
    for part, opposite in zip(_parts(change), _parts(undone), strict=True):
        torch.testing.assert_close(part, -opposite)
        assert part.abs().max() > 1e-3


def test_the_opposite_code_leads_back_but_for_terms_of_second_order() -> None:
    model = WarpVaeConfig(width=8).build(GREYS, _generator())
    with torch.no_grad():
        model.decoder.net[-1].weight.mul_(3)  # as large as after training
    z = model.spread * torch.randn(200, 10, generator=_generator())
    x = _picture(0, torch.zeros(200), torch.zeros(200))

    def there_and_back(scale: float) -> tuple[float, float, float]:
        """Root mean squares: how far places go and how far off they return, in pixels; how far off values do."""
        with torch.no_grad():
            changed, there = apply_change(x, model.decoder(scale * z))
            returned, back = apply_change(changed, model.decoder(-scale * z))
        left = there + read_at(back, there)
        inner = (..., slice(3, -3), slice(3, -3))  # outside the border goes on, and nothing leads back
        return _rms(there[inner]), _rms(left[inner]), _rms(returned - x)

    (far, off, values), (_, off_by_half, _) = there_and_back(1.0), there_and_back(0.5)
    assert off < 0.2 * far
    assert off_by_half < 0.35 * off
    assert values < 0.1


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()


def _parts(change: Change) -> list[Tensor]:
    return [change.linear, change.shift, *change.velocities, change.thickness, change.gamma, change.gain]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (TensorSpec((5,), (Span("continuous", 5),), 2), "neighbours"),
        (TensorSpec((2, 8, 8), (Span("continuous", 64, 17), Span("continuous", 64)), 1), "one continuous span"),
        (_pixels((1, 3, 9)), "at least 4 pixels a side"),
    ],
)
def test_rows_without_neighbours_are_refused(spec: TensorSpec, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        WarpVaeConfig().build(spec, _generator())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"grids": (3, 5), "stiffness": (50.0,)}, "give each grid one"),
        ({"grids": (1,), "stiffness": (50.0,)}, "2 to 32 nodes"),
        ({"grids": (3,), "stiffness": (-1.0,)}, "0 or more"),
        ({"grids": (3,), "stiffness": (math.nan,)}, "0 or more"),
    ],
)
def test_grids_that_cannot_be_are_refused(settings: dict[str, tuple[float, ...]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        WarpVaeConfig(**settings)
