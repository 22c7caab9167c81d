"""What every source keeps: order, fingerprint, row limit, rename, a test part; and each kind of typed source."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import shutil
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import TypeAdapter, ValidationError

import augment.sources
from augment.config import RunConfig, absolute_paths, relative_paths
from augment.errors import InputError
from augment.images import decode_image
from augment.plugins import find_plugins
from augment.png import encode_pngs
from augment.schema import IMAGE_TYPE
from augment.sources._contract import Source

SOURCES = find_plugins(augment.sources, Source)  # type: ignore[type-abstract]
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 28, 28)).astype(np.uint8)
LABELS = np.arange(12) % 3


def idx(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())
    return path


def image_table() -> pa.Table:
    images = [{"bytes": data, "path": None} for data in encode_pngs(PIXELS)]
    return pa.table({"image": pa.array(images, IMAGE_TYPE), "label": pa.array(LABELS, pa.int64())})


def make_csv(folder: Path) -> dict[str, Any]:
    (folder / "data.csv").write_text("length,colour,label\n" + "".join(f"{i}.5,red,c{i % 3}\n" for i in range(12)))
    return {"path": folder / "data.csv", "label": "label"}


def make_parquet(folder: Path) -> dict[str, Any]:
    for part in range(2):
        parquet.write_table(image_table().slice(6 * part, 6), folder / f"part-{part}.parquet")
    return {"path": folder, "label": "label"}


def make_image_folder(folder: Path) -> dict[str, Any]:
    for number, data in enumerate(encode_pngs(PIXELS)):
        (folder / f"class-{LABELS[number]}").mkdir(exist_ok=True)
        (folder / f"class-{LABELS[number]}" / f"{number:02}.png").write_bytes(data)
    return {"path": folder}


def make_idx(folder: Path) -> dict[str, Any]:
    return {"images": idx(folder / "images", PIXELS), "labels": idx(folder / "labels", LABELS)}


def make_torchvision(folder: Path) -> dict[str, Any]:
    for part in ("train", "t10k"):
        idx(folder / f"MNIST/raw/{part}-images-idx3-ubyte", PIXELS)
        idx(folder / f"MNIST/raw/{part}-labels-idx1-ubyte", LABELS)
    return {"name": "MNIST", "root": folder}


def make_hugging_face(folder: Path) -> dict[str, Any]:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    saved = datasets.Dataset.from_dict(image_table().to_pydict(), features=features)
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": saved, "test": saved.select(range(3))}).save_to_disk(str(folder))
    return {"path": folder, "label": "label", "split": "train"}


MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "csv": make_csv,
    "parquet": make_parquet,
    "image_folder": make_image_folder,
    "idx": make_idx,
    "torchvision": make_torchvision,
    "hugging_face": make_hugging_face,
}
PACKAGED = ("digits", "wine", "breast_cancer")


@pytest.fixture(params=sorted(SOURCES))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[type[Source], dict[str, Any]]:
    """The class of each source there is, and settings of it that work."""
    kind = request.param
    folder = tmp_path / "here"
    folder.mkdir()
    return SOURCES[kind], {} if kind in PACKAGED else MAKERS[kind](folder)


def table(source: Source) -> pa.Table:
    return pa.Table.from_batches(source.read())


def moved(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The same settings for a copy of the data elsewhere."""
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    return {
        name: tmp_path / "there" / value.relative_to(tmp_path / "here") if isinstance(value, Path) else value
        for name, value in settings.items()
    }


def test_every_kind_of_source_is_tried_here() -> None:
    assert set(SOURCES) == {*MAKERS, *PACKAGED}


def test_every_setting_is_described(made: tuple[type[Source], dict[str, Any]]) -> None:
    kind, _ = made
    assert kind.summary
    assert [name for name, field in kind.model_fields.items() if not field.description and name != "kind"] == []


def test_rows_come_in_the_same_order_twice(made: tuple[type[Source], dict[str, Any]]) -> None:
    source = made[0](**made[1])
    assert table(source).num_rows >= 12
    assert table(source).equals(table(source))


