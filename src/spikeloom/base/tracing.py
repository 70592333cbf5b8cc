"""What else of torch sees a computation: compilers, tracers, transforms, modes, subclasses.

Compiled loops and packed memory read and write plain memory. All of these follow tensors through
torch's operators, so they would miss what happens there, and code of that kind has to give way.
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
    """A mode that looks at matrix products alone, so that compiled loops may run under it."""


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether memory is all there is to these tensors, and nothing follows what is done to them.

    Args:
        tensors: what is going to be read; None is left out.
    """
    if torch.compiler.is_compiling() or transformed() or dual() or traced():
        return False
    if intercepted(Spectator):
        return False
    for x in tensors:  # noqa: SIM110 - called at every step: a generator takes three times as long
        if x is not None and (type(x) not in _PLAIN or in_batches(x)):
            return False
    return True
