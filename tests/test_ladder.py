"""The rungs' priors, posteriors and densities are those of one model, told from the top down."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models._contract import Batch, Span, TensorSpec
from models._gaussian import normal_noise
from models._iaf import FlowSize, Noise
from models._ladder import Ladder, LadderSize, Rung, Seen, Told
from models.iaf_vae import IafVae, IafVaeConfig

SPEC = TensorSpec((1, 10, 12), (Span("continuous", 120, 256),), 3)
SIZE = LadderSize(side=16, levels=2, rungs=2, channels=6, maps=2, embedding=4, dropout=0.0)
FLOW = FlowSize(steps=2, hidden=6, layers=1, location_only=False)
LABELS = torch.tensor([0, 1, 2, -1])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _noise(seed: int = 0) -> Noise:
    noise = _generator(seed)
    return lambda shape: normal_noise(shape, noise, torch.device("cpu"))


def _ladder(size: LadderSize = SIZE, flow: FlowSize = FLOW, outputs: int = 2) -> Ladder:
    torch.manual_seed(0)
    return Ladder(SPEC, size, flow, outputs=outputs).eval()


def _rows(rows: int = 4) -> Tensor:
    return torch.rand(rows, *SPEC.shape, generator=_generator(5)) * 2 - 1


def _silence_posterior(ladder: Ladder) -> None:
    """Neither way says anything of the posterior but what the prior says, and the flow is the identity."""
    with torch.no_grad():
        for rung in ladder.rungs:
            maps = rung.maps
            rung.up_second.weight[: 2 * maps], rung.up_second.bias[: 2 * maps] = 0, 0
            rung.down_first.weight[2 * maps : 4 * maps], rung.down_first.bias[2 * maps : 4 * maps] = 0, 0
            for step in rung.flow.steps:
                step.layers[-1].weight[:], step.contexts[-1].weight[:] = 0, 0
                step.layers[-1].bias[maps:] = 60.0


def test_a_posterior_that_adds_nothing_is_the_prior_in_every_rung() -> None:
    ladder, x = _ladder(), _rows()
    _silence_posterior(ladder)
    inferred = ladder.infer(ladder.read(x, LABELS), LABELS, _noise())
    torch.testing.assert_close(inferred.kl, torch.zeros_like(inferred.kl), atol=1e-4, rtol=0)
    torch.testing.assert_close(inferred.log_det, torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(inferred.raw, ladder.generate(LABELS, _noise()))


def test_the_kl_of_every_rung_is_positive_in_the_mean() -> None:
    ladder, x = _ladder(), _rows()
    draws = torch.stack([ladder.infer(ladder.read(x, LABELS), LABELS, _noise(s)).kl for s in range(100)])
    per_rung = draws.unflatten(2, (len(ladder.places), SIZE.maps)).sum(3)
    error = per_rung.std(0) / math.sqrt(len(draws))
    assert (per_rung.mean(0) > -3 * error).all()
    assert (per_rung.mean((0, 1)) > 0).all()


def test_the_kl_without_a_flow_is_the_closed_form_given_the_latents_above() -> None:
    ladder, x = _ladder(flow=FLOW._replace(steps=0)), _rows()
    rung = ladder.rungs[0]  # nothing is drawn above the topmost rung
    label = ladder.label(LABELS)
    told = rung.down(ladder.top(label).reshape(4, SIZE.channels, *ladder.places[0][1:]), label)
    seen = Seen(*ladder.read(x, LABELS)[:2])
    draws = torch.stack([rung.infer(told, seen, _noise(seed)).kl.sum((2, 3)) for seed in range(400)])
    shift, log_ratio = (told.seen.shift + seen.shift).chunk(2, dim=1)
    known = 0.5 * (log_ratio.exp() + shift.square() - 1 - log_ratio).sum((2, 3))  # in units of the prior's scale
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - known).abs() < 4 * error).all()


def _log_scale(told: Told, seen: Seen) -> Tensor:
    """ln of the volume of q_0, before the flow."""
    log_ratio = (told.seen.shift + seen.shift).chunk(2, dim=1)[1]
    return 0.5 * (told.prior.log_variance + log_ratio).sum()


def test_the_density_of_a_drawn_code_is_the_one_of_its_own_rung() -> None:
    """ln q - ln p by the change of variables, from autograd's Jacobian of eps -> z."""
    ladder = _ladder().double()
    x, y = _rows(1).double(), LABELS[:1]
    rung, label = ladder.rungs[0], ladder.label(y)
    told = rung.down(ladder.top(label).reshape(1, SIZE.channels, *ladder.places[0][1:]), label)
    seen = Seen(*ladder.read(x, y)[:2])
    eps = torch.randn(1, *ladder.places[0], generator=_generator(3), dtype=torch.float64)
    drawn = rung.infer(told, seen, lambda _: eps)
    jacobian = torch.autograd.functional.jacobian(lambda e: rung.infer(told, seen, lambda _: e).z, eps)
    log_det = torch.linalg.slogdet(jacobian.reshape(eps.numel(), eps.numel())).logabsdet
    log_q = -0.5 * eps.square().sum() - log_det
    log_p = told.prior.log_density(drawn.z).sum()
    torch.testing.assert_close(drawn.kl.sum(), log_q - log_p, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(drawn.log_stretch.sum(), log_det - _log_scale(told, seen), atol=1e-12, rtol=1e-12)


def test_a_code_decodes_to_what_was_inferred_with_it() -> None:
    ladder, x = _ladder(), _rows()
    inferred = ladder.infer(ladder.read(x, LABELS), LABELS, _noise())
    assert inferred.codes.shape == (4, 2 * 2 * (5 * 6 + 10 * 12))
    torch.testing.assert_close(ladder.decode(inferred.codes, LABELS), inferred.raw)


def test_the_rungs_run_from_the_coarsest_resolution_to_the_finest() -> None:
    assert _ladder().places == [(2, 5, 6), (2, 5, 6), (2, 10, 12), (2, 10, 12)]
    assert _ladder(SIZE._replace(levels=9)).places[::2] == [(2, 1, 1), (2, 2, 2), (2, 3, 3), (2, 5, 6), (2, 10, 12)]
    assert _ladder(SIZE._replace(levels=1)).places == [(2, 10, 12), (2, 10, 12)]


def _priors(ladder: Ladder, y: Tensor, noise: Noise) -> list[Tensor]:
    """The means of the priors of all rungs on one way down, where each z is plain noise."""
    means: list[Tensor] = []

    def choose(_rung: Rung, told: Told, _i: int) -> Tensor:
        means.append(told.prior.mean)
        return noise(told.prior.mean.shape)

    ladder.descend(y, choose)
    return means


def test_priors_depend_on_the_latents_above_and_posteriors_on_the_image() -> None:
    ladder, x = _ladder(), _rows()
    top, *below = zip(*(_priors(ladder, LABELS, _noise(seed)) for seed in (0, 1)), strict=True)
    assert torch.equal(*top)
    assert all((here - there).abs().max() > 1e-5 for here, there in below)
    for here, there in zip(ladder.read(x, LABELS), ladder.read(-x, LABELS), strict=True):
        assert (here - there).abs().max() > 1e-5


def test_every_rung_hears_the_label_by_itself_on_both_ways() -> None:
    ladder, x = _ladder(), _rows()
    other = torch.tensor([1, 2, -1, 0])
    for rung, place in zip(ladder.rungs, ladder.places, strict=True):
        h = torch.randn(4, SIZE.channels, *place[1:], generator=_generator())
        up, down = ([way(h, ladder.label(y)) for y in (LABELS, other)] for way in (rung.up, rung.down))
        for here, there in ((up[0][1].shift, up[1][1].shift), (down[0].prior.mean, down[1].prior.mean)):
            assert ((here - there).flatten(1).abs().max(1).values > 1e-5).all()
    for here, there in zip(_priors(ladder, LABELS, _noise()), _priors(ladder, other, _noise()), strict=True):
        assert ((here - there).flatten(1).abs().max(1).values > 1e-5).all()
    for here, there in zip(ladder.read(x, LABELS), ladder.read(x, other), strict=True):
        assert ((here - there).flatten(1).abs().max(1).values > 1e-5).all()


def test_one_level_is_the_ladder_of_the_paper() -> None:
    settings = {"levels": 1, "depth": 3, "maps": 4, "width": 8, "architecture": "ladder", "layers": 0}
    model = IafVaeConfig.model_validate(settings).build(SPEC, _generator())
    assert isinstance(model, IafVae)
    assert isinstance(model.latents, Ladder)
    assert model.latents.places == [(4, 10, 12)] * 3


def test_free_bits_are_counted_for_each_map_of_each_rung() -> None:
    settings = {"architecture": "ladder", "width": 8, "maps": 2, "free_bits": 50.0}
    model = IafVaeConfig.model_validate(settings).build(SPEC, _generator()).eval()
    terms = model.objectives()[0].loss(Batch(_rows(), LABELS), _generator())
    groups = 2 * len(model.latents.places)
    assert terms["kl_with_free_bits"].item() == pytest.approx(50.0 * groups)


def test_a_row_does_not_depend_on_its_batch_mates_in_either_direction() -> None:
    ladder, x = _ladder(), _rows()
    changed = torch.cat([x[:1], -x[1:]])
    for here, there in zip(ladder.read(x, LABELS), ladder.read(changed, LABELS), strict=True):
        torch.testing.assert_close(here[0], there[0], atol=1e-6, rtol=0)
    other = torch.tensor([0, 0, 0, 0])
    torch.testing.assert_close(
        ladder.generate(LABELS, _noise())[0], ladder.generate(other, _noise())[0], atol=1e-6, rtol=0
    )
