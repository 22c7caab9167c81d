from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from _judged_sets import IMAGES, TABLE, image_rows, table_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from augment._features import profile, resolutions
from augment._images import encode_png
from augment.columns._pictures import IMAGE_MEASURES, Images, image_measures, image_resolutions
from augment.columns._profile import Names
from augment.schema import IMAGE_TYPE, ColumnSchema, DatasetSchema


def picture(pixels: np.ndarray) -> dict[str, float]:
    return {name: float(values[0]) for name, values in image_measures(pixels[None].astype(np.uint8)).items()}


def test_a_flat_picture_has_no_contrast() -> None:
    found = picture(np.full((6, 5), 90))
    assert (found["mean"], found["p05"], found["p95"], found["border_mean"]) == (90, 90, 90, 90)
    assert found["std"] == found["entropy"] == found["laplacian_var"] == found["fg_fraction"] == found["chroma"] == 0
    assert found["centroid_dx"] == pytest.approx(0)


def test_a_bright_corner_pulls_the_centre_towards_it() -> None:
    pixels = np.zeros((9, 9))
    pixels[8, 0] = 255
    found = picture(pixels)
    assert (found["centroid_dx"], found["centroid_dy"]) == (-0.5, 0.5)
    assert found["fg_fraction"] == pytest.approx(1 / 81)


def test_sharp_edges_have_more_laplacian_than_soft_ones() -> None:
    sharp = np.tile(np.repeat([0, 255], 8), (16, 1))
    soft = np.tile(np.linspace(0, 255, 16), (16, 1))
    assert picture(sharp)["laplacian_var"] > 10 * picture(soft)["laplacian_var"]


def test_entropy_is_in_bits() -> None:
    assert picture(np.arange(256).reshape(16, 16))["entropy"] == pytest.approx(8)


def test_colour_has_chroma_and_grey_in_colour_has_none() -> None:
    grey = np.repeat(np.arange(16).reshape(4, 4, 1), 3, axis=2)
    red = np.zeros((4, 4, 3))
    red[..., 0] = 200
    assert picture(grey)["chroma"] == 0
    assert picture(red)["chroma"] == 200


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0, 3]), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_measures_are_finite_for_any_size_and_do_not_depend_on_batch_mates(
    height: int, width: int, channels: int, seed: int
) -> None:
    shape = (4, height, width, channels) if channels else (4, height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    together = image_measures(pixels)
    alone = image_measures(pixels[2:3])
    assert tuple(together) == IMAGE_MEASURES
    for name, values in together.items():
        assert np.isfinite(values).all()
        assert values[2] == pytest.approx(alone[name][0], rel=1e-6, abs=1e-6)


def test_the_quantiles_are_those_of_the_grey_levels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20)).astype(np.uint8)
    found = picture(pixels)
    expected = np.quantile(pixels, [0.05, 0.95], method="inverted_cdf")
    assert [found["p05"], found["p95"]] == expected.tolist()


def test_numbers_are_their_own_features_and_names_have_none() -> None:
    frame, faults = profile(table_rows(20, 1), TABLE)
    assert list(frame.columns) == ["feature.size", "feature.count"]
    assert frame["feature.size"].isna().sum() == 2
    assert set(faults) == {"size", "count", "shade", "ripe"}


def test_an_image_has_one_feature_a_measure() -> None:
    frame, _ = profile(image_rows(3, 1), IMAGES)
    assert list(frame.columns) == [f"feature.image.{name}" for name in IMAGE_MEASURES]
    assert len(frame) == 3


def test_a_broken_image_has_a_fault_and_its_neighbours_have_features() -> None:
    images = image_rows(3, 1)["image"].to_pylist()
    images[1]["bytes"] = images[1]["bytes"][:40]
    found = Images().inspect(pa.array(images, IMAGE_TYPE), None)
    assert found.faults["broken_image"].tolist() == [False, True, False]
    assert np.isnan(found.measures["mean"]).tolist() == [False, True, False]


