"""Parquet files: types that are kept, types that are refused, damage."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from _made_sources import PIXELS, SOURCES, make_parquet, table
from pyarrow import parquet

from augment._png import encode_pngs
from augment.errors import InputError
from augment.schema import IMAGE_TYPE
from augment.sources._contract import Source


def written(folder: Path, **columns: Any) -> Source:
    path = folder / "table.parquet"
    parquet.write_table(pa.table(columns), path)
    return SOURCES["parquet"](path=path)


def test_typed_columns_keep_their_types(tmp_path: Path) -> None:
    day, hour = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
    rows = table(
        written(
            tmp_path,
            small=pa.array([1, None], pa.int8()),
            big=pa.array([9007199254740993, None], pa.uint64()),
            half=pa.array([0.5, None], pa.float32()),
            price=pa.array([decimal.Decimal("1.10"), None]),
            flag=[True, None],
            code=["00123", "NA"],
            coded=pa.array(["x", None]).dictionary_encode(),
            day=pa.array([day, None]),
            hour=pa.array([hour, None], pa.timestamp("ns", "Europe/Berlin")),
            nothing=pa.nulls(2),
        )
    )
    assert [str(t) for t in rows.schema.types] == [
        "int64", "int64", "double", "double", "bool", "string", "string", "timestamp[us]", "timestamp[us]", "string",
    ]  # fmt: skip
    first = rows.slice(0, 1).to_pylist()[0]
    assert first["big"] == 9007199254740993
    assert (first["price"], first["code"], first["coded"]) == (1.1, "00123", "x")
    assert (first["day"], first["hour"]) == (dt.datetime(2024, 2, 29), dt.datetime(2024, 2, 29, 12))
    assert [value for name, value in rows.slice(1, 1).to_pylist()[0].items() if name != "code"] == [None] * 9


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1, 2]]),
        pa.array([{"x": 1}]),
        pa.array([dt.time(1)]),
        pa.array([dt.timedelta(1)]),
        pa.array([b"no image"]),
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
    ],
    ids=lambda values: str(values.type),
)
def test_a_type_that_cannot_be_stored_is_refused_with_its_column(tmp_path: Path, values: pa.Array) -> None:
    with pytest.raises(InputError, match=r"the column 'odd' of .*table.parquet"):
        table(written(tmp_path, fine=[1], odd=values))


def test_binary_columns_of_images_become_images(tmp_path: Path) -> None:
    data = encode_pngs(PIXELS)[:2]
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        rows = table(written(tmp_path, image=pa.array([*data, None], kind)))
        assert rows["image"].type == IMAGE_TYPE
        assert [value and value["bytes"] for value in rows["image"].to_pylist()] == [*data, None]


def test_images_that_are_only_named_are_refused(tmp_path: Path) -> None:
    named = pa.array([{"bytes": None, "path": "/etc/hostname"}], IMAGE_TYPE)
    with pytest.raises(InputError, match=r"the column 'image'.*without holding their bytes"):
        table(written(tmp_path, image=named))


def test_a_broken_image_in_a_table_is_named_by_its_row(tmp_path: Path) -> None:
    data = encode_pngs(PIXELS)[:2]
    with pytest.raises(InputError, match=r"in row 2 of .*table.parquet, column 'photo' is broken"):
        table(written(tmp_path, photo=[data[0], data[1][:90]]))


def test_what_pandas_left_in_the_metadata_is_not_read(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({0: [1, 2], 1: ["a", "b"]}, index=pd.Index([7, 8], name="row"))
    frame.to_parquet(tmp_path / "frame.parquet")
    hostile = pa.table({"x": [1]}).replace_schema_metadata({"pandas": "not json", "ARROW:extension:name": "evil"})
    parquet.write_table(hostile, tmp_path / "hostile.parquet")
    assert table(SOURCES["parquet"](path=tmp_path / "frame.parquet")).column_names == ["0", "1", "row"]
    assert table(SOURCES["parquet"](path=tmp_path / "hostile.parquet")).to_pydict() == {"x": [1]}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (pa.table({"b": [1]}), "differ in their columns"),
        (pa.table({"a": ["x"]}), "differ in the type of the column 'a'"),
        (pa.table({"a": [1], "b": [1]}), "differ in the number of their columns"),
    ],
)
def test_parquet_files_that_differ_are_refused(tmp_path: Path, second: pa.Table, message: str) -> None:
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    parquet.write_table(second, tmp_path / "2.parquet")
    with pytest.raises(InputError, match=message):
        table(SOURCES["parquet"](path=tmp_path))


def test_duplicate_columns_of_a_parquet_file_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="2 columns called 'a'"):
        table(SOURCES["parquet"](path=tmp_path / "t.parquet"))


@pytest.mark.parametrize("cut", [0, 3, 40, -20])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, cut: int) -> None:
    settings = make_parquet(tmp_path)
    path = tmp_path / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"part-1.parquet is no whole Parquet file"):
        table(SOURCES["parquet"](**settings))


def test_an_empty_parquet_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no rows"):
        table(written(tmp_path, a=pa.array([], pa.int64())))


def test_a_folder_without_parquet_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".hidden.parquet").write_text("x")
    with pytest.raises(InputError, match="holds no Parquet file"):
        table(SOURCES["parquet"](path=tmp_path))


def test_large_tables_come_in_bounded_batches(tmp_path: Path) -> None:
    source = written(tmp_path, a=np.arange(25_000))
    assert [batch.num_rows for batch in source.read()] == [10_000, 10_000, 5_000]


def test_damage_within_a_parquet_file_is_one_sentence_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    parquet.write_table(pa.table({"x": np.linspace(0, 1, 60), "y": ["a", "b"] * 30}), path)
    whole = path.read_bytes()
    refusals = []
    for place in range(4, len(whole) - 4, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            table(SOURCES["parquet"](path=path))
        except InputError as error:
            refusals.append(str(error))
    assert refusals
    assert not [sentence for sentence in refusals if "\n" in sentence or "\\n" in sentence]


def test_text_of_a_parquet_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ab", b"\xff\xfe"]).buffers())
    with pytest.raises(InputError, match="is no whole Parquet file"):
        table(written(tmp_path, x=broken))


def test_dates_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"column 'x' of .* does not fit into timestamp"):
        table(written(tmp_path, x=pa.array([2**60], pa.timestamp("ms"))))
