"""Each solver has the order and the cost that it states."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models._solvers import SOLVERS, SolverName, integrate

every_solver = pytest.mark.parametrize("name", SOLVERS)
START = torch.tensor([0.1, 0.3], dtype=torch.float64)
S = 0.35  # the standard deviation of the data below


def _growth(x: Tensor, t: float) -> Tensor:
    """dx/dt = 4 t x (1 - x), solved by logit x(t) = logit x(0) + 2 t^2."""
    return 4 * t * x * (1 - x)


def _error(name: SolverName, steps: int) -> float:
    exact = torch.sigmoid(torch.logit(START) + 2)
    return (integrate(SOLVERS[name], _growth, START, steps) - exact).abs().max().item()


@every_solver
def test_the_error_falls_with_the_steps_as_the_order_says(name: SolverName) -> None:
    slope = math.log(_error(name, 40) / _error(name, 320)) / math.log(8)
    assert slope == pytest.approx(SOLVERS[name].order, abs=0.1)


@every_solver
def test_the_velocity_is_evaluated_as_often_as_stated_and_only_on_the_way(name: SolverName) -> None:
    times: list[float] = []

    def counted(x: Tensor, t: float) -> Tensor:
        times.append(t)
        return x

    integrate(SOLVERS[name], counted, torch.ones(3), 7)
    assert len(times) == 7 * SOLVERS[name].evaluations
    assert min(times) == 0
    assert max(times) <= 1 + 1e-12


@every_solver
def test_a_constant_velocity_is_followed_exactly(name: SolverName) -> None:
    end = integrate(SOLVERS[name], lambda x, _t: torch.full_like(x, 3.0), torch.zeros(2), 5, begin=0.25, end=0.75)
    torch.testing.assert_close(end, torch.full((2,), 1.5))


@every_solver
def test_backwards_returns_to_the_start(name: SolverName) -> None:
    there = integrate(SOLVERS[name], _growth, START, 1000)
    back = integrate(SOLVERS[name], _growth, there, 1000, begin=1.0, end=0.0)
    torch.testing.assert_close(back, START, atol=2e-3, rtol=0)
    assert (there - START).abs().min() > 0.1


def _to_a_narrow_gaussian(x: Tensor, t: float) -> Tensor:
    """The velocity of the flow from N(0, 1) to N(0, S^2) along straight paths."""
    return (t * S**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * S**2) * x


@pytest.mark.parametrize(
    ("name", "steps", "error"),
    [("euler", 5, -0.31), ("euler", 20, -0.08), ("euler", 100, -0.02), ("heun", 5, 0.02)],
)
def test_few_steps_of_euler_shrink_the_spread_and_heun_does_not(name: SolverName, steps: int, error: float) -> None:
    spread = integrate(SOLVERS[name], _to_a_narrow_gaussian, torch.ones(()), steps).item()
    assert spread / S - 1 == pytest.approx(error, abs=0.006)
