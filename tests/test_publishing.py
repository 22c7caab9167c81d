"""Publication: what is written, when it is seen, and what happens when it is cut off."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from _small_store import IMAGES, Stages, displeased, gate, passing, pleased, read_stages, write_stages

from augment._layout import ADDED_FIELDS, STAGING
from augment._manifest import Counts, Latest, Manifest
from augment._weights import class_weights
from augment.errors import InputError, IntegrityError, StoreError
from augment.gates import GateResult
from augment.schema import DatasetSchema
from augment.versions import list_versions, rollback, verify


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return write_stages(tmp_path / "store")


def dataset(stages: Stages, name: str = "animals") -> Path:
    return stages.store.root / "datasets" / name


def parquet_bytes(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for part in ("data", "eval")
        for p in sorted((folder / part).rglob("*.parquet"))
    }


def test_a_version_has_the_published_layout(stages: Stages) -> None:
    published = stages.publish()
    folder = Path(published.path)
    assert folder.parent == dataset(stages) / "versions"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "README.md", "MANIFEST.json", "croissant.json", "BLESSED", "rejects.parquet", "suites/structure.json",
        "data/real/train-00000.parquet", "data/synthetic/train-00000.parquet",
        "eval/validation-00000.parquet", "eval/test-00000.parquet",
        "report/index.html", "report/samples.png", "report/gates.json", "report/metrics.json",
    }  # fmt: skip
    assert published.status == "published"
    assert published.rows == {
        "ant": {"real": 12, "synthetic": 3}, "bee": {"real": 5, "synthetic": 4}, "cow": {"real": 3, "synthetic": 5}
    }  # fmt: skip
    assert Latest.load(dataset(stages)) is not None
    assert not list((dataset(stages) / STAGING).iterdir())


def test_columns_come_in_order_and_keep_their_types(stages: Stages) -> None:
    folder = Path(stages.publish().path)
    own = stages.schema.arrow_schema
    for file in folder.glob("*/**/*train-*.parquet"):
        schema = pq.read_schema(file)
        assert schema.names == [*own.names, *(f.name for f in ADDED_FIELDS)]
        assert [schema.field(n).type for n in own.names] == own.types
        assert schema.metadata[b"aug.is_synthetic"] == (b"true" if "synthetic" in str(file) else b"false")


def test_rejected_rows_are_not_published(stages: Stages) -> None:
    rows = pq.read_table(Path(stages.publish().path) / "data/synthetic/train-00000.parquet").to_pylist()
    assert [(r["gen_seed"], r["gen_index"]) for r in rows][:4] == [(42, 0), (42, 2), (42, 3), (42, 4)]
    assert [r["gen_seed"] for r in rows] == sorted(r["gen_seed"] for r in rows)
    assert all(r["sample_id"].startswith("syn-") and r["is_synthetic"] and r["split"] == "train" for r in rows)


def test_real_rows_say_where_they_come_from(stages: Stages) -> None:
    folder = Path(stages.publish().path)
    ids = set()
    for split, file in (("train", "data/real/train"), ("validation", "eval/validation"), ("test", "eval/test")):
        for row in pq.read_table(folder / f"{file}-00000.parquet").to_pylist():
            assert (row["split"], row["is_synthetic"], row["generator_id"]) == (split, False, None)
            assert row["sample_id"] == f"real-{row['source_row_id']}"
            ids.add(row["sample_id"])
    assert len(ids) == 20 + 3 + 6


def weight_sums(folder: Path, label: str) -> dict[tuple[Any, bool], float]:
    sums: dict[tuple[Any, bool], float] = {}
    for row in pq.read_table(folder / "data").to_pylist():
        key = (row[label], row["is_synthetic"])
        sums[key] = sums.get(key, 0.0) + row["sample_weight"]
    return sums


def test_classes_have_equal_mass_and_both_halves_of_each_after_a_balance(stages: Stages) -> None:
    sums = weight_sums(Path(stages.publish(equal_class_mass=True).path), "species")
    assert list(sums.values()) == pytest.approx([32 / 6] * 6)


def test_classes_weigh_what_they_count_after_other_plans(stages: Stages) -> None:
    sums = weight_sums(Path(stages.publish(equal_class_mass=False).path), "species")
    assert sums["ant", False] == pytest.approx(sums["ant", True]) == pytest.approx(7.5)
    assert sum(sums.values()) == pytest.approx(32)


def test_a_class_of_one_origin_keeps_its_whole_mass() -> None:
    real, synthetic = class_weights([4, 2, 0, 0], [4, 0, 2, 0], equal_mass=True)
    assert real.tolist() == [0.5, 2.0, 0.0, 0.0]
    assert synthetic.tolist() == [0.5, 0.0, 2.0, 0.0]


def test_rows_without_a_label_weigh_nothing(tmp_path: Path) -> None:
    real = {"train": ["ant", None, "bee", "cow", None], "validation": ["ant"], "test": ["bee"]}
    published = write_stages(tmp_path, real=real).publish()
    rows = pq.read_table(Path(published.path) / "data/real").to_pylist()
    assert [r["sample_weight"] == 0 for r in rows] == [False, True, False, False, True]
    assert published.rows[""] == {"real": 2, "synthetic": 0}
    assert all(w == 1 for w in pq.read_table(Path(published.path) / "eval")["sample_weight"].to_pylist())


def test_data_without_a_label_are_one_class(tmp_path: Path) -> None:
    from _small_store import TABLE

    schema = TABLE.model_copy(update={"label": None, "classes": ()})
    real = {"train": [None] * 6, "validation": [], "test": [None]}
    published = write_stages(tmp_path, schema, real=real, drawn=[[None] * 4]).publish()
    assert published.rows == {"": {"real": 6, "synthetic": 3}}
    weights = pq.read_table(Path(published.path) / "data")["sample_weight"].to_pylist()
    assert weights == pytest.approx([0.75] * 6 + [1.5] * 3)


def test_images_are_published_like_any_column(tmp_path: Path) -> None:
    published = write_stages(tmp_path, IMAGES).publish("pictures")
    table = pq.read_table(Path(published.path) / "data/synthetic")
    assert table.schema.field("label").type == "int64"
    assert published.rows == {"3": {"real": 12, "synthetic": 3}, "7": {"real": 8, "synthetic": 9}}


def test_the_same_data_are_the_same_version(stages: Stages, tmp_path: Path) -> None:
    first, second = stages.publish(run_id="one"), stages.publish(run_id="two")
    assert (second.status, second.version, second.path) == ("unchanged", first.version, first.path)
    elsewhere = write_stages(tmp_path / "other").publish()
    assert parquet_bytes(Path(elsewhere.path)) == parquet_bytes(Path(first.path))
    assert elsewhere.version.rpartition("-")[2] == first.version.rpartition("-")[2]  # type: ignore[union-attr]


def test_artifacts_with_other_keys_but_the_same_data_are_unchanged(stages: Stages) -> None:
    first = stages.publish()
    again = stages.with_audit("other", passing())
    (stages.store.path(again.audit) / "unseen").touch()
    assert again.publish(run_id="two").version == first.version


def test_other_evidence_is_another_version(stages: Stages) -> None:
    first = stages.publish()
    gates = [g if g.gate != "marginals" else gate("marginals", value=0.5) for g in passing()]
    second = stages.with_audit("measured-again", gates).publish(run_id="two")
    assert second.status == "published"
    assert second.version != first.version
    assert parquet_bytes(Path(second.path)) == parquet_bytes(Path(first.path))


def test_the_last_gates_are_no_part_of_the_version(stages: Stages) -> None:
    first = stages.publish()
    gates = [g if g.gate != "regression" else gate("regression", value=0.5) for g in passing()]
    assert stages.with_audit("compared", gates).publish(run_id="two").version == first.version


def test_refused_data_go_to_quarantine_and_readers_see_no_change(stages: Stages) -> None:
    first = stages.publish()
    gates = [g if g.gate != "duplicates" else gate("duplicates", passed=False, value=9.0) for g in passing()]
    refused = stages.with_audit("worse", gates).publish(run_id="two")
    folder = Path(refused.path)
    assert (refused.status, refused.version, refused.verdict) == ("refused", None, "not blessed")
    assert folder == dataset(stages) / "quarantine/two"
    assert json.loads((folder / "NOT_BLESSED").read_text())["reasons"] == ["duplicates was judged."]
    assert not (folder / "BLESSED").exists()
    assert (folder / "report/index.html").exists()
    latest = Latest.load(dataset(stages))
    assert latest is not None
    assert latest.version == first.version
    assert stages.with_audit("worse", gates).publish(run_id="two").path == refused.path


def test_a_repeated_refusal_takes_the_place_of_the_last_one(stages: Stages) -> None:
    quarantine = dataset(stages) / "quarantine"
    for night in ("one", "two", "two", "three"):
        assert stages.publish(run_id=night, consumer=displeased).path == str(quarantine / night)
    assert [p.name for p in quarantine.iterdir()] == ["three"]
    other = write_stages(stages.store.root, tag="n", drawn=[["ant", "bee", "cow"]])
    other.publish(run_id="four", consumer=displeased)
    assert sorted(p.name for p in quarantine.iterdir()) == ["four", "three"]


def test_a_folder_that_its_reader_cannot_open_is_refused(stages: Stages) -> None:
    refused = stages.publish(consumer=displeased)
    assert refused.status == "refused"
    assert Latest.load(dataset(stages)) is None


def test_a_flipped_byte_in_a_shard_is_refused_and_named(stages: Stages) -> None:
    file = stages.store.path(stages.shards[0]) / "shard.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"shard\.parquet is missing or altered"):
        stages.publish()
    assert not list((dataset(stages) / "versions").iterdir())
    assert not list((dataset(stages) / STAGING).iterdir())


def test_a_judgement_of_other_rows_is_refused(stages: Stages) -> None:
    swapped = Stages(
        stages.store, stages.schema, stages.real, stages.model, stages.shards, stages.judged[::-1], stages.audit
    )
    with pytest.raises(StoreError, match="judges other rows"):
        swapped.publish()


def test_an_altered_version_is_not_called_unchanged(stages: Stages) -> None:
    folder = Path(stages.publish().path)
    file = folder / "data/synthetic/train-00000.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=r"altered: data/synthetic/train-00000\.parquet"):
        stages.publish(run_id="two")


def test_a_version_whose_manifest_is_altered_stops_no_other(stages: Stages) -> None:
    manifest = Path(stages.publish().path) / "MANIFEST.json"
    manifest.write_text(json.dumps({"sequence": 1, "inputs_sha256": "0" * 64}))
    new = write_stages(stages.store.root, tag="n", drawn=[["ant", "bee", "cow"]])
    assert new.publish(run_id="two").status == "published"
    assert new.publish(run_id="three").status == "unchanged"


def test_the_consumer_is_given_what_the_manifest_claims(stages: Stages) -> None:
    given: list[Counts] = []

    def consumer(folder: Path, schema: DatasetSchema, counts: Counts) -> GateResult:
        given.append(counts)
        return pleased(folder, schema, counts)

    claimed = Manifest.load(Path(stages.publish(consumer=consumer).path)).counts
    assert given == [claimed]


def test_a_name_that_leaves_the_store_is_refused(stages: Stages) -> None:
    for name in ("../animals", "a/b", "Animals", "", "a\0", "x" * 101):
        with pytest.raises(InputError, match="cannot be the name of a dataset"):
            stages.publish(name)


def test_a_rolled_back_version_stays_the_latest_when_nothing_changed(stages: Stages) -> None:
    old = stages.publish()
    new = write_stages(stages.store.root, tag="n", drawn=[["ant", "bee", "cow"]])
    assert new.publish().status == "published"
    assert old.version is not None
    rollback(stages.store, "animals", old.version)
    assert new.publish(run_id="again").status == "unchanged"
    latest = Latest.load(dataset(stages))
    assert latest is not None
    assert latest.version == old.version


def test_a_version_that_was_never_pointed_at_is_pointed_at_by_the_next_run(stages: Stages) -> None:
    stages.publish()
    before = (dataset(stages) / "_latest.json").read_bytes()
    new = write_stages(stages.store.root, tag="n", drawn=[["ant", "bee", "cow"]])
    published = new.publish()
    (dataset(stages) / "_latest.json").write_bytes(before)  # as if it had been killed before its last step
    assert stages.publish(run_id="old").status == "unchanged"
    again = new.publish(run_id="again")
    assert (again.status, again.version) == ("published", published.version)
    latest = Latest.load(dataset(stages))
    assert latest is not None
    assert latest.version == published.version


def test_versions_are_ordered_by_a_counter(stages: Stages) -> None:
    first = Manifest.load(Path(stages.publish().path))
    new = write_stages(stages.store.root, tag="n", drawn=[["ant", "bee", "cow"]])
    second = Manifest.load(Path(new.publish().path))
    assert (first.sequence, second.sequence) == (1, 2)


def test_the_manifest_says_what_and_where_from(stages: Stages) -> None:
    published = stages.publish()
    manifest = json.loads((Path(published.path) / "MANIFEST.json").read_text())
    assert manifest["schema"]["label"] == "species"
    assert manifest["counts"]["test"]["cow"] == {"real": 2, "synthetic": 0}
    assert manifest["files"]["data/synthetic/train-00000.parquet"]["rows"] == 12
    lineage = manifest["lineage"]
    assert lineage["generator_id"] == stages.model.sha256[:12]
    assert lineage["source_fingerprint"] == "f" * 64
    assert {a["stage"] for a in lineage["artifacts"]} == {"ingest", "train", "generate", "judge", "validate"}
    assert {"python", "pyarrow"} <= set(lineage["packages"])
    assert lineage["trained_with"] == {"torch": "2.0.0"}
    assert lineage["drawn_on"] == ["cpu"]
    assert [g["gate"] for g in manifest["gates"]][-2:] == ["consumer_smoke", "regression"]
    assert [g.gate for g in published.gates] == [g["gate"] for g in manifest["gates"]]


def publish_at(root: str, tag: str, barrier: Any, results: Any) -> None:
    stages = read_stages(Path(root), tag)
    barrier.wait()
    results.put((tag, stages.publish(run_id=f"run-{tag}").status))


def publish_at_once(root: Path, tags: list[str]) -> dict[str, list[str]]:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(len(tags)), context.Queue()
    workers = [context.Process(target=publish_at, args=(str(root), tag, barrier, results)) for tag in tags]
    for worker in workers:
        worker.start()
    said: dict[str, list[str]] = {}
    for _ in workers:
        tag, status = results.get(timeout=120)
        said.setdefault(tag, []).append(status)
    for worker in workers:
        worker.join()
    return said


@pytest.mark.slow
def test_publishers_at_once_lose_nothing(tmp_path: Path) -> None:
    one = write_stages(tmp_path, tag="one")
    write_stages(tmp_path, tag="two", drawn=[["ant", "bee", "cow"]])
    said = publish_at_once(tmp_path, ["one", "two", "one", "two"])
    assert {tag: sorted(statuses) for tag, statuses in said.items()} == {
        "one": ["published", "unchanged"], "two": ["published", "unchanged"]
    }  # fmt: skip
    versions = list_versions(one.store, "animals")
    assert [v.sequence for v in versions] == [1, 2]
    assert [v.latest for v in versions] == [False, True]
    assert all(verify(one.store, "animals", v.version).ok for v in versions)


def sweep(tmp_path: Path, first: int, step: int) -> list[dict[str, Any]]:
    """Publications killed at every ``step``-th change to the file system, checked one by one."""
    base = tmp_path / "base"
    old = write_stages(base, tag="first").publish()
    new = write_stages(base, tag="second", drawn=[["ant", "ant", "bee"], ["cow"] * 4])
    whole = write_stages(tmp_path / "whole", tag="second", drawn=[["ant", "ant", "bee"], ["cow"] * 4]).publish()
    script = Path(__file__).with_name("_killed_publisher.py")
    command = [sys.executable, str(script), str(base), str(first), str(step)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200, cwd=script.parents[1])
    results = [json.loads(line) for line in output.stdout.splitlines()]
    assert new.store.root == base
    assert whole.version is not None
    for result in results:
        between, after = result["between"], result["after"]
        assert between["intact"]
        assert between["version"] == old.version or between["version"] == after["version"]
        assert result["again"] in ("published", "unchanged")
        assert after["version"].endswith(whole.version[-12:])  # the digits are a hash of the Parquet files
        assert after["intact"]
        assert len(after["versions"]) == 2
        assert after["left"] == []
    assert not results[-1]["killed"]
    return results


def test_a_publication_killed_now_and_then_shows_the_old_or_the_new_version(tmp_path: Path) -> None:
    assert len(sweep(tmp_path, 7, 27)) > 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_publication_killed_at_every_step_shows_the_old_or_the_new_version(tmp_path: Path) -> None:
    results = sweep(tmp_path, 1, 1)
    assert len(results) > 40
    assert {r["again"] for r in results} == {"published", "unchanged"}
