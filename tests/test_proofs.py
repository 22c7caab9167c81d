"""Long proofs that the models learn: they draw what they were asked for, and lose no part of a mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from _model_cases import CASES, MODELS, Deaf, draw, exemplars_for, generator, train
from _toy_mixtures import STACK, Covered, StackJudge, load_digits, plane_covered, plane_rows, plane_spec, stacked_rows

from augment.codec import Codec
from augment.config import RunConfig
from augment.generation import generate_shard, shard_requests
from augment.ingest import ingest
from augment.runfile import load_run_config
from augment.store import Store
from augment.training import train as train_artifact

PLANE_STEPS, STACK_STEPS, BATCH_ROWS = 8000, 2000, 128
# The least that a kind must reach: modes of the 25 Gaussians and the share of rows within 3 deviations of one, drawn as
# one class and as five; numbers from 0 to 999 that 4,000 stacks of digits show (982 are shown by 4,000 real ones). Rows
# spread evenly over the plane have no mode and a share of 0.07.
PLANE_BOUNDS = {
    "vae": {1: (0, 0.03), 5: (15, 0.15)},
    "iaf_vae": {1: (0, 0.03), 5: (10, 0.12)},
    "flow_matching": {1: (12, 0.12), 5: (15, 0.15)},
}
STACK_BOUNDS = {"vae": 400, "iaf_vae": 400, "flow_matching": 850, "warp_vae": 900}


def grey_levels(path: Path, codec: Codec) -> tuple[np.ndarray, np.ndarray]:
    """The images of a Parquet file as rows of level indices, and their labels."""
    table = pq.read_table(path)
    (batch,) = table.select(codec.table.arrow_schema.names).combine_chunks().to_batches()
    pixels, labels = codec.encode(batch, np.random.default_rng(0))
    return pixels.reshape(len(labels), -1).astype(float), labels


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_the_packaged_example_draws_digits_of_the_class_that_was_asked_for(tmp_path: Path) -> None:
    from sklearn.svm import SVC

    config: RunConfig = load_run_config(None, [f"store={tmp_path}"])
    store = Store.open(str(tmp_path))
    real = ingest(config.source, config.split, config.seed, store)
    model = train_artifact(real, config.model, config.train, config.seed, store)
    (request,) = shard_requests({str(digit): 100 for digit in range(10)}, 0, 1_000)
    shard = generate_shard(model, real, config.generate, request, config.seed, store)
    codec = Codec.load(store.path(model) / "codec.json")
    drawn, asked = grey_levels(store.path(shard) / "shard.parquet", codec)
    # The judge has seen held-out rows only, so agreement is no echo of the training rows.
    judge = SVC().fit(*grey_levels(store.path(real) / "test.parquet", codec))
    agreement = [(judge.predict(drawn[asked == digit]) == digit).mean() for digit in range(10)]
    assert np.mean(agreement) > 0.95
    assert min(agreement) > 0.8
    trained, labels = grey_levels(store.path(real) / "train.parquet", codec)
    for digit in range(10):
        spread = trained[labels == digit].std(0).mean()
        assert drawn[asked == digit].std(0).mean() > 0.5 * spread  # not one image again and again


def covered_plane(kind: str, classes: int, *, deaf: bool = False) -> Covered:
    """How 2,500 rows of a model cover the 25 Gaussians that it was trained on 5,000 rows of."""
    real = plane_rows(torch.arange(5000) % classes, classes, seed=1)
    model = MODELS[kind]().build(plane_spec(classes), generator())
    model = Deaf(model) if deaf else model
    train(model, real, PLANE_STEPS, BATCH_ROWS)
    labels = torch.arange(2500) % classes
    return plane_covered(draw(model, labels, generator(3), "prior"), labels, classes)


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("kind", [kind for kind, form in CASES if form == "vector"])
def test_the_25_gaussians_are_covered(kind: str, classes: int) -> None:
    modes, share = PLANE_BOUNDS[kind][classes]
    found = covered_plane(kind, classes)
    assert found.modes >= modes, found
    assert found.share >= share, found


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_a_model_that_ignores_the_label_covers_no_class_of_the_25_gaussians() -> None:
    modes, share = PLANE_BOUNDS["vae"][5]
    found = covered_plane("vae", 5, deaf=True)
    assert found.modes < modes, found
    assert found.share < share, found


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", [kind for kind, form in CASES if form == "grid"])
def test_stacked_digits_show_the_thousand_numbers(kind: str) -> None:
    digits = load_digits()
    real = stacked_rows(digits, 10_000, seed=1)
    config = MODELS[kind]()
    model = config.build(STACK, generator())
    train(model, real, STACK_STEPS)
    labels, operator = torch.zeros(500, dtype=torch.int64), config.offered()[0]
    batches = [
        draw(model, labels, generator(3 + n), operator, exemplars=exemplars_for(real, labels, operator, seed=n))
        for n in range(8)
    ]
    assert StackJudge(digits).covered(torch.cat(batches)) >= STACK_BOUNDS[kind]
