"""What `augment plan` shows: the data as they were understood, what would be made of them, and what it would cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from augment.config import RunConfig
from augment.store import Store
from flows.printing import print_table, size

WEIGHT_BYTES = 4  # of a parameter: weights are kept as 32-bit floats


def describe_run(config: RunConfig) -> dict[str, Any]:
    """The plan of a run as plain values; nothing is trained.

    The source is read and encoded, and what the checks must know of it is learned, which a run then need not do.

    Raises:
        InputError: the source, the split, the plan, the model or the checks do not fit together.
    """
    from augment.codec import Codec
    from augment.encoding import encode
    from augment.generation import default_shard_rows
    from augment.ingest import ingest
    from augment.plan import describe_plan
    from augment.training import check_model, refuse_without_pairs, training_choices
    from augment.validation import active_checks, make_reference

    store = Store.open(config.store)
    real = ingest(config.source, config.split, config.seed, store)
    planned = describe_plan(config.plan, real, store).model_dump(mode="json")
    encoded = store.path(encode(real, config.seed, store))
    spec = Codec.load(encoded / "codec.json").spec
    parameters, choices = check_model(config.model, spec), training_choices(config.model, config.train)
    refuse_without_pairs(config.model, encoded, choices.batch_size)
    make_reference(real, active_checks(config.checks), config.seed, store)
    drawing, shard_rows = described_drawing(config), config.generate.shard_rows or default_shard_rows(spec)
    return {
        "name": config.name,
        "store": config.store,
        "source": config.source.described(),
        **planned,
        "model": {
            "kind": config.model.kind,
            "shape": list(spec.shape),
            "parameters": parameters,
            "device": config.train.device,
            **choices.model_dump(mode="json"),
        },
        "drawing": drawing,
        "cost": {
            "steps": choices.steps,
            "rows_trained_on": choices.steps * choices.batch_size,
            "weights_bytes": parameters * WEIGHT_BYTES,
            **cost_of_drawing(drawing["evaluations_per_sample"], shard_rows, planned["classes"]),
            **size_of_rows(store.path(real), planned["classes"]),
        },
    }


def described_drawing(config: RunConfig) -> dict[str, Any]:
    """How rows are drawn, and how else they could be."""
    from augment.operators import OPERATORS, chosen_operator

    operator = chosen_operator(config.model, config.generate.operator)
    return {
        "operator": operator,
        "parents": OPERATORS[operator].parents,
        "sentence": OPERATORS[operator].sentence,
        "offered": list(config.model.offered()),
        "evaluations_per_sample": config.model.evaluations(operator),
    }


def cost_of_drawing(evaluations: int, shard_rows: int, classes: list[dict[str, Any]]) -> dict[str, int]:
    """Rows, evaluations of the model and shards of the first round; what is rejected and drawn again comes on top."""
    rows = sum(row["synthetic"] for row in classes)
    return {
        "rows_drawn": rows,
        "evaluations": rows * evaluations,
        "shards": math.ceil(rows / shard_rows),
    }


def size_of_rows(real: Path, classes: list[dict[str, Any]]) -> dict[str, int]:
    """About the bytes of the drawn rows and of all published ones, if synthetic rows take the room of real ones."""
    sizes = {part: (real / f"{part}.parquet").stat().st_size for part in ("train", "validation", "test")}
    trained = sum(row["train"] for row in classes)
    drawn = sizes["train"] * sum(row["synthetic"] for row in classes) // max(trained, 1)
    return {"drawn_bytes": drawn, "published_bytes": sum(sizes.values()) + drawn}


def print_plan(described: dict[str, Any]) -> None:
    """Write the plan of a run for a person."""
    print(f"{described['name']}: {described['source']}, label {described['label'] or 'none'}\n")
    print_table(described["columns"], ["name", "kind", "type", "reason"])
    print()
    print_table(described["classes"], ["name", "train", "validation", "test", "synthetic"])
    model, cost = described["model"], described["cost"]
    print(f"\nmodel     {model['kind']}, {model['parameters']:,} parameters for rows of shape {tuple(model['shape'])}")
    print(f"training  {model['steps']:,} steps of {model['batch_size']:,} rows, {cost['rows_trained_on']:,} in all")
    drawing = f"{cost['rows_drawn']:,} rows, {cost['evaluations']:,} evaluations of the model"
    print(f"drawing   {drawing}, {cost['shards']:,} {'shard' if cost['shards'] == 1 else 'shards'}")
    how = described["drawing"]
    others = [name for name in how["offered"] if name != how["operator"]]
    print(f"operator  {how['operator']}: {how['sentence']}" + (f"; also {', '.join(others)}" if others else ""))
    weights, drawn, published = (size(cost[f"{name}_bytes"]) for name in ("weights", "drawn", "published"))
    print(f"size      weights {weights}, drawn rows about {drawn}, published about {published}")
    print(f"store     {described['store']}")
    for kind in ("notes", "warnings"):
        for sentence in described[kind]:
            print(f"{kind.rstrip('s'):<9} {sentence}")