def test_a_source_survives_its_own_json(made: tuple[type[Source], dict[str, Any]]) -> None:
    source = made[0](**made[1])
    assert made[0].model_validate_json(source.model_dump_json()) == source


def test_the_fingerprint_follows_the_bytes_and_not_the_place(
    made: tuple[type[Source], dict[str, Any]], tmp_path: Path
) -> None:
    source = made[0](**made[1])
    other = made[0](**moved(made[1], tmp_path))
    assert other.fingerprint() == source.fingerprint()
    assert source.model_copy(update={"rows": 5}).fingerprint() != source.fingerprint()
    for path in other.files()[:1]:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        assert other.fingerprint() != source.fingerprint()


def test_a_row_limit_takes_the_first_rows(made: tuple[type[Source], dict[str, Any]]) -> None:
    whole = table(made[0](**made[1]))
    assert table(made[0](**made[1], rows=5)).equals(whole.slice(0, 5))
    assert table(made[0](**made[1], rows=10**9)).num_rows == whole.num_rows


@pytest.mark.parametrize("rows", [0, -1, float("nan"), float("inf"), 10**13, 1.5, "many"])
def test_an_absurd_row_limit_is_refused(rows: Any) -> None:
    with pytest.raises(ValidationError):
        SOURCES["digits"](rows=rows)


def test_rename_gives_columns_new_names(made: tuple[type[Source], dict[str, Any]]) -> None:
    settings = {**made[1], "rename": {"label": "species"}}
    if "label" in settings:
        settings["label"] = "species"
    source = made[0](**settings)
    assert "species" in table(source).column_names
    assert source.label_column == "species"


def test_rename_of_an_absent_column_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"source.rename names 'labl'.*did you mean 'label'"):
        table(made[0](**made[1], rename={"labl": "x"}))


def test_a_reserved_column_name_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"'split'.*source.rename"):
        table(made[0](**{**made[1], "label": None}, rename={"label": "split"}))


def test_a_missing_label_column_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"source.label names 'lable'.*did you mean 'label'"):
        table(made[0](**{**made[1], "label": "lable"}))


def test_a_declared_kind_of_an_absent_column_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"source.columns names 'shade'"):
        table(made[0](**made[1], columns={"shade": "categorical"}))


def test_a_test_part_of_its_own_is_read(made: tuple[type[Source], dict[str, Any]], tmp_path: Path) -> None:
    kind, settings = made
    if not settings:
        with pytest.raises(ValidationError, match="the very rows"):
            kind(test={"rows": 3})
        return
    elsewhere = {name: str(value) for name, value in moved(settings, tmp_path).items() if isinstance(value, Path)}
    source = kind(**settings, rows=4, rename={"label": "y"}, test=elsewhere) if "label" not in settings else None
    source = source or kind(**settings, rows=4, test=elsewhere)
    test = source.test_source()
    assert test is not None
    assert table(source).num_rows == 4
    assert table(test).num_rows == 12
    assert test.label_column == source.label_column
    before = source.fingerprint()
    path = test.files()[-1]
    path.write_bytes(path.read_bytes() + b"x")
    assert source.fingerprint() != before


