"""Detects compilers, tracers, transforms, modes and tensor subclasses of torch.

All of these follow tensors through torch's operators. Compiled loops and packed tensors read and
write memory directly, which they would not see; so such code must not run while one is active.
"""

import torch
from torch import Tensor, nn

from spikeloom.base.torch_private import (
    TorchDispatchMode,
    dual,
    in_batches,
    intercepted,
    traced,
    transformed,
)

_PLAIN = {Tensor, nn.Parameter, nn.Buffer}


class Spectator(TorchDispatchMode):
    """A mode that only observes matrix products; compiled loops may run under it."""


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether these are plain tensors that nothing follows, so that their memory may be accessed.

    Args:
        tensors: all tensors that are going to be read; None is skipped.
    """
    if torch.compiler.is_compiling() or transformed() or dual() or traced():
        return False
    if intercepted(Spectator):
        return False
    for x in tensors:  # noqa: SIM110 - called at every step: a generator takes three times as long
        if x is not None and (type(x) not in _PLAIN or in_batches(x)):
            return False
    return True
