"""Classical changes of images: what each may do, what it must not, and where its randomness comes from."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from augment.worth._policies import IMAGE_PARTS, MIXUP, PARTS, Policy, erased, gained, lit, mixed
from augment.worth._policies import Changed as Pair
from augment.worth._trivial import MOVES, TONES, trivially_changed
from augment.worth._warping import Ranges, affine, background, bent, resampled, shifted

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 13, 20), (3, 64, 64)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(shape: tuple[int, ...] = (1, 28, 28), count: int = 12, seed: int = 0) -> Tensor:
    """Smooth images over the whole range."""
    coarse = torch.randn(count, shape[0], 4, 4, generator=seeded(seed))
    return functional.interpolate(coarse, shape[1:], mode="bilinear").clamp(-1, 1)


def targets(count: int = 12, classes: int = 4) -> Tensor:
    return torch.eye(classes)[torch.arange(count) % classes]


def impulse(shape: tuple[int, ...], count: int = 500) -> Tensor:
    """Black images with one white pixel in the middle."""
    x = torch.full((count, *shape), -1.0)
    x[:, :, shape[1] // 2, shape[2] // 2] = 1
    return x


# Of every part


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_keeps_shape_type_range_and_what_it_was_given(part: str, shape: tuple[int, ...]) -> None:
    x = images(shape)
    kept = x.clone()
    changed = Policy((part,))(x, targets(), seeded())
    assert changed.x.shape == x.shape
    assert changed.x.dtype == x.dtype
    assert changed.x.min() >= -1
    assert changed.x.max() <= 1
    assert torch.isfinite(changed.x).all()
    assert torch.equal(x, kept)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_draws_from_its_generator_alone(part: str) -> None:
    x, y = images(), targets()
    state = torch.random.get_rng_state()
    first = Policy((part,))(x, y, seeded(3))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)  # what others draw changes nothing
    again, other = (Policy((part,))(x, y, seeded(seed)) for seed in (3, 4))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.x, other.x)


@pytest.mark.parametrize("part", PARTS)
def test_every_image_of_a_batch_is_changed_by_a_draw_of_its_own(part: str) -> None:
    same = images(count=1).expand(40, -1, -1, -1)
    mates = torch.cat([same[:20], images(count=20, seed=1)]) if part == MIXUP else same
    changed = Policy((part,))(mates, targets(40), seeded())
    assert len(torch.unique(changed.x[:20].flatten(1), dim=0)) > 1


@pytest.mark.parametrize("part", sorted(IMAGE_PARTS))
def test_labels_are_left_alone_by_all_but_mixup(part: str) -> None:
    y = targets()
    assert torch.equal(Policy((part,))(images(), y, seeded()).targets, y)


@pytest.mark.parametrize("part", sorted(set(IMAGE_PARTS) - {"light", "trivial"}))
def test_a_plain_black_image_stays_black_but_where_its_light_is_changed(part: str) -> None:
    black = torch.full((8, 1, 16, 16), -1.0)
    torch.testing.assert_close(Policy((part,))(black, targets(8), seeded()).x, black)


# Policies


def test_a_policy_without_parts_changes_nothing() -> None:
    x, y = images(), targets()
    changed = Policy()(x, y, seeded())
    assert torch.equal(changed.x, x)
    assert torch.equal(changed.targets, y)
    assert Policy().name == "none"


def test_the_parts_of_a_policy_are_made_one_after_another() -> None:
    x, generator = images(), seeded()
    by_hand = gained(shifted(x, generator), generator)
    assert torch.equal(Policy(("shift", "gain"))(x, targets(), seeded()).x, by_hand)
    assert Policy(("shift", "gain")).name == "shift + gain"


def test_a_policy_is_read_back_from_its_json() -> None:
    policy = Policy(("wide affine", "gain", "mixup"))
    assert Policy.from_json(json.loads(json.dumps(policy.as_json()))) == policy


def test_a_part_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no classical change 'rain'; there are shift, "):
        Policy(("shift", "rain"))


# Moves


@pytest.mark.parametrize(("shape", "largest"), [((1, 8, 8), 1), ((1, 28, 28), 2), ((3, 64, 64), 4), ((1, 14, 28), 2)])
def test_a_shift_moves_an_impulse_by_whole_pixels_within_its_bound(shape: tuple[int, ...], largest: int) -> None:
    places = torch.nonzero(shifted(impulse(shape), seeded())[:, 0] == 1)
    assert places[:, 0].tolist() == list(range(500))
    moved = places[:, 1:] - torch.tensor([shape[1] // 2, shape[2] // 2])
    assert moved[:, 1].abs().max() == largest
    assert len(torch.unique(moved[:, 1])) == 2 * largest + 1


def test_every_shift_within_the_bound_is_as_likely_as_another() -> None:
    places = torch.nonzero(shifted(impulse((1, 28, 28), 5_000), seeded())[:, 0] == 1)[:, 1]
    shares = torch.bincount(places - 12, minlength=5) / 5_000
    assert (shares - 0.2).abs().max() < 0.025


def test_what_comes_in_at_the_border_has_the_shade_of_the_background() -> None:
    x = torch.full((200, 1, 8, 8), 0.25)
    x[:, :, 3:5, :] = -1  # an object that touches the border
    assert torch.equal(background(x), torch.full((200, 1, 1, 1), 0.25))
    right = shifted(x, seeded())[:, 0, :, -1]
    assert ((right == 0.25).all(dim=1)).any()
    assert set(torch.unique(shifted(x, seeded())).tolist()) == {-1.0, 0.25}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_affine_change_of_range_zero_changes_nothing(shape: tuple[int, ...]) -> None:
    x = images(shape)
    torch.testing.assert_close(affine(x, seeded(), Ranges(0, 0, 0, 0)), x, atol=1e-5, rtol=0)


def test_a_quarter_turn_of_a_square_image_is_that_of_its_pixels() -> None:
    x = images((1, 9, 9))
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).expand(len(x), 2, 2)
    turned = resampled(x, quarter, torch.zeros(len(x), 2))
    torch.testing.assert_close(turned, torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)


def test_a_turn_bends_no_circle_of_an_image_that_is_not_square() -> None:
    down, across = torch.meshgrid(torch.arange(20) - 9.5, torch.arange(31) - 15.0, indexing="ij")
    disc = torch.where(down**2 + across**2 < 36, 1.0, -1.0).expand(20, 1, 20, 31)
    turned = affine(disc, seeded(), Ranges(rotation=90, scale=0, shear=0, shift=0))
    assert ((turned - disc).abs() > 1).float().mean() < 0.01


def test_an_elastic_change_moves_neighbours_alike() -> None:
    ramp = torch.linspace(-1, 1, 28).expand(50, 1, 28, 28)
    steps = bent(ramp, seeded())[:, 0, 4:-4, 4:-4].diff(dim=2)
    assert not torch.allclose(steps, torch.full_like(steps, 2 / 27), atol=1e-3)
    assert steps.diff(dim=2).abs().median() < 0.02


@pytest.mark.parametrize(("part", "dimension"), [("horizontal flip", 3), ("vertical flip", 2)])
def test_the_flip_of_a_flip_is_the_image_and_half_of_them_are_flipped(part: str, dimension: int) -> None:
    x = images(count=400)
    once = IMAGE_PARTS[part](x, seeded())
    assert torch.equal(IMAGE_PARTS[part](once, seeded()), x)
    mirrored = (once == x.flip(dimension)).flatten(1).all(dim=1)
    untouched = (once == x).flatten(1).all(dim=1)
    assert (mirrored | untouched).all()
    assert 0.4 < mirrored.float().mean() < 0.6


# Light


@pytest.mark.parametrize("change", [gained, lit])
def test_light_never_moves_pixels(change: object) -> None:
    x = images(count=30)
    changed = change(x, seeded())  # type: ignore[operator]
    order = x.flatten(1).argsort(dim=1)
    assert (changed.flatten(1).gather(1, order).diff(dim=1) >= -1e-6).all()


def test_gain_keeps_black_black_and_scales_the_rest() -> None:
    x = torch.full((300, 1, 4, 4), -1.0)
    x[:, :, 0, 0] = 0  # brightness 1/2
    changed = gained(x, seeded())
    assert torch.equal(changed[:, :, 1:], x[:, :, 1:])
    assert changed[:, 0, 0, 0].min() == pytest.approx(-0.4, abs=0.02)
    assert changed[:, 0, 0, 0].max() == pytest.approx(0.4, abs=0.02)


def test_a_hole_is_one_rectangle_of_at_most_half_the_sides() -> None:
    x = images((1, 20, 30), count=200)
    hole = (erased(x, seeded()) != x)[:, 0]
    rows, columns = hole.any(dim=2), hole.any(dim=1)
    assert rows.sum(dim=1).max() == 10
    assert columns.sum(dim=1).max() == 15
    assert (hole == rows[:, :, None] & columns[:, None, :]).float().mean() > 0.999  # but where a pixel had the mean


# TrivialAugment


def test_trivial_changes_leave_about_one_image_in_the_number_of_ways_as_it_is() -> None:
    x = images(count=2_000)
    untouched = (trivially_changed(x, seeded()) == x).flatten(1).all(dim=1).float().mean()
    assert untouched == pytest.approx(1 / (len(MOVES) + len(TONES)), abs=0.03)


def test_colour_is_among_the_trivial_changes_of_images_in_colour() -> None:
    x = images((3, 16, 16), count=600)
    grey = (0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])[:, None]
    changed = trivially_changed(x, seeded())
    light = 0.299 * changed[:, 0] + 0.587 * changed[:, 1] + 0.114 * changed[:, 2]
    same_light = ((light[:, None] - grey).abs() < 1e-4).flatten(1).float().mean(dim=1) > 0.5
    assert 2 / 15 < same_light.float().mean() < 4 / 15  # identity and colour, two of fourteen ways, and weak others


def test_autocontrast_and_equalising_leave_a_plain_image_as_it_is() -> None:
    plain = torch.full((2, 1, 8, 8), 0.3)
    for tone in TONES[-2:]:
        assert torch.equal(tone(plain, torch.zeros(2, 1, 1, 1)), plain)


def test_equalising_spreads_the_values_evenly() -> None:
    crowded = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16) ** 4
    equal = TONES[-1](crowded, torch.zeros(1, 1, 1, 1))
    assert equal.max() == 1
    assert equal.median() == pytest.approx(0.5, abs=0.15)
    assert crowded.median() < 0.1


def test_a_tone_at_strength_zero_changes_nothing_by_more_than_a_level() -> None:
    b = (images() + 1) / 2
    for tone in TONES[:5]:
        assert (tone(b, torch.zeros(len(b), 1, 1, 1)) - b).abs().max() < 1 / 255


# Mixup


def test_mixed_labels_sum_to_one_and_match_the_mix() -> None:
    """Images that are plain in the colour of their class show by how much each was mixed."""
    y = targets(200, classes=3)
    x = (2 * y - 1)[:, :, None, None].expand(-1, -1, 4, 4)
    changed = mixed(Pair(x, y), seeded())
    torch.testing.assert_close(changed.targets.sum(dim=1), torch.ones(200))
    torch.testing.assert_close((changed.x[:, :, 0, 0] + 1) / 2, changed.targets)


def test_the_share_of_a_mix_follows_the_beta_law_with_one_half() -> None:
    y = torch.eye(2000)
    shares = mixed(Pair(torch.zeros(2000, 1, 1, 1), y), seeded()).targets.diagonal().sort().values
    expected = torch.sin(math.pi / 2 * torch.linspace(0, 1, 2000)) ** 2
    assert (shares - expected).abs().max() < 0.06
