"""A model that tells classes apart: how well is measured on validation rows, and new rows get labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from _trees import UNLABELLED, make_real

from augment.classifying import CLASSIFIER_FILE, ClassifierRecord, probabilities, write_classifier
from augment.codec import Codec
from augment.config import TrainSection
from augment.errors import InputError
from augment.generation import load_model
from augment.prediction import predict
from augment.report.page import _training
from augment.store import ArtifactRef, Store
from augment.training import train
from models._contract import ClassifiesRows
from models.gan import GanConfig
from models.masked_mlp import MaskedMlpConfig
from models.vae import VaeConfig

TELLING = GanConfig(width=16, loss="non_saturating", techniques={"classify": True})
SHORT = TrainSection(steps=60, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def real(store: Store) -> ArtifactRef:
    return make_real(store)


@pytest.fixture(scope="module", params=[TELLING, MaskedMlpConfig()], ids=lambda config: config.kind)
def model(request: pytest.FixtureRequest, store: Store, real: ArtifactRef) -> ArtifactRef:
    return train(real, request.param, SHORT, 7, store)


@pytest.fixture(scope="module")
def rows(store: Store, real: ArtifactRef) -> pa.Table:
    return pq.read_table(store.path(real) / "validation.parquet")


def label_of(store: Store, model: ArtifactRef) -> str:
    label = Codec.load(store.path(model) / "codec.json").table.label
    assert label is not None
    return label


def test_the_record_counts_the_validation_rows_that_are_recognised(
    store: Store, model: ArtifactRef, rows: pa.Table
) -> None:
    record = ClassifierRecord.model_validate_json((store.path(model) / CLASSIFIER_FILE).read_text())
    truth = [str(value) for value in rows.column(label_of(store, model)).to_pylist()]
    right = np.array(predict(model, rows, store).classes) == np.array(truth)
    assert record.rows == len(truth)
    assert record.accuracy == pytest.approx(right.mean(), abs=1e-4)
    recall = {name: right[np.array(truth) == name].mean() for name in set(truth)}
    assert record.recall == pytest.approx(recall, abs=1e-4)
    assert record.balanced_accuracy == pytest.approx(sum(recall.values()) / len(recall), abs=1e-3)
    assert record.unlabelled == 0


def test_rows_without_a_label_are_not_counted(store: Store, model: ArtifactRef, rows: pa.Table, tmp_path: Path) -> None:
    net, codec = load_model(model, store)
    place = rows.schema.get_field_index(label_of(store, model))
    known = rows.num_rows // 2
    labels = rows.column(place).to_pylist()[:known] + [None] * (rows.num_rows - known)
    field = rows.schema.field(place)
    halved = rows.set_column(place, field, pa.array(labels, field.type))
    pq.write_table(halved, tmp_path / "validation.parquet")
    write_classifier(tmp_path, net, codec, tmp_path / "validation.parquet", np.array([0, -1, 2, -1, -1]))
    record = ClassifierRecord.model_validate_json((tmp_path / CLASSIFIER_FILE).read_text())
    assert (record.rows, record.labelled, record.unlabelled) == (known, 2, 3)
    none = rows.set_column(place, field, pa.nulls(rows.num_rows, field.type))
    pq.write_table(none, tmp_path / "none.parquet")
    (tmp_path / CLASSIFIER_FILE).unlink()
    write_classifier(tmp_path, net, codec, tmp_path / "none.parquet", np.array([0]))
    assert not (tmp_path / CLASSIFIER_FILE).exists()


def test_of_many_validation_rows_as_many_of_each_class_are_judged_and_all_of_a_scarce_one(
    store: Store, model: ArtifactRef, rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, codec = load_model(model, store)
    label = label_of(store, model)
    kinds = ["ash"] * (2 * rows.num_rows - 2) + ["cedar"] * 2
    place = rows.schema.get_field_index(label)
    many = pa.concat_tables([rows, rows]).set_column(place, rows.schema.field(place), pa.array(kinds))
    pq.write_table(many, tmp_path / "validation.parquet")
    monkeypatch.setattr("augment.classifying.FEWEST_ROWS", 5)
    monkeypatch.setattr("augment.classifying.MOST_ROWS", 3 * 6)
    monkeypatch.setattr("augment.classifying.ROWS_AT_ONCE", 7)
    write_classifier(tmp_path, net, codec, tmp_path / "validation.parquet", np.array([0]))
    record = ClassifierRecord.model_validate_json((tmp_path / CLASSIFIER_FILE).read_text())
    assert record.rows == 6 + 2
    assert set(record.recall) == {"ash", "cedar"}
    shares = np.array([len(kinds) - 2, 2]) / len(kinds)
    assert record.accuracy == pytest.approx(shares @ [record.recall["ash"], record.recall["cedar"]], abs=1e-3)
    answers = np.array(predict(model, many, store).classes)
    assert record.recall["cedar"] == pytest.approx((answers[-2:] == "cedar").mean())


def test_a_model_of_data_without_a_label_has_no_record_and_says_why_it_predicts_nothing(
    store: Store, rows: pa.Table
) -> None:
    unlabelled = make_real(store, schema=UNLABELLED, key="unlabelled")
    other = train(unlabelled, MaskedMlpConfig(), TrainSection(steps=2, device="cpu"), 7, store)
    assert not (store.path(other) / CLASSIFIER_FILE).exists()
    assert "not shown" not in (store.path(other) / "train.log").read_text()
    with pytest.raises(InputError, match="learned from data without a label column, so it knows no classes"):
        predict(other, rows, store)


def test_a_model_that_tells_no_classes_apart_has_no_record_and_predicts_nothing(
    store: Store, real: ArtifactRef, rows: pa.Table
) -> None:
    other = train(real, VaeConfig(latent=2, width=8), TrainSection(steps=2, device="cpu"), 7, store)
    assert not (store.path(other) / CLASSIFIER_FILE).exists()
    with pytest.raises(InputError, match=r"tells no classes apart; train a gan with model\.techniques\.classify true"):
        predict(other, rows, store)


def test_weights_of_a_net_that_is_made_otherwise_by_now_say_so(
    store: Store, model: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.Module.load_state_dict", raises_as_torch_does)
    with pytest.raises(
        InputError, match=r"are not those of a (gan|masked_mlp) as this version makes it; train it again"
    ):
        load_model(model, store)


def raises_as_torch_does(*_: Any) -> None:
    raise RuntimeError('Missing key(s) in state_dict: "classes.seen"')


def test_the_label_column_is_not_read(store: Store, model: ArtifactRef, rows: pa.Table) -> None:
    label = label_of(store, model)
    assert predict(model, rows.drop_columns([label]), store).classes == predict(model, rows, store).classes
    assert predict(model, rows.slice(0, 0), store).classes == []


def test_a_confidence_is_the_probability_of_the_class_that_is_named(
    store: Store, model: ArtifactRef, rows: pa.Table
) -> None:
    found = predict(model, rows, store)
    net, codec = load_model(model, store)
    assert isinstance(net, ClassifiesRows)
    (batch,) = rows.combine_chunks().to_batches()
    told = probabilities(net, codec, batch)
    np.testing.assert_array_equal(found.confidence, told.max(1))
    assert found.classes == [str(codec.table.classes[place]) for place in told.argmax(1)]
    assert len(set(found.classes)) > 1


def numeric(store: Store, model: ArtifactRef) -> str:
    codec = Codec.load(store.path(model) / "codec.json")
    kinds = {column.name: column.kind for column in codec.table.columns}
    return next(column.name for column in codec.columns if kinds[column.name] in {"numeric", "integer"})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (pa.array(["tall"] * 4), r"the column '\w+' of the rows to predict is string, which cannot be taken for "),
        (
            pa.array([[1.5]] * 4),
            r"the column '\w+' of the rows to predict is list<item: double>, which cannot be",
        ),
        (None, r"the rows to predict have no column '\w+', which the model reads"),
    ],
)
def test_rows_that_the_model_cannot_read_are_refused_in_a_sentence(
    store: Store, model: ArtifactRef, rows: pa.Table, values: Any, sentence: str
) -> None:
    name, few = numeric(store, model), rows.slice(0, 4)
    place = few.schema.get_field_index(name)
    changed = few.drop_columns([name]) if values is None else few.set_column(place, name, values)
    with pytest.raises(InputError, match=sentence):
        predict(model, changed, store)


def test_the_report_says_how_well_the_model_classifies(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    path = store.path(model) / CLASSIFIER_FILE
    assert _training(None, path, None)["classifier"].accuracy == json.loads(path.read_text())["accuracy"]
    assert _training(None, tmp_path / "none.json", None)["classifier"] is None


def test_a_failing_look_leaves_the_other_and_the_model(
    store: Store, real: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("no figures today")

    monkeypatch.setattr("augment.training.write_latents", broken)
    folder = store.path(train(real, TELLING, TrainSection(steps=3, device="cpu"), 8, store))
    assert (folder / CLASSIFIER_FILE).exists()
    assert "the latents are not shown: ZeroDivisionError" in (folder / "train.log").read_text()
    assert torch.isfinite(torch.tensor(json.loads((folder / CLASSIFIER_FILE).read_text())["accuracy"]))
