"""The settings of a VAE do what they say, or are refused before training in one sentence."""

from __future__ import annotations

import math

import pytest
import torch
from _model_cases import SPECS, generator, some_rows, train
from pydantic import ValidationError
from torch import Tensor

from models._contract import Batch, Span, TensorSpec
from models.iaf_vae import IafVaeConfig
from models.vae import VaeConfig, VariationalAutoencoder

VECTOR = TensorSpec((5,), (Span("continuous", 2), Span("categorical", 3)), 3)
PICTURE = TensorSpec((1, 8, 8), (Span("continuous", 64, 256),), 3)
BINARY = TensorSpec((1, 8, 8), (Span("continuous", 64, 2),), 3)


def _mean_bound(model: VariationalAutoencoder, batch: Batch) -> Tensor:
    return torch.stack([model.elbo(batch, generator(seed)) for seed in range(30)]).mean()


def _batch(spec: TensorSpec) -> Batch:
    return some_rows(spec, torch.arange(12) % 3)


def test_the_weight_of_the_kl_rises_to_beta_with_the_steps() -> None:
    model = VaeConfig(beta=2.0, kl_warmup=0.5).build(VECTOR, generator())
    assert model.kl_weight.item() == 2
    for step, weight in [(0, 0.0), (1, 0.2), (5, 1.0), (9, 1.8), (10, 2.0), (19, 2.0), (3, 0.6)]:
        model.begin_step(step, 20)
        assert model.kl_weight.item() == pytest.approx(weight)
    assert "kl_weight" not in model.state_dict()


def test_the_loss_takes_the_weight_of_its_step() -> None:
    model, batch = VaeConfig(kl_warmup=1.0, prior="standard").build(VECTOR, generator()).eval(), _batch(VECTOR)
    for step in (0, 5, 10):
        model.begin_step(step, 10)
        terms = model.objectives()[0].loss(batch, generator())
        assert terms["kl_weight"].item() == pytest.approx(step / 10)
        assert terms["loss"].item() == pytest.approx((terms["nll"] + step / 10 * terms["kl"]).item(), rel=1e-5)


def test_a_resumed_warm_up_goes_on_where_it_was() -> None:
    config, batch = VaeConfig(kl_warmup=1.0), _batch(VECTOR)
    whole, again = config.build(VECTOR, generator()).eval(), config.build(VECTOR, generator(1)).eval()
    for step in range(8):
        whole.begin_step(step, 10)
    again.load_state_dict(whole.state_dict())
    again.begin_step(7, 10)
    for name, value in whole.objectives()[0].loss(batch, generator()).items():
        assert torch.equal(value, again.objectives()[0].loss(batch, generator())[name])


def test_without_a_warm_up_the_weight_is_beta_from_the_first_step() -> None:
    model = VaeConfig(beta=0.5).build(VECTOR, generator())
    model.begin_step(0, 10)
    assert model.kl_weight.item() == 0.5


ALL = [
    (VECTOR, {"sigma": "shared"}),
    (VECTOR, {"sigma": "optimal", "free_bits": 0.1}),
    (VECTOR, {"sigma": 0.3, "posterior": "full", "kl_warmup": 0.5}),
    (PICTURE, {"observation": "gaussian", "sigma": "optimal", "posterior": "full"}),
    (PICTURE, {"observation": "logistic", "sigma": "shared", "prior": "standard"}),
    (PICTURE, {"observation": "categorical", "beta": 0.5}),
    (BINARY, {"observation": "bernoulli", "resolution": 4}),
]


@pytest.mark.parametrize(("spec", "settings"), ALL, ids=lambda case: str(case) if isinstance(case, dict) else "")
def test_every_likelihood_and_posterior_trains_and_bounds(spec: TensorSpec, settings: dict[str, object]) -> None:
    config = VaeConfig.model_validate({"width": 8, "latent": 3, "dropout": 0.0, **settings})
    assert VaeConfig.model_validate_json(config.model_dump_json()) == config
    model, batch = config.build(spec, generator()).eval(), _batch(spec)
    before = _mean_bound(model, batch)
    train(model, batch, steps=40, batch_size=12)
    assert before < _mean_bound(model, batch) < model.iwae(batch, generator(), 100).mean() + 0.05
    for rows in (model.sample(batch.y, generator()), model.resample(batch.x, batch.y, generator())):
        assert torch.isfinite(rows).all()
        assert rows.shape == batch.x.shape


@pytest.mark.parametrize(("spec", "settings"), ALL[:2] + ALL[3:5], ids=str)
def test_the_scale_is_logged_where_there_is_one(spec: TensorSpec, settings: dict[str, object]) -> None:
    model = VaeConfig.model_validate({"width": 8, "latent": 3, **settings}).build(spec, generator())
    terms = model.objectives()[0].loss(_batch(spec), generator())
    assert terms["sigma"] > 0
    assert {"nll", "kl", "kl_weight", "prior_kl", "active_units"} < set(terms)
    assert "sigma" not in VaeConfig().build(SPECS["grid"], generator()).objectives()[0].loss(
        _batch(SPECS["grid"]), generator()
    )


def test_an_optimal_scale_follows_the_error_and_free_bits_the_batch_so_it_stays_whole() -> None:
    def whole(**settings: object) -> bool:
        return VaeConfig.model_validate(settings).build(VECTOR, generator()).objectives()[0].batch_statistics

    assert whole(sigma="optimal")
    assert whole(free_bits=0.1)
    assert not whole(sigma="shared")


@pytest.mark.parametrize(
    ("spec", "settings", "complaint"),
    [
        (PICTURE, {"observation": "bernoulli"}, "needs values of two levels"),
        (VECTOR, {"observation": "categorical"}, "needs values with levels"),
        (PICTURE, {"sigma": "optimal"}, "'gaussian' alone"),
        (SPECS["grid"], {"sigma": "shared"}, "a softmax has none"),
        (VECTOR, {"posterior": "full", "latent": 300}, "set latent to 256 at most, or posterior to diagonal"),
    ],
)
def test_settings_that_do_not_fit_the_rows_are_refused(
    spec: TensorSpec, settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        VaeConfig.model_validate(settings).build(spec, generator())


@pytest.mark.parametrize("sigma", [0, -1, math.inf, math.nan, "best"])
def test_a_scale_that_is_none_is_refused(sigma: object) -> None:
    with pytest.raises(ValidationError):
        VaeConfig.model_validate({"sigma": sigma})


@pytest.mark.parametrize(("resolution", "sides"), [(16, [14, 7, 4]), (32, [28, 14, 7, 4]), (7, [7, 4])])
def test_the_resolution_is_the_finest_side_that_convolutions_see(resolution: int, sides: list[int]) -> None:
    spec = TensorSpec((1, 28, 28), (Span("continuous", 784, 2),), 2)
    model = VaeConfig(resolution=resolution, width=8).build(spec, generator())
    assert [side for side, _ in model.decoder.stages.sides] == sides
    assert model.decoder.stages == model.posterior.net.stages
    assert model.sample(torch.tensor([0, 1]), generator()).shape == (2, 1, 28, 28)


def test_settings_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="prior_weight is of learned priors"):
        VaeConfig(prior="standard", prior_weight=0.1)
    with pytest.raises(ValueError, match="hidden is of the steps of a flow, and steps is 0"):
        IafVaeConfig(steps=0, hidden=64)
    with pytest.raises(ValueError, match="prior_weight is of learned priors"):
        IafVaeConfig(prior="standard", prior_weight=0.001)
