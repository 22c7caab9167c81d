"""How long a training step takes, and which operations take it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import torch

from augment.training._loop import TrainingLoop

WARM, TIMED, PROFILED, NAMED = 5, 15, 5, 8


def seconds_of_a_step(loop: TrainingLoop, timed: int = TIMED, clock: Callable[[], float] = time.monotonic) -> float:
    """The mean over ``timed`` warm steps, by ``clock``."""
    for _ in range(WARM):
        loop._take_step()
    loop._look()  # waits for the device
    began = clock()
    for _ in range(timed):
        loop._take_step()
    loop._look()
    return (clock() - began) / timed


def shares_of_a_step(loop: TrainingLoop) -> dict[str, float]:
    """The largest shares of a step's time by operation of torch, on the device where there is one, and the rest."""
    on_cuda = loop._fabric.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CUDA if on_cuda else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(PROFILED):
            loop._take_step()
        loop._look()
    spent: dict[str, float] = {}
    for event in profile.key_averages():
        name = short(event.key)
        spent[name] = spent.get(name, 0.0) + float(
            event.self_device_time_total if on_cuda else event.self_cpu_time_total
        )
    total = sum(spent.values())
    largest = sorted(spent, key=lambda name: -spent[name])[:NAMED]
    shares = {name: round(spent[name] / total, 3) for name in largest}
    return shares | {"the rest": round(1 - sum(shares.values()), 3)}


def short(name: str) -> str:
    """The name of an operation or of a kernel, without the types and arguments that it was made for."""
    return re.split(r"[<(]", name.removeprefix("void ").replace("(anonymous namespace)::", ""), maxsplit=1)[0]
