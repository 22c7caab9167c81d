"""Which networks of a model the gradient of each term of each objective reaches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from _model_cases import generator
from torch import Tensor, nn

from models._contract import Batch, GenerativeModel

Routes = dict[tuple[str, str], set[str]]  # (objective, term): networks


def reached_by(term: Tensor, networks: Mapping[str, nn.Module]) -> set[str]:
    """The networks with a parameter that ``term`` has a gradient for, be it zero."""
    if not term.requires_grad:
        return set()
    found = set()
    for name, network in networks.items():
        gradients = torch.autograd.grad(term, [*network.parameters()], retain_graph=True, allow_unused=True)
        if any(gradient is not None for gradient in gradients):
            found.add(name)
    return found


def routes(model: GenerativeModel, networks: Mapping[str, nn.Module], batch: Batch) -> Routes:
    """The networks that each term reaches; ``networks`` must hold every parameter of the model."""
    held = {id(parameter) for network in networks.values() for parameter in network.parameters()}
    assert held == {id(parameter) for parameter in model.parameters()}, "a network is missing"
    model.train()
    return {
        (objective.name, name): reached_by(term, networks)
        for objective in model.objectives()
        for name, term in objective.loss(batch, generator()).items()
        if name != "loss"
    }
