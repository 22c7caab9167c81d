"""Every model learns a small mixture, told by moments: shapes and falling losses would not tell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from _model_cases import CASES, MODELS, SPECS, generator, train
from torch import Tensor

from models._contract import Batch, GenerativeModel, Objective

ROWS = 600
MEANS = torch.tensor([[-1.0, 0.5], [1.0, 0.5], [0.0, -1.0]])
SHARES = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])


def _vectors(y: Tensor) -> Tensor:
    """Two correlated Gaussian columns around a mean of the class, and a category with shares of the class."""
    noise = torch.randn(len(y), 2, generator=generator(1))
    numbers = MEANS[y] + noise @ torch.tensor([[0.5, 0.3], [0.0, 0.4]])
    category = torch.multinomial(SHARES[y], 1, generator=generator(2))[:, 0]
    return torch.cat([numbers, torch.nn.functional.one_hot(category, 3)], 1)


def _grids(y: Tensor) -> Tensor:
    """A bar of four rows, wholly bright or half bright, whose place is told by the class; levels of 1/8."""
    bright = torch.where(torch.rand(len(y), generator=generator(1)) < 0.5, 1.0, 0.0)
    x = torch.full((len(y), 1, 8, 8), -1.0)
    for row, place in enumerate(y.tolist()):
        x[row, 0, 2 * place : 2 * place + 4] = bright[row]
    return x


TRUTH = {"vector": _vectors, "grid": _grids}


def _flat(x: Tensor, y: Tensor, label: int) -> Tensor:
    return x[y == label].flatten(1)


def check_moments(x: Tensor, y: Tensor, real: Tensor, real_y: Tensor) -> None:
    """Rows ``x`` have the means, spreads and covariances of the real rows within each class."""
    for label in range(3):
        rows, truth = _flat(x, y, label), _flat(real, real_y, label)
        torch.testing.assert_close(rows.mean(0), truth.mean(0), atol=0.2, rtol=0, msg=f"means of class {label}")
        torch.testing.assert_close(rows.std(0), truth.std(0), atol=0.2, rtol=0, msg=f"spreads of class {label}")
        torch.testing.assert_close(rows.T.cov(), truth.T.cov(), atol=0.2, rtol=0, msg=f"covariance of class {label}")


class Deaf(GenerativeModel):
    """A model that trains and samples without reading the label."""

    def __init__(self, inner: GenerativeModel) -> None:
        super().__init__()
        self.spec, self.inner = inner.spec, inner

    def objectives(self) -> Sequence[Objective]:
        def deaf(objective: Objective) -> Objective:
            return Objective(
                objective.name,
                objective.parameters,
                lambda batch, noise: objective.loss(Batch(batch.x, torch.zeros_like(batch.y)), noise),
                objective.optimiser,
            )

        return [deaf(objective) for objective in self.inner.objectives()]

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        return self.inner.sample(torch.zeros_like(labels), generator, temperature)


def _trained(kind: str, form: str, *, deaf: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y = torch.arange(ROWS) % 3
    real = TRUTH[form](y)
    model = MODELS[kind]().build(SPECS[form], generator())
    model = Deaf(model) if deaf else model
    train(model, Batch(real, y), steps=600 if form == "vector" else 300)
    labels = torch.arange(1500) % 3
    with torch.no_grad():
        return model.sample(labels, generator(3)), labels, real, y


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "form"), CASES)
def test_samples_have_the_moments_of_their_class(kind: str, form: str) -> None:
    check_moments(*_trained(kind, form))


@pytest.mark.slow
@pytest.mark.parametrize("form", SPECS)
def test_a_model_that_ignores_the_label_is_found_out(form: str) -> None:
    with pytest.raises(AssertionError, match="of class"):
        check_moments(*_trained("vae", form, deaf=True))


@pytest.mark.parametrize("form", SPECS)
def test_real_rows_have_the_moments_of_their_class(form: str) -> None:
    y = torch.arange(ROWS) % 3
    halves = TRUTH[form](y), TRUTH[form](y).flip(0)
    check_moments(halves[0][:300], y[:300], halves[0][300:], y[300:])
    with pytest.raises(AssertionError, match="means of class 0"):
        check_moments(halves[0], (y + 1) % 3, halves[0], y)
