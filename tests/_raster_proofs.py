"""What must hold for every model that draws in raster order, as checks of one that has ``net``, ``grid`` and ``spec``.

``net(x, y)`` gives the logits ``(B, C, levels, H, W)``. Values are in the order in which they are drawn: place by
place, and within a place channel by channel.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from _model_cases import generator, some_rows
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models._contract import Batch, Span, TensorSpec
from models._grey_levels import uniform_noise
from models._masked import MaskedConv2d
from models._raster import Places, Row, WholePasses, draw_in_raster_order


def levels_spec(shape: tuple[int, int, int], levels: int, classes: int = 3) -> TensorSpec:
    """A spec of grids of so many grey levels."""
    return TensorSpec(shape, (Span("continuous", shape[0] * shape[1] * shape[2], levels),), classes)


def stirred(model: Any, seed: int = 1, by: float = 0.1) -> Any:
    """The model in 64 bits, every weight moved at random, so that the class and all levels matter."""
    noise = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=noise))
    return model.double().eval()


def heard(model: Any) -> Tensor:
    """Which value (column) moves the logits of which (row), both in the order of drawing, booleans.

    All weights and values are positive, so that nothing cancels and no rectifier is shut.
    """
    model = model.double().eval()
    noise = generator()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=noise) / parameter[0].numel() + 0.001)
    # as many equal rows as there are values, of each of which one logit is followed back
    x = torch.rand((1, *model.spec.shape), generator=noise, dtype=torch.float64).repeat(model.spec.size, 1, 1, 1)
    x.requires_grad_()
    found = model.net(x, torch.zeros(len(x), dtype=torch.int64))
    followed = found.sum(2).permute(0, 2, 3, 1).flatten(1).diagonal().sum()  # (H, W, C) flat
    (gradient,) = torch.autograd.grad(followed, x)
    return gradient.permute(0, 2, 3, 1).flatten(1) != 0


def layers_with_class(model: Any) -> list[Any]:
    """The layers that the class moves, each by a linear map of its own, ``of_class``."""
    return [layer for layer in model.modules() if hasattr(layer, "of_class")]


def deaf(model: Any) -> Any:
    """The model without what moves its layers, and the states outside of the image, by the class, also in training."""
    outside = [layer.outside for layer in model.modules() if hasattr(layer, "outside")]
    for of_class in [*(layer.of_class for layer in layers_with_class(model)), *outside]:
        of_class.register_forward_hook(lambda _layer, _given, moved: 0 * moved)
    return model


def masks_of_own_places(model: Any) -> list[Tensor]:
    """Of each masked convolution, in order, which input each output hears at its own place, ``(outputs, inputs)``."""
    masks = [module.mask for module in model.modules() if isinstance(module, MaskedConv2d)]
    # a kernel of one row ends at the place, a square one has it in the middle
    return [
        mask[:, :, mask.shape[2] // 2, mask.shape[3] // 2 if mask.shape[2] == mask.shape[3] else -1] for mask in masks
    ]


def check_masks(model: Any) -> None:
    """The first layer has mask A and all others have mask B."""
    first, *others = masks_of_own_places(model)
    assert not first[: len(first) // model.grid.channels, : model.grid.channels].any(), "mask B in the first layer"
    for number, own in enumerate(others, 1):
        assert own.any(1).all(), f"mask A instead of B in layer {number}"


def check_class_moves(model: Any, maps: list[Any]) -> None:
    """Without the weights of any of these maps of the class, rows have another likelihood."""
    x = some_rows(model.spec, torch.tensor([0, 0])).x.double()
    batch = Batch(x, torch.tensor([0, 0]))
    usual = model.log_likelihood(batch)
    for number, of_class in enumerate(maps):
        kept = of_class.weight.detach().clone()
        of_class.weight.data.zero_()
        moved = not torch.allclose(model.log_likelihood(batch), usual)
        of_class.weight.data.copy_(kept)
        assert moved, f"the class does not move layer {number}"


def check_no_leak(model: Any) -> None:
    """No logit moves with its own value or a later one."""
    leaks = torch.triu(heard(model)).nonzero()
    assert not len(leaks), f"{len(leaks)} pairs leak; the logits of value {leaks[0, 0]} hear value {leaks[0, 1]}"


def pairs_heard(model: Any) -> int:
    """How many pairs there are of a value and an earlier one that it hears."""
    return int(torch.tril(heard(model), -1).sum())


def check_sums_to_one(model: Any) -> None:
    """The probabilities of all images that there are sum to one, for every class."""
    grid = model.grid
    every = torch.tensor(list(itertools.product(range(grid.levels), repeat=grid.size)))
    x = grid.values(every).double().reshape(-1, *model.spec.shape)
    for label in range(model.spec.num_classes):
        total = model.log_likelihood(Batch(x, torch.full((len(x),), label))).exp().sum()
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0)


def check_takes_no_rows(model: Any) -> None:
    """No rows have no likelihoods, and none are drawn for no labels."""
    x, none = torch.zeros(0, *model.spec.shape), torch.zeros(0, dtype=torch.int64)
    assert model.eval().log_likelihood(Batch(x, none)).shape == (0,)
    assert model.sample(none, generator()).shape == x.shape
    known = torch.ones(model.spec.shape[1:], dtype=torch.bool)
    assert model.complete(x, known, none, generator()).shape == x.shape


def drawn_by_whole_passes(
    model: Any, labels: Tensor, noise: Tensor, temperature: float = 1.0, given: Tensor | None = None, known: int = 0
) -> Tensor:
    """The levels that a pass over the whole grid for every value draws."""
    rows = torch.zeros(len(labels), *model.spec.shape, dtype=noise.dtype, device=noise.device)
    places = WholePasses(lambda x: model.net(x, labels), rows)
    with torch.no_grad():
        return draw_in_raster_order(places, model.grid, noise, temperature, given, known)


def levels_drawn(model: Any, rows: Tensor) -> Tensor:
    """The levels of rows that the model drew."""
    return model.grid.index(rows)


class Listening:
    """Places that add up ln p of the values that are put."""

    def __init__(self, inner: Places, rows: int, grid: Any) -> None:
        self.inner, self.grid = inner, grid
        self.total = torch.zeros(rows, dtype=torch.float64)
        self.period = inner.period

    def begin_row(self, phase: int, row: Tensor) -> None:
        self.inner.begin_row(phase, row)

    def logits(self, column: int, channel: int) -> Tensor:
        self.last = self.inner.logits(column, channel)
        return self.last

    def put(self, column: int, channel: int, values: Tensor) -> None:
        levels = self.grid.index(values)
        self.total += self.last.log_softmax(1).gather(1, levels[:, None])[:, 0]
        self.inner.put(column, channel, values)


def check_drawing_has_the_likelihood(model: Any, places: Places, labels: Tensor) -> None:
    """ln p of a sample, added up while it is drawn, is what the model says of it afterwards."""
    noise = uniform_noise(model.grid, len(labels), generator(4), model.net.where)
    listening = Listening(places, len(labels), model.grid)
    with torch.no_grad():
        levels = draw_in_raster_order(listening, model.grid, noise)
    x = model.grid.values(levels, torch.float64)
    torch.testing.assert_close(listening.total, model.log_likelihood(Batch(x, labels)), atol=1e-9, rtol=1e-9)


class Recorded(TorchDispatchMode):
    """Operations on tensors, as a CUDA graph has them: played again they read and write the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number was read from a tensor"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for kept, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(kept, Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


def check_rows_can_be_played_again(model: Any, labels: Tensor) -> None:
    """What is recorded of one row of each of the period draws the rows below as if it were done anew."""
    noise = uniform_noise(model.grid, len(labels), generator(5), model.net.where)
    places = model.net.places(labels)
    row, recorded = Row(places, model.grid, noise, 1.0), []
    found = torch.zeros(noise.shape, dtype=torch.int64)
    unknown = torch.zeros(model.grid.width, dtype=torch.bool)
    assert model.grid.height > 2 * places.period
    with torch.no_grad():
        for number in range(model.grid.height):
            row.take(number, noise[:, :, number], found[:, :, number], unknown)
            if number < 2 * places.period:
                with Recorded() as operations:
                    row.draw(number % places.period)
                recorded.append(operations)
            else:
                recorded[places.period + number % places.period].replay()
            found[:, :, number] = row.levels
        expected = draw_in_raster_order(model.net.places(labels), model.grid, noise)
    assert torch.equal(found, expected), "rows that are played again are not those that are done anew"
