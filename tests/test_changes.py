"""Changes to what a critic sees keep to the kind of the data, are the same for a pair, and let gradients pass."""

from __future__ import annotations

import pytest
import torch
from _model_cases import SPECS, generator, some_rows

from models._augmentation import BRIGHTNESS, CHANGES, CONTRAST, MADE, NOISE, ChangeName, draw_changes, usual_changes
from models._contract import Form

GRID, VECTOR = SPECS["grid"], SPECS["vector"]
LABELS = torch.arange(600) % 3
NAMES: list[ChangeName] = list(CHANGES)
OF_GRIDS = [name for name in NAMES if CHANGES[name].forms == ("grid",)]
FITS = [(name, form) for name in NAMES for form in CHANGES[name].forms]


def rows_of(form: Form, seed: int = 0) -> torch.Tensor:
    return some_rows(SPECS[form], LABELS, seed).x


@pytest.mark.parametrize(("name", "form"), FITS)
def test_a_real_row_and_its_synthetic_one_are_changed_alike_and_other_rows_otherwise(
    name: ChangeName, form: Form
) -> None:
    x = rows_of(form)
    change = draw_changes(SPECS[form], [name], len(x), generator())
    assert torch.equal(change(x), change(x))
    assert not torch.equal(change(x), x)
    again = draw_changes(SPECS[form], [name], len(x), generator(1))
    assert not torch.equal(change(x), again(x))
    same = x[:1].expand(x.shape)
    assert len(change(same).flatten(1).unique(dim=0)) > 5


@pytest.mark.parametrize(("name", "form"), FITS)
def test_gradients_pass_through_a_change(name: ChangeName, form: Form) -> None:
    x = rows_of(form).requires_grad_()
    change = draw_changes(SPECS[form], [name], len(x), generator())
    change(x).sum().backward()
    assert x.grad is not None
    assert (x.grad.flatten(1).abs().sum(1) > 0).float().mean() > 0.9


@pytest.mark.parametrize(("name", "form"), FITS)
def test_a_change_is_made_to_so_many_rows_and_leaves_the_others_as_they_are(name: ChangeName, form: Form) -> None:
    x = rows_of(form)
    changed = draw_changes(SPECS[form], [name], len(x), generator())(x)
    share = (changed != x).flatten(1).any(1).float().mean()
    assert MADE - 0.12 < share < MADE + 0.05  # a shift by nothing changes nothing


def test_what_shifts_do_to_a_distribution_can_be_undone() -> None:
    """Else a generator of shifted rows could not be told from one of real rows."""
    x = torch.zeros(4000, 1, 8, 8)
    x[:, 0, 4, 4] = 1
    moved = draw_changes(GRID, ["shift"], len(x), generator())(x).mean(0)[0]
    assert torch.fft.fft2(moved).abs().min() > 0.1
    always = torch.zeros(9, 9)
    always[3:6, 3:6] = 1 / 9
    assert torch.fft.fft2(always).abs().min() < 1e-6


def test_a_constant_grid_stays_constant_but_for_what_is_covered() -> None:
    x = torch.full((600, 1, 8, 8), 0.5)
    for name in OF_GRIDS:
        changed = draw_changes(GRID, [name], len(x), generator())(x).flatten(1)
        if name == "cutout":
            assert set(changed.unique().tolist()) == {0.0, 0.5}
        else:
            torch.testing.assert_close(changed, changed[:, :1].expand(changed.shape))


def test_a_shift_moves_every_pixel_by_one_at_most_in_an_8x8_grid() -> None:
    x = torch.zeros(600, 1, 8, 8)
    x[:, 0, 3, 4] = 1
    changed = draw_changes(GRID, ["shift"], len(x), generator())(x)
    places = changed.flatten(1).argmax(1)
    moved = {(int(p) // 8 - 3, int(p) % 8 - 4) for p in places}
    assert moved == {(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    assert torch.equal(changed.sum((1, 2, 3)), torch.ones(600))


def test_a_cutout_covers_a_quarter_at_most() -> None:
    changed = draw_changes(GRID, ["cutout"], 600, generator())(torch.ones(600, 1, 8, 8))
    covered = (changed == 0).flatten(1).sum(1)
    assert covered.max() == 16
    assert covered[covered > 0].min() >= 4


def test_brightness_and_contrast_stay_within_their_bounds() -> None:
    x = rows_of("grid")
    brighter = draw_changes(GRID, ["brightness"], len(x), generator())(x) - x
    assert brighter.abs().max() <= BRIGHTNESS + 1e-6
    stretched = draw_changes(GRID, ["contrast"], len(x), generator())(x)
    torch.testing.assert_close(stretched.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-5, rtol=0)
    factor = stretched.flatten(1).std(1) / x.flatten(1).std(1)
    assert factor.min() >= 1 - CONTRAST - 1e-4
    assert factor.max() <= 1 + CONTRAST + 1e-4


def test_noise_is_on_numbers_and_never_on_categories() -> None:
    x = rows_of("vector")
    change = draw_changes(VECTOR, ["noise"], len(x), generator())(x) - x
    made = change[:, :2][change.any(1)]
    torch.testing.assert_close(made.std(), torch.tensor(NOISE), atol=0.02, rtol=0)
    assert not change[:, 2:].any()


def test_each_change_is_made_to_rows_of_its_own_choice() -> None:
    x = rows_of("grid")
    names: list[ChangeName] = ["brightness", "contrast"]
    moved = torch.stack(
        [CHANGES[name].draw(GRID, len(x), generator())(x).flatten(1).mean(1) - x.flatten(1).mean(1) for name in names]
    )
    assert (moved[0].abs() > 1e-4).float().mean() > 0.9  # brightness moves the mean of a row, contrast keeps it
    assert moved[1].abs().max() < 1e-4
    both = draw_changes(GRID, names, len(x), generator(2))(x)
    brighter = (both.flatten(1).mean(1) - x.flatten(1).mean(1)).abs() > 1e-4
    stretched = (both.flatten(1).std(1) / x.flatten(1).std(1) - 1).abs() > 1e-4
    assert not torch.equal(brighter, stretched)


def test_pictures_are_shifted_and_tables_given_noise_by_default() -> None:
    assert usual_changes(GRID) == ("shift",)
    assert usual_changes(VECTOR) == ("noise",)


def test_what_is_usual_fits_the_form() -> None:
    for form, spec in SPECS.items():
        assert usual_changes(spec)
        assert all(form in CHANGES[name].forms for name in usual_changes(spec))
    assert draw_changes(VECTOR, [], 3, generator())(torch.ones(3, 5)).equal(torch.ones(3, 5))
