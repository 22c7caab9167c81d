"""Settings of a training that do not fit the rows are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from augment.config import MODELS
from augment.errors import InputError
from augment.training import check_model, refuse_lone_rows, refuse_without_pairs
from models._contract import Span, TensorSpec
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


def test_batches_of_one_row_are_refused_where_a_loss_looks_at_rows_together() -> None:
    spec = TensorSpec((3,), (Span("continuous", 3),), 2)
    for settings in ({"norm": "batch"}, {"techniques": {"minibatch_kernels": 4}}):
        model = GanConfig.model_validate(settings).build(spec, torch.Generator())
        with pytest.raises(InputError, match=r"rows of a batch together; set train\.batch_size to 2 or more"):
            refuse_lone_rows(model, "gan", 1)
        refuse_lone_rows(model, "gan", 2)
        with pytest.raises(InputError, match=r"set train\.batch_size to 2 or more"):
            check_model(GanConfig.model_validate(settings), spec, 1)  # as `augment plan` does
    refuse_lone_rows(GanConfig().build(spec, torch.Generator()), "gan", 1)
