"""Settings of a training that do not fit the rows are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _trees import make_real

from augment.config import MODELS, RunConfig, TrainSection
from augment.errors import InputError
from augment.makers import maker
from augment.store import Store
from augment.training import refuse_without_pairs, train
from models.gan import GanConfig


@pytest.mark.parametrize(
    ("labels", "batch_size", "complaint"),
    [([0, 0, 1], 1, r"set train\.batch_size to 2 or more"), ([0, 1, -1, -1], 8, "no class has two training rows")],
)
def test_a_model_of_pairs_is_refused_where_there_are_none(
    labels: list[int], batch_size: int, complaint: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "y.npy", np.array(labels))
    for model in (MODELS["warp_vae"](), MODELS["flow_matching"](exemplar=True)):
        with pytest.raises(InputError, match=complaint):
            refuse_without_pairs(model, tmp_path, batch_size)
    refuse_without_pairs(MODELS["flow_matching"](), tmp_path, batch_size)
    np.save(tmp_path / "y.npy", np.array([0, 0, 1]))
    refuse_without_pairs(MODELS["warp_vae"](), tmp_path, 2)


@pytest.mark.parametrize("settings", [{"norm": "batch"}, {"techniques": {"minibatch_kernels": 4}}])
def test_batches_of_one_row_are_refused_where_rows_are_compared_in_a_plan_and_in_a_training(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path))
    real, model = make_real(store), GanConfig.model_validate(settings)
    alone, two = (TrainSection(batch_size=size, steps=1, device="cpu") for size in (1, 2))
    complaint = r"compares the rows of a batch; set train\.batch_size to 2 or more"
    with pytest.raises(InputError, match=complaint):
        train(real, model, alone, 7, store)
    for config in (GanConfig(spectral_norm=True), GanConfig(norm="virtual")):
        train(real, config, alone, 7, store)
    train(real, model, two, 7, store)
    content = {"name": "trees", "source": {"kind": "wine"}, "model": model, "store": str(tmp_path)}
    with pytest.raises(InputError, match=complaint):
        maker(RunConfig.model_validate({**content, "train": alone})).plan(real, {"classes": []}, store)
    assert (
        maker(RunConfig.model_validate({**content, "train": two})).plan(real, {"classes": []}, store)["model"]["kind"]
        == "gan"
    )
