"""Where some rows have no label, a run file says how many of a batch have one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _toy_training import DuelConfig
from _trees import SCHEMA, UNLABELLED, make_real

from augment.codec import Codec
from augment.config import GenerateSection, TrainSection
from augment.errors import InputError
from augment.makers import Trained
from augment.schema import DatasetSchema
from augment.store import Store
from augment.training import WEIGHTS, refuse_share_of_all, train
from augment.training._batches import EXPONENT, Sampler, class_quotas


def codec_of(schema: DatasetSchema) -> Codec:
    return Codec(table=schema, columns=())


def test_rows_with_a_label_are_drawn_as_often_as_is_asked() -> None:
    """Else a batch of 64 out of 1,000 rows holds some six of a hundred that have a label."""
    labels = np.array([0] * 60 + [1] * 40 + [-1] * 900)
    for labelled, expected in {None: (60, 40, 900), 0.5: (300, 200, 500), 0.2: (120, 80, 800)}.items():
        drawn = np.bincount(Sampler(labels, 1000, 3, "rows", labelled).indices(2), minlength=1000)
        assert (drawn[:60].sum(), drawn[60:100].sum(), drawn[100:].sum()) == expected
        assert all(np.ptp(part) <= 1 for part in (drawn[:60], drawn[60:100], drawn[100:]))
    even = np.bincount(Sampler(labels, 1000, 3, "equal", 0.5).indices(0), minlength=1000)
    assert (even[:60].sum(), even[60:100].sum()) == (250, 250)


def test_a_share_of_labelled_rows_is_refused_where_it_would_do_nothing(tmp_path: Path) -> None:
    codec_of(SCHEMA).save(tmp_path / "codec.json")
    for labels, which in (([0, 1, 2], "all"), ([-1, -1], "none")):
        np.save(tmp_path / "y.npy", np.array(labels))
        refuse_share_of_all(None, tmp_path)
        with pytest.raises(
            InputError, match=rf"train\.labelled is of rows some of which have a label, and {which} have"
        ):
            refuse_share_of_all(0.5, tmp_path)
    np.save(tmp_path / "y.npy", np.array([0, -1]))
    refuse_share_of_all(0.5, tmp_path)


def test_data_without_a_label_column_are_not_said_to_have_labels(tmp_path: Path) -> None:
    codec_of(UNLABELLED).save(tmp_path / "codec.json")
    np.save(tmp_path / "y.npy", np.zeros(4, np.int64))
    with pytest.raises(InputError, match=r"train\.labelled .* the data have no label column"):
        refuse_share_of_all(0.5, tmp_path)
    refuse_share_of_all(None, tmp_path)


@pytest.mark.parametrize("labelled", [0.001, 0.01, 0.999])
@pytest.mark.parametrize("exponent", sorted(EXPONENT.values()))
def test_every_class_is_drawn_in_an_epoch_whatever_the_share(labelled: float, exponent: float) -> None:
    quotas = class_quotas(np.array([-1, 0, 1, 2]), np.array([100, 98, 1, 1]), exponent, labelled)
    assert quotas.min() >= 1
    assert quotas.sum() == 200


def test_what_the_run_file_says_of_labelled_rows_reaches_the_batches(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    real, model = make_real(store, [*SCHEMA.classes, *[None] * 12]), DuelConfig()
    weights = [
        store.path(train(real, model, TrainSection(steps=5, labelled=share, device="cpu"), 7, store)) / WEIGHTS
        for share in (None, 0.5)
    ]
    assert weights[0].read_bytes() != weights[1].read_bytes()


def test_a_plan_refuses_a_share_of_labelled_rows_where_all_have_a_label(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    maker = Trained(DuelConfig(), TrainSection(labelled=0.5), GenerateSection(), 7)
    with pytest.raises(InputError, match=r"train\.labelled .* all have one"):
        maker.plan(make_real(store), {"classes": []}, store)
