"""Ordinary differential equations dx/dt = v(x, t), solved in steps of equal length by explicit methods.

Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I (1993), section II.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]  # v(x, t): of the shape of x
Step = Callable[[Velocity, Tensor, float, float], Tensor]
SolverName = Literal["euler", "midpoint", "heun"]


def euler_step(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """x(t + h) by the slope at t: one evaluation, error O(h) over a fixed time."""
    return x + h * v(x, t)


def midpoint_step(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """x(t + h) by the slope half a step ahead: two evaluations, error O(h^2) over a fixed time."""
    return x + h * v(x + h / 2 * v(x, t), t + h / 2)


def heun_step(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """x(t + h) by the mean of the slopes at both ends: two evaluations, error O(h^2) over a fixed time."""
    slope = v(x, t)
    return x + h / 2 * (slope + v(x + h * slope, t + h))


class Solver(NamedTuple):
    """A method of one step, how often that asks for the velocity, and the order of its error over a fixed time."""

    step: Step
    evaluations: int
    order: int


SOLVERS: dict[SolverName, Solver] = {
    "euler": Solver(euler_step, evaluations=1, order=1),
    "midpoint": Solver(midpoint_step, evaluations=2, order=2),
    "heun": Solver(heun_step, evaluations=2, order=2),
}


def integrate(
    solver: Solver, velocity: Velocity, x: Tensor, steps: int, *, begin: float = 0.0, end: float = 1.0
) -> Tensor:
    """x at the time ``end`` for ``x`` at ``begin``; ``end`` before ``begin`` runs the equation backwards.

    The velocity is evaluated ``steps * solver.evaluations`` times, never outside [begin, end].
    """
    h = (end - begin) / steps
    for i in range(steps):
        x = solver.step(velocity, x, begin + i * h, h)
    return x
