"""The reader: what it gives, what it refuses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from _small_store import IMAGES, Stages, displeased, pleased, small_report, write_stages

from augment import load_dataset
from augment._images import decode_image
from augment._manifest import Counts
from augment.errors import InputError, IntegrityError
from augment.gates import GateResult
from augment.reader import open_staged_dataset, without_hub
from augment.schema import DatasetSchema


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return write_stages(tmp_path / "store")


@pytest.fixture
def folder(stages: Stages) -> Path:
    return Path(stages.publish().path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(write_stages(tmp_path / "store", IMAGES).publish("pictures").path)


def test_a_dataset_opens_at_its_latest_version_and_by_name(stages: Stages, folder: Path) -> None:
    dataset = folder.parent.parent
    assert load_dataset(dataset).version == folder.name
    assert load_dataset(str(dataset), version=folder.name[-12:-4]).path == folder
    assert load_dataset(folder).version == folder.name
    with pytest.raises(InputError, match="has no version"):
        load_dataset(dataset, version="zzzz")
    with pytest.raises(InputError, match="is not the version"):
        load_dataset(folder, version="zzzz")
    with pytest.raises(InputError, match="neither a dataset nor a version"):
        load_dataset(stages.store.root)


def test_the_version_says_what_it_is(folder: Path) -> None:
    opened = load_dataset(folder)
    assert opened.classes == ("ant", "bee", "cow")
    assert opened.schema.label == "species"
    assert opened.card().startswith("---\n")
    assert opened.lineage()["seed"] == 7
    assert opened.gates()[0].gate == "lineage"
    assert opened.report_path.is_file()
    assert opened.picture_path.is_file()


def test_pandas_gets_what_was_published(folder: Path) -> None:
    frame = load_dataset(folder).pandas("train")
    assert len(frame) == 32
    plain = pq.read_table(folder / "data").to_pandas()
    assert frame["sample_weight"].tolist() == pytest.approx(plain["sample_weight"].tolist())
    assert frame.drop(columns="sample_weight").equals(plain.drop(columns="sample_weight"))


def masses(opened: pa.Table) -> dict[str, float]:
    grouped = opened.group_by("species").aggregate([("sample_weight", "sum")])
    return dict(zip(grouped["species"].to_pylist(), grouped["sample_weight_sum"].to_pylist(), strict=True))


def test_weights_are_made_anew_without_synthetic_rows(folder: Path) -> None:
    opened = load_dataset(folder)
    real = opened.arrow("train", synthetic="none")
    assert real.num_rows == 20
    assert masses(real) == pytest.approx({"ant": 20 / 3, "bee": 20 / 3, "cow": 20 / 3})
    only = opened.arrow("train", synthetic="only")
    assert only.num_rows == 12
    assert pc.mean(only["sample_weight"]).as_py() == pytest.approx(1)
    assert opened.arrow("train", ratio=0).equals(real)


def test_weights_follow_the_rows_where_the_plan_did_not_balance(stages: Stages) -> None:
    opened = load_dataset(stages.publish(equal_class_mass=False).path)
    assert set(opened.arrow("train", synthetic="none")["sample_weight"].to_pylist()) == {1.0}


def test_a_ratio_keeps_a_share_of_each_class_and_always_the_same_rows(folder: Path) -> None:
    opened = load_dataset(folder)
    half, most = opened.arrow("train", ratio=0.5), opened.arrow("train", ratio=0.8)
    drawn = half.filter(half["is_synthetic"])
    counts = {c["values"]: c["counts"] for c in pc.value_counts(drawn["species"]).to_pylist()}
    assert counts == {"ant": 2, "bee": 2, "cow": 3}
    assert half.equals(load_dataset(folder).arrow("train", ratio=0.5))
    assert set(half["sample_id"].to_pylist()) <= set(most["sample_id"].to_pylist())
    assert masses(half) == pytest.approx(dict.fromkeys(("ant", "bee", "cow"), half.num_rows / 3))


def test_held_out_rows_are_always_real(folder: Path) -> None:
    opened = load_dataset(folder)
    for split, rows in (("validation", 3), ("test", 6)):
        table = opened.arrow(split, synthetic="all")
        assert (table.num_rows, pc.any(table["is_synthetic"]).as_py()) == (rows, False)
        assert len(opened.torch(split)) == rows
        with pytest.raises(InputError, match="always real"):
            opened.arrow(split, synthetic="only")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("tset",), "did you mean 'test'"), (("train", "some"), "none of 'all'"), (("train", "all", 1.5), "no share"),
     (("train", "all", float("nan")), "no share")],
)  # fmt: skip
def test_unknown_choices_are_refused(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_dataset(folder).arrow(*arguments)  # type: ignore[arg-type]


def test_table_rows_become_numbers(folder: Path) -> None:
    opened = load_dataset(folder)
    rows = opened.torch("train")
    frame = opened.pandas("train")
    assert rows.columns == ("size", "legs", "colour", "tame")
    assert rows.categories == {"colour": ["blue", "green", "red"]}
    x, y, weights = rows.arrays()
    assert x.dtype == np.float32
    assert np.array_equal(x[:, 0], frame["size"].to_numpy(np.float32), equal_nan=True)
    assert np.isnan(x[3, 0])
    assert [None if c < 0 else rows.categories["colour"][int(c)] for c in x[:, 2]] == [
        None if isinstance(c, float) else c for c in frame["colour"]
    ]
    assert [opened.classes[i] for i in y] == frame["species"].tolist()
    assert weights.tolist() == frame["sample_weight"].tolist()
    assert torch.equal(rows.is_synthetic, torch.tensor(frame["is_synthetic"].to_numpy()))
    assert torch.equal(rows[31][0].nan_to_num(9), torch.from_numpy(x[31]).nan_to_num(9))


def test_images_become_tensors(pictures: Path) -> None:
    opened = load_dataset(pictures)
    rows = opened.torch("train")
    pixels = decode_image(opened.arrow("train")["image"][25].as_py()["bytes"], "here")
    x, y = rows[25]
    assert (x.dtype, tuple(x.shape)) == (torch.float32, (1, 6, 5))
    assert torch.equal((x[0] * 255).round().to(torch.uint8), torch.from_numpy(pixels.copy()))
    assert opened.classes[int(y)] in (3, 7)
    given = opened.torch("train", transform=lambda image: image)[25][0]
    assert given.dtype == torch.uint8


def test_every_row_comes_once_without_a_sampler(pictures: Path) -> None:
    rows = load_dataset(pictures).torch("train", synthetic="none")
    assert len(list(rows)) == len(rows) == 20
    assert torch.equal(torch.stack([y for _, y in rows]), rows.y)


def test_the_loader_draws_by_sample_weight(folder: Path) -> None:
    rows = load_dataset(folder).torch("train")
    drawn = torch.cat([y for epoch in range(120) for _, y in rows.loader(batch_size=16, seed=epoch)])
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)  # rows alone would give .47, .28 and .25
    first, again = (torch.cat([y for _, y in rows.loader(batch_size=8, seed=1)]) for _ in range(2))
    assert torch.equal(first, again)
    picked = torch.tensor([i for epoch in range(120) for i in rows.sampler(torch.Generator().manual_seed(epoch))])
    assert rows.is_synthetic[picked].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_rows_without_a_label_are_never_drawn(tmp_path: Path) -> None:
    real = {"train": ["ant", None, "bee", "cow", None], "validation": ["ant"], "test": ["bee"]}
    rows = load_dataset(write_stages(tmp_path, real=real).publish().path).torch("train", synthetic="none")
    assert rows.y.tolist() == [0, -1, 1, 2, -1]
    assert -1 not in torch.cat([y for seed in range(50) for _, y in rows.loader(seed=seed)]).tolist()


def test_the_cache_is_made_once_and_may_be_elsewhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "cache"
    opened = load_dataset(folder.parent.parent, cache_dir=elsewhere)
    opened.torch("train")
    made = {p: p.stat().st_mtime_ns for p in elsewhere.rglob("x.npy")}
    assert len(made) == 2
    assert not (folder.parent.parent / ".cache").exists()
    opened.torch("train", synthetic="none")
    assert made == {p: p.stat().st_mtime_ns for p in elsewhere.rglob("x.npy")}


def test_a_cache_left_half_made_is_made_anew(folder: Path, tmp_path: Path) -> None:
    expected = load_dataset(folder, cache_dir=tmp_path / "one").torch("train").arrays()[0]
    work = tmp_path / "two/animals" / folder.name / ".work-real"
    work.mkdir(parents=True)
    (work / "x.npy").write_bytes(b"half")
    found = load_dataset(folder, cache_dir=tmp_path / "two").torch("train").arrays()[0]
    assert np.array_equal(found, expected, equal_nan=True)
    assert not work.exists()


def test_an_altered_cache_is_made_anew(folder: Path) -> None:
    opened = load_dataset(folder)
    expected = opened.torch("train").arrays()[0]
    file = next((folder.parent.parent / ".cache").rglob("real/x.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert not np.array_equal(load_dataset(folder, verify=False).torch("train").arrays()[0], expected, equal_nan=True)
    assert np.array_equal(opened.torch("train").arrays()[0], expected, equal_nan=True)


@pytest.mark.slow
def test_the_hub_is_only_out_of_reach_while_a_version_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for module in (config, constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    load_dataset(folder).hf("augmented")
    assert "HF_HUB_OFFLINE" not in os.environ
    assert (config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)
    with without_hub():
        assert (config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (True, True)


def test_a_cache_that_cannot_be_written_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="give another cache_dir"):
        load_dataset(folder, cache_dir="/proc/nowhere").torch("train")


def test_other_processes_open_the_cache_for_themselves(folder: Path) -> None:
    part = load_dataset(folder).torch("train")._parts[0]
    part.take(0)
    assert set(part.__getstate__()) == {"file", "rows"}  # and not the mapped array


def test_a_copied_version_opens_anywhere(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "usb" / "stick"
    shutil.copytree(folder, copy.parent / folder.name)
    assert len(load_dataset(copy.parent / folder.name).torch("train")) == 32


def test_refused_data_are_not_opened(stages: Stages) -> None:
    refused = stages.publish(consumer=displeased)
    with pytest.raises(IntegrityError, match="is not blessed"):
        load_dataset(refused.path)
    with pytest.raises(InputError, match="no published version yet"):
        load_dataset(stages.store.root / "datasets/animals")


def test_an_unblessed_version_is_not_opened(folder: Path) -> None:
    (folder / "BLESSED").unlink()
    with pytest.raises(IntegrityError, match="is not blessed"):
        load_dataset(folder.parent.parent)


def test_an_altered_byte_is_refused_unless_told_not_to_look(folder: Path) -> None:
    (folder / "README.md").write_text("other")
    with pytest.raises(IntegrityError, match=r"altered: README\.md"):
        load_dataset(folder)
    assert load_dataset(folder, verify=False).version == folder.name


Change = Callable[[pa.Table], pa.Table]


def column_set(name: str, value: object) -> Change:
    def change(table: pa.Table) -> pa.Table:
        position = table.schema.get_field_index(name)
        values = table.column(name).to_pylist()
        values[-1] = value
        return table.set_column(position, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    return change


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("data/synthetic/train-00000.parquet", column_set("is_synthetic", False), "the column is_synthetic"),
        ("data/synthetic/train-00000.parquet", column_set("is_synthetic", None), "the column is_synthetic"),
        ("data/synthetic/train-00000.parquet", column_set("sample_id", "real-7"), "the column sample_id"),
        ("data/real/train-00000.parquet", column_set("sample_id", "syn-7"), "the column sample_id"),
        ("eval/test-00000.parquet", column_set("is_synthetic", True), "the column is_synthetic"),
        ("eval/test-00000.parquet", column_set("split", "train"), "the column split"),
        ("data/real/train-00000.parquet", lambda t: t.replace_schema_metadata({}), "its metadata"),
        ("data/real/train-00000.parquet", lambda t: t.drop_columns(["size"]), "lacks the column 'size'"),
    ],
)
def test_contradictions_are_refused(folder: Path, file: str, change: Change, said: str) -> None:
    pq.write_table(change(pq.ParquetFile(folder / file).read()), folder / file)
    with pytest.raises(IntegrityError, match=said):
        load_dataset(folder, verify=False)


def test_a_contradiction_in_the_last_rows_of_many_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augment.reader._contradictions.BATCH_ROWS", 3)
    load_dataset(folder, verify=False)
    file = folder / "data/real/train-00000.parquet"
    pq.write_table(column_set("sample_id", "syn-7")(pq.ParquetFile(file).read()), file)
    with pytest.raises(IntegrityError, match="the column sample_id"):
        load_dataset(folder, verify=False)


def test_a_synthetic_file_among_the_real_ones_is_refused(folder: Path) -> None:
    shutil.copyfile(folder / "data/synthetic/train-00000.parquet", folder / "data/real/train-00001.parquet")
    with pytest.raises(IntegrityError, match="says otherwise"):
        load_dataset(folder, verify=False)


def test_a_cut_file_is_refused(folder: Path) -> None:
    file = folder / "eval/test-00000.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(IntegrityError, match="cannot be read as Parquet"):
        load_dataset(folder, verify=False)


def test_the_audit_opens_a_folder_before_it_is_blessed(stages: Stages) -> None:
    opened: list[int] = []

    def consumer(folder: Path, schema: DatasetSchema, counts: Counts) -> GateResult:
        staged = open_staged_dataset(folder, schema)
        opened.append(len(staged.torch("train")) + staged.arrow("test").num_rows + len(staged.card()[:1]))
        return pleased(folder, schema, counts)

    assert stages.publish(consumer=consumer).status == "published"
    assert opened == [32 + 6 + 1]
    assert not (stages.store.root / "datasets/animals/.cache").exists()


def test_mixed_columns_are_read_with_pandas(tmp_path: Path) -> None:
    from _small_store import TABLE, column

    schema = TABLE.model_copy(update={"columns": (column("image", "image", "image"), *TABLE.columns)})
    opened = load_dataset(write_stages(tmp_path, schema).publish(report_writer=small_report).path)
    assert len(opened.pandas("train")) == 32
    with pytest.raises(InputError, match="read it with pandas"):
        opened.torch("train")
