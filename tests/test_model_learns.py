"""Every model learns a small mixture, told by moments, proportions and classes: a falling loss would not tell."""

from __future__ import annotations

import pytest
import torch
from _model_cases import CASES, MODELS, SPECS, Deaf, draw, exemplars_for, generator, train
from torch import Tensor

from models._contract import Batch, ModelConfig

ROWS, DRAWN = 600, 1500
STEPS = {"vector": 600, "grid": 300}
STEPS_OF_PLAYERS = 600  # of nets that answer each other's moves, and so need longer to settle
STEPS_OF_PIXELS = 150  # of nets that are told each pixel by those before, and so soon know a bar
MEANS = torch.tensor([[-1.0, 0.5], [1.0, 0.5], [0.0, -1.0]])
SHARES = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])


def _vectors(y: Tensor, seed: int = 0) -> Tensor:
    """Two correlated Gaussian columns around a mean of the class, and a category with shares of the class."""
    noise = torch.randn(len(y), 2, generator=generator(2 * seed + 1))
    numbers = MEANS[y] + noise @ torch.tensor([[0.5, 0.3], [0.0, 0.4]])
    category = torch.multinomial(SHARES[y], 1, generator=generator(2 * seed + 2))[:, 0]
    return torch.cat([numbers, torch.nn.functional.one_hot(category, 3)], 1)


def _grids(y: Tensor, seed: int = 0) -> Tensor:
    """A bar of four rows whose place is told by the class, wholly bright or, as often in class 1, half bright."""
    often = torch.tensor([0.5, 0.7, 0.5])[y]
    bright = torch.where(torch.rand(len(y), generator=generator(seed + 1)) < often, 1.0, 0.0)
    x = torch.full((len(y), 1, 8, 8), -1.0)
    for row, place in enumerate(y.tolist()):
        x[row, 0, 2 * place : 2 * place + 4] = bright[row]
    return x


TRUTH = {"vector": _vectors, "grid": _grids}


def _parts(x: Tensor, y: Tensor) -> Tensor:
    """Which part of the mixture of its class each row is of: its category, or whether its bar is bright."""
    if x.dim() == 2:
        return x[:, 2:].argmax(1)
    bars = torch.stack([x[i, 0, 2 * place : 2 * place + 4].mean() for i, place in enumerate(y.tolist())])
    return (bars > 0.5).long()


def check_moments(x: Tensor, y: Tensor, real: Tensor, real_y: Tensor) -> None:
    """Rows ``x`` have the means, spreads and covariances of the real rows within each class."""
    for label in range(3):
        rows, truth = x[y == label].flatten(1), real[real_y == label].flatten(1)
        torch.testing.assert_close(rows.mean(0), truth.mean(0), atol=0.2, rtol=0, msg=f"means of class {label}")
        torch.testing.assert_close(rows.std(0), truth.std(0), atol=0.2, rtol=0, msg=f"spreads of class {label}")
        torch.testing.assert_close(rows.T.cov(), truth.T.cov(), atol=0.2, rtol=0, msg=f"covariance of class {label}")


def check_proportions(x: Tensor, y: Tensor, real: Tensor, real_y: Tensor) -> None:
    """The parts of the mixture of each class have the shares that they have among the real rows."""
    for label in range(3):
        shares, truth = (
            torch.bincount(_parts(rows[of == label], of[of == label]), minlength=3).double() / (of == label).sum()
            for rows, of in ((x, y), (real, real_y))
        )
        torch.testing.assert_close(shares, truth, atol=0.12, rtol=0, msg=f"shares of the parts of class {label}")


def check_own_class(x: Tensor, y: Tensor, real: Tensor, real_y: Tensor) -> None:
    """A classifier that was trained on real rows finds the classes as well as among other real rows."""
    from sklearn.linear_model import LogisticRegression

    judge = LogisticRegression(max_iter=1000).fit(real.flatten(1).numpy(), real_y.numpy())
    fresh = TRUTH["vector" if real.dim() == 2 else "grid"](real_y, seed=5)
    floor = judge.score(fresh.flatten(1).numpy(), real_y.numpy())
    agreement = judge.score(x.flatten(1).numpy(), y.numpy())
    assert agreement > floor - 0.08, f"{agreement:.0%} of the rows are of their class, and {floor:.0%} of real ones"


