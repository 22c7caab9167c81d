"""A flow that is given an exemplar reads it, learns from pairs of a class, and carries what varies to small classes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _model_cases import generator, train
from _toy_flows import GRID, MIXED, PLANE, SMALL, recorded

from models._continuous import as_rows
from models._contract import Batch, SamplesPrior, TensorSpec, VariesExemplars
from models._unet import Exemplars
from models.flow_matching import FlowMatching, FlowMatchingConfig


def _with_exemplars(spec: TensorSpec, **settings: Any) -> FlowMatching:
    return FlowMatchingConfig(**SMALL, exemplar=True, **settings).build(spec, generator())


@pytest.mark.parametrize("spec", [MIXED, GRID], ids=["vector", "grid"])
def test_rows_depend_on_their_exemplar_and_on_no_other(spec: TensorSpec) -> None:
    model = _with_exemplars(spec, solver_steps=2).eval()
    y = torch.tensor([0, 1, 2, -1])
    first, second = (as_rows(spec, torch.randn(4, *spec.shape, generator=generator(seed))) for seed in (1, 2))
    mixed = torch.cat([first[:2], second[2:]])
    given = torch.ones(4, dtype=torch.bool)
    x = torch.randn(4, *spec.shape, generator=generator(3))
    with torch.no_grad():
        ends = [model.flow(x, y, Exemplars(rows, given), guidance=1.0) for rows in (first, second, mixed)]
    assert (ends[0] - ends[1]).abs().flatten(1).max(1).values.min() > 1e-3
    torch.testing.assert_close(ends[2], torch.cat([ends[0][:2], ends[1][2:]]), atol=1e-5, rtol=0)


def test_an_exemplar_that_is_not_given_is_not_read_and_zeros_are_not_none() -> None:
    model = _with_exemplars(MIXED).eval()
    x, y = torch.randn(4, 6, generator=generator()), torch.tensor([0, 1, 2, -1])
    t, rows = torch.full((4,), 0.5), torch.randn(4, 6, generator=generator(1))
    none, given = torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
    with torch.no_grad():
        hidden = model.velocity(x, t, y, Exemplars(rows, none))
        assert torch.equal(hidden, model.velocity(x, t, y, Exemplars(0 * rows, none)))
        assert (hidden - model.velocity(x, t, y, Exemplars(0 * rows, given))).abs().max() > 1e-3


def test_an_exemplar_is_another_row_of_the_class_or_hidden() -> None:
    """Row 0 is alone in its class, 1 and 2 are equal, 3 has no label, the others have partners."""
    model, net = recorded(PLANE, exemplar=True, exemplar_dropout=0.25)
    y = torch.cat([torch.tensor([5, 4, 4, -1]), torch.arange(4000) % 3])
    x = torch.randn(len(y), 2, generator=generator())
    x[2] = x[1]
    model.objectives()[0].loss(Batch(x, y), generator())
    beside = net.asked[0][3]
    assert beside is not None
    assert not beside.given[:4].any()
    assert beside.given[4:].float().mean().item() == pytest.approx(0.75, abs=4 * math.sqrt(0.1875 / 4000))
    of = (x[:, None] == beside.x[None]).all(2).float().argmax(0)  # which row each exemplar is
    assert torch.equal(y[of][4:], y[4:])
    assert (of[4:] != torch.arange(4, len(y))).all()


def test_pairs_keep_a_batch_whole() -> None:
    assert _with_exemplars(PLANE).objectives()[0].batch_statistics
    assert not FlowMatchingConfig().build(PLANE, generator()).objectives()[0].batch_statistics


def test_guidance_with_exemplars_keeps_the_exemplar_in_both_terms() -> None:
    model, net = recorded(PLANE, exemplar=True, exemplar_guidance=2.0, solver="euler", solver_steps=1)
    rows = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    drawn = model.sample_from(rows, torch.tensor([2, 0]), generator())
    noise = torch.randn(2, 2, generator=generator())
    # no label has speed 1, the labels 4 and 2: 1 + 2 x 3 and 1 + 2 x 1
    torch.testing.assert_close(drawn, noise + rows + torch.tensor([[7.0], [3.0]]))
    assert [len(asked[0]) for asked in net.asked] == [4]


def test_exemplars_are_offered_where_the_settings_train_them() -> None:
    assert FlowMatchingConfig().offered() == ("prior",)
    assert set(FlowMatchingConfig(exemplar=True).offered()) == {"prior", "exemplar"}
    assert FlowMatchingConfig(exemplar=True, exemplar_dropout=0.0).offered() == ("exemplar",)
    model = _with_exemplars(PLANE)
    assert isinstance(model, SamplesPrior)
    assert isinstance(model, VariesExemplars)


def test_a_model_without_exemplars_says_how_to_get_one_with() -> None:
    model = FlowMatchingConfig(**SMALL).build(PLANE, generator())
    with pytest.raises(ValueError, match=r"set model\.exemplar to true"):
        model.sample_from(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), generator())


@pytest.mark.slow
def test_what_varies_in_large_classes_reaches_a_class_of_three_rows_through_its_exemplars() -> None:
    """Nine classes around a circle, spread along one direction that all share; three rows show none of it."""
    along, across = torch.tensor([1.0, 1.0]) / math.sqrt(2), torch.tensor([1.0, -1.0]) / math.sqrt(2)
    y = torch.cat([torch.arange(800) % 8, torch.full((3,), 8)])
    angle = y * 2 * math.pi / 9
    centres = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    place = 0.6 * torch.randn(803, generator=generator(1))
    place[800:] = torch.tensor([-0.1, 0.0, 0.1])
    x = centres + place[:, None] * along + 0.1 * torch.randn(803, 2, generator=generator(2))
    model = FlowMatchingConfig(width=64, depth=2, dropout=0.0, exemplar=True).build(PLANE, generator())
    train(model, Batch(x, y), steps=600, batch_size=256)
    exemplars, labels = x[800:].repeat(500, 1), torch.full((1500,), 8)
    for guidance, widest in ((1.0, 0.85), (0.0, 1.3)):  # 0: the exemplar alone tells the class, and less surely
        model.settings = model.settings.model_copy(update={"exemplar_guidance": guidance})
        moved = model.sample_from(exemplars, labels, generator(3)) - centres[800]
        assert 0.4 < (moved @ along).std() < widest
        assert (moved @ across).abs().mean() < 0.35
