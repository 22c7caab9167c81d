"""Whole rows to tensors and back, and what a row's content hash sees of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from augment._hashing import MISSING, SEEDS, as_hex, content_hashes, hash_pairs, rows_sha256
from augment._png import encode_pngs
from augment.codec import Codec
from augment.ingest._inference import conform, infer_schema
from augment.schema import IMAGE_TYPE, DatasetSchema

ROWS = 60


def table(**changes: Any) -> dict[str, pa.Array]:
    generator = np.random.default_rng(1)
    columns = {
        "size": pa.array([f"{v:.2f}" if v < 1 else None for v in generator.normal(size=ROWS)]),
        "shade": pa.array(["red", "green", None, "blue"] * (ROWS // 4)),
        "legs": pa.array([str(v) for v in generator.integers(100, 110, ROWS)]),
        "tame": pa.array(["true", "false"] * (ROWS // 2)),
        "when": pa.array(["2024-01-31"] * ROWS),
        "kind": pa.array(["b", "a", None] * (ROWS // 3)),
    }
    return {**columns, **changes}


def prepared(columns: dict[str, pa.Array], label: str | None) -> tuple[DatasetSchema, pa.RecordBatch]:
    raw = pa.table(columns).combine_chunks().to_batches()
    schema, _ = infer_schema(raw, label=label, declared={}, where="rows.csv")
    return schema, conform(raw[0], schema)


def fitted(label: str | None = "kind") -> tuple[Codec, pa.RecordBatch]:
    schema, batch = prepared(table(), label)
    return Codec.fit(lambda _names: [batch.slice(0, 25), batch.slice(25)], schema, 5), batch


def test_a_mixed_table_comes_back_but_for_ignored_columns(tmp_path: Path) -> None:
    codec, batch = fitted()
    codec.save(tmp_path / "codec.json")
    loaded = Codec.load(tmp_path / "codec.json")
    assert loaded == codec
    x, y = loaded.encode(batch, np.random.default_rng(0))
    decoded = loaded.decode(loaded.tensor(x), torch.from_numpy(y))
    assert decoded.schema == loaded.table.arrow_schema
    expected = batch.to_pydict() | {"when": [None] * ROWS}
    assert decoded.to_pydict() == expected


def test_columns_decoded_in_reversed_order_are_caught() -> None:
    codec, batch = fitted()
    x, y = codec.encode(batch, np.random.default_rng(0))
    starts = np.cumsum([0, *(column.shape[0] for column in codec.columns)])
    assert [column.name for column in codec.columns] == ["size", "shade", "legs", "tame"]
    for column, start, stop in zip(codec.columns, starts, starts[1:], strict=False):
        decoded = column.decode(x[:, start:stop], codec.table.column(column.name))
        assert decoded.to_pylist() == batch.column(column.name).to_pylist(), column.name
    whole = codec.decode(codec.tensor(x), torch.from_numpy(y))
    assert whole.column("legs").to_pylist() == batch.column("legs").to_pylist()


def test_the_spec_describes_the_tensor() -> None:
    codec, batch = fitted()
    x, y = codec.encode(batch, np.random.default_rng(0))
    assert codec.spec.shape == (3 + 4 + 1 + 2,)
    assert x.shape == (ROWS, *codec.spec.shape)
    assert x.dtype == np.float32
    assert [(s.kind, s.width) for s in codec.spec.spans] == [
        ("continuous", 1), ("categorical", 2), ("categorical", 4), ("continuous", 1), ("categorical", 2)
    ]  # fmt: skip
    assert codec.spec.num_classes == 2
    assert y.tolist() == [1, 0, -1] * (ROWS // 3)


def test_rows_without_a_label_column_are_all_of_one_class() -> None:
    columns = table()
    del columns["kind"]
    schema, batch = prepared(columns, None)
    codec = Codec.fit(lambda _names: [batch], schema, 5)
    x, y = codec.encode(batch, np.random.default_rng(0))
    assert codec.spec.num_classes == 1
    assert set(y.tolist()) == {0}
    assert codec.decode(codec.tensor(x), torch.from_numpy(y)).schema.names == batch.schema.names


def test_fitting_and_encoding_depend_on_nothing_but_rows_and_seed() -> None:
    first, batch = fitted()
    second, _ = fitted()
    assert first == second
    one = first.encode(batch, np.random.default_rng(3)).x
    assert np.array_equal(one, second.encode(batch, np.random.default_rng(3)).x)


def test_images_are_decoded_from_noise_beyond_their_range() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    array = pa.array([{"bytes": data, "path": None} for data in encode_pngs(pixels)], IMAGE_TYPE)
    schema, batch = prepared({"image": array, "label": pa.array([0, 1, 2] * 2)}, "label")
    codec = Codec.fit(lambda _names: [batch], schema, 0)
    assert codec.spec.shape == (3, 4, 4)
    noise = torch.full((2, 3, 4, 4), 7.0)
    decoded = codec.decode(noise, torch.tensor([2, 0]))
    assert decoded.column("label").to_pylist() == [2, 0]
    assert codec.encode(decoded, np.random.default_rng(0)).x.min() == 255


def hashes(columns: dict[str, Any]) -> list[str]:
    batch = pa.record_batch(columns)
    kinds: dict[str, Any] = {"int64": "integer", "double": "numeric", "string": "categorical", "bool": "boolean"}
    names: dict[str, Any] = {"double": "float64"}
    schema = DatasetSchema.model_validate(
        {
            "columns": [
                {"name": f.name, "kind": kinds[str(f.type)], "type": names.get(str(f.type), str(f.type)), "reason": ""}
                for f in batch.schema
            ],
            "label": None,
            "classes": [],
        }
    )
    return list(content_hashes(batch, schema).to_pylist())


def test_content_hashes_stay_the_same_from_version_to_version() -> None:
    columns = {"a": pa.array([1, None, -3]), "b": pa.array([0.5, 2.0, None]), "c": pa.array(["x", None, "ü"])}
    assert hashes(columns) == PINNED


PINNED = [
    "ed20c95ef4c6ed4fc7f0925f5d93ac81",
    "2870429293f5581ff1fd224d4a6012e4",
    "6592db3c14a82ef762707f929aa24a20",
]


def test_content_hashes_see_values_order_and_what_is_missing() -> None:
    seen = [
        *hashes({"a": pa.array([1, 2, 0, None]), "b": pa.array([2, 1, None, 0])}),
        *hashes({"a": pa.array(["", None, "0"]), "b": pa.array([7, 7, 7])}),
        *hashes({"a": pa.array([0.0, 0.5]), "b": pa.array([True, False])}),
    ]
    assert len(set(seen)) == len(seen)


def test_zero_and_minus_zero_have_one_hash() -> None:
    zero, minus = hashes({"a": pa.array([0.0, -0.0])})
    assert zero == minus


def test_no_number_is_hashed_like_a_missing_one() -> None:
    def unmixed(word: int) -> int:
        """What the finaliser of splitmix64 was given: its steps backwards."""
        mask = 2**64 - 1
        for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, None)):
            value = word
            for _ in range(64 // shift + 1):
                value = word ^ (value >> shift)
            word = value if factor is None else value * pow(factor, -1, 2**64) & mask
        return word

    lanes = [unmixed(int(missing)) ^ int(seed) for missing, seed in zip(MISSING, SEEDS, strict=True)]
    assert lanes[0] != lanes[1]


def test_neither_the_label_nor_ignored_columns_change_a_hash() -> None:
    schema, batch = prepared(table(), "kind")
    other = pa.RecordBatch.from_pydict(
        batch.to_pydict() | {"when": ["2025-02-01"] * ROWS, "kind": ["a"] * ROWS}, schema=batch.schema
    )
    assert content_hashes(batch, schema).equals(content_hashes(other, schema))


def test_images_are_hashed_by_their_pixels() -> None:
    import io

    from PIL import Image

    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    schema, batch = prepared({"image": image_array(encode_pngs(pixels))}, None)
    buffer = io.BytesIO()
    Image.fromarray(pixels[0]).save(buffer, "PNG", optimize=True)
    assert buffer.getvalue() != encode_pngs(pixels)[0]
    other = pa.RecordBatch.from_arrays([image_array([buffer.getvalue()])], schema=batch.schema)
    turned = pa.RecordBatch.from_arrays([image_array(encode_pngs(pixels.reshape(1, 4, 3)))], schema=batch.schema)
    assert content_hashes(batch, schema).equals(content_hashes(other, schema))
    assert not content_hashes(batch, schema).equals(content_hashes(turned, schema))


def test_rows_without_an_image_have_a_hash_too() -> None:
    schema, batch = prepared({"image": image_array(encode_pngs(np.zeros((2, 3, 4), np.uint8)))}, None)
    holes = pa.RecordBatch.from_arrays([batch.column("image").take(pa.array([None, 1, None]))], schema=batch.schema)
    first, second, third = content_hashes(holes, schema).to_pylist()
    assert first == third != second == content_hashes(batch, schema)[1].as_py()


def image_array(files: list[bytes]) -> pa.Array:
    return pa.array([{"bytes": data, "path": None} for data in files], IMAGE_TYPE)


def test_hashes_are_written_as_the_digits_of_their_numbers() -> None:
    schema, batch = prepared(table(), "kind")
    pairs = hash_pairs(batch, schema)
    assert as_hex(pairs).to_pylist() == [f"{high:016x}{low:016x}" for high, low in pairs.tolist()]
    ids = np.arange(ROWS)
    whole = rows_sha256([(ids, pairs)])
    assert rows_sha256([(ids[:7], pairs[:7]), (ids[7:], pairs[7:])]) == whole
    assert rows_sha256([(ids[::-1], pairs[::-1])]) != whole
