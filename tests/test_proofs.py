"""Long proofs that the models learn real data: what they draw is what they were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from augment.codec import Codec
from augment.config import RunConfig
from augment.generation import generate_shard, shard_requests
from augment.ingest import ingest
from augment.runfile import load_run_config
from augment.store import Store
from augment.training import train


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
    model = train(real, config.model, config.train, config.seed, store)
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