def test_relative_paths_of_the_test_part_start_at_the_run_file(tmp_path: Path) -> None:
    source = {"kind": "csv", "path": "a.csv", "test": {"path": "b.csv"}}
    config = TypeAdapter(RunConfig).validate_python({"source": source})
    assert relative_paths(config)[:2] == ["source.path", "source.test.path"]
    moved_source = absolute_paths(config, tmp_path).source
    assert moved_source.path == tmp_path / "a.csv"
    assert moved_source.test_source().path == tmp_path / "b.csv"
    assert relative_paths(moved_source) == []


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"pth": "b.csv"}, "test.pth is not a setting of csv; did you mean 'path'"),
        ({"path": "a.csv"}, "the very rows"),
        ({"rows": 3}, "the very rows"),
        ({"kind": "wine"}, "another kind"),
        ({"delimiter": "ab"}, "test.delimiter: the delimiter must be one"),
    ],
)
def test_a_test_part_that_cannot_be_is_refused(test: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SOURCES["csv"](path="a.csv", test=test)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = SOURCES["csv"](**make_csv(tmp_path))
    batches = source.read()
    next(batches)
    with (tmp_path / "data.csv").open("a") as file:
        file.write("1.5,red,c1\n")
    with pytest.raises(InputError, match="changed while it was read"):
        list(batches)


def test_digits_spread_their_grey_levels_over_a_byte() -> None:
    from sklearn.datasets import load_digits

    rows = table(SOURCES["digits"]())
    wanted = [[round(v * 255 / 16) for v in row] for row in load_digits().images[7].tolist()]
    assert decode_image(rows["image"][7].as_py()["bytes"], "x").tolist() == wanted
    assert rows["label"].type == pa.int64()
    assert rows.num_rows == 1797


def test_packaged_tables_have_named_columns_and_classes() -> None:
    wine = table(SOURCES["wine"]())
    assert wine.shape == (178, 14)
    assert wine.column_names[0] == "alcohol"
    assert set(wine["label"].to_pylist()) == {"class_0", "class_1", "class_2"}
    assert set(table(SOURCES["breast_cancer"]())["label"].to_pylist()) == {"malignant", "benign"}


# Parquet


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


# torchvision and Hugging Face: what is there already


def test_torchvision_without_a_copy_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no whole copy of torchvision's MNIST and nothing is downloaded") as caught:
        table(SOURCES["torchvision"](name="MNIST", root=tmp_path))
    assert "download=True" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_torchvision_copy_without_labels_is_refused(tmp_path: Path) -> None:
    settings = make_torchvision(tmp_path)
    (tmp_path / "MNIST/raw/train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="no whole copy"):
        table(SOURCES["torchvision"](**settings))


def test_a_damaged_torchvision_copy_is_refused(tmp_path: Path) -> None:
    settings = make_torchvision(tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="MNIST"):
        table(SOURCES["torchvision"](**settings))


def test_torchvision_reads_its_test_part(tmp_path: Path) -> None:
    settings = make_torchvision(tmp_path)
    idx(tmp_path / "MNIST/raw/t10k-images-idx3-ubyte", PIXELS[::-1])
    source = SOURCES["torchvision"](**settings, test={"train": False})
    test = source.test_source()
    assert test is not None
    assert decode_image(table(source)["image"][0].as_py()["bytes"], "x").tolist() == PIXELS[0].tolist()
    assert decode_image(table(test)["image"][0].as_py()["bytes"], "x").tolist() == PIXELS[-1].tolist()


def test_class_labels_of_hugging_face_come_by_name(tmp_path: Path) -> None:
    settings = make_hugging_face(tmp_path)
    source = SOURCES["hugging_face"](**settings, test={"split": "test"})
    rows = table(source)
    assert rows["label"].to_pylist()[:4] == ["a", "b", "c", "a"]
    assert rows["image"].type == IMAGE_TYPE
    test = source.test_source()
    assert test is not None
    assert table(test).num_rows == 3


@pytest.mark.parametrize("split", [None, "valid"])
def test_a_split_must_be_one_of_those_that_are_there(tmp_path: Path, split: str | None) -> None:
    settings = {**make_hugging_face(tmp_path), "split": split}
    with pytest.raises(InputError, match="its splits are: test, train"):
        table(SOURCES["hugging_face"](**settings))


def test_hugging_face_reads_a_folder_of_parquet_files(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"x": datasets.Value("int32"), "label": datasets.ClassLabel(names=["a", "b"])})
    saved = datasets.Dataset.from_dict({"x": [1, 2], "label": [1, -1]}, features=features)
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        saved.to_parquet(str(tmp_path / "data" / f"{name}.parquet"))
    source = SOURCES["hugging_face"](path=tmp_path, split="test", label="label")
    assert [path.name for path in source.files()] == ["test-00000-of-00001.parquet"]
    assert table(source).to_pydict() == {"x": [1, 2], "label": ["b", None]}
    with pytest.raises(InputError, match=r"needs source.split"):
        table(SOURCES["hugging_face"](path=tmp_path))


def test_a_name_on_the_hub_is_one_clear_sentence() -> None:
    with pytest.raises(InputError, match="ylecun/mnist does not exist and nothing is downloaded here"):
        table(SOURCES["hugging_face"](path="ylecun/mnist"))


@pytest.mark.parametrize("cut", [0, 300, -300])
def test_a_damaged_saved_dataset_is_refused(tmp_path: Path, cut: int) -> None:
    settings = make_hugging_face(tmp_path)
    arrow = next((tmp_path / "train").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:cut])
    with pytest.raises(InputError, match="no whole saved dataset"):
        table(SOURCES["hugging_face"](**settings))


