"""Long proofs that the models learn: they draw what they were asked for, and at least so much of a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

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
# Dropout blurs modes that are so narrow, and a learned sigma grows to the whole plane before a latent is of use.
# Without a warm-up some first weights end with a fifth of the modes lost.
SHARP = {"dropout": 0.0}
# With an r1 of 0.001 a gan covers 17 of the 25 modes after as many steps.
SHARP_CRITIC = {"critic_dropout": 0.0, "augmentation": (), "r1": 0.03}
SHARP_CODES = {**SHARP_CRITIC, "r1": 0.01, "latent": 2}
# With a reconstruction of 10 each mode's codes draw together into a point, and rows of the prior fall in between.
SHARP_BOTH = {**SHARP_CODES, "reconstruction": 0.1, "code_r1": 0.01}
SHARP_BINS = {**SHARP, "bins": 128, "terms": 0, "optimiser": {"weight_decay": 0.0}}
SHARP_LATENT = {**SHARP, "sigma": 0.05, "spread": 1.0, "width": 128, "kl_warmup": 0.3}
# With a depth of 1 a vae of the same first weights covers 22 modes at least on one processor and 16 on another.
SHARP_DEEP = {**SHARP_LATENT, "depth": 2}


class Bounds(NamedTuple):
    """What rows of a kind must reach, and the settings that it is built with.

    ``plane``: modes of the 25 Gaussians, and the share of rows within 3 deviations of one; rows spread evenly over the
    plane have no mode and a share of 0.07. ``stack``: numbers that 4,000 stacks show; 4,000 real ones show 982.
    """

    plane: tuple[int, float] | None
    stack: int | None
    plane_settings: Mapping[str, Any] = MappingProxyType({})


BOUNDS = {
    "alpha_gan": Bounds((22, 0.5), 700, SHARP_BOTH),
    "diagonal_bilstm": Bounds(None, 900),
    "flow_matching": Bounds((24, 0.65), 900, SHARP),
    "gated_pixelcnn": Bounds(None, 900),
    "gan": Bounds((20, 0.5), 600, SHARP_CRITIC),
    "iaf_vae": Bounds((22, 0.4), 400, SHARP_LATENT),
    "masked_mlp": Bounds((24, 0.9), None, SHARP_BINS),
    "pixelcnn": Bounds(None, 900),
    "row_lstm": Bounds(None, 900),
    "vae": Bounds((22, 0.4), 400, SHARP_DEEP),
    "vae_gan": Bounds((22, 0.5), 650, SHARP_CODES),
    "warp_vae": Bounds(None, 900),
}


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


def test_every_model_has_bounds_to_be_proven_by() -> None:
    assert set(BOUNDS) == set(MODELS)
    assert {kind for kind, bounds in BOUNDS.items() if bounds.plane} == {
        kind for kind, form in CASES if form == "vector"
    }
    assert {kind for kind, bounds in BOUNDS.items() if bounds.stack} == {kind for kind, form in CASES if form == "grid"}


def covered_plane(kind: str, classes: int, *, deaf: bool = False) -> Covered:
    """How 2,500 rows of a model cover the 25 Gaussians that it was trained on 5,000 rows of."""
    real = plane_rows(torch.arange(5000) % classes, classes, seed=1)
    model = MODELS[kind](**BOUNDS[kind].plane_settings).build(plane_spec(classes), generator())
    model = Deaf(model) if deaf else model
    train(model, real, PLANE_STEPS, BATCH_ROWS)
    labels = torch.arange(2500) % classes
    return plane_covered(draw(model, labels, generator(3), "prior"), labels, classes)


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("kind", [kind for kind, form in CASES if form == "vector"])
def test_the_25_gaussians_are_covered(kind: str, classes: int) -> None:
    modes, share = BOUNDS[kind].plane or (25, 1)
    found = covered_plane(kind, classes)
    assert found.modes >= modes, found
    assert found.share >= share, found


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_a_model_that_ignores_the_label_covers_no_class_of_the_25_gaussians() -> None:
    found = covered_plane("vae", 5, deaf=True)
    assert found.modes < 5, found
    assert found.share < 0.2, found  # a fifth of the modes that it knows are of the class


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
    assert StackJudge(digits).covered(torch.cat(batches)) >= (BOUNDS[kind].stack or 1000)
