"""Gated PixelCNNs with something left out or put wrong, each of which a check must find."""

from __future__ import annotations

from torch import nn

from models._gated_layers import Above, Beside
from models._gated_steps import Shrink
from models._masked import order_mask, spread_orders
from models._raster_model import RasterModel


def hearing_itself(model: RasterModel) -> RasterModel:
    """The model whose horizontal stack begins at the place itself: not shifted to the right."""
    first = model.net.first_beside
    first.conv.mask[:, :, 0, -1] = order_mask(first.inputs, first.outputs, strict=False)
    return model


def hearing_its_row(model: RasterModel) -> RasterModel:
    """The model whose vertical stack begins at the row of the place: not shifted down."""
    first = model.net.first_above
    model.net.first_above = Above(first.conv.in_channels, first.conv.out_channels, 3, first.of_class.in_features)
    return model


def hearing_beyond_the_first_of_four(model: RasterModel) -> RasterModel:
    """The model whose coarse places hear the place to the right of the first one that they stand for."""
    shrink = next(step for step in model.net.steps if isinstance(step, Shrink))
    shrink.right.reach -= 1
    return model


def with_gates_of_other_channels(model: RasterModel) -> RasterModel:
    """The model in whose gates the halves are spread over the channels as if they were one whole."""
    for block in model.net.steps:
        outputs = spread_orders(len(block.right.outputs), 3)
        block.right.conv.mask[:, :, 0, -1] = order_mask(block.right.inputs, outputs, strict=False)
    return model


def conditioned(model: RasterModel) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, Above | Beside)]


def deaf(model: RasterModel) -> RasterModel:
    """The model without what moves the layers by the class, in training as well."""
    for layer in conditioned(model):
        layer.of_class.register_forward_hook(lambda _layer, _given, moved: 0 * moved)
    return model
