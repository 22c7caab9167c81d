"""Where a version comes from: source, split, configuration, artifacts, code, packages and run."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from augment.store import MANIFEST, ArtifactRef, Store, hash_json
from augment.worth.record import WorthRecord

PACKAGES = (
    "datasets", "great-expectations", "lightning-fabric", "numpy", "pandas", "pillow", "prefect", "pyarrow", "pydantic",
    "safetensors", "scikit-learn", "torch", "torchvision",
)  # fmt: skip


class RunContext(BaseModel):
    """What a publication must know of its run; ``artifacts`` are references beyond those that it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    config: dict[str, Any] = {}
    seed: int = 0
    equal_class_mass: bool = False  # after a plan that balances
    requested: dict[str, int] = {}  # synthetic rows that the plan asked for, by class
    code_commit: str | None = None
    flow_run_id: str | None = None
    artifacts: tuple[ArtifactRef, ...] = ()
    worth: dict[str, Any] | None = None

    @property
    def strict_about_worth(self) -> bool:
        """Whether what harms is refused."""
        return bool(self.config.get("worth", {}).get("gate") != "report")

    def with_findings(
        self, requested: dict[str, int], artifacts: tuple[ArtifactRef, ...], worth: WorthRecord | None
    ) -> RunContext:
        """This context with what only the end of a run knows."""
        found = None if worth is None else worth.model_dump(mode="json")
        return self.model_copy(update={"requested": requested, "artifacts": artifacts, "worth": found})


def describe_lineage(
    context: RunContext, real: ArtifactRef, model: ArtifactRef, used: Sequence[ArtifactRef], store: Store
) -> dict[str, Any]:
    """The ``lineage`` of a manifest; ``used`` are the artifacts of generation and of the audit.

    ``packages`` are those that publish, ``trained_with`` those that the model was trained with, perhaps elsewhere.

    Raises:
        StoreError: an artifact is not in the store.
    """
    ingested = json.loads((store.path(real) / "ingest.json").read_text())
    trained = json.loads((store.path(model) / "model.json").read_text())
    weights = json.loads((store.path(model) / MANIFEST).read_text())["files"].get("weights.safetensors")
    artifacts = {(ref.stage, ref.key): ref for ref in (real, model, *used, *context.artifacts)}
    shards = [record for ref in used if (record := _shard_record(ref, store))]
    if trained.get("encode"):
        encoded = ArtifactRef.model_validate(trained["encode"])
        artifacts[encoded.stage, encoded.key] = encoded
    return {
        "run_id": context.run_id,
        "flow_run_id": context.flow_run_id,
        "seed": context.seed,
        "config": context.config,
        "config_sha256": hash_json(context.config),
        "source": ingested.get("source"),
        "source_fingerprint": ingested.get("fingerprint"),
        "split": ingested.get("split"),
        "split_seed": ingested.get("seed"),
        "rows_read": ingested.get("rows_read"),
        "notes": [*ingested.get("notes", []), *trained.get("notes", [])],
        "train_rows_sha256": ingested.get("train_rows_sha256"),
        "test_rows_sha256": ingested.get("test_rows_sha256"),
        "model": trained.get("model"),
        "given_files": trained.get("files"),  # of rows that somebody else generated
        "train": trained.get("train"),
        "parameters": trained.get("parameters"),
        "device": trained.get("device"),
        **({"selection": selected} if (selected := _selection(used, store)) is not None else {}),
        "operator": next((record["operator"] for record in shards if "operator" in record), None),
        **({"order": order} if (order := next((r["order"] for r in shards if "order" in r), None)) else {}),
        "drawn_on": sorted({record["device"] for record in shards if "device" in record}),
        "weights_sha256": weights,
        "generator_id": model.sha256[:12],
        "generator_train_rows_sha256": trained.get("train_rows_sha256"),
        "artifacts": [ref.model_dump() for ref in artifacts.values()],
        "code_commit": context.code_commit,
        "packages": package_versions(),
        "trained_with": trained.get("packages", {}),
    }


def _selection(used: Sequence[ArtifactRef], store: Store) -> dict[str, Any] | None:
    """How rows were selected, which the audit says; null where they were not."""
    audits = [path for ref in used if (path := store.path(ref) / "metrics.json").exists()]
    found = (json.loads(path.read_text()).get("selection") for path in audits)
    return next((said for said in found if said is not None), None)


def _shard_record(ref: ArtifactRef, store: Store) -> dict[str, Any]:
    """What a shard says about how it was drawn; nothing for any other artifact."""
    record = store.path(ref) / "shard.json"
    said: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    return said


def package_versions() -> dict[str, str]:
    """The versions of Python and of the installed packages that decide what comes out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional package that is not installed
    return versions
