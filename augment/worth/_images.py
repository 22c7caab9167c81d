"""What a team would train on images: a small convolutional net, learned for a fixed number of steps.

Arms of one seed begin with the same weights and choose the rows of their batches with the same numbers, so that what
differs between them is what they are given: their rows, the weights of those, and the policy that changes them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from augment._devices import cpu_threads, seed_torch, torch_randomness_kept
from augment._seeding import derive_seed, torch_generator
from augment.worth._policies import Policy
from models._contract import Batch, TensorSpec

STEPS = 400
BATCH_SIZE = 100
LEARNING_RATE = 2e-3
LABEL_SMOOTHING = 0.1
ROWS_AT_ONCE = 1_000
SMALL_SIDE = 16  # pixels; up to it, more channels cost little
LARGE_SIDE = 32  # beyond it, convolutions of every pixel cost too much
GROUP = 8  # channels that are normalised together


class LearningRows(NamedTuple):
    """Rows to draw batches from; the chance of a row is proportional to its weight.

    ``x`` is ``(N, C, H, W)``: floats in [-1, 1], or uint8 indices of the spec's grey levels. ``y`` is ``(N,)`` int64,
    ``weight`` ``(N,)`` float64.
    """

    x: Tensor
    y: Tensor
    weight: Tensor


def class_balanced(rows: Batch) -> LearningRows:
    """The rows with weights that give each class the same chance; rows without a label are never drawn."""
    known = rows.y >= 0
    counts = torch.bincount(rows.y[known], minlength=1)
    weight = torch.where(known, 1 / counts.double()[rows.y.clamp(min=0)], 0.0)
    return LearningRows(rows.x, rows.y, weight)


class ImageLearner(nn.Module):
    """Logits ``(B, num_classes)`` of images ``(B, C, H, W)`` in [-1, 1]; three stages, each a half of the side before.

    Images are normalised one by one, so that synthetic rows in a batch do not alter how real ones are seen. The first
    stage looks at every pixel before it halves: beside three strided convolutions, the balanced accuracy on MNIST,
    Fashion-MNIST and digits with scarce classes was better by 0.4 points, in the mean of 12 trainings.
    """

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec
        colours, *sides = spec.shape
        first, second, third = (24, 48, 96) if max(sides) <= SMALL_SIDE else (16, 32, 64)
        stem = 2 if max(sides) > LARGE_SIDE else 1
        self.stages = nn.Sequential(
            nn.Conv2d(colours, first, 2 * stem + 1, stride=stem, padding=stem, bias=False),
            nn.MaxPool2d(2, ceil_mode=True),
            *_normalised(first),
            nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
            *_normalised(second),
            nn.Conv2d(second, third, 3, stride=2, padding=1, bias=False),
            *_normalised(third),
        )
        for factor in (stem, 2, 2, 2):
            sides = [-(-side // factor) for side in sides]
        self.head = nn.Linear(third * sides[0] * sides[1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes)``."""
        # in [0, 1] the border that convolutions add is black; channels come last, for that is half the time on a CPU
        b = ((x + 1) / 2).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.head(self.stages(b).flatten(1))
        return logits


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(channels // GROUP, channels), nn.ReLU()]


def fit(
    spec: TensorSpec,
    rows: LearningRows,
    policy: Policy,
    seed: int,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
) -> ImageLearner:
    """A learner trained on batches of ``rows`` that ``policy`` changes, in evaluation mode; the same for the same
    arguments.

    The number of steps does not depend on the number of rows: learners of different sets are comparable.

    Raises:
        ValueError: the rows are not images, none has a positive weight, or a weight is negative or not finite.
    """
    _require_learnable(spec, rows)
    device = rows.x.device
    with cpu_threads(1), torch_randomness_kept(device):
        seed_torch(device, derive_seed(seed, "worth", "weights"))
        # drawn on the CPU, the first weights are the same on every device
        net = ImageLearner(spec).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        _train(net, rows, policy, seed, steps, batch_size)
    trained: ImageLearner = net.eval()
    return trained


def _require_learnable(spec: TensorSpec, rows: LearningRows) -> None:
    if spec.form != "grid":
        raise ValueError(f"this learner reads images (C, H, W), and the rows have shape {spec.shape}")
    if not bool((torch.isfinite(rows.weight) & (rows.weight >= 0)).all()):
        raise ValueError("the weights of rows must be finite, and none below 0")
    if not bool((rows.weight > 0).any()):
        raise ValueError("a learner needs rows of a weight above 0")
    if bool((rows.y[rows.weight > 0] < 0).any()):
        raise ValueError("rows without a label must have the weight 0")


def _train(net: ImageLearner, rows: LearningRows, policy: Policy, seed: int, steps: int, batch_size: int) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    places = torch_generator(seed, "worth", "rows")
    changes = torch_generator(seed, "worth", "changes")
    for index in drawn_rows(rows.y, rows.weight, steps, batch_size, places):
        x = as_values(net.spec, rows.x[index])
        targets = functional.one_hot(rows.y[index], net.spec.num_classes).to(x.dtype)
        changed = policy(x, targets, changes)
        loss = functional.cross_entropy(net(changed.x), changed.targets, label_smoothing=LABEL_SMOOTHING)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def as_values(spec: TensorSpec, x: Tensor) -> Tensor:
    """Floats in [-1, 1] for images that may be indices of the spec's grey levels."""
    if x.dtype != torch.uint8:
        return x
    return x.float() * (2 / ((spec.spans[0].levels or 256) - 1)) - 1


def drawn_rows(y: Tensor, weight: Tensor, steps: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """The rows of each batch, ``(steps, batch_size)``; the chance of a row is proportional to its weight.

    Rows lie side by side, class after class, each as long as its weight. A batch is read at places of which one is in
    each of ``batch_size`` equal lengths: every class has its share of every batch, to one row, and arms whose classes
    have the same shares see the same classes at the same places.
    """
    order = y.argsort(stable=True)
    ends = weight.double()[order].cumsum(0)
    within = torch.rand(steps, batch_size, generator=generator, dtype=torch.float64).to(y.device)
    places = (torch.arange(batch_size, device=y.device) + within) / batch_size * ends[-1]
    # a row of weight 0 ends where it begins: `right` steps over it, and rounding must not go beyond the last
    last = torch.searchsorted(ends, ends[-1])
    return order[torch.searchsorted(ends, places, right=True).clamp(max=last)]


@torch.no_grad()
def probabilities(net: ImageLearner, x: Tensor) -> npt.NDArray[np.float32]:
    """The probability of each class for images as in :class:`LearningRows`, ``(N, num_classes)``."""
    with cpu_threads(1):
        parts = [net(as_values(net.spec, part)).softmax(dim=1) for part in torch.split(x, ROWS_AT_ONCE)]
    found: npt.NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return found
