"""One optimisation step of one objective, and the average of the weights over the steps."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from augment._devices import is_out_of_memory, seed_torch
from augment.errors import TrainingError
from models._contract import Batch, Objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Schedule = Literal["constant", "linear", "cosine"]
GRADIENT_NORM = "gradient_norm"


def learning_rate_factor(step: int, steps: int, schedule: Schedule, warmup_steps: int) -> float:
    """The share of the peak learning rate at step ``step`` (from 0): a linear rise, then the schedule down to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


class AveragedWeights:
    """An exponential moving average of all parameters and buffers; integer buffers are copied.

    The decay rises with the steps, min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._source = model.state_dict()
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._source.items()}
        self._floating = [name for name, tensor in self._source.items() if tensor.is_floating_point()]
        self._copied = [name for name in self._source if name not in set(self._floating)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the model's weights after step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = [self.tensors[name] for name in self._floating]
        torch._foreach_lerp_(averages, [self._source[name] for name in self._floating], 1 - decay)
        for name in self._copied:
            self.tensors[name].copy_(self._source[name])

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """A block in which the model has the averages for its weights; it gets back what it had."""
        kept = {name: tensor.detach().clone() for name, tensor in self._source.items()}
        self._give(self.tensors)
        try:
            yield
        finally:
            self._give(kept)

    @torch.no_grad()
    def _give(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self._source.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take the values of ``tensors``, which :attr:`tensors` held before."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


class ObjectiveStep:
    """An objective with its optimiser. Only its own parameters ever get a gradient from its loss."""

    def __init__(self, objective: Objective, fabric: Fabric, model: nn.Module, *, compiled: bool) -> None:
        self.objective = objective
        self.terms: tuple[str, ...] = ()
        self._fabric = fabric
        self._model = model
        self._loss = torch.compile(objective.loss) if compiled else objective.loss
        self._parameters = list(objective.parameters)
        self._scaled = bool(fabric.strategy.precision.state_dict())
        self._noise = torch.Generator(device=fabric.device)
        settings = objective.optimiser
        self.optimiser = torch.optim.AdamW(
            self._parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            # A fused step would unscale the gradients itself, after they were clipped.
            fused=not self._scaled,
            foreach=self._scaled,
        )
        self._stepper: Any = fabric.setup_optimizers(self.optimiser)

    def take(self, batch: Batch, micro_batch: int, seed: int, rate: float) -> tuple[Tensor, int]:
        """The values of :attr:`terms` after one step, on the device, and the micro-batch that memory allowed.

        When memory runs out the micro-batch is halved and the step starts again with the same noise; the gradients of
        the parts are added up, each weighted by its rows, so that the effective batch stays the same.

        Raises:
            TrainingError: memory is too short for one row, or the loss cannot be split.
        """
        while True:
            values = self._gradients(batch, micro_batch, seed)
            if values is not None:
                break
            micro_batch = self._halved(min(micro_batch, len(batch.y)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.objective.optimiser.learning_rate * rate
        norm = self._fabric.clip_gradients(
            self._model,
            self.optimiser,
            max_norm=self.objective.optimiser.clip_norm or math.inf,
            error_if_nonfinite=False,
        )
        self._stepper.step()
        # With scaled gradients an infinite norm now and then is how the scale is found.
        norm = torch.zeros(()) if self._scaled or norm is None else norm.detach()
        return torch.cat([values, norm.to(values).reshape(1)]), micro_batch

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The optimiser's tensors and its other values, by parameter index and name."""
        tensors: dict[str, Tensor] = {}
        scalars: dict[str, Any] = {}
        for index, values in self.optimiser.state_dict()["state"].items():
            for name, value in values.items():
                (tensors if isinstance(value, Tensor) else scalars)[f"{self.objective.name}/{index}/{name}"] = value
        return tensors, scalars

    def restore(self, values: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave, tensors and other values together."""
        state: dict[int, dict[str, Any]] = {}
        for path, value in values.items():
            objective, index, name = path.rsplit("/", 2)
            if objective == self.objective.name:
                state.setdefault(int(index), {})[name] = _laid_out(value, self._parameters[int(index)])
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})

    def _gradients(self, batch: Batch, micro_batch: int, seed: int) -> Tensor | None:
        """The loss terms of the whole batch, with its gradients left in the parameters; null if memory ran out."""
        self._noise.manual_seed(seed)
        seed_torch(self._fabric.device, seed)
        self.optimiser.zero_grad(set_to_none=True)
        total: Tensor | None = None
        try:
            for first in range(0, len(batch.y), micro_batch):
                part = Batch(batch.x[first : first + micro_batch], batch.y[first : first + micro_batch])
                share = len(part.y) / len(batch.y)
                with self._fabric.autocast():
                    terms = self._loss(part, self._noise)
                self._fabric.backward(terms["loss"] * share, inputs=self._parameters)
                values = torch.stack([value.detach().float() for value in terms.values()]) * share
                total = values if total is None else total + values
                self.terms = (*terms, GRADIENT_NORM)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        return total

    def _halved(self, micro_batch: int) -> int:
        name = self.objective.name
        if self.objective.batch_statistics:
            raise TrainingError(
                f"memory ran out in the objective '{name}' with {micro_batch} rows, and its loss cannot be taken in "
                "parts because it depends on the whole batch; set a smaller train.batch_size."
            )
        if micro_batch == 1:
            raise TrainingError(
                f"memory ran out in the objective '{name}' with a single row; make the model smaller, or train on a "
                "device with more memory."
            )
        self.optimiser.zero_grad(set_to_none=True)
        if self._fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        return micro_batch // 2


def _laid_out(value: Any, parameter: Tensor) -> Any:
    """A tensor of the shape of ``parameter`` with its strides too: a fused step reads both in the order of memory."""
    if isinstance(value, Tensor) and value.shape == parameter.shape:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value
