"""What kind a column is, why, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from augment._png import encode_pngs
from augment.columns import KINDS
from augment.errors import InputError
from augment.ingest._inference import conform, infer_schema
from augment.schema import IMAGE_TYPE, ColumnSchema, DatasetSchema, KindName


def batches(columns: dict[str, Any], size: int = 7) -> list[pa.RecordBatch]:
    return pa.table(columns).to_batches(max_chunksize=size)


def infer(columns: dict[str, Any], label: str | None = None, **declared: Any) -> tuple[DatasetSchema, list[str]]:
    return infer_schema(batches(columns), label=label, declared=declared, where="rows.csv")


def texts(*values: str | None, times: int = 4) -> pa.Array:
    return pa.array(list(values) * times, pa.string())


def column_of(values: pa.Array, name: str = "x", **declared: Any) -> tuple[str, str, int | None]:
    filler = pa.array(np.linspace(0, 1, len(values)) ** 2)
    column = infer({name: values, "other": filler}, **declared)[0].column(name)
    return column.kind, column.type, column.decimals


def conformed(values: pa.Array, **declared: Any) -> list[Any]:
    columns = {"x": values, "other": pa.array(np.linspace(0, 1, len(values)) ** 2)}
    schema = infer(columns, **declared)[0]
    return pa.Table.from_batches([conform(b, schema) for b in batches(columns)])["x"].to_pylist()


def test_a_run_file_may_name_every_kind_and_no_other() -> None:
    names = TypeAdapter(dict[str, KindName])
    assert names.json_schema()["additionalProperties"] == {"type": "string", "enum": list(KINDS)}
    assert names.validate_python({name: name for name in KINDS})
    with pytest.raises(ValidationError, match=r"Input should be 'image', .*'integer'"):
        names.validate_python({"legs": "integr"})


def test_a_column_is_offered_to_the_kinds_in_their_order() -> None:
    assert list(KINDS) == ["image", "boolean", "ignore", "integer", "numeric", "categorical"]


def test_a_type_that_no_kind_brings_is_refused() -> None:
    with pytest.raises(ValidationError, match="'flot64' is no stored type; did you mean 'float64'"):
        ColumnSchema(name="x", kind="numeric", type="flot64", reason="declared")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "2", "30", "-4"), ("integer", "int64", 0)),
        ((" 1", "2 ", "30"), ("integer", "int64", 0)),
        (("1", None, "3"), ("integer", "int64", 0)),
        (("1", "2.5", "3"), ("numeric", "float64", 1)),
        (("0.50", "1.25"), ("numeric", "float64", 2)),
        (("1e-3", "2.5"), ("numeric", "float64", None)),
        (("00123", "00456"), ("categorical", "string", None)),
        (("+1", "+2"), ("categorical", "string", None)),
        (("9223372036854775808", "1"), ("categorical", "string", None)),
        (("true", "false"), ("boolean", "bool", None)),
        (("true", None), ("boolean", "bool", None)),
        (("yes", "no"), ("categorical", "string", None)),
        (("True", "False"), ("categorical", "string", None)),
        (("red", "blue", None), ("categorical", "string", None)),
        (("2024-01-31", "2024-02-01"), ("ignore", "string", None)),
        (("31.01.2024", "01.02.2024"), ("ignore", "string", None)),
        ((None, None), ("ignore", "string", None)),
    ],
)
def test_text_is_told_by_what_all_of_it_is(values: tuple[str, ...], expected: tuple[str, str, int | None]) -> None:
    assert column_of(texts(*values)) == expected


def test_a_text_that_is_no_number_in_a_late_batch_is_noticed() -> None:
    assert column_of(pa.array([*(["1", "2"] * 10), "unknown"]))[0] == "categorical"
    assert column_of(pa.array([*(["1", "2"] * 10), "2.75"])) == ("numeric", "float64", 2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, 2, None, 2] * 3, pa.int32()), ("integer", "int64", 0)),
        (pa.array([0.5, 0.25] * 5), ("numeric", "float64", 2)),
        (pa.array([1.0, 2.0, None] * 4), ("numeric", "float64", 0)),
        (pa.array(np.random.default_rng(0).normal(size=30)), ("numeric", "float64", None)),
        (pa.array([True, False] * 6), ("boolean", "bool", None)),
        (pa.array(["a", "b"] * 6).dictionary_encode(), ("categorical", "string", None)),
        (pa.array([0, 86_400] * 6, pa.timestamp("s")), ("ignore", "timestamp", None)),
        (pa.nulls(12), ("ignore", "string", None)),
        (pa.array([2**63, 1] * 6, pa.uint64()), ("categorical", "string", None)),
    ],
)
def test_typed_columns_keep_their_types(values: pa.Array, expected: tuple[str, str, int | None]) -> None:
    assert column_of(values) == expected


def test_text_of_a_typed_source_stays_text() -> None:
    columns = {"code": texts("1", "2"), "x": pa.array(np.arange(8) ** 0.5)}
    schema, _ = infer_schema(batches(columns), label=None, declared={}, where="x", parse_text=False)
    assert (schema.column("code").kind, schema.column("code").type) == ("categorical", "string")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("name", [f"person {i * 7919 % 100}" for i in range(100)]),
        ("customer_id", [(i * 7919) % 1009 for i in range(100)]),
        ("customerId", [str((i * 7919) % 1009) for i in range(100)]),
        ("nr", list(range(1, 101))),
        ("countdown", list(range(100, 0, -1))),
        ("note", [f"a long story about the customer of the {i}th day, told at some length" for i in range(100)]),
    ],
)
def test_ids_and_free_text_are_ignored_aloud(name: str, values: list[Any]) -> None:
    schema, notes = infer({name: pa.array(values), "x": pa.array(np.sin(np.arange(100)))})
    assert schema.column(name).kind == "ignore"
    assert [f"the column '{name}' is ignored" in note for note in notes] == [True]


def test_repeating_free_text_with_too_many_values_is_ignored() -> None:
    values = [f"street {i % 150}" for i in range(600)]
    assert column_of(pa.array(values))[0] == "ignore"


def test_unique_measurements_are_no_ids() -> None:
    generator = np.random.default_rng(0)
    assert column_of(pa.array(generator.integers(0, 10**6, 200)), name="income")[0] == "integer"
    assert column_of(pa.array([f"{v:.4f}" for v in generator.normal(size=200)]), name="height")[0] == "numeric"


def test_declared_kinds_go_first() -> None:
    assert column_of(texts("1", "2", "3"), x="categorical") == ("categorical", "int64", None)
    assert column_of(texts("1.10", "1.1"), x="categorical") == ("categorical", "string", None)
    assert column_of(texts("1", "2"), x="ignore") == ("ignore", "int64", None)
    assert column_of(texts("yes", "no"), x="boolean") == ("boolean", "string", None)
    assert column_of(texts("1", "2"), x="numeric") == ("numeric", "int64", 0)
    assert column_of(texts("1e999", "2"), x="ignore") == ("ignore", "string", None)


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        (("a", "1"), "integer", "declared integer"),
        (("1.5", "1"), "integer", "declared integer"),
        (("a", "1"), "numeric", "declared numeric"),
        (("a", "b", "c"), "boolean", "more than two different values"),
        (("a", "b"), "image", "declared image"),
    ],
)
def test_a_declared_kind_that_cannot_be_is_refused(values: tuple[str, ...], kind: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        column_of(texts(*values), x=kind)


def test_an_unknown_declared_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'colour'.*did you mean 'color'"):
        infer({"color": texts("a", "b")}, colour="categorical")


@pytest.mark.parametrize("bad", ["1e999", "NaN", "inf", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused_with_column_and_row(bad: str) -> None:
    with pytest.raises(InputError, match=rf"column 'x' of rows.csv holds '{bad}' in row 11"):
        column_of(pa.array([*["1.5", "2.5"] * 5, bad, "3.5"]))
    with pytest.raises(InputError, match=r"column 'x' of rows.csv holds 'nan' in row 3"):
        column_of(pa.array([1.0, 2.0, float("nan")] * 4))


def test_large_integers_survive() -> None:
    values = ["9007199254740993", "-9223372036854775808", "9223372036854775807", None] * 3
    assert conformed(pa.array(values)) == [None if v is None else int(v) for v in values]


def test_blanks_around_numbers_are_no_part_of_them() -> None:
    assert conformed(pa.array([" 1", "2 ", " 30 "] * 3)) == [1, 2, 30] * 3
    assert conformed(pa.array([" 1.5", "2 ", " 30 "] * 3)) == [1.5, 2.0, 30.0] * 3
    assert conformed(pa.array([" true", "false"] * 5)) == [" true", "false"] * 5


def test_codes_and_overflowing_integers_survive_as_text() -> None:
    for values in (["00123", "00456"] * 5, ["9223372036854775808", "17"] * 5):
        assert conformed(pa.array(values)) == values


def test_a_constant_column_is_a_feature_and_an_empty_one_is_ignored() -> None:
    schema, notes = infer({"same": texts("5"), "none": texts(None), "x": pa.array([0.1, 0.7, 0.3, 0.7])})
    assert schema.column("same").kind == "integer"
    assert schema.column("none").kind == "ignore"
    assert any("only missing values" in note for note in notes)


def test_a_table_of_only_missing_values_is_refused() -> None:
    with pytest.raises(InputError, match="only missing values"):
        infer({"a": texts(None), "b": texts(None), "y": texts("u", times=4)}, label="y")


def test_a_table_of_ignored_columns_is_refused() -> None:
    with pytest.raises(InputError, match="no column to learn from"):
        infer({"when": texts("2024-01-01", "2024-01-02")})


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="holds no rows"):
        infer_schema([pa.record_batch({"a": pa.array([], pa.string())})], label=None, declared={}, where="x")


def test_labels_keep_their_types_and_are_sorted() -> None:
    x = pa.array(np.sin(np.arange(12)))
    for values, classes in (
        (["10", "9", "2"], (2, 9, 10)),
        (["b", "a", None], ("a", "b")),
        (["true", "false", "true"], (False, True)),
        (["1.0", "2.0", "1.0"], (1, 2)),
        (["00", "01", "00"], ("00", "01")),
    ):
        assert infer({"x": x, "y": texts(*values)}, label="y")[0].classes == classes
    schema, notes = infer({"x": x, "y": pa.array([1.0, 0.0, None] * 4)}, label="y")
    assert (schema.classes, schema.column("y").type) == ((0, 1), "int64")
    assert "integers" in notes[0]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (pa.array(np.arange(1200) / 7), "numbers with decimals"),
        (pa.array(np.arange(1200)), "more than"),
        (pa.array([f"{i / 8}" for i in range(1200)]), "numbers with decimals"),
        (pa.array([f"name {i}" for i in range(1200)]), "1200 different values"),
        (pa.nulls(1200, pa.string()), "only missing values"),
        (pa.array(np.arange(1200), pa.timestamp("s")), "holds times"),
    ],
)
def test_a_label_that_is_no_class_is_refused(values: pa.Array, says: str) -> None:
    with pytest.raises(InputError, match=says):
        infer({"x": pa.array(np.sin(np.arange(1200))), "y": values}, label="y")


def test_a_missing_label_column_is_refused() -> None:
    with pytest.raises(InputError, match=r"the label column 'clas' is not in rows.csv; did you mean 'class'"):
        infer({"x": texts("1", "2"), "class": texts("a", "b")}, label="clas")


def images(pixels: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array([{"bytes": data, "path": None} for data in encode_pngs(pixels.astype(np.uint8))], IMAGE_TYPE)


def test_an_image_column_cannot_be_mixed_with_other_features() -> None:
    columns = {"image": images(np.zeros((4, 2, 3))), "age": pa.array([1, 5, 2, 5])}
    with pytest.raises(InputError, match=r"'image'.*cannot be mixed with other features \(age\)"):
        infer(columns)
    schema, _ = infer(columns, age="ignore")
    assert schema.column("image").reason == "it holds grey images of 3 x 2"


def test_images_of_mixed_sizes_or_without_bytes_are_refused() -> None:
    mixed = pa.concat_arrays([images(np.zeros((3, 2, 3))), images(np.zeros((1, 3, 2)))])
    with pytest.raises(InputError, match=r"image in row 4 of rows.csv"):
        infer({"image": mixed})
    missing = pa.concat_arrays([images(np.zeros((3, 2, 3))), pa.nulls(1, IMAGE_TYPE)])
    with pytest.raises(InputError, match="lacks an image in 1 of 4 rows"):
        infer({"image": missing})
    broken = pa.array([{"bytes": b"\x89PNG\r\n\x1a\nhalf", "path": None}], IMAGE_TYPE)
    with pytest.raises(InputError, match=r"in row 1 of rows.csv"):
        infer({"image": broken})


def test_types_that_cannot_be_stored_are_refused() -> None:
    with pytest.raises(InputError, match=r"the column 'x' of rows.csv has the type list"):
        infer({"x": pa.array([[1], [2]])})


def test_a_batch_that_lacks_a_column_is_refused() -> None:
    schema, _ = infer({"a": texts("1", "2"), "b": texts("u", "v")})
    with pytest.raises(InputError, match="lacks the column 'b'"):
        conform(pa.record_batch({"a": texts("1")}), schema)


def test_whole_numbers_with_an_exponent_are_classes() -> None:
    schema, notes = infer({"x": pa.array(np.linspace(0, 1, 8) ** 2), "y": texts("1e3", "2.0")}, label="y")
    assert schema.classes == (2, 1000)
    assert "stored as integers" in notes[0]
    batch = batches({"x": pa.array(np.linspace(0, 1, 8) ** 2), "y": texts("1e3", "2.0")}, size=8)[0]
    assert conform(batch, schema)["y"].to_pylist() == [1000, 2] * 4


@pytest.mark.parametrize("values", [texts("1e20", "2e20"), pa.array([1e20, 2e20])])
def test_floating_point_labels_that_are_not_exact_are_refused(values: pa.Array) -> None:
    with pytest.raises(InputError, match=r"beyond 2\^53"):
        infer({"x": pa.array(np.linspace(0, 1, len(values))), "y": values}, label="y")


@pytest.mark.parametrize("kind", ["ignore", "image", "numeric"])
def test_a_label_that_is_declared_to_be_no_class_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match=f"declares the label column 'y' of rows.csv to be {kind}"):
        infer({"x": pa.array(np.linspace(0, 1, 8)), "y": texts("a", "b")}, label="y", y=kind)


def test_classes_that_read_alike_are_said_aloud() -> None:
    names = ["bee", "Bee", "be\u200be", "\u00e9", "e\u0301", "ant"]
    notes = infer({"x": pa.array(np.linspace(0, 1, 24) ** 2), "y": texts(*names)}, label="y")[1]
    assert len(notes) == 2
    assert "'Bee', 'bee', 'be\\u200be'" in notes[0]
    assert "'e\\u0301', '\\xe9'" in notes[1]


@pytest.mark.parametrize("values", [texts("1", "q"), pa.array([True, False]), images(np.zeros((2, 3, 3), np.uint8))])
def test_later_rows_of_another_family_are_refused(values: pa.Array) -> None:
    first = pa.record_batch({"x": pa.array([0.5, 1.5]), "z": pa.array([0.1, 0.7])})
    other = pa.record_batch({"x": values[:2], "z": pa.array([0.3, 0.9])})
    with pytest.raises(InputError, match=r"the column 'x' of rows.csv holds values of the type .* after others"):
        infer_schema([first, other], label=None, declared={}, where="rows.csv", parse_text=False)


def test_dates_beyond_the_year_9999_are_kept() -> None:
    far = pa.array([2**60] * 8, pa.timestamp("us"))
    assert column_of(far) == ("ignore", "timestamp", None)
