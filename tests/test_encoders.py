"""The nets that rows are looked at with: learned once for the same real rows, the same again, in bounded memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from _fault_rows import orchard
from _faults import Court, orchard_court

from augment.encoding import encode
from augment.ingest import ingest
from augment.store import ArtifactRef, Store
from augment.worth import encoders as module
from augment.worth.encoders import Encoders, learn_encoders, load_encoders


class Learned(NamedTuple):
    """Nets, and what they were learned from."""

    store: Store
    real: ArtifactRef
    ref: ArtifactRef
    seed: int

    def load(self) -> Encoders:
        return load_encoders(self.ref, self.real, self.seed, self.store)


def learn(court: Court) -> Learned:
    config = court.config(court.rows.fresh)
    store = Store.open(config.store)
    real = ingest(config.source, config.split, config.seed, store)
    return Learned(store, real, learn_encoders(real, config.seed, store), config.seed)


@pytest.fixture(scope="module")
def learned() -> Learned:
    return learn(orchard_court())


def test_nets_that_are_loaded_are_those_that_were_saved(learned: Learned) -> None:
    first, second = learned.load(), learned.load()
    assert set(first.real.train) == {0, 1, 2}
    for own, other in zip(first.real.folds, second.real.folds, strict=True):
        assert all(torch.equal(v, other.encoder.state_dict()[k]) for k, v in own.encoder.state_dict().items())
        x = first.real.held_out[1].reshape(-1, *first.spec.shape)
        assert torch.equal(own.encoder.features(x), own.held_out[1])  # kept when they were learned
    x = first.real.train[0].reshape(-1, *first.spec.shape)
    assert torch.equal(first.real.judge.confidence(x), second.real.judge.confidence(x))


def test_loading_nets_leaves_torchs_own_randomness_alone(learned: Learned) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    learned.load()
    assert torch.equal(torch.rand(3), expected)


def test_the_same_rows_and_seed_are_the_same_artifact_and_another_seed_is_another(learned: Learned) -> None:
    assert learn_encoders(learned.real, learned.seed, learned.store) == learned.ref
    assert module._key(learned.real, learned.seed) != module._key(learned.real, learned.seed + 1)


@pytest.mark.slow
def test_nets_learned_in_another_store_are_the_same_to_the_byte(learned: Learned, tmp_path: Path) -> None:
    other = learn(Court(tmp_path, orchard()))
    assert (other.real.sha256, other.ref.sha256) == (learned.real.sha256, learned.ref.sha256)


def test_training_rows_are_encoded_anew_where_they_were_collected_as_garbage(learned: Learned) -> None:
    before = learned.load().real.train
    shutil.rmtree(learned.store.path(encode(learned.real, learned.seed, learned.store)))
    after = learned.load().real.train
    assert all(torch.equal(x, after[y]) for y, x in before.items())


def test_equal_values_have_equal_positions_where_a_model_sees_them_anywhere_on_their_plateau(learned: Learned) -> None:
    encoders = learned.load()
    rows = pq.read_table(encoders.train_file).select(encoders.codec.table.arrow_schema.names)
    lane = next(i for i, column in enumerate(encoders.codec.table.features) if column.name == "bruise")
    zero = torch.from_numpy(np.array(rows["bruise"].to_pylist()) == 0)
    seen, positions = encoders.encode(rows).x.flatten(1)[zero, lane], encoders.positions(rows)[zero, lane]
    assert len(torch.unique(seen)) > 100
    assert len(torch.unique(positions)) == 1
    assert seen.min() < positions[0] < seen.max()


def test_the_same_rows_are_encoded_the_same_each_time(learned: Learned) -> None:
    encoders = learned.load()
    rows = pq.read_table(encoders.train_file).select(encoders.codec.table.arrow_schema.names).slice(0, 60)
    first, second = encoders.encode(rows), encoders.encode(rows)
    assert torch.equal(first.x, second.x)
    assert first.y.tolist() == [0] * 60
    assert encoders.encode(rows.slice(0, 0)).x.shape == (0, *encoders.spec.shape)
    assert encoders.positions(rows.slice(0, 0)).shape == (0, np.prod(encoders.spec.shape))


def test_training_rows_of_a_class_are_read_a_few_at_a_time(learned: Learned, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = learned.load()
    whole = list(encoders.train_positions(1))
    monkeypatch.setattr(module, "BATCH_ROWS", 40)
    parts = list(encoders.train_positions(1))
    assert max(len(places) for places, _ in parts) <= 40 < len(whole[0][0])
    assert torch.equal(torch.cat([places for places, _ in parts]), torch.cat([places for places, _ in whole]))
    assert torch.equal(torch.cat([rows for _, rows in parts]), torch.cat([rows for _, rows in whole]))


def test_places_are_those_of_the_rows_among_all_training_rows(learned: Learned) -> None:
    encoders = learned.load()
    labels = pq.read_table(encoders.train_file)["label"].to_pylist()
    for y, name in enumerate(["apple", "pear", "quince"]):
        assert {labels[place] for place in encoders.train_places[y].tolist()} == {name}
        assert {labels[int(place)] for places, _ in encoders.train_positions(y) for place in places} == {name}