@pytest.mark.parametrize("pixels", [np.zeros((8, 9)), np.zeros((8, 8, 3))])
def test_an_image_of_another_size_or_mode_has_a_fault(pixels: np.ndarray) -> None:
    images = image_rows(2, 1)["image"].combine_chunks()
    traits = Images().learn([images])
    other = pa.array([{"bytes": encode_png(pixels.astype(np.uint8)), "path": None}], IMAGE_TYPE)
    assert Images().inspect(other, traits).faults["other_image"].tolist() == [True]
    assert not Images().inspect(images, traits).faults["other_image"].any()


def test_categories_may_be_of_any_storage_type() -> None:
    values = pa.array([3, 1, None], pa.int64())
    traits = Names().learn([values])
    assert traits == {"nullable": True, "categories": [1, 3]}
    found = Names().inspect(pa.array([1, 2, None], pa.int64()), traits)
    assert found.faults["unknown_category"].tolist() == [False, True, False]


def test_a_table_of_no_rows_has_columns_and_no_rows() -> None:
    frame, _ = profile(table_rows(0, 1), TABLE)
    assert frame.shape == (0, 2)
    assert profile(image_rows(2, 1).slice(0, 0), IMAGES)[0].shape == (0, len(IMAGE_MEASURES))


def test_names_alone_keep_their_rows() -> None:
    schema = DatasetSchema(
        columns=(ColumnSchema(name="a", kind="boolean", type="bool", reason="declared"),), label=None, classes=()
    )
    assert profile(pa.table({"a": [True, False]}), schema)[0].shape == (2, 0)


def test_a_picture_moved_by_a_pixel_moves_its_centre_by_one_step() -> None:
    pixels = np.zeros((9, 5))
    pixels[4, 2] = 200
    steps = image_resolutions(9, 5)
    across, down = picture(np.roll(pixels, 1, axis=1)), picture(np.roll(pixels, 1, axis=0))
    assert across["centroid_dx"] - picture(pixels)["centroid_dx"] == pytest.approx(steps["centroid_dx"])
    assert down["centroid_dy"] - picture(pixels)["centroid_dy"] == pytest.approx(steps["centroid_dy"])


def test_one_other_pixel_is_one_step_of_the_foreground_and_the_entropy() -> None:
    pixels = np.zeros((9, 5))
    pixels[4, 2] = 200
    for name in ("fg_fraction", "entropy"):
        assert picture(pixels)[name] == pytest.approx(image_resolutions(9, 5)[name])


def test_one_grey_level_is_one_step_of_the_levels() -> None:
    flat, brighter = picture(np.full((9, 5), 90)), picture(np.full((9, 5), 91))
    for name in ("mean", "p05", "p95", "border_mean"):
        assert brighter[name] - flat[name] == pytest.approx(image_resolutions(9, 5)[name])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (64, 64)])
def test_steps_are_finite_for_any_size_and_of_measures_that_exist(size: tuple[int, int]) -> None:
    steps = image_resolutions(*size)
    assert set(steps) < set(IMAGE_MEASURES)
    assert all(np.isfinite(step) and step >= 0 for step in steps.values())


def test_the_step_of_a_number_is_its_last_decimal() -> None:
    kinds = {
        "price": ("numeric", "float64", 2),
        "mass": ("numeric", "float64", None),
        "rooms": ("integer", "int64", None),
    }
    columns = tuple(
        ColumnSchema(name=name, kind=kind, type=storage, reason="declared", decimals=decimals)  # type: ignore[arg-type]
        for name, (kind, storage, decimals) in kinds.items()
    )
    rows = pa.table({"price": [1.25, None], "mass": [0.1, 0.2], "rooms": pa.array([3, 4], pa.int64())})
    found = resolutions(rows, DatasetSchema(columns=columns, label=None, classes=()))
    assert found == {"feature.price": pytest.approx(0.01), "feature.rooms": 1.0}


def test_the_steps_of_images_are_those_of_their_size() -> None:
    found = resolutions(image_rows(3, 1), IMAGES)
    assert found == {f"feature.image.{name}": step for name, step in image_resolutions(8, 8).items()}
    assert resolutions(image_rows(2, 1).slice(0, 0), IMAGES) == {}
