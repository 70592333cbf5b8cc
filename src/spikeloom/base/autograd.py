"""Backward passes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def backpropagate(values: Sequence[Tensor], grads: Sequence[Tensor] | None = None) -> None:
    """Send gradients back from values, every product in the type of its forward pass.

    Autocast is for forward passes; left on, it would also hold its copies of the weights until the
    end. Here they are freed as the pass goes.

    Args:
        values: where to start, on one device.
        grads: of each; 1 by default, for scalars.
    """
    torch.clear_autocast_cache()
    with torch.autocast(values[0].device.type, enabled=False):
        torch.autograd.backward(values, grads)
