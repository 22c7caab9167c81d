"""Operators: what a model offers, which real rows synthetic ones are drawn from, and what is said about it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from _judged_sets import without_nets
from _small_store import Stages, passing, write_audit
from _toy_training import VECTOR, Line, squares
from _trees import SCHEMA, UNLABELLED, Echo, EchoConfig, know_the_echo, make_real, source_id

from augment import load_dataset, validation
from augment._exemplars import Exemplars, open_exemplars, parent_ids
from augment.codec import Codec
from augment.config import GenerateSection, RunConfig, TrainSection
from augment.encoding import encode
from augment.errors import InputError, StoreError
from augment.generation import generate_shard, load_model, shard_key, shard_requests
from augment.makers import cost_of_drawing, described_drawing
from augment.operators import OPERATORS, chosen_operator, draw_function
from augment.store import ArtifactRef, Store
from augment.training import train

SETTINGS = TrainSection(steps=2, batch_size=8, device="cpu", ema_decay=0)
WANTED = {"ash": 30, "beech": 3, "cedar": 40}
SEED = 7


@pytest.fixture(autouse=True)
def _echo(monkeypatch: pytest.MonkeyPatch) -> None:
    know_the_echo(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def real(store: Store) -> ArtifactRef:
    return make_real(store)


@pytest.fixture
def model(store: Store, real: ArtifactRef) -> ArtifactRef:
    return train(real, EchoConfig(), SETTINGS, SEED, store)


def section(operator: str | None = None, **changed: Any) -> GenerateSection:
    return GenerateSection(operator=operator, batch_size=16, device="cpu", **changed)


def shard(store: Store, model: ArtifactRef, real: ArtifactRef, how: GenerateSection, number: int = 0) -> pa.Table:
    request = shard_requests(WANTED, 0, 25)[number]
    return pq.read_table(store.path(generate_shard(model, real, how, request, SEED, store)) / "shard.parquet")


def exemplars(
    store: Store, kinds: list[str | None], parents: int = 1, seed: tuple[int, int] = (SEED, 0), key: str = "few"
) -> Exemplars:
    """Exemplars of all kinds, from a table of those kinds."""
    real = make_real(store, kinds, key=key)
    encoded = store.path(encode(real, SEED, store))
    codec = Codec.load(encoded / "codec.json")
    return Exemplars(encoded, store.path(real) / "train.parquet", codec, range(3), parents, seed)


def test_the_default_is_the_first_way_that_the_settings_offer() -> None:
    assert chosen_operator(EchoConfig(), None) == "exemplar"
    assert chosen_operator(EchoConfig(first="posterior"), None) == "posterior"
    assert chosen_operator(EchoConfig(first="posterior"), "interpolation") == "interpolation"


def test_what_is_not_offered_is_refused_with_what_is() -> None:
    with pytest.raises(InputError, match=r"'dream' is not offered by echo, which offers: exemplar, posterior"):
        chosen_operator(EchoConfig(), "dream")
    with pytest.raises(InputError, match=r"'prior' is not offered by echo with these settings, which offers: exemplar"):
        chosen_operator(EchoConfig(has_prior=False), "prior")
    with pytest.raises(ValueError, match="'dream' is not offered by vae, which offers: prior"):
        RunConfig(generate=GenerateSection(operator="dream"))
    assert RunConfig().generate.operator is None


def test_the_cost_of_drawing_is_that_of_the_settings_and_the_operator() -> None:
    classes = [{"synthetic": 10}, {"synthetic": 5}]
    posterior = GenerateSection(operator="posterior")
    for settings, section, evaluations in (
        (EchoConfig(), GenerateSection(), 2),
        (EchoConfig(has_prior=False), GenerateSection(), 7),
        (EchoConfig(), posterior, 5),
    ):
        assert described_drawing(settings, section.operator)["evaluations_per_sample"] == evaluations
    assert cost_of_drawing(7, 4, classes) == {"rows_drawn": 15, "evaluations": 105, "shards": 4}


def test_a_model_that_does_not_keep_the_protocol_is_not_drawn_from() -> None:
    line = Line(squares)
    assert draw_function(line, "prior")(torch.zeros(3), [], torch.Generator()).shape == (3, 4)
    with pytest.raises(InputError, match=r"does not offer generate\.operator 'interpolation'; use prior\."):
        draw_function(line, "interpolation")
    with pytest.raises(InputError, match=r"generate\.operator 'dream' is not known"):
        draw_function(line, "dream")


def test_every_operator_gives_the_model_its_exemplars_labels_noise_and_temperature() -> None:
    echo, labels = Echo(VECTOR), torch.zeros(3, dtype=torch.int64)
    rows = [torch.full((3, 4), value) for value in (1.0, 3.0)]

    def drawn(name: str, temperature: float = 1.0) -> torch.Tensor:
        given = rows[: OPERATORS[name].parents]
        return draw_function(echo, name, temperature)(labels, given, torch.Generator().manual_seed(1))

    assert torch.equal(drawn("exemplar"), rows[0])
    assert torch.equal(drawn("interpolation"), torch.full((3, 4), 2.0))
    torch.testing.assert_close(drawn("posterior", 0.5), rows[0] + 0.1 * drawn("prior"))
    assert torch.equal(drawn("prior", 2), 2 * drawn("prior"))


def test_exemplars_are_rows_of_the_class_and_used_evenly_over_all_shards(store: Store) -> None:
    source = exemplars(store, ["ash"] * 7 + ["beech"] * 2 + ["cedar"] * 5)
    of_class = {0: set(range(7)), 1: {7, 8}, 2: set(range(9, 14))}
    for label, places in of_class.items():
        used: Counter[int] = Counter()
        for first in range(0, 66, 11):  # as six shards
            (picked,) = source.pick(np.full(11, label), 1000 + first)
            assert (picked.ids == 100 + 3 * picked.places).all()
            used.update(picked.places.tolist())
        assert set(used) == places
        assert max(used.values()) - min(used.values()) <= 1


def test_what_a_row_is_drawn_from_follows_from_its_label_and_index_alone(store: Store) -> None:
    kinds: list[str | None] = ["ash", "beech", "cedar"] * 6
    source, again = exemplars(store, kinds, 2), exemplars(store, kinds, 2)
    y = np.array([0, 1, 2, 1, 0, 2, 2, 1])
    other = y.copy()
    other[::2] = (y[::2] + 1) % 3
    for picked, mixed, later in zip(source.pick(y, 5), again.pick(other, 5), again.pick(y[3:], 8), strict=True):
        assert (picked.ids[1::2] == mixed.ids[1::2]).all()
        assert (picked.ids[3:] == later.ids).all()
    next_round = exemplars(store, kinds, 2, seed=(SEED, 1)).pick(y, 5)
    other_seed = exemplars(store, kinds, 2, seed=(SEED + 1, 0)).pick(y, 5)
    assert len({tuple(p[0].ids.tolist()) for p in (source.pick(y, 5), next_round, other_seed)}) == 3


def test_two_parents_are_two_rows_and_all_pairs_come_before_one_comes_again(store: Store) -> None:
    source = exemplars(store, ["ash"] * 4 + ["beech"] * 2 + ["cedar"], 2)
    first, second = source.pick(np.zeros(12, np.int64), 0)
    assert len(set(zip(first.ids, second.ids, strict=True))) == 12
    assert (first.ids != second.ids).all()
    first, second = source.pick(np.full(5, 2), 0)
    assert (first.ids == second.ids).all()  # there is only one
    assert parent_ids([first, second], 2).to_pylist() == [[f"real-{source_id(6)}"]] * 2


def test_a_row_without_a_label_is_nobodys_exemplar(store: Store) -> None:
    source = exemplars(store, ["ash", None, "beech", None, "cedar", None, "ash"])
    used = {int(i) for label in range(3) for i in source.pick(np.full(20, label), 0)[0].places}
    assert used == {0, 2, 4, 6}


def test_a_class_without_a_training_row_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="the class 'beech' has no training row to draw from; leave it some in split"):
        exemplars(store, ["ash", "cedar", "ash"])


@pytest.mark.parametrize("with_label", [True, False], ids=["labels", "no label column"])
def test_exemplars_are_the_rows_that_are_named_exactly_as_the_model_saw_them(store: Store, with_label: bool) -> None:
    real = make_real(store, schema=SCHEMA if with_label else UNLABELLED)
    model = train(real, EchoConfig(), SETTINGS, SEED, store)
    rows = pq.read_table(store.path(real) / "train.parquet")
    by_id = {f"real-{row['source_row_id']}": row for row in rows.to_pylist()}
    wanted = {"ash": 21, "beech": 4} if with_label else {"": 90}
    (request,) = shard_requests(wanted, 0, 100)
    ref = generate_shard(model, real, section("exemplar"), request, SEED, store)
    drawn = pq.read_table(store.path(ref) / "shard.parquet").to_pylist()
    assert len(drawn) == request.rows
    for row in drawn:
        (parent,) = (by_id[name] for name in row["parent_ids"])
        assert {name: row[name] for name in ("length", "shade")} == {n: parent[n] for n in ("length", "shade")}
        assert row.get("kind") == parent.get("kind")
    assert len({row["parent_ids"][0] for row in drawn if row.get("kind") != "beech"}) > 10
    # The cache holds what training read, also where encoding draws at random within a plateau of equal values.
    x = np.load(store.path(encode(real, SEED, store)) / "x.npy")
    _, codec = load_model(model, store)
    source = open_exemplars(model, real, store, codec, [0], 1, (3, 0))
    (picked,) = source.pick(np.zeros(30, np.int64), 0)
    (tensor,) = source.tensors([picked], torch.device("cpu"))
    assert tensor.numpy().tobytes() == x[picked.places].astype(np.float32).tobytes()


def test_a_shard_of_exemplars_made_alone_is_the_one_made_in_a_sequence(
    store: Store, real: ArtifactRef, model: ArtifactRef
) -> None:
    how = section("posterior")
    in_sequence = [shard(store, model, real, how, number) for number in range(3)]
    for stage in ("generate", "encode"):  # what was collected as garbage is made anew
        shutil.rmtree(store.root / "stages" / stage)
    torch.manual_seed(99)
    assert shard(store, model, real, how, 2).equals(in_sequence[2])
    used = Counter(p for table in in_sequence for (p,) in table["parent_ids"].to_pylist())
    kinds = pq.read_table(store.path(real) / "train.parquet")["kind"].to_pylist()
    for name, wanted in WANTED.items():
        uses = [used[f"real-{source_id(place)}"] for place, kind in enumerate(kinds) if kind == name]
        assert sum(uses) == wanted
        assert max(uses) - min(uses) <= 1


def test_the_key_of_a_shard_follows_the_operator_and_not_how_it_was_named(
    store: Store, real: ArtifactRef, model: ArtifactRef
) -> None:
    request = shard_requests(WANTED, 0, 25)[0]

    def key(operator: str | None) -> str:
        return shard_key(model, real, section(operator), request, SEED, store)

    assert len({key(name) for name in OPERATORS}) == 4
    assert key(None) == key("exemplar")
    folder = store.path(generate_shard(model, real, section(), request, SEED, store))
    record = json.loads((folder / "shard.json").read_text())
    assert (record["operator"], record["order"]) == ("exemplar", "from the first column to the last")
    with pytest.raises(InputError, match="'dream' is not offered by echo"):
        key("dream")


def test_exemplars_of_other_rows_than_the_model_was_trained_on_are_refused(
    store: Store, real: ArtifactRef, model: ArtifactRef
) -> None:
    other = make_real(store, ["ash", "beech", "cedar"] * 9, key="others")
    with pytest.raises(StoreError, match=r"are not those that the model .* was trained on"):
        shard(store, model, other, section("posterior"))


def test_parents_are_published_as_they_were_drawn_and_no_rejected_one_among_them(
    store: Store, real: ArtifactRef, model: ArtifactRef
) -> None:
    checks = without_nets(validation.active_checks([]))
    reference = validation.make_reference(real, checks, SEED, store)
    shards = [
        generate_shard(model, real, section("posterior"), request, SEED, store)
        for turn, wanted in ((0, WANTED), (1, {"beech": 2}))  # a second round draws rejected rows again
        for request in shard_requests(wanted, turn, 50)
    ]
    judged: list[ArtifactRef] = []
    for ref in shards:
        judged.append(validation.judge_shard(ref, reference, real, checks, store, judged))
    audit = write_audit(store, "audit", passing())
    published = Stages(store, SCHEMA, real, model, tuple(shards), tuple(judged), audit).publish(
        "trees", report_writer=None, consumer=None
    )
    assert [g.sentence for g in published.gates if g.passed is False] == []
    opened = load_dataset(published.path)
    rows = opened.arrow("train").to_pylist()
    accepted = {}
    for ref, judgement in zip(shards, judged, strict=True):
        kept = pq.read_table(store.path(judgement) / "features.parquet")["accepted"].to_pylist()
        drawn = pq.read_table(store.path(ref) / "shard.parquet", columns=["sample_id", "parent_ids"]).to_pylist()
        accepted |= {row["sample_id"]: row["parent_ids"] for row, is_kept in zip(drawn, kept, strict=True) if is_kept}
    assert {row["sample_id"]: row["parent_ids"] for row in rows if row["is_synthetic"]} == accepted
    kinds = {row["sample_id"]: row["kind"] for row in rows if not row["is_synthetic"]}
    assert all(kinds[parent] == row["kind"] for row in rows for parent in row["parent_ids"] or [])
    assert {row["parent_ids"] is None for row in rows if not row["is_synthetic"]} == {True}
    card = (opened.path / "README.md").read_text()
    assert "operator\n`posterior`" in card
    assert "near the code of a real training row of its class; `parent_ids` names that row." in card
    assert opened.manifest.lineage["operator"] == "posterior"
    assert "values of a row were drawn one after the other: from the first column to the last." in card
    assert opened.manifest.lineage["order"] == "from the first column to the last"
