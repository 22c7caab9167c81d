"""Shards: exactly the rows that were asked for, each shard the same bytes however it came about."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from _trees import SCHEMA, make_real
from torch import Tensor

from augment import generation
from augment._hashing import content_hashes
from augment._shards import ShardWriter, shard_schema
from augment.config import GenerateSection, SelectSection, TrainSection
from augment.errors import InputError, StoreError, TrainingError
from augment.generation import (
    ShardRequest,
    decoded,
    default_shard_rows,
    drawn_batches,
    generate_shard,
    load_model,
    request_labels,
    shard_key,
    shard_requests,
)
from augment.store import ArtifactRef, Store
from augment.training import train, train_key
from models._contract import GenerativeModel, Span, TensorSpec
from models.vae import VaeConfig

TINY = VaeConfig(latent=2, width=8)
SECTION = GenerateSection(batch_size=16, device="cpu")
SETTINGS = TrainSection(steps=12, batch_size=16, device="cpu")
WANTED = {"ash": 21, "beech": 3, "cedar": 40}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def real(store: Store) -> ArtifactRef:
    return make_real(store)


@pytest.fixture(scope="module")
def model(store: Store, real: ArtifactRef) -> ArtifactRef:
    return train(real, TINY, SETTINGS, 7, store)


def shards(store: Store, model: ArtifactRef, real: ArtifactRef, numbers: list[int]) -> dict[int, bytes]:
    found = {}
    for number in numbers:
        request = shard_requests(WANTED, 0, 25)[number]
        ref = generate_shard(model, real, SECTION, request, 7, store)
        found[number] = (store.path(ref) / "shard.parquet").read_bytes()
    return found


def elsewhere(store: Store, tmp_path: Path) -> Store:
    """A store with the same model and real data and no shard."""
    other = Store.open(str(tmp_path / "other"))
    for stage in ("ingest", "train"):
        (other.root / "stages").mkdir(exist_ok=True)
        (other.root / "stages" / stage).symlink_to(store.root / "stages" / stage)
    return other


def test_shards_hold_exactly_what_is_wanted_in_class_order() -> None:
    requests = shard_requests(WANTED, 2, 25)
    assert [request.counts for request in requests] == [
        {"ash": 21, "beech": 3, "cedar": 1},
        {"cedar": 25},
        {"cedar": 14},
    ]
    assert [(request.round, request.shard, request.first_index) for request in requests] == [
        (2, 0, 0),
        (2, 1, 25),
        (2, 2, 50),
    ]
    assert shard_requests({"ash": 0}, 0, 25) == []
    assert [request.rows for request in shard_requests({"ash": 50}, 0, 25)] == [25, 25]


@pytest.mark.parametrize("shard_rows", [1, 7, 25, 64, 1000])
def test_no_class_is_left_out_whatever_the_size_of_a_shard(shard_rows: int) -> None:
    requests = shard_requests(WANTED, 0, shard_rows)
    together = {name: sum(request.counts.get(name, 0) for request in requests) for name in WANTED}
    assert together == WANTED
    starts = [request.first_index for request in requests]
    assert starts == [sum(r.rows for r in requests[:k]) for k in range(len(requests))]


def test_a_shard_says_where_each_row_comes_from(store: Store, model: ArtifactRef, real: ArtifactRef) -> None:
    request = shard_requests(WANTED, 1, 25)[0]
    ref = generate_shard(model, real, SECTION, request, 7, store)
    table = pq.read_table(store.path(ref) / "shard.parquet")
    generator_id = model.sha256[:12]
    assert table["kind"].to_pylist() == ["ash"] * 21 + ["beech"] * 3 + ["cedar"]
    assert table["sample_id"].to_pylist() == [f"syn-{generator_id}-1-{index}" for index in range(25)]
    assert table["gen_index"].to_pylist() == list(range(25))
    assert set(table["generator_id"].to_pylist()) == {generator_id}
    assert table["note"].null_count == table["parent_ids"].null_count == 25
    assert (
        table["content_hash"].to_pylist() == content_hashes(table.combine_chunks().to_batches()[0], SCHEMA).to_pylist()
    )
    record = json.loads((store.path(ref) / "shard.json").read_text())
    assert record == {
        "round": 1,
        "shard": 0,
        "rows": 25,
        "counts": {"ash": 21, "beech": 3, "cedar": 1},
        "operator": "prior",
        "batch_size": 16,
        "seed": table["gen_seed"][0].as_py(),
        "device": "cpu",
    }
    assert record["seed"] < 2**53


def test_a_shard_made_alone_is_the_one_made_in_a_sequence(
    store: Store, model: ArtifactRef, real: ArtifactRef, tmp_path: Path
) -> None:
    in_sequence = shards(store, model, real, [0, 1, 2])
    torch.manual_seed(99)
    assert shards(elsewhere(store, tmp_path), model, real, [2, 0]) == {2: in_sequence[2], 0: in_sequence[0]}
    assert len(set(in_sequence.values())) == 3


def test_shards_rounds_and_batches_of_the_same_classes_have_noise_of_their_own(
    store: Store, model: ArtifactRef
) -> None:
    network, _ = load_model(model, store)
    section = GenerateSection(batch_size=8)
    seen = []
    for number, shard in ((0, 0), (0, 1), (1, 0)):
        request = ShardRequest(round=number, shard=shard, first_index=0, counts={"ash": 16})
        batches = drawn_batches(network, torch.zeros(16, dtype=torch.int64), request, section, 7)
        seen += [tuple(drawn.x[:, 0].tolist()) for drawn in batches]
    assert len(set(seen)) == 6


def test_a_finished_shard_is_not_drawn_again(
    store: Store, model: ArtifactRef, real: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shards(store, model, real, [1])
    monkeypatch.setattr(generation, "load_model", lambda *_: pytest.fail("drawn again"))
    assert shards(store, model, real, [1]) == before


def test_a_shard_that_was_interrupted_is_made_anew(
    store: Store, model: ArtifactRef, real: ArtifactRef, tmp_path: Path
) -> None:
    whole = shards(store, model, real, [0])
    other = elsewhere(store, tmp_path)
    request = shard_requests(WANTED, 0, 25)[0]

    def stop(stage: str, done: int, total: int, unit: str, values: object = None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_shard(model, real, SECTION, request, 7, other, stop)
    assert other.find("generate", shard_key(model, real, SECTION, request, 7, other)) is None
    assert shards(other, model, real, [0]) == whole


def test_the_key_of_a_shard_follows_what_decides_its_rows(
    store: Store, model: ArtifactRef, real: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = shard_requests(WANTED, 0, 25)[:2]
    keys = {
        shard_key(model, real, SECTION, one, 7, store),
        shard_key(model, real, SECTION, two, 7, store),
        shard_key(model, real, SECTION, one, 8, store),
        shard_key(model, real, GenerateSection(batch_size=17), one, 7, store),
        shard_key(model, real, GenerateSection(batch_size=16, temperature=0.5), one, 7, store),
        shard_key(model, real, SECTION, shard_requests(WANTED, 1, 25)[0], 7, store),
    }
    assert len(keys) == 6
    select = SelectSection(density=0.1)
    unrelated = GenerateSection(batch_size=16, rounds=9, shard_rows=25, device="cuda:3", select=select)
    assert shard_key(model, real, unrelated, one, 7, store) in keys
    monkeypatch.setattr(generation, "TORCH", "1.0.0")
    assert shard_key(model, real, SECTION, one, 7, store) not in keys


def test_a_new_model_file_leaves_the_shards_of_others_alone(
    store: Store, model: ArtifactRef, real: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()

    def noted(*modules: str) -> str:
        read.update(modules)
        return "version"

    monkeypatch.setattr(generation, "code_version", noted)
    monkeypatch.setattr("augment.training.code_version", noted)
    shard_key(model, real, SECTION, shard_requests(WANTED, 0, 25)[0], 7, store)
    assert {name for name in read if name.split(".")[0] == "models" and "._" not in name} == {"models.vae"}
    assert {"models._nets", "models._contract", "augment._devices"} <= read


def test_the_device_of_a_shard_is_recorded_beside_what_makes_up_its_hash(
    store: Store, model: ArtifactRef, real: ArtifactRef
) -> None:
    ref = generate_shard(model, real, SECTION, shard_requests(WANTED, 0, 25)[0], 7, store)
    folder = store.verify(ref)
    assert json.loads((folder / "shard.json").read_text())["device"] == "cpu"
    assert json.loads((folder / "manifest.json").read_text())["identity"] == ["shard.parquet"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_refused_by_its_setting(
    store: Store, model: ArtifactRef, real: ArtifactRef, tmp_path: Path
) -> None:
    section = GenerateSection(batch_size=16, device="cuda")
    with pytest.raises(InputError, match=r"set generate\.device: auto"):
        generate_shard(model, real, section, shard_requests(WANTED, 0, 25)[0], 7, elsewhere(store, tmp_path))


def test_a_row_depends_on_its_place_and_label_and_not_on_its_batch_mates(store: Store, model: ArtifactRef) -> None:
    network, _ = load_model(model, store)
    request = ShardRequest(round=0, shard=0, first_index=0, counts={"ash": 20})
    one = torch.zeros(20, dtype=torch.int64)
    other = one.clone()
    other[::2] = 2

    def drawn(labels: Tensor) -> Tensor:
        return torch.cat([drawn.x for drawn in drawn_batches(network, labels, request, SECTION, 7)])

    # the last batch is shorter, filled up and cut: its rows are those of a longer shard
    assert torch.equal(drawn(one)[1::2], drawn(other)[1::2])
    assert torch.equal(drawn(one[:18]), drawn(one)[:18])
    assert not torch.equal(drawn(one)[::2], drawn(other)[::2])


def test_labels_are_the_index_of_the_class_and_unknown_ones_are_refused() -> None:
    request = ShardRequest(round=0, shard=0, first_index=0, counts={"beech": 2, "cedar": 1})
    assert request_labels(SCHEMA, request).tolist() == [1, 1, 2]
    with pytest.raises(InputError, match=r"class 'beach'; did you mean 'beech'\?"):
        request_labels(SCHEMA, request.model_copy(update={"counts": {"beach": 1}}))
    without = SCHEMA.model_copy(update={"label": None, "classes": ()})
    assert request_labels(without, request.model_copy(update={"counts": {"": 4}})).tolist() == [0] * 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_drawn_row_that_is_not_finite_has_no_features(store: Store, model: ArtifactRef, value: float) -> None:
    _, codec = load_model(model, store)
    drawn = torch.zeros(3, codec.spec.size)
    drawn[1, -1] = value  # inside the one-hot category, where it would be read as one
    rows = decoded(codec, drawn, torch.tensor([0, 1, 2]), SCHEMA)
    assert rows.column("length").is_null().to_pylist() == [False, True, False]
    assert rows.column("shade").is_null().to_pylist()[1]
    assert rows.column("kind").to_pylist() == ["ash", "beech", "cedar"]
    assert content_hashes(rows, SCHEMA).null_count == 0


def test_a_model_that_draws_nothing_finite_fills_a_shard_without_features(
    store: Store, model: ArtifactRef, real: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(self: GenerativeModel, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        return torch.full((len(labels), *self.spec.shape), float("nan"))

    monkeypatch.setattr("models.vae.VariationalAutoencoder.sample", drawn)
    other = elsewhere(store, tmp_path)
    shards(other, model, real, [0])
    (path,) = other.root.glob("stages/generate/*/shard.parquet")
    table = pq.read_table(path)
    assert table["length"].null_count == table.num_rows == 25


def test_an_altered_model_is_not_drawn_from(model: ArtifactRef, real: ArtifactRef, tmp_path: Path) -> None:
    other = Store.open(str(tmp_path / "mine"))
    altered = train(make_real(other), TINY, SETTINGS, 7, other)
    assert altered == model
    weights = other.path(altered) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StoreError, match=r"weights\.safetensors is missing or altered"):
        shards(other, altered, real, [0])


def test_an_operator_that_the_model_does_not_offer_is_refused(
    store: Store, model: ArtifactRef, real: ArtifactRef
) -> None:
    request = shard_requests(WANTED, 0, 25)[0]
    with pytest.raises(InputError, match=r"generate\.operator 'dream'"):
        generate_shard(model, real, GenerateSection(operator="dream"), request, 7, store)


def test_the_size_of_a_shard_follows_the_size_of_a_row() -> None:
    def rows(size: int) -> int:
        return default_shard_rows(TensorSpec((size,), (Span("continuous", size),), 1))

    assert (rows(4), rows(784), rows(10**6)) == (50_000, 21_399, 1_000)


def test_a_large_shard_has_row_groups_of_at_most_ten_thousand_rows(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s.parquet", SCHEMA) as writer:
        schema = shard_schema(SCHEMA)
        batch = pa.RecordBatch.from_arrays([pa.nulls(4000, field.type) for field in schema], schema=schema)
        for _ in range(6):
            writer.write(batch)
    metadata = pq.read_metadata(tmp_path / "s.parquet")
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [10_000, 10_000, 4_000]


def test_training_leaves_a_whole_artifact(store: Store, real: ArtifactRef, model: ArtifactRef) -> None:
    assert model.key == train_key(real, TINY, SETTINGS, 7)
    folder = store.verify(model)
    record = json.loads((folder / "model.json").read_text())
    assert record["model"] == TINY.model_dump(mode="json")
    assert record["train_rows_sha256"] == "f" * 64
    assert record["train"]["steps"] == 12
    assert record["parameters"] > 0
    assert record["device"] == "cpu"
    assert record["packages"]["torch"] == metadata.version("torch")
    assert record["real"] == real.model_dump()
    assert record["encode"]["stage"] == "encode"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["identity"] == ["codec.json", "settings.json", "weights.safetensors"]
    assert [p.name for p in sorted((folder / "checkpoints").iterdir())] == ["step-000012"]
    assert (folder / "metrics.jsonl").exists()
    assert "finished step 12" in (folder / "train.log").read_text()


def test_settings_that_only_drawing_reads_make_another_generator(
    store: Store, real: ArtifactRef, model: ArtifactRef
) -> None:
    wider = train(real, TINY.model_copy(update={"spread": 3.0}), SETTINGS, 7, store)
    weights = [(store.path(ref) / "weights.safetensors").read_bytes() for ref in (model, wider)]
    assert weights[0] == weights[1]
    assert shards(store, model, real, [0]) != shards(store, wider, real, [0])


def test_the_key_of_a_model_follows_the_version_of_torch(real: ArtifactRef, monkeypatch: pytest.MonkeyPatch) -> None:
    before = train_key(real, TINY, SETTINGS, 7)
    monkeypatch.setattr("augment.training.TORCH", "1.0.0")
    assert train_key(real, TINY, SETTINGS, 7) != before


def test_a_training_that_crashed_gives_the_same_model(model: ArtifactRef, tmp_path: Path) -> None:
    other = Store.open(str(tmp_path / "mine"))
    real = make_real(other)

    def stop(stage: str, done: int, total: int, unit: str, values: object = None) -> None:
        if stage == "train" and done >= 6:
            raise KeyboardInterrupt

    often = SETTINGS.model_copy(update={"checkpoint_seconds": 0.0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("augment.training._loop.SHOW_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(real, TINY, often, 7, other, stop)
    assert other.find("train", model.key) is None
    assert train(real, TINY, SETTINGS, 7, other) == model
    log = (other.path(model) / "train.log").read_text()
    assert "goes on from the checkpoint of step 5" in log


def test_a_model_that_cannot_be_written_says_so_and_is_finished_later(
    model: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store.open(str(tmp_path / "mine"))
    real = make_real(other)

    def full(path: Path, tensors: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("augment.training.save_tensors", full)
        with pytest.raises(TrainingError, match=r"cannot be written to .*No space left on device"):
            train(real, TINY, SETTINGS, 7, other)
    assert train(real, TINY, SETTINGS, 7, other) == model