# IDX


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_may_be_packed(tmp_path: Path, packed: bool) -> None:
    settings = make_idx(tmp_path)
    if packed:
        settings["images"].write_bytes(gzip.compress(settings["images"].read_bytes()))
    rows = table(SOURCES["idx"](**settings))
    assert [decode_image(v["bytes"], "x").tolist() for v in rows["image"].to_pylist()] == PIXELS.tolist()
    assert rows["label"].to_pylist() == LABELS.tolist()


def test_idx_images_may_have_three_channels_and_no_labels(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    source = SOURCES["idx"](images=idx(tmp_path / "images", colours))
    rows = table(source)
    assert rows.column_names == ["image"]
    assert source.label_column is None
    assert decode_image(rows["image"][3].as_py()["bytes"], "x").tolist() == colours[3].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file of images"),
        (b"\x89PNG\r\n\x1a\n", "is no IDX file of images"),
        (bytes([0, 0, 0x0D, 3]), "is no IDX file of images"),
        (bytes([0, 0, 8, 1]) + struct.pack(">I", 4), "is no IDX file of images"),
        (bytes([0, 0, 8, 3]) + struct.pack(">II", 4, 28), "ends before"),
        (bytes([0, 0, 8, 3]) + struct.pack(">III", 2, 28, 28) + bytes(28 * 28), "ends before"),
        (bytes([0, 0, 8, 3]) + struct.pack(">III", 1, 2, 2) + bytes(5), "holds more than"),
        (bytes([0, 0, 8, 3]) + struct.pack(">III", 2**32 - 1, 2**31, 2**31), "claims to hold"),
        (bytes([0, 0, 8, 3]) + struct.pack(">III", 2**32 - 1, 28, 28), "ends before"),
        (bytes([0, 0, 8, 3]) + struct.pack(">III", 0, 28, 28), "claims to hold 0 x 28"),
        (bytes([0, 0, 8, 4]) + struct.pack(">IIII", 1, 2, 2, 7) + bytes(28), "one or three channels"),
        (gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">III", 12, 28, 28) + PIXELS.tobytes())[:-99], "damaged"),
        (b"\x1f\x8bnonsense", "damaged"),
    ],
)
def test_an_idx_file_that_lies_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(InputError, match=message):
        table(SOURCES["idx"](images=tmp_path / "images"))


def test_labels_of_another_file_of_images_are_refused(tmp_path: Path) -> None:
    settings = make_idx(tmp_path)
    idx(settings["labels"], LABELS[:-1])
    with pytest.raises(InputError, match=r"12 images and .* 11 labels"):
        table(SOURCES["idx"](**settings))


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("parquet", "path"), ("image_folder", "path"), ("idx", "images"), ("csv", "path"), ("hugging_face", "path")],
)
def test_an_absent_path_is_refused(kind: str, setting: str, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", Path("a\0b"), Path("x" * 300)):
        with pytest.raises(InputError, match="does not exist"):
            table(SOURCES[kind](**{setting: path}))
        with pytest.raises(InputError, match="does not exist"):
            SOURCES[kind](**{setting: path}).fingerprint()
