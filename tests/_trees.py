"""A small table of trees as an `ingest` artifact, and a model of it that offers every operator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from augment._hashing import content_hashes
from augment._plugins import find_plugins
from augment.schema import ColumnSchema, DatasetSchema
from augment.store import ArtifactRef, Store
from models._contract import Batch, GenerativeModel, ModelConfig, Objective, TensorSpec, TrainingDefaults

SCHEMA = DatasetSchema(
    columns=(
        ColumnSchema(name="length", kind="numeric", type="float64", reason="declared", decimals=1),
        ColumnSchema(name="shade", kind="categorical", type="string", reason="declared"),
        ColumnSchema(name="note", kind="ignore", type="string", reason="declared"),
        ColumnSchema(name="kind", kind="categorical", type="string", reason="label"),
    ),
    label="kind",
    classes=("ash", "beech", "cedar"),
)
UNLABELLED = SCHEMA.model_copy(update={"columns": SCHEMA.columns[:3], "label": None, "classes": ()})


def source_id(place: int) -> int:
    """The source row id of the training row at ``place``; ids of training rows have gaps and do not start at 0."""
    return 100 + 3 * place


def make_real(
    store: Store, kinds: Sequence[str | None] | None = None, schema: DatasetSchema = SCHEMA, key: str = "trees"
) -> ArtifactRef:
    """A `real` artifact of trees: of these kinds in this order, or 40 rows of all kinds."""
    generator = np.random.default_rng(0)
    chosen = list(generator.choice(list(SCHEMA.classes), 40)) if kinds is None else list(kinds)
    rows = len(chosen)
    columns = {
        "length": np.round(generator.normal(10, 2, rows), 1),
        "shade": pa.array([None if i % 7 == 0 else "dark" if i % 2 else "light" for i in range(rows)]),
        "note": [f"note {i}" for i in range(rows)],
        "kind": chosen,
    }
    table = pa.table({name: columns[name] for name in schema.arrow_schema.names}, schema=schema.arrow_schema)
    batch = table.combine_chunks().to_batches()[0]
    table = table.append_column("source_row_id", pa.array([source_id(place) for place in range(rows)]))
    table = table.append_column("content_hash", content_hashes(batch, schema))

    def fill(folder: Path) -> None:
        for part in ("train", "validation", "test"):
            pq.write_table(table, folder / f"{part}.parquet")
        schema.save(folder / "schema.json")
        (folder / "ingest.json").write_text(json.dumps({"train_rows_sha256": "f" * 64}))

    return store.write("ingest", key, fill)


class Echo(GenerativeModel):
    """Gives back what it is given, so that a test sees which exemplars it got; it learns nothing."""

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.ones(()))

    def objectives(self) -> Sequence[Objective]:
        return [Objective("echo", (self.weight,), self._loss)]

    def _loss(self, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        return {"loss": self.weight.square()}

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        return temperature * torch.randn(len(labels), *self.spec.shape, generator=generator)

    def resample(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        return exemplars + 0.2 * self.sample(labels, generator, temperature)

    def interpolate(
        self, first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        return (first + second) / 2

    def sample_from(
        self, exemplars: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        return exemplars


class EchoConfig(ModelConfig):
    """Settings of the echo: how it draws by default, and whether it draws from its labels alone."""

    accepts: ClassVar = frozenset({"vector"})
    likelihood: ClassVar = "none"
    objective_names: ClassVar = ("echo",)
    operators: ClassVar = ("exemplar", "posterior", "interpolation", "prior")
    evaluations_per_sample: ClassVar = 2
    paper: ClassVar = "none"
    training: ClassVar = TrainingDefaults(steps=2, batch_size=4)

    kind: Literal["echo"] = "echo"
    first: str = "exemplar"
    has_prior: bool = True

    def offered(self) -> tuple[str, ...]:
        others = [name for name in self.operators if name != self.first and (name != "prior" or self.has_prior)]
        return (self.first, *others)

    def evaluations(self, operator: str | None = None) -> int:
        return 5 if operator == "posterior" else 2 if self.has_prior else 7

    def drawing_order(self) -> str:
        return "from the first column to the last"

    def build(self, spec: TensorSpec, generator: torch.Generator) -> Echo:
        return Echo(spec)


def know_the_echo(patch: pytest.MonkeyPatch) -> None:
    """Let trained models be read back as if the echo were one of the package's."""
    patch.setattr(
        "augment.generation.find_plugins", lambda package, base: {**find_plugins(package, base), "echo": EchoConfig}
    )
