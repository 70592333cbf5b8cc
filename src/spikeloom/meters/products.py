"""Products executed in a call: dense, and those of two non-zero operands, by kind."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from spikeloom.base.checks import at_least
from spikeloom.base.torch_private import in_backward
from spikeloom.base.tracing import Spectator
from spikeloom.meters._nonzero import Pair, operator_name, pairs_of

FORWARD, BACKWARD = 0, 1

PARTS = 16
"""Slices in which an operand is examined, so that little memory is taken."""


@dataclass(frozen=True)
class TrainingOperations:
    """Dense multiply-accumulates one call executed.

    Args:
        forward: outside of autograd's backward pass.
        backward: inside of it, recomputed activations included.
    """

    forward: int
    backward: int

    def per_sample(self, samples: int) -> tuple[float, float]:
        """Return forward and backward operations per training sample.

        Raises:
            ConfigError: no samples.
        """
        at_least(1, "sample").check("meters.products", samples, "pass the batch size")
        return self.forward / samples, self.backward / samples


@dataclass(frozen=True)
class NonzeroOperations:
    """Products of one call in which no operand is 0: what hardware that skips zeros computes.

    Where all non-zero values of an operand have one magnitude, as spikes and signed spikes have,
    nothing is multiplied: an AC, else a MAC.

    Args:
        forward_ac: outside of autograd's backward pass.
        forward_mac: the same.
        backward_ac: inside of it.
        backward_mac: the same.
    """

    forward_ac: int
    forward_mac: int
    backward_ac: int
    backward_mac: int


class _Products(Spectator):
    """Sees every product of a call; the running autograd node tells the phase.

    Args:
        take: counts one product: phase, operator, its arguments, its result, dense products.
    """

    def __init__(self, take: Callable[[int, Any, tuple[Any, ...], Any, int], None]) -> None:
        super().__init__()
        self.take = take
        self._formulas = {str(operator): formula for operator, formula in flop_registry.items()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = self._formulas.get(operator_name(func))
        if formula is None:
            # a composite operator, as linear under inference_mode, hides products inside
            if hasattr(func, "decompose") and func is not torch.ops.prim.device.default:
                with self:
                    out = func.decompose(*args, **kwargs)
                if out is not NotImplemented:
                    return out
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        dense = formula(*args, **kwargs, out_val=out) // 2
        phase = BACKWARD if in_backward() else FORWARD
        self.take(phase, func, args, out, dense)
        return out


def count_operations(call: Callable[[], object]) -> TrainingOperations:
    """Count the dense multiply-accumulates of matrix products and convolutions in a call.

    Zero operands count, since the hardware multiplied them; so does padding. Elementwise work
    (units, traces, losses, the optimizer) does not. What a rule computes by hand outside
    autograd's backward pass counts as forward.

    Args:
        call: e.g. one `learn` of a rule on one batch.

    Source:
        formulas of torch.utils.flop_counter (two flops per multiply-accumulate).

    Example:
        >>> w = torch.ones(3, 4, requires_grad=True)
        >>> count_operations(lambda: (torch.ones(2, 3) @ w).sum().backward())
        TrainingOperations(forward=24, backward=24)
    """
    macs = [0, 0]

    def take(phase: int, func: Any, args: tuple[Any, ...], out: Any, dense: int) -> None:
        macs[phase] += dense

    with _Products(take):
        call()
    return TrainingOperations(*macs)


def count_nonzero_operations(call: Callable[[], object]) -> NonzeroOperations:
    r"""Count the products of a call whose operands are both non-zero, padding left out.

    .. math:: \sum_k |\{i : A_{ik} \ne 0\}|\,|\{j : B_{kj} \ne 0\}|

    for a matrix product AB, and the same pairs for convolutions and their two gradients. Products
    of other operators count dense, as MACs.

    Example:
        >>> w = torch.randn(3, 4, requires_grad=True)
        >>> x = torch.tensor([[0.0, 1.0, 1.0]])
        >>> count_nonzero_operations(lambda: x @ w)
        NonzeroOperations(forward_ac=8, forward_mac=0, backward_ac=0, backward_mac=0)
    """
    acs, macs = [0, 0], [0, 0]

    def take(phase: int, func: Any, args: tuple[Any, ...], out: Any, dense: int) -> None:
        for one in pairs_of(func, args, out) or [Pair(dense, ())]:
            kind = acs if any(map(_one_magnitude, one.operands)) else macs
            kind[phase] += one.count

    with _Products(take):
        call()
    return NonzeroOperations(acs[FORWARD], macs[FORWARD], acs[BACKWARD], macs[BACKWARD])


def _one_magnitude(operand: Tensor) -> bool:
    least, most = math.inf, 0.0
    for part in operand.detach().split(max(1, len(operand) // PARTS)):
        sizes = part.abs()
        most = max(most, float(sizes.max())) if sizes.numel() else most
        sizes.masked_fill_(sizes == 0, math.inf)
        least = min(least, float(sizes.min())) if sizes.numel() else least
        if least < most:
            return False
    return True
