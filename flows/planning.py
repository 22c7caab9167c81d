"""What `augment plan` shows: the data as they were understood, what would be made of them, and what it would cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from augment.config import RunConfig
from augment.gates import plural
from augment.store import Store
from flows.printing import print_table, size


def describe_run(config: RunConfig) -> dict[str, Any]:
    """The plan of a run as plain values; nothing is trained.

    The source is read and encoded, and what the checks must know of it is learned, which a run then need not do.

    Raises:
        InputError: the source, the split, the plan, the model or the checks do not fit together.
    """
    from augment.ingest import ingest
    from augment.makers import maker
    from augment.plan import describe_plan
    from augment.validation import active_checks, make_reference

    store = Store.open(config.store)
    real = ingest(config.source, config.split, config.seed, store)
    planned = describe_plan(config.plan, real, store).model_dump(mode="json")
    planned = maker(config).plan(real, planned, store)
    # what trains nets waits for the run
    quick = [check for check in active_checks(config.checks) if not check.needs_encoders]
    make_reference(real, quick, config.seed, store)
    return {"name": config.name, "store": config.store, "source": config.source.described(), **planned}


def print_plan(described: dict[str, Any]) -> None:
    """Write the plan of a run for a person."""
    print(f"{described['name']}: {described['source']}, label {described['label'] or 'none'}\n")
    print_table(described["columns"], ["name", "kind", "type", "reason"])
    print()
    available = ["available"] if "available" in described["classes"][0] else []
    print_table(described["classes"], ["name", "train", "validation", "test", "synthetic", *available])
    print()
    for name, sentence in [*(_made_lines if "drawing" in described else _given_lines)(described)]:
        print(f"{name:<9} {sentence}")
    print(f"store     {described['store']}")
    for kind in ("notes", "warnings"):
        for sentence in described[kind]:
            print(f"{kind.rstrip('s'):<9} {sentence}")


def _made_lines(described: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is said of a model, its training and its drawing."""
    model, cost, how = described["model"], described["cost"], described["drawing"]
    yield "model", f"{model['kind']}, {model['parameters']:,} parameters for rows of shape {tuple(model['shape'])}"
    yield "training", f"{model['steps']:,} steps of {model['batch_size']:,} rows, {cost['rows_trained_on']:,} in all"
    drawing = f"{cost['rows_drawn']:,} rows, {cost['evaluations']:,} evaluations of the model"
    yield "drawing", f"{drawing}, {plural(cost['shards'], 'shard')}"
    others = [name for name in how["offered"] if name != how["operator"]]
    yield "operator", f"{how['operator']}: {how['sentence']}" + (f"; also {', '.join(others)}" if others else "")
    weights, drawn, published = (size(cost[f"{name}_bytes"]) for name in ("weights", "drawn", "published"))
    yield "size", f"weights {weights}, drawn rows about {drawn}, published about {published}"


def _given_lines(described: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is said of rows from files."""
    model, cost = described["model"], described["cost"]
    yield "model", f"{model['kind']}, {plural(model['rows'], 'row')} in {model['path']} ({model['form']})"
    yield "drawing", f"{plural(cost['rows_drawn'], 'row')}, a seeded choice, {plural(cost['shards'], 'shard')}"
    drawn, published = (size(cost[f"{name}_bytes"]) for name in ("drawn", "published"))
    yield "size", f"drawn rows about {drawn}, published about {published}"