def check_variation(x: Tensor, y: Tensor, exemplars: Tensor, real: Batch) -> None:
    """Rows that vary exemplars are no copies of them, and differ from each other about as rows of their class do.

    They need not have its moments: a change that was learned from pairs and is drawn without looking at the exemplar
    adds its variance to that of the exemplars.
    """
    for label in range(3):
        rows, truth = x[y == label].flatten(1), real.x[real.y == label].flatten(1)
        between = (truth - truth.flip(0)).square().mean().sqrt()
        moved = (rows - exemplars[y == label].flatten(1)).square().mean().sqrt()
        assert moved > 0.3 * between, f"rows of class {label} are copies: {moved:.3f} from their exemplars"
        ratio = rows.var(0).sum().sqrt() / truth.var(0).sum().sqrt()
        assert 0.6 < ratio < 1.5, f"rows of class {label} spread {ratio:.2f} times as far as real ones"


def _real(form: str) -> Batch:
    y = torch.arange(ROWS) % 3
    return Batch(TRUTH[form](y), y)


def steps_of(config: ModelConfig, form: str) -> int:
    """How long a model is trained."""
    if len(config.objective_names) > 1:
        return STEPS_OF_PLAYERS
    return STEPS_OF_PIXELS if (config.likelihood, form) == ("exact", "grid") else STEPS[form]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "form"), CASES)
def test_rows_have_the_moments_proportions_and_classes_that_they_should(kind: str, form: str) -> None:
    real, labels = _real(form), torch.arange(DRAWN) % 3
    config = MODELS[kind]()
    model = config.build(SPECS[form], generator())
    train(model, real, steps=steps_of(config, form))
    for operator in config.offered():
        asked = labels if operator == config.offered()[0] else labels[:300]
        exemplars = exemplars_for(real, asked, operator)
        x = draw(model, asked, generator(3), operator, exemplars=exemplars)
        check_own_class(x, asked, *real)
        if operator == "prior":
            check_moments(x, asked, *real)
            check_proportions(x, asked, *real)
        elif operator == "exemplar":
            check_variation(x, asked, exemplars[0], real)


@pytest.mark.slow
@pytest.mark.parametrize("form", SPECS)
def test_a_model_that_ignores_the_label_is_found_out(form: str) -> None:
    real, labels = _real(form), torch.arange(DRAWN) % 3
    model = Deaf(MODELS["vae"]().build(SPECS[form], generator()))
    train(model, real, steps=STEPS[form])
    x = draw(model, labels, generator(3))
    with pytest.raises(AssertionError, match="of class"):
        check_moments(x, labels, *real)
    with pytest.raises(AssertionError, match="of the rows are of their class"):
        check_own_class(x, labels, *real)


@pytest.mark.parametrize("form", SPECS)
def test_real_rows_pass_and_what_is_wrong_with_them_is_found(form: str) -> None:
    x, y = _real(form)
    halves = (x[:300], y[:300], x[300:], y[300:])
    for check in (check_moments, check_proportions, check_own_class):
        check(*halves)
    with pytest.raises(AssertionError, match="means of class 0"):
        check_moments(x, (y + 1) % 3, x, y)
    with pytest.raises(AssertionError, match="of the rows are of their class"):
        check_own_class(x, (y + 1) % 3, x, y)
    one_part = x[_parts(x, y) == 1]
    of = y[_parts(x, y) == 1]
    with pytest.raises(AssertionError, match="shares of the parts of class"):
        check_proportions(one_part, of, x, y)
    partners = exemplars_for(Batch(x, y), y, "exemplar")[0]
    check_variation(partners, y, x, Batch(x, y))
    with pytest.raises(AssertionError, match="rows of class 0 are copies"):
        check_variation(x, y, x, Batch(x, y))
    with pytest.raises(AssertionError, match="times as far as real ones"):
        check_variation(2 * partners, y, x, Batch(x, y))
    middling = x.clone()
    for label in range(3):
        middling[y == label] = x[y == label].mean(0)
    with pytest.raises(AssertionError, match="spreads of class 0"):
        check_moments(middling, y, x, y)
