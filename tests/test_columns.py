"""Each kind of column: what goes in comes back, and what the model sees has the right distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment._png import decode_pngs, encode_pngs, is_plain
from augment.columns import KINDS, ColumnKind
from augment.columns._quantile import QuantileTransform, normal_quantile
from augment.errors import InputError
from augment.schema import IMAGE_TYPE, ColumnSchema

TYPES: dict[str, Any] = {"numeric": "float64", "integer": "int64", "categorical": "string", "boolean": "bool"}
derandomised = settings(derandomize=True, max_examples=60, deadline=None)


def column(kind: Any, decimals: int | None = None, type_: Any = None) -> ColumnSchema:
    return ColumnSchema(name="x", kind=kind, type=type_ or TYPES[kind], reason="declared", decimals=decimals)


def fitted(values: pa.Array, schema: ColumnSchema) -> ColumnKind:
    """The kind fitted on ``values`` in two arrays, after a trip through JSON."""
    half = len(values) // 2
    arrays = [values.slice(0, half), values.slice(half)]
    kind = KINDS[schema.kind].fit(schema, iter(arrays), np.random.default_rng(0))
    return type(kind).model_validate_json(kind.model_dump_json())


def round_trip(values: pa.Array, schema: ColumnSchema) -> list[Any]:
    kind = fitted(values, schema)
    encoded = kind.encode(values, np.random.default_rng(1))
    assert encoded.dtype == kind.cache_type
    assert encoded.shape == (len(values), *kind.shape)
    assert sum(span.width for span in kind.spans()) == encoded[0].size
    decoded = kind.decode(encoded, schema)
    assert decoded.type == schema.arrow_type
    return list(decoded.to_pylist())


@derandomised
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=200))
def test_integers_that_repeat_come_back_exactly(values: list[int | None]) -> None:
    assert round_trip(pa.array(values * 2, pa.int64()), column("integer")) == values * 2


@derandomised
@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200))
def test_numbers_that_repeat_come_back_exactly(values: list[float | None]) -> None:
    assert round_trip(pa.array(values * 2, pa.float64()), column("numeric")) == values * 2


def test_values_that_occur_once_are_points_of_a_continuum() -> None:
    values = pa.array(np.random.default_rng(0).normal(size=100))
    schema = column("numeric")
    kind = fitted(values, schema)
    assert round_trip(values, schema) == pytest.approx(values.to_pylist(), rel=1e-5, abs=1e-6)
    drawn = kind.decode(np.random.default_rng(1).standard_normal((100, 1)).astype(np.float32), schema).to_numpy()
    assert len(set(drawn) & set(values.to_pylist())) <= 2  # the ends, beyond which nothing is drawn


@derandomised
@given(st.integers(0, 4), st.integers(0, 10**6), st.booleans())
def test_many_different_numbers_come_back_within_half_a_last_decimal(decimals: int, seed: int, skewed: bool) -> None:
    draws = np.random.default_rng(seed).normal(size=2_000)
    # Some 10,000 steps of the last decimal: a 32-bit float tells no more apart in a long tail.
    values = np.round((np.exp(draws) if skewed else draws) * 500 / 10**decimals, decimals)
    back = np.array(round_trip(pa.array(values), column("numeric", decimals)))
    assert np.abs(back - values).max() <= 0.5 * 10.0**-decimals
    assert (np.round(back, decimals) == back).all()


@derandomised
@given(st.lists(st.none() | st.text(max_size=5), min_size=1, max_size=100))
def test_categories_come_back_exactly(values: list[str | None]) -> None:
    assert round_trip(pa.array(values, pa.string()), column("categorical")) == values


@pytest.mark.parametrize("values", [[True, False, True], [True, True], [None, False, True], [None, None]])
def test_booleans_come_back_exactly(values: list[bool | None]) -> None:
    assert round_trip(pa.array(values, pa.bool_()), column("boolean")) == values


@pytest.mark.parametrize("values", [[3, 1, None, 3], [9007199254740993, 9007199254740992, None]])
def test_integer_categories_stay_integers(values: list[int | None]) -> None:
    assert round_trip(pa.array(values, pa.int64()), column("categorical", type_="int64")) == values


def test_ignored_columns_have_no_width_and_come_back_empty() -> None:
    schema = column("ignore", type_="timestamp")
    kind = KINDS["ignore"].fit(schema, [], np.random.default_rng(0))
    encoded = kind.encode(pa.array([1, 2], pa.timestamp("us")), np.random.default_rng(0))
    assert encoded.shape == (2, 0)
    assert kind.decode(encoded, schema).to_pylist() == [None, None]


def test_a_column_of_mostly_zeros_is_normally_distributed_and_keeps_its_marginal() -> None:
    generator = np.random.default_rng(3)
    gains = np.where(generator.random(20_000) < 0.92, 0, generator.integers(1, 100, 20_000))
    schema = column("integer")
    kind = fitted(pa.array(gains), schema)
    encoded = kind.encode(pa.array(gains), generator)[:, 0]
    assert abs(encoded.mean()) < 0.02
    assert abs(encoded.std() - 1) < 0.02
    drawn = np.array(kind.decode(generator.standard_normal((20_000, 1)), schema).to_pylist())
    assert abs((drawn == 0).mean() - (gains == 0).mean()) < 0.01


def test_a_continuous_column_is_normally_distributed_and_keeps_its_range() -> None:
    generator = np.random.default_rng(4)
    values = generator.exponential(size=20_000)
    schema = column("numeric")
    kind = fitted(pa.array(values), schema)
    encoded = kind.encode(pa.array(values), generator)[:, 0]
    assert abs(encoded.mean()) < 0.02
    assert abs(encoded.std() - 1) < 0.02
    drawn = np.array(kind.decode(10 * generator.standard_normal((5_000, 1)), schema).to_pylist())
    assert drawn.min() == values.min()
    assert drawn.max() == values.max()


def test_a_spike_among_many_different_values_keeps_its_share() -> None:
    generator = np.random.default_rng(5)
    values = np.where(generator.random(20_000) < 0.5, 2.0, generator.normal(2, 1, 20_000))
    schema = column("numeric")
    kind = fitted(pa.array(values), schema)
    back = np.array(kind.decode(kind.encode(pa.array(values), generator), schema).to_pylist())
    assert ((back == 2.0) == (values == 2.0)).mean() > 0.999
    drawn = np.array(kind.decode(generator.standard_normal((20_000, 1)), schema).to_pylist())
    assert abs((drawn == 2.0).mean() - 0.5) < 0.02


def test_missing_values_leave_the_number_normally_distributed() -> None:
    generator = np.random.default_rng(6)
    values = generator.integers(0, 50, 10_000)
    array = pa.array(values, mask=values < 25)
    kind = fitted(array, column("integer"))
    encoded = kind.encode(array, generator)
    assert [span.kind for span in kind.spans()] == ["continuous", "categorical"]
    assert abs(encoded[:, 0].mean()) < 0.04
    assert abs(encoded[:, 0].std() - 1) < 0.04
    assert encoded[:, 2].sum() == array.null_count


def test_integers_beyond_the_knots_stay_within_their_range() -> None:
    values = np.arange(-1_500, 1_501) * 2**52
    values[[0, -1]] = -(2**63), 2**63 - 1
    schema = column("integer")
    back = fitted(pa.array(values), schema).decode(np.array([[-9.0], [9.0]]), schema).to_pylist()
    assert back[0] == -(2**63)
    assert 2**63 - 2**11 <= back[1] <= 2**63 - 1


def test_values_that_no_training_row_has_are_encoded_as_the_nearest() -> None:
    few = fitted(pa.array([1, 5, 9] * 2), column("integer"))
    encoded = few.encode(pa.array([2, 100, None, -4]), np.random.default_rng(0))
    assert few.decode(encoded, column("integer")).to_pylist()[:2] == [1, 9]
    many = fitted(pa.array(np.arange(1_000.0)), column("numeric"))
    encoded = many.encode(pa.array([-5.0, 5_000.0]), np.random.default_rng(0))
    assert many.decode(encoded, column("numeric")).to_pylist() == pytest.approx([0.0, 999.0], abs=1e-4)


def test_a_category_that_no_training_row_has_is_taken_for_a_missing_one_or_the_commonest() -> None:
    schema = column("categorical")
    nullable = fitted(pa.array(["a", "b", None]), schema)
    complete = fitted(pa.array(["a", "b", "b"]), schema)
    for kind, expected in ((nullable, None), (complete, "b")):
        encoded = kind.encode(pa.array(["zebra"]), np.random.default_rng(0))
        assert kind.decode(encoded, schema).to_pylist() == [expected]


def test_too_many_categories_are_refused() -> None:
    with pytest.raises(InputError, match="more than 1000 categories"):
        fitted(pa.array([f"v{i}" for i in range(5_000)]), column("categorical"))


def test_large_columns_are_sampled_in_bounded_memory_and_keep_their_quantiles() -> None:
    generator = np.random.default_rng(7)
    schema = column("numeric")
    arrays = (pa.array(generator.normal(3, 2, 50_000)) for _ in range(6))
    kind = KINDS["numeric"].fit(schema, arrays, np.random.default_rng(0))
    middle = kind.decode(np.array([[-1.0], [0.0], [1.0]]), schema).to_pylist()
    assert middle == pytest.approx([1, 3, 5], abs=0.05)
    assert len(kind.model_dump_json()) < 100_000


def test_normal_quantiles_are_those_of_the_distribution() -> None:
    from statistics import NormalDist

    shares = np.array([1e-7, 0.01, 0.5, 0.975])
    assert normal_quantile(shares) == pytest.approx([NormalDist().inv_cdf(s) for s in shares])


def images(pixels: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array([{"bytes": data, "path": None} for data in encode_pngs(pixels.astype(np.uint8))], IMAGE_TYPE)


@pytest.mark.parametrize(
    ("shape", "num_levels"), [((9, 4, 5), 17), ((9, 4, 5, 3), 256), ((9, 4, 5), 1), ((9, 1, 1), 2)]
)
def test_images_come_back_pixel_by_pixel(shape: tuple[int, ...], num_levels: int) -> None:
    generator = np.random.default_rng(0)
    greys = np.sort(generator.permutation(256)[:num_levels])
    pixels = greys[generator.integers(0, num_levels, shape)].astype(np.uint8)
    schema = column("image", type_="image")
    kind = fitted(images(pixels), schema)
    encoded = kind.encode(images(pixels), generator)
    assert encoded.dtype == np.uint8
    assert encoded.shape == (9, 3 if len(shape) == 4 else 1, *shape[1:3])
    import torch

    tensor = kind.tensor(torch.from_numpy(encoded))
    assert tensor.dtype == torch.float32
    assert tensor.abs().max() <= 1
    decoded = kind.decode(tensor.numpy(), schema)
    assert (decode_pngs(decoded.field("bytes").to_pylist(), "x") == pixels).all()


def test_few_grey_levels_are_spread_evenly() -> None:
    import torch

    pixels = np.array([[[0, 10, 255]]])
    kind = fitted(images(np.concatenate([pixels, pixels])), column("image", type_="image"))
    encoded = kind.encode(images(pixels), np.random.default_rng(0))
    assert encoded.ravel().tolist() == [0, 1, 2]
    assert kind.tensor(torch.from_numpy(encoded)).ravel().tolist() == [-1, 0, 1]
    assert kind.spans()[0].levels == 3


def test_plain_png_files_are_what_other_readers_see() -> None:
    import io

    from PIL import Image

    for shape in ((2, 3, 4), (2, 3, 4, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        files = encode_pngs(pixels)
        assert all(is_plain(data) for data in files)
        assert (np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in files]) == pixels).all()
        assert (decode_pngs(files, "x") == pixels).all()


def test_a_damaged_png_is_not_plain() -> None:
    data = encode_pngs(np.full((1, 8, 8), 77, np.uint8))[0]
    assert not is_plain(data[:-3])
    assert not is_plain(data[:45] + b"\0" + data[46:])
    with pytest.raises(InputError):
        decode_pngs([data[:45]], "in row 1")


def test_the_largest_numbers_survive_between_knots() -> None:
    values = np.linspace(-1, 1, 1200) * 1e308
    transform = QuantileTransform.fit([values], np.random.default_rng(0))
    assert not transform.exact
    normal = transform.encode(values, np.random.default_rng(0))
    assert np.isfinite(normal).all()
    assert np.allclose(transform.decode(normal, np.float64), values, rtol=1e-3, atol=1e306)


@pytest.mark.parametrize("shape", [(0, 8, 8), (0, 8, 8, 3)])
def test_no_images_are_no_files(shape: tuple[int, ...]) -> None:
    assert encode_pngs(np.zeros(shape, np.uint8)) == []
