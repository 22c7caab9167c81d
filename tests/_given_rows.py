"""Real rows and rows that somebody else generated, as files, and the way from both to a verdict without Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from _judged_sets import quick
from _small_store import pleased, small_report

from augment.config import RunConfig
from augment.errors import InputError
from augment.gates import GateResult, load_gates
from augment.ingest import ingest
from augment.makers import maker
from augment.plan import rows_to_draw
from augment.publishing import Publication, RunContext, publish
from augment.rounds import round_requests
from augment.runfile import parse_run_config
from augment.store import ArtifactRef, Store
from augment.validation import active_checks, conclude, judge_shard, make_reference

FRUITS = ("apple", "pear")


def fruit_rows(rows: int, seed: int) -> pa.Table:
    """Rows of a table with every plain type, classes in turn; about a tenth of the sizes is missing."""
    draw = np.random.default_rng(seed)
    sizes = np.round(draw.normal(5, 1, rows), 4)
    return pa.table(
        {
            "size": pa.array(sizes, mask=draw.random(rows) < 0.1),
            "count": pa.array(draw.integers(0, 100_000, rows), pa.int64()),
            "code": draw.choice(["1", "2", "x"], rows),
            "ripe": draw.random(rows) < 0.5,
            "fruit": [FRUITS[place % 2] for place in range(rows)],
        }
    )


def with_values(table: pa.Table, name: str, values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Table:
    """``table`` with other values in one column."""
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, kind))


def write_csv(table: pa.Table, path: Path) -> Path:
    """The table as a CSV file."""
    pa.csv.write_csv(table, path)
    return path


def write_parquet(table: pa.Table, path: Path) -> Path:
    """The table as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def fruit_config(folder: Path, model: Mapping[str, Any], **sections: Any) -> RunConfig:
    """A run whose real rows are 300 fruits in ``real.parquet``, written into ``folder`` where they are not there."""
    real = folder / "real.parquet"
    if not real.exists():
        write_parquet(fruit_rows(300, 1).append_column("note", pa.array([f"fruit {i}" for i in range(300)])), real)
    source = {"kind": "parquet", "path": str(real), "label": "fruit", "columns": {"code": "categorical"}}
    content = {"name": "fruits", "seed": 3, "source": source, "store": str(folder / "store")}
    plan = {"kind": "counts", "counts": dict.fromkeys(FRUITS, 40)}
    given = {"kind": "from_files", **{key: str(v) if isinstance(v, Path) else v for key, v in model.items()}}
    return parse_run_config({**content, "plan": plan, "model": given, **sections}, "run.yaml")


@dataclass
class Run:
    """A run that went as far as its audit."""

    config: RunConfig
    store: Store
    real: ArtifactRef
    reference: ArtifactRef
    model: ArtifactRef
    wanted: dict[str, int]
    shards: list[ArtifactRef]
    judged: list[ArtifactRef]
    audit: ArtifactRef

    @classmethod
    def of(cls, config: RunConfig, after_taking: Any = None) -> Run:
        """The stages of the flow one after the other; ``after_taking`` is called when the rows have been taken."""
        store = Store.open(config.store)
        real = ingest(config.source, config.split, config.seed, store)
        wanted, checks = rows_to_draw(config.plan, real, store), quick(active_checks(config.checks))
        reference = make_reference(real, checks, config.seed, store, shares=config.generate.select.shares)
        model = maker(config).prepare(real, store)
        if after_taking is not None:
            after_taking()
        shards: list[ArtifactRef] = []
        judged: list[ArtifactRef] = []
        for number in range(config.generate.rounds + 1):
            for request in round_requests(config.generate, model, wanted, list(judged), number, store):
                shards.append(maker(config).shard(model, real, request, store))
                judged.append(judge_shard(shards[-1], reference, real, checks, store, list(judged), wanted=wanted))
        audit = conclude(real, reference, model, wanted, shards, judged, checks, store)
        return cls(config, store, real, reference, model, wanted, shards, judged, audit)

    @property
    def gates(self) -> dict[str, GateResult]:
        """The verdict of each gate."""
        return {gate.gate: gate for gate in load_gates(self.store.path(self.audit) / "gates.json")}

    @property
    def failed(self) -> list[str]:
        """The gates that failed."""
        return [name for name, gate in self.gates.items() if gate.passed is False]

    def rows(self, *rounds: int) -> pa.Table:
        """The rows of all shards, or of those of some rounds."""
        tables = [pq.read_table(self.store.path(shard) / "shard.parquet") for shard in self.shards]
        chosen = [t for t in tables if not rounds or int(t["sample_id"][0].as_py().split("-")[2]) in rounds]
        return pa.concat_tables(chosen)

    def publish(self, whole: bool = False) -> Publication:
        """What the publication says; with ``whole`` the real report is written and the folder opened by its readers."""
        context = RunContext(
            run_id="run-1", config=self.config.model_dump(mode="json"), seed=self.config.seed, requested=self.wanted
        )
        hooks = {} if whole else {"report_writer": small_report, "consumer": pleased}
        return publish(
            self.config.name, self.real, self.model, self.shards, self.judged, self.audit, context=context,
            store=self.store, **hooks,
        )  # fmt: skip


def refusal(config: RunConfig) -> str:
    """What the input error says with which a run of ``config`` ends."""
    try:
        Run.of(config)
    except InputError as error:
        return str(error)
    raise AssertionError("the run was not refused")
