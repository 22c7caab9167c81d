"""What `models_vs_peers.py` trains, ours and theirs: the nets, the data, and how speed and memory are read.

Read in the project's environment and in that of the peers, which has torch and pydantic but nothing of ours beside
`models/`.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from models._contract import GenerativeModel, ModelConfig, OptimiserConfig, Span, TensorSpec
from models.alpha_gan import AlphaGanConfig
from models.flow_matching import FlowMatchingConfig
from models.gan import GanConfig
from models.pixelcnn import PixelCnnConfig
from models.vae import VaeConfig
from models.vae_gan import VaeGanConfig

WARM_STEPS = 20  # before the clock starts: first steps choose kernels and fill caches
LEVELS = "x.npy"  # grey levels (rows, 1, 28, 28) uint8
LABELS = "y.npy"  # int64
NO_LABELS = "zeros.npy"  # as many zeros
HELD_OUT = "held_out.npy"  # levels of rows that are not trained on
BITS = "bits.npy"  # the levels over 127 as 0 and 1


class Case(NamedTuple):
    """One net that both sides train, by the settings of our model that has it."""

    model: ModelConfig
    shape: tuple[int, ...]
    levels: int
    classes: int
    peer: Literal["pythae", "torchcfm", "a plain loop"]
    batch_size: int
    compared: str
    judged: tuple[int, int] | None = None  # synthetic rows that a critic learns from for a training image: ours, theirs

    @property
    def installed(self) -> bool:
        """Whether the peer is a package, in an environment of its own."""
        return self.peer != "a plain loop"

    @property
    def script(self) -> str:
        """The file that trains the other side."""
        return "_peer_training.py" if self.installed else "_plain_training.py"


PLAIN = (
    "the model's defaults in both, penalties and changes of what the critic sees included; the plain loop takes a pass "
    "for each kind of rows, ours clips, averages the weights, watches the training and keeps a journal besides"
)
ADVERSARIAL: dict[str, ModelConfig] = {"gan": GanConfig(), "vae_gan": VaeGanConfig(), "alpha_gan": AlphaGanConfig()}

CASES = {
    "vae mlp": Case(
        VaeConfig(latent=16, width=512, dropout=0.0, prior="standard", observation="bernoulli"),
        (784,),
        2,
        1,
        "pythae",
        64,
        "our residual MLP of 512 hidden units in both; Bernoulli likelihood of thresholded pixels, AdamW; pythae by "
        "its BaseTrainer as it comes, ours with gradient clipping, averaged weights and a journal besides",
    ),
    "vae resnet": Case(
        VaeConfig(latent=32, prior="standard", observation="bernoulli"),
        (1, 28, 28),
        2,
        1,
        "pythae",
        64,
        "our convolutional ResNet for 28x28 in both; else as the MLP",
    ),
    "flow_matching unet": Case(
        FlowMatchingConfig(),
        (1, 28, 28),
        256,
        10,
        "torchcfm",
        128,
        "our U-Net for 28x28 with labels in both; torchcfm in the loop of its class-conditional MNIST example "
        "(torchvision's dataset and transforms, one process, no averaged weights, no clipping), ours with label "
        "dropout, gradient clipping, averaged weights and a journal besides",
    ),
    "vae_gan pythae": Case(
        VaeGanConfig(
            loss="minimax",
            ruler="unit",
            r1=0,
            r2=0,
            augmentation=(),
            encoder_optimiser=OptimiserConfig(learning_rate=1e-4),
            optimiser=OptimiserConfig(learning_rate=1e-4),
            critic_optimiser=OptimiserConfig(learning_rate=1e-4),
        ),
        (1, 28, 28),
        256,
        1,
        "pythae",
        64,
        "the convolutional nets of our vae_gan in both, without labels, penalties and changes of what the critic sees, "
        "which pythae has not; it draws once for all three nets, its critic learns from rows of the prior and not from "
        "reconstructions, and a net that is ahead takes no step; ours draws anew for each net and takes every step",
        (2, 1),
    ),
    "pixelcnn pythae": Case(
        PixelCnnConfig(depth=7, dropout=0.0),
        (1, 28, 28),
        256,
        1,
        "pythae",
        32,
        "the net of our pixelcnn, of 7 blocks, in both, without labels; pythae's own knows no colours and normalises "
        "over the batch; ours with gradient clipping, averaged weights and a journal besides",
    ),
    **{kind: Case(model, (1, 28, 28), 256, 10, "a plain loop", 64, PLAIN) for kind, model in ADVERSARIAL.items()},
}


@dataclass(frozen=True)
class Request:
    """What one process trains; plain values, so that it travels as JSON."""

    case: str
    data: str
    steps: int
    batch_size: int
    threads: int
    device: str
    compiled: bool = False
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    judged: bool = False  # whether the likelihood of the rows in HELD_OUT is measured at the end


def build(case: Case) -> GenerativeModel:
    """The model of a case with its first weights."""
    width = 1
    for side in case.shape:
        width *= side
    spec = TensorSpec(case.shape, (Span("continuous", width, case.levels),), case.classes)
    return case.model.build(spec, torch.Generator().manual_seed(0))


@torch.no_grad()
def bits_per_dim(net: Any, request: Request) -> float:
    """-log2 p(x) of a value of the rows that are held out, by a net whose likelihood is exact."""
    rows = torch.from_numpy(np.load(Path(request.data) / HELD_OUT)).float() * (2 / (CASES[request.case].levels - 1)) - 1
    labels = torch.zeros(len(rows), dtype=torch.long)
    nats = [net.eval().log_likelihood(x, y) for x, y in zip(rows.split(50), labels.split(50), strict=True)]
    return -float(torch.cat(nats).mean()) / (rows[0].numel() * math.log(2))


@dataclass(frozen=True)
class Speed:
    """Training images a second by the clock and by the processor's time, and peaks of memory in MiB."""

    images_per_second: float
    images_per_cpu_second: float
    peak_anonymous_mib: float
    peak_cuda_mib: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Window:
    """Reads the clocks at the first noted step that is warm and at each later one; watches the memory meanwhile."""

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self._batch_size = batch_size
        self._device = device
        self._first: tuple[int, float, float] | None = None
        self._last: tuple[int, float, float] | None = None
        self._peak = 0.0
        self._finished = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def note(self, step: int) -> None:
        """So many steps are done, and the device has finished them."""
        now = (step, time.monotonic(), time.process_time())
        if step < WARM_STEPS:
            return
        self._first = self._first or now
        self._last = now

    def speed(self) -> Speed:
        """What was measured between the first and the last note; the memory is watched no longer.

        Raises:
            RuntimeError: fewer than two steps were noted.
        """
        self._finished.set()
        if self._first is None or self._last is None or self._first[0] == self._last[0]:
            raise RuntimeError("too few steps were taken to measure their speed; raise --steps")
        images = (self._last[0] - self._first[0]) * self._batch_size
        cuda = torch.cuda.max_memory_allocated(self._device) / 2**20 if self._device.type == "cuda" else None
        return Speed(
            images / (self._last[1] - self._first[1]), images / (self._last[2] - self._first[2]), self._peak, cuda
        )

    def _watch(self) -> None:
        while not self._finished.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self._peak = max(self._peak, int(line.split()[1]) / 1024)
