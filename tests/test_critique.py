"""What latents hold: dead ones are not counted, and a traversal goes where it says it goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from augment import training
from augment._devices import cpu_threads
from augment.codec import Codec
from augment.config import RunConfig
from augment.critique import LATENTS_FILE, POSITIONS, TRAVERSALS_FILE, LatentRecord, shown_classes, write_latents
from augment.ingest import ingest
from augment.report import traversals as drawings
from augment.report.traversals import latents_of
from augment.schema import ColumnSchema, DatasetSchema
from augment.store import Store
from augment.training._batches import Rows
from models._contract import Batch, GenerativeModel, HasLatents, Objective, Span, TensorSpec
from models.vae import VariationalAutoencoder

SCHEMA = DatasetSchema(
    columns=(
        *(ColumnSchema(name=f"x{i}", kind="numeric", type="float64", reason="declared") for i in range(5)),
        ColumnSchema(name="kind", kind="categorical", type="string", reason="declared"),
        ColumnSchema(name="label", kind="categorical", type="string", reason="declared"),
    ),
    label="label",
    classes=("a", "b"),
)
STRENGTHS = (2.0, 0.5, 0.02, 0.0)  # of the latents; with noise of variance 1, E_q z varies by s^2 / (s^2 + 1)
SHIFT = 3.0  # of class b, along the first latent's direction


class LinearGaussian(GenerativeModel):
    """x = W z + mean_y + noise of variance 1 with orthogonal W, whose posterior is known (probabilistic PCA)."""

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.directions = torch.linalg.qr(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))[0].T
        self.strengths = torch.tensor(STRENGTHS)

    def objectives(self) -> Sequence[Objective]:
        return []

    def encode(self, batch: Batch) -> Tensor:
        around = batch.x[:, :5] - self.mean(batch.y)
        return (around @ self.directions.T) * self.strengths / (self.strengths.square() + 1)

    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = (latents * self.strengths) @ self.directions + self.mean(labels)
        return torch.cat([x, torch.eye(2)[(x[:, 0] > 0).long()]], dim=1)

    def mean(self, labels: Tensor) -> Tensor:
        return SHIFT * (labels == 1)[:, None] * self.directions[0]


class WithoutLatents(GenerativeModel):
    """A model that has no codes."""

    def objectives(self) -> Sequence[Objective]:
        return []


class Toy:
    """Rows that the linear-Gaussian model draws, their codec, and what :func:`write_latents` makes of them."""

    def __init__(self, folder: Path, rows: int = 2_000) -> None:
        draw = torch.Generator().manual_seed(1)
        self.folder = folder
        self.labels = (np.arange(rows) % 3 == 0).astype(np.int64)
        y = torch.from_numpy(self.labels)
        self.model = LinearGaussian(TensorSpec((7,), (Span("continuous", 5), Span("categorical", 2)), 2))
        z = torch.randn((rows, 4), generator=draw)
        self.x = self.model.decode(z, y)
        self.x[:, :5] += torch.randn((rows, 5), generator=draw)
        numbers = {f"x{i}": pa.array(self.x[:, i].double().numpy()) for i in range(5)}
        names = {"kind": np.where(np.arange(rows) % 2, "odd", "even"), "label": np.where(self.labels, "b", "a")}
        table = pa.table(numbers | names, SCHEMA.arrow_schema)
        self.codec = Codec.fit(lambda wanted: table.select(wanted).to_batches(), SCHEMA, 7)

    def batch_of(self, places: np.ndarray) -> Batch:
        return Batch(self.x[places], torch.from_numpy(self.labels[places]))

    def write(self, model: GenerativeModel | None = None) -> LatentRecord:
        write_latents(self.folder, model or self.model, self.codec, self.batch_of, self.labels, 7)
        return LatentRecord.load(self.folder / LATENTS_FILE)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def test_active_units_of_a_linear_gaussian_model_are_those_that_are_not_dead(toy: Toy) -> None:
    record = toy.write()
    assert (record.latents, record.active, record.active_within_classes) == (4, 2, 2)
    assert [latent.index for latent in record.most_active] == [0, 1, 2, 3]
    for latent in record.most_active:
        exact = STRENGTHS[latent.index] ** 2 / (STRENGTHS[latent.index] ** 2 + 1)
        assert latent.within_classes == pytest.approx(exact, rel=0.12, abs=1e-5)


def test_a_latent_that_only_repeats_the_label_is_active_but_not_within_a_class(toy: Toy) -> None:
    class Labelled(LinearGaussian):
        def encode(self, batch: Batch) -> Tensor:
            codes = super().encode(batch)
            codes[:, 3] = batch.y.float()
            return codes

    record = toy.write(Labelled(toy.model.spec))
    assert (record.active, record.active_within_classes, record.shown) == (3, 2, [0, 1])


def expected(toy: Toy, record: LatentRecord, label: int, latent: int, position: float) -> list[Any]:
    """The decoded row at ``position`` standard deviations of a latent around the mean code of all rows of a class."""
    y = torch.from_numpy(toy.labels)
    centre = toy.model.encode(Batch(toy.x, y))[y == label].mean(0, keepdim=True)
    within = next(found.within_classes for found in record.most_active if found.index == latent)
    centre[0, latent] += position * within**0.5
    labels = torch.full((1,), label)
    return list(toy.codec.decode(toy.model.decode(centre, labels), labels).to_pylist()[0].values())


def test_a_traversal_goes_from_minus_to_plus_two_deviations_through_the_centre_of_the_class(tmp_path: Path) -> None:
    """Few rows, so that the centres rest on all of them: a wrong sign, scale, latent, class or order is seen."""
    toy = Toy(tmp_path, 120)
    record = toy.write()
    rows = record.traversals(tmp_path).to_pylist()
    assert (record.classes, record.shown) == (["a", "b"], [0, 1])
    assert (record.positions[0], record.positions[4], record.positions[-1]) == (-2, 0, 2)
    assert len(rows) == 2 * 2 * len(POSITIONS)
    for place, row in enumerate(rows):
        label, rest = divmod(place, 2 * len(POSITIONS))
        shown, position = divmod(rest, len(POSITIONS))
        wanted = expected(toy, record, label, record.shown[shown], record.positions[position])
        assert row["label"] == "ab"[label]
        assert list(row.values())[:5] == pytest.approx(wanted[:5], rel=1e-3, abs=2e-3)
        assert row["kind"] == wanted[5]
    along = [[row[f"x{i}"] for i in range(5)] @ toy.model.directions[0].double().numpy() for row in rows[:9]]
    assert along == sorted(along)
    assert along[-1] - along[0] > 4


def test_the_middle_of_all_traversals_of_a_class_is_its_centre(toy: Toy) -> None:
    rows = toy.write().traversals(toy.folder).to_pylist()
    middle = POSITIONS.index(0.0)
    assert rows[middle] == rows[len(POSITIONS) + middle]
    assert rows[2 * len(POSITIONS) + middle] == rows[3 * len(POSITIONS) + middle] != rows[middle]


def test_a_model_without_latents_has_no_files(toy: Toy, tmp_path: Path) -> None:
    model = WithoutLatents()
    assert not isinstance(model, HasLatents)
    write_latents(tmp_path, model, toy.codec, toy.batch_of, toy.labels, 7)
    assert list(tmp_path.iterdir()) == []
    assert latents_of(tmp_path / LATENTS_FILE, SCHEMA) is None


def test_a_model_whose_latents_are_all_dead_has_no_traversals(toy: Toy) -> None:
    class Collapsed(LinearGaussian):
        def encode(self, batch: Batch) -> Tensor:
            return 0 * super().encode(batch)

    record = toy.write(Collapsed(toy.model.spec))
    assert (record.active, record.shown) == (0, [])
    assert record.traversals(toy.folder).num_rows == 0
    shown = latents_of(toy.folder / LATENTS_FILE, SCHEMA)
    assert shown is not None
    assert shown.classes == ()


def test_the_scarcest_and_the_largest_classes_are_shown() -> None:
    labels = np.repeat([0, 1, 2, 3, 4, 5, -1], [50, 4, 60, 20, 3, 30, 99]).astype(np.int64)
    assert shown_classes(labels) == [0, 1, 2, 4]
    assert shown_classes(np.zeros(3, np.int64)) == [0]
    assert shown_classes(np.full(3, -1)) == []


def test_very_long_codes_are_taken_of_fewer_rows(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augment.critique.CODE_VALUES", 800)
    assert toy.write().rows == 200


def test_each_kind_of_column_is_drawn_its_own_way(toy: Toy) -> None:
    toy.write()
    shown = latents_of(toy.folder / LATENTS_FILE, SCHEMA)
    assert shown is not None
    panels = shown.classes[0].columns
    assert [type(panel) for panel in panels] == [drawings.LineTraversal] * 5 + [drawings.TextTraversal]
    assert all(len(panel.paths) == 2 and panel.paths[0].count("L") == 8 for panel in panels[:5])
    runs = panels[5].rows
    assert all(sum(count for _, count in row) == 9 for row in runs)
    assert {text for row in runs for text, _ in row} <= {"even", "odd"}


def test_a_line_has_a_gap_where_the_value_is_missing_and_names_that_stay_are_one() -> None:
    line = drawings.traverse_numbers(SCHEMA.columns[0], [[1.0, None, 3.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    assert line.paths[0] == "M0,92M213.33,4L320,4"
    assert (line.low, line.high) == ("1", "3")
    names = drawings.traverse_names(SCHEMA.columns[5], [["a", "a", None, "a"]])
    assert names.rows == ((("a", 2), ("\u2013", 1), ("a", 1)),)


RUN = {
    "source": {"kind": "digits"},
    "model": {"kind": "vae", "width": 8, "latent": 4},
    "train": {"steps": 6, "ema_decay": 0.9, "batch_size": 32, "checkpoint_seconds": 0, "device": "cpu"},
}


def trained(folder: Path, listen: Any = None) -> Path:
    """The folder of the artifact of a short training on the digits."""
    config = RunConfig.model_validate(RUN)
    store = Store.open(str(folder))
    real = ingest(config.source, config.split, 7, store)
    progress = {} if listen is None else {"progress": listen}
    return store.path(training.train(real, config.model, config.train, 7, store, **progress))


def test_a_model_that_cannot_be_looked_at_is_trained_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: GenerativeModel, latents: Tensor, labels: Tensor) -> Tensor:
        raise ZeroDivisionError("no pictures today")

    monkeypatch.setattr(VariationalAutoencoder, "decode", fails)
    folder = trained(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names >= {training.WEIGHTS, training.SETTINGS, training.MODEL, training.CODEC}
    assert not names & {LATENTS_FILE, TRAVERSALS_FILE}
    assert "the latents are not shown: ZeroDivisionError: no pictures today" in (folder / "train.log").read_text()
    monkeypatch.undo()
    identity = [
        json.loads((path / "manifest.json").read_text())["sha256"] for path in (folder, trained(tmp_path / "b"))
    ]
    assert identity[0] == identity[1]  # what is looked at is no part of the model


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_who_stops_a_run_while_the_latents_are_looked_at_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException]
) -> None:
    def stops(self: GenerativeModel, latents: Tensor, labels: Tensor) -> Tensor:
        raise ending

    monkeypatch.setattr(VariationalAutoencoder, "decode", stops)
    with pytest.raises(ending):
        trained(tmp_path)


@pytest.mark.slow
def test_training_keeps_the_latents_of_the_averaged_weights_and_resuming_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("augment.training._loop.SHOW_SECONDS", 0)

    class StoppedError(Exception):
        pass

    stopped = []

    def stop(stage: str, done: int, _total: int, _unit: str, _values: object = None) -> None:
        if stage == "train" and not stopped:
            stopped.append(done)
            raise StoppedError

    unbroken = trained(tmp_path / "a")
    with pytest.raises(StoppedError):
        trained(tmp_path / "b", stop)
    resumed = trained(tmp_path / "b")
    assert stopped[0] < 6
    for name in (LATENTS_FILE, TRAVERSALS_FILE, training.WEIGHTS):
        assert (unbroken / name).read_bytes() == (resumed / name).read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    encoded = next((tmp_path / "a").glob("stages/encode/*/x.npy")).parent
    codec = Codec.load(unbroken / training.CODEC)
    rows = Rows(encoded, codec.tensor, torch.device("cpu"))
    model = training.build_model(RunConfig.model_validate(RUN).model, codec.spec, 0).eval()
    model.load_state_dict(load_file(unbroken / training.WEIGHTS))
    with cpu_threads(1):
        write_latents(again, model, codec, rows.batch, rows.labels, 7)
    assert (again / LATENTS_FILE).read_bytes() == (unbroken / LATENTS_FILE).read_bytes()
    pictures = pq.read_table(unbroken / TRAVERSALS_FILE)
    record = LatentRecord.load(unbroken / LATENTS_FILE)
    assert pictures.num_rows == len(record.classes) * len(record.shown) * len(record.positions)
    schema = DatasetSchema.load(next((tmp_path / "a").glob("stages/ingest/*/schema.json")))
    shown = latents_of(unbroken / LATENTS_FILE, schema)
    assert shown is not None
    strips = [strip for found in shown.classes for panel in found.columns for strip in panel.strips]
    assert all(picture.startswith("data:image/png;base64,") for strip in strips for picture in strip)
