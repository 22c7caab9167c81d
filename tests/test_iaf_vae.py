"""An IAF-VAE of either architecture trains on its bound, hears its labels, and refuses what is not its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _model_cases import train

from models._contract import Batch, BoundsLikelihood, HasLatents, InterpolatesRows, ResamplesPosterior, Span, TensorSpec
from models._flat import FlatLatents
from models._iaf import GATE_BIAS
from models._ladder import Ladder
from models.iaf_vae import IafVae, IafVaeConfig

VECTOR = TensorSpec((5,), (Span("continuous", 2), Span("categorical", 3)), 3)
GRID = TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 3)
PICTURE = TensorSpec((1, 8, 32), (Span("continuous", 256, 256),), 3)
SPECS = pytest.mark.parametrize("spec", [VECTOR, GRID, PICTURE], ids=["vector", "grid", "picture"])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _config(spec: TensorSpec, **settings: Any) -> IafVaeConfig:
    """Small settings, of a ladder for the picture."""
    return IafVaeConfig(width=8, architecture="ladder" if spec is PICTURE else "flat", **settings)


def _without_hold(spec: TensorSpec, **settings: float) -> IafVae:
    """A model whose priors nothing holds near N(0, I), as it is in a ladder anyway."""
    weight = None if spec is PICTURE else 0.0
    return _config(spec, prior_weight=weight, **settings).build(spec, _generator()).eval()


@SPECS
def test_the_elbo_of_a_net_lies_below_its_importance_weighted_bound(spec: TensorSpec) -> None:
    model = _config(spec).build(spec, _generator()).eval()
    assert isinstance(model, BoundsLikelihood)
    y = torch.tensor([0, 1, 2, -1] * 4)
    batch = Batch(model.sample(y, _generator(1)), y)
    elbo = torch.stack([model.elbo(batch, _generator(s)) for s in range(10)])
    gap = model.iwae(batch, _generator(), 32) - elbo.mean(0)
    assert gap.mean() > -3 * gap.std() / math.sqrt(len(gap))
    assert gap.mean() > 0


@SPECS
def test_the_loss_is_the_negative_bound_without_beta_and_free_bits(spec: TensorSpec) -> None:
    model = _without_hold(spec)
    y = torch.tensor([0, 1, 2, -1])
    batch = Batch(model.sample(y, _generator(1)), y)
    terms = model.objectives()[0].loss(batch, _generator(5))
    assert terms["loss"].item() == pytest.approx(-model.elbo(batch, _generator(5)).mean().item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx((terms["nll"] + terms["kl"]).item(), rel=1e-5)


@SPECS
def test_a_group_below_the_free_bits_gets_no_gradient(spec: TensorSpec) -> None:
    """With more nats free than any group has, what is left of the gradient is that of the likelihood."""
    gradients = []
    for beta in (0.0, 1.0):
        model = _without_hold(spec, free_bits=100.0, beta=beta)
        batch = Batch(model.sample(torch.arange(6) % 3, _generator(1)), torch.arange(6) % 3)
        model.objectives()[0].loss(batch, _generator(2))["loss"].backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None and p.grad.any()])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_only_free_bits_keep_a_batch_whole() -> None:
    assert IafVaeConfig(free_bits=0.1).build(VECTOR, _generator()).objectives()[0].batch_statistics
    assert not IafVaeConfig(free_bits=0.0).build(VECTOR, _generator()).objectives()[0].batch_statistics


@SPECS
def test_what_is_logged_says_what_the_flow_does(spec: TensorSpec) -> None:
    batch = Batch(torch.rand(6, *spec.shape, generator=_generator()), torch.arange(6) % 3)
    for location_only in (False, True):
        model = _config(spec, steps=3, location_only=location_only).build(spec, _generator())
        terms = model.objectives()[0].loss(batch, _generator())
        known = 1.0 if location_only else 1 / (1 + math.exp(-GATE_BIAS))
        assert terms["gate"].item() == pytest.approx(known, abs=0.05)
        assert (terms["log_det"] < 0) is not location_only
    terms = _config(spec, free_bits=2.0).build(spec, _generator()).objectives()[0].loss(batch, _generator())
    assert terms["kl_with_free_bits"] >= terms["kl"]


@SPECS
def test_the_prior_the_posterior_and_the_decoder_all_hear_the_label(spec: TensorSpec) -> None:
    model = _config(spec).build(spec, _generator()).eval()
    zeros, ones = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    unknown = torch.full((4,), -1)
    x = torch.rand(4, *spec.shape, generator=_generator())
    codes = model.encode(Batch(x, zeros))
    for other in (ones, unknown):
        assert (model.latents.decode(codes, zeros) - model.latents.decode(codes, other)).abs().max() > 1e-4
        assert (codes - model.encode(Batch(x, other))).abs().max() > 1e-4
        evidence = zip(model.latents.read(x, zeros), model.latents.read(x, other), strict=True)
        assert all((here - there).abs().max() > 1e-5 for here, there in evidence)


@SPECS
def test_a_temperature_of_zero_gives_the_centre_of_the_posterior(spec: TensorSpec) -> None:
    model = _config(spec).build(spec, _generator()).eval()
    assert isinstance(model, ResamplesPosterior)
    assert isinstance(model, HasLatents)
    y = torch.tensor([0, 1, 2, -1])
    x = model.sample(y, _generator(3))
    rows = model.resample(x, y, _generator(), 0.0)
    torch.testing.assert_close(rows, model.decode(model.encode(Batch(x, y)), y))
    assert torch.equal(rows, model.resample(x, y, _generator(1), 0.0))
    assert not torch.equal(rows, model.resample(x, y, _generator(1), 1.0))


@SPECS
def test_a_row_between_two_equals_is_their_own(spec: TensorSpec) -> None:
    model = _config(spec).build(spec, _generator()).eval()
    assert isinstance(model, InterpolatesRows)
    y = torch.tensor([0, 1, 2, -1])
    first, second = model.sample(y, _generator(3)), model.sample(y, _generator(4))
    same = model.interpolate(first, first, y, _generator(), 0.0)
    torch.testing.assert_close(same, model.resample(first, y, _generator(), 0.0), atol=1e-5, rtol=0)
    between = model.interpolate(first, second, y, _generator(), 0.0)
    assert not torch.equal(between, same)


def _bars(rows: int) -> Batch:
    """A bright row of pixels at a place that the label does not tell."""
    place = torch.randint(8, (rows,), generator=_generator())
    x = torch.full((rows, 1, 8, 8), -1.0)
    x[torch.arange(rows), 0, place] = 1.0
    return Batch(x, torch.arange(rows) % 3)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["flat", "ladder"])
def test_a_trained_posterior_does_not_collapse_but_tells_rows_apart(architecture: str) -> None:
    settings = {"architecture": architecture, "width": 12, "hidden": 24, "depth": 1, "dropout": 0.0, "free_bits": 0.25}
    settings["optimiser"] = {"learning_rate": 5e-3}
    model = IafVaeConfig.model_validate(settings).build(GRID, _generator())
    rows = _bars(64)
    train(model, rows, steps=150, batch_size=32)
    terms = model.objectives()[0].loss(rows, _generator())
    assert terms["active_groups"] >= 1
    assert terms["kl"] > 1.5  # eight places are ln 8 = 2.1 nats
    own, other = model.resample(*rows, _generator()), model.resample(rows.x.flip(0), rows.y, _generator())
    assert (own - rows.x).abs().mean() < 0.1
    assert (other - rows.x).abs().mean() > 0.2


def test_the_weight_of_the_kl_rises_to_beta() -> None:
    model = IafVaeConfig(beta=2.0, kl_warmup=0.5).build(VECTOR, _generator())
    batch, weights = Batch(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64)), []
    for step in (0, 25, 50, 99):
        model.begin_step(step, 100)
        weights.append(model.objectives()[0].loss(batch, _generator())["kl_weight"].item())
    assert weights == pytest.approx([0.0, 1.0, 2.0, 2.0])


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 21), (1, 1, 5)])
@pytest.mark.parametrize("architecture", ["flat", "ladder"])
def test_grids_of_many_sizes_are_encoded_and_decoded(shape: tuple[int, int, int], architecture: str) -> None:
    spec = TensorSpec(shape, (Span("continuous", math.prod(shape), 256),), 2)
    settings = {"architecture": architecture, "width": 8, "embedding": 4}
    model = IafVaeConfig.model_validate(settings).build(spec, _generator())
    x = torch.rand(2, *shape, generator=_generator()) * 2 - 1
    terms = model.objectives()[0].loss(Batch(x, torch.tensor([0, 1])), _generator())
    assert torch.isfinite(terms["loss"])
    rows = model.sample(torch.tensor([0, 1]), _generator())
    assert rows.shape == x.shape
    assert rows.abs().max() <= 1


def test_the_architecture_is_chosen_by_the_size_of_a_row() -> None:
    def chosen(*shape: int) -> type:
        spec = TensorSpec(shape, (Span("continuous", math.prod(shape), 256),), 2)
        return type(IafVaeConfig(width=8).build(spec, _generator()).latents)

    assert [chosen(9), chosen(1, 8, 8), chosen(1, 28, 28), chosen(3, 64, 64)] == [FlatLatents] * 4
    assert [chosen(1, 8, 96), chosen(3, 72, 72)] == [Ladder] * 2


def test_impossible_settings_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="a ladder needs rows that are grids"):
        IafVaeConfig(architecture="ladder").build(VECTOR, _generator())
    with pytest.raises(ValueError, match="the priors of a ladder are learned"):
        _config(PICTURE, prior="standard").build(PICTURE, _generator())
    with pytest.raises(ValueError, match="latent belongs to the flat architecture"):
        _config(PICTURE, latent=3).build(PICTURE, _generator())
    with pytest.raises(ValueError, match="prior_weight belongs to the flat architecture"):
        _config(PICTURE, prior_weight=0.5).build(PICTURE, _generator())
    with pytest.raises(ValueError, match="maps belongs to the ladder architecture"):
        IafVaeConfig(maps=3).build(GRID, _generator())
    two = TensorSpec((2, 8, 8), (Span("continuous", 64, 17), Span("continuous", 64)), 1)
    for architecture in ("flat", "ladder"):
        with pytest.raises(ValueError, match="one span"):
            IafVaeConfig.model_validate({"architecture": architecture}).build(two, _generator())
