"""Copies that other libraries left on the disk: torchvision, Hugging Face, and the IDX files of MNIST."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from _made_sources import LABELS, PIXELS, SOURCES, idx, make_hugging_face, make_idx, make_torchvision, table

from augment._images import decode_image
from augment.errors import InputError
from augment.schema import IMAGE_TYPE


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
