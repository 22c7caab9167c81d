"""Where tensors are computed: the device and the precision that a run asks for, checked against this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

import torch

from augment.errors import InputError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

OUT_OF_MEMORY_WORDS = ("can't allocate memory", "out of memory")


def choose_device(name: str, setting: str = "train.device") -> torch.device:
    """The device called ``name`` by ``setting``; ``auto`` is CUDA where it is there, else MPS, else the CPU.

    Raises:
        InputError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"the device '{name}' is not there ({count} CUDA devices found); set {setting}: auto.")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"the device 'mps' is not there; set {setting}: auto.")
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision called ``name``; ``auto`` is bfloat16 where a CUDA device computes in it, else 32 bits.

    Raises:
        InputError: 16-mixed is asked for without a CUDA device, which alone has the hardware for it.
    """
    if name == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "32-true"
    if name == "16-mixed" and device.type != "cuda":
        raise InputError(f"train.precision 16-mixed needs a CUDA device and this run is on {device}; use auto.")
    known: dict[str, Precision] = {"32-true": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}
    return known[name]


def device_title(device: torch.device) -> str:
    """``cpu``, ``mps``, or ``cuda:0 (its product name)``, for records."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, or in the machine's memory where the device shares that."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed the generators that torch's own random layers (dropout) draw from on the CPU and on ``device``.

    ``torch.manual_seed`` would reach every device of the machine, and where CUDA was never started it formats a stack
    trace each time.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextlib.contextmanager
def torch_randomness_kept(device: torch.device) -> Iterator[None]:
    """A block in which :func:`seed_torch` may be called without the caller's random state being changed."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """A block in which torch computes on ``count`` threads of the CPU, whatever the machine offers.

    How sums are split over threads decides their last bits, so a stated count makes the bytes of a run the same on
    machines with other numbers of cores. It also keeps small nets fast: threads that wait for a core that others use
    make a step tens of times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def repeatable_sums() -> Iterator[None]:
    """A block in which a GPU adds up in one order, so that it repeats its bytes too.

    What cuDNN takes by default for the gradients of weights adds up in the order in which threads arrive. And autograd
    adds the gradients of a weight in the order of the numbers of the nodes that they come from, of which each thread
    has a counter of its own: where a gradient is differentiated again, its nodes are made by the thread of the GPU, and
    their place among the others would depend on all that the process did before. So there is one thread alone.
    """
    cudnn = torch.backends.cudnn
    flags = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32)
    with flags, torch.autograd.set_multithreading_enabled(False):
        yield


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed, on any device."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
