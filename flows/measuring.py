"""Worth in the flow: every seed is a task of its own, so that a run which was killed goes on with the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from augment.config import RunConfig
from augment.store import ArtifactRef
from augment.worth.record import WorthRecord
from flows import tasks
from flows.recording import Run

Drawn = tuple[list[ArtifactRef], list[ArtifactRef]]  # shards, and what was said of them
Draw = Callable[[RunConfig], Drawn]  # by a generator that is trained anew with the seed of such a config


class Predicted(NamedTuple):
    """The best classical augmentation, and what the classifiers of each seed predict."""

    search: ArtifactRef
    measured: list[ArtifactRef]


def measure_worth(
    config: RunConfig, run: Run, real: ArtifactRef, audit: ArtifactRef, drawn: Drawn, draw_anew: Draw
) -> WorthRecord | None:
    """What the drawn rows are worth; null where the run file asks for no seeds.

    Rows that a gate refuses already are not measured, and neither are data that could say nothing.
    """
    if not config.worth.seeds:
        return None
    reason = tasks.why_not_measured(config, real, audit)
    if reason is not None:
        return reason
    predicted = predict(config, run, real, drawn, draw_anew)
    return tasks.read_worth(config, conclude(config, run, real, drawn, predicted))


def predict(config: RunConfig, run: Run, real: ArtifactRef, drawn: Drawn, draw_anew: Draw) -> Predicted:
    """What classifiers with and without the drawn rows predict for held-out rows; nothing is said of it yet."""
    search = run.keep(tasks.search_classical(config, real))
    by_generator = [drawn, *(draw_anew(tasks.of_generator(config, number)) for number in range(1, generators(config)))]
    for _, judged in by_generator[1:]:
        tasks.refuse_empty(config, judged)
    measured = []
    for number in range(config.worth.seeds):
        known = run.keep(tasks.measure_real(config, real, search, number))
        own = by_generator[number % len(by_generator)]
        measured.append(run.keep(tasks.measure_arms(config, real, search, known, *own, number)))
    return Predicted(search, measured)


def conclude(config: RunConfig, run: Run, real: ArtifactRef, drawn: Drawn, predicted: Predicted) -> ArtifactRef:
    """The verdict, which is of test rows."""
    search, measured = predicted
    parts = [
        run.keep(tasks.measure_parts(config, real, search, *drawn, measured, number))
        for number in range(config.worth.seeds)
    ]
    return run.keep(tasks.conclude_worth(config, real, search, *drawn, measured, parts))


def generators(config: RunConfig) -> int:
    """Trainings that the seeds are spread over; more than there are seeds would be for nothing."""
    return min(config.worth.generators, config.worth.seeds)
