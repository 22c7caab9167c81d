"""What `augment plan` shows: the data as they were understood, what would be made of them, and what it would cost."""

from __future__ import annotations

from typing import Any

from augment.config import RunConfig
from augment.store import Store
from flows.printing import print_table


def describe_run(config: RunConfig) -> dict[str, Any]:
    """The plan of a run as plain values; nothing is trained.

    The source is read and encoded, which a run then need not do.

    Raises:
        InputError: the source, the split, the plan or the model do not fit together.
    """
    from augment.codec import Codec
    from augment.encoding import encode
    from augment.ingest import ingest
    from augment.plan import describe_plan
    from augment.training import check_model, training_choices

    store = Store.open(config.store)
    real = ingest(config.source, config.split, config.seed, store)
    planned = describe_plan(config.plan, real, store).model_dump(mode="json")
    spec = Codec.load(store.path(encode(real, config.seed, store)) / "codec.json").spec
    choices = training_choices(config.model, config.train)
    drawn = sum(row["synthetic"] for row in planned["classes"])
    return {
        "name": config.name,
        "store": config.store,
        "source": config.source.described(),
        **planned,
        "model": {
            "kind": config.model.kind,
            "shape": list(spec.shape),
            "parameters": check_model(config.model, spec),
            "device": config.train.device,
            **choices.model_dump(mode="json"),
        },
        "cost": {
            "rows_trained_on": choices.steps * choices.batch_size,
            "rows_drawn": drawn,
            "evaluations": drawn * type(config.model).evaluations_per_sample,
        },
    }


def print_plan(described: dict[str, Any]) -> None:
    """Write the plan of a run for a person."""
    print(f"{described['name']}: {described['source']}, label {described['label'] or 'none'}\n")
    print_table(described["columns"], ["name", "kind", "type", "reason"])
    print()
    print_table(described["classes"], ["name", "train", "validation", "test", "synthetic"])
    model, cost = described["model"], described["cost"]
    print(f"\nmodel     {model['kind']}, {model['parameters']:,} parameters for rows of shape {tuple(model['shape'])}")
    print(f"training  {model['steps']:,} steps of {model['batch_size']:,} rows, {cost['rows_trained_on']:,} in all")
    print(f"drawing   {cost['rows_drawn']:,} rows, {cost['evaluations']:,} evaluations of the model")
    print(f"store     {described['store']}")
    for kind in ("notes", "warnings"):
        for sentence in described[kind]:
            print(f"{kind.rstrip('s'):<9} {sentence}")
