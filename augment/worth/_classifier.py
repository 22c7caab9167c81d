"""A small classifier of encoded rows: what features, label agreement and accuracy are measured with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from augment._devices import cpu_threads, seed_torch, torch_randomness_kept
from augment._seeding import derive_seed, torch_generator
from models._contract import Batch, TensorSpec
from models._nets import NetSize, defaults_for, make_encoder

FEATURES = 64
ROWS_AT_ONCE = 1_000
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class Design:
    """The size of a classifier and its training. Two designs that differ make different mistakes."""

    width: float  # over the width that suits the form of a row
    depth: int
    dropout: float
    steps: int
    batch_size: int = 64


# What chose a row must not be what judges it: labels are judged by another net than the one whose features are used.
ENCODER = Design(width=1, depth=1, dropout=0.2, steps=400)
JUDGE = Design(width=0.75, depth=2, dropout=0.1, steps=300)


class Classifier(nn.Module):
    """p(y|x) from 64 features; :func:`fit_classifier` makes one."""

    centre: Tensor
    scale: Tensor

    def __init__(self, spec: TensorSpec, design: Design) -> None:
        super().__init__()
        # of one class, and asked for rows without a label, the encoder cannot see what is to be told
        unlabelled = replace(spec, num_classes=1)
        width = max(8, round(design.width * defaults_for(spec).width))
        self.body = make_encoder(unlabelled, FEATURES, NetSize(width, design.depth, 1, design.dropout))
        self.head = nn.Linear(FEATURES, spec.num_classes)
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))

    def hidden(self, x: Tensor) -> Tensor:
        """What the last layer reads, ``(B, 64)``."""
        y = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
        return functional.silu(self.body(x, y))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes)``."""
        logits: Tensor = self.head(self.hidden(x))
        return logits

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Features ``(N, 64)``, each of mean 0 and deviation 1 over the rows that the classifier was trained on."""
        return torch.cat([(self.hidden(part) - self.centre) / self.scale for part in torch.split(x, ROWS_AT_ONCE)])

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """The logits of each row, ``(N, num_classes)``, some rows at a time."""
        with cpu_threads(1):
            parts = [self(part) for part in torch.split(x, ROWS_AT_ONCE)]
        return torch.cat(parts)

    def confidence(self, x: Tensor) -> Tensor:
        """The probability of each class of each row, ``(N, num_classes)``."""
        return self.logits(x).softmax(dim=1)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """The likeliest class of each row, ``(N,)`` int64."""
        return torch.cat([self(part).argmax(dim=1) for part in torch.split(x, ROWS_AT_ONCE)])


def fit_classifier(
    spec: TensorSpec, rows: Batch, design: Design, seed: int, weight: Tensor | None = None
) -> Classifier:
    """A classifier trained on ``rows``, which all have a label, in evaluation mode; the same for the same arguments.

    Each batch has as many rows of one class as of another, so that scarce classes count as much as large ones, or
    each row with a chance in proportion to its ``weight`` ``(N,)``. The
    number of steps does not depend on the number of rows: classifiers trained on different sets are comparable. With
    one class there is nothing to learn, and the features are those of a net with random weights, which arXiv:2002.09797
    finds of use where no suitable embedding exists.

    Raises:
        ValueError: there are no rows.
    """
    if not len(rows.y):
        raise ValueError("a classifier needs rows to learn from")
    device = rows.x.device
    with cpu_threads(1), torch_randomness_kept(device):
        seed_torch(device, derive_seed(seed, "classifier"))
        net = Classifier(spec, design).to(device)
        if spec.num_classes > 1:
            _train(net, rows, design, seed, weight)
        net.eval()
        hidden = net.features(rows.x)
        deviation = hidden.std(dim=0, unbiased=False)
        net.centre.copy_(hidden.mean(dim=0))
        net.scale.copy_(torch.where(deviation > 1e-4, deviation, 1.0))  # a feature that never varies stays as it is
    return net


def _train(net: Classifier, rows: Batch, design: Design, seed: int, weight: Tensor | None) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    net.train()
    batches = _balanced_batches(rows.y, design, seed) if weight is None else _weighted_batches(weight, design, seed)
    for step, index in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / design.steps))
        loss = functional.cross_entropy(net(rows.x[index]), rows.y[index], label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _balanced_batches(y: Tensor, design: Design, seed: int) -> Iterator[Tensor]:
    """The rows of each step: a class at random for each place, and a row of that class at random."""
    generator = torch_generator(seed, "classifier", "batches")
    labels = y.cpu()
    rows_of = [torch.nonzero(labels == label)[:, 0] for label in torch.unique(labels).tolist()]
    counts = torch.tensor([len(rows) for rows in rows_of])
    starts = counts.cumsum(0) - counts
    ordered = torch.cat(rows_of)
    for _ in range(design.steps):
        chosen = torch.randint(len(rows_of), (design.batch_size,), generator=generator)
        within = (torch.rand(design.batch_size, generator=generator) * counts[chosen]).long()
        yield ordered[starts[chosen] + within.clamp(max=counts[chosen] - 1)].to(y.device)


def _weighted_batches(weight: Tensor, design: Design, seed: int) -> Iterator[Tensor]:
    """The rows of each step, each with a chance in proportion to its weight."""
    generator = torch_generator(seed, "classifier", "batches")
    reached = weight.double().cumsum(0)
    for _ in range(design.steps):
        drawn = torch.rand(design.batch_size, generator=generator, dtype=torch.float64) * reached[-1]
        yield torch.searchsorted(reached, drawn, right=True).clamp(max=len(weight) - 1)
