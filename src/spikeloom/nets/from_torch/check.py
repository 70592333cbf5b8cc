"""Checks a translation: net and module must give the same values."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spikeloom.base.errors import SpikeloomError
from spikeloom.nets.from_torch.layers import AS_IT_IS, place, refusal
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.neurons.module import Neuron

STEPS, BATCH = 2, 3
ROUNDING = 0.4
"""Net and module may differ by eps ** ROUNDING, relative, since they sum in different orders."""


@torch.no_grad()
def check_values(net: SpikingNet, module: nn.Module, over_time: bool) -> None:
    r"""Compare a net with the module it was made from, on one random input.

    A rounding error can flip a spike, and a random input may cause no spikes. So in both, all
    neurons with a state are replaced by the function :math:`\sinh^{-1}(c)` of their current for
    this check. Steps then do not depend on each other, and the module runs as the user wrote it.
    Both are in evaluation mode. Parameters with one axis (biases, scales of norms) get random
    values, because a scale that starts at 0 would hide the layers before it. Weights, running
    statistics, modes and random generators are left unchanged.

    Args:
        net: made from the module.
        module: the user's module.
        over_time: whether the module takes trains [T, B, ...], or single steps [B, ...].

    Raises:
        UnsupportedNet: the values differ, or the module cannot be run.
    """
    tensors = [one for one in (*module.parameters(), *module.buffers()) if one.is_floating_point()]
    if any(one.is_meta for one in tensors):
        return  # no values to compare
    like = tensors[0] if tensors else torch.zeros(())
    draw = torch.Generator().manual_seed(0)
    xs = torch.randn((STEPS, BATCH, *net.in_shape), generator=draw).to(like)
    flat = {
        f"module.{name}": torch.randn(one.shape, generator=draw).to(one)
        for name, one in module.named_parameters()
        if one.dim() == 1
    }
    parts = (*module.modules(), *net.modules())
    modes = [(part, part.training) for part in parts]
    neurons = [one for one in module.modules() if isinstance(one, Neuron) and one.unit.stateful]
    try:
        for part in parts:
            part.training = False
        for neuron in neurons:
            vars(neuron)["forward"] = torch.asinh
        with torch.random.fork_rng([like.device] if like.is_cuda else []):
            expected, values = functional_call(_Both(module, net, over_time), flat, (xs,))
    except SpikeloomError:
        raise
    except Exception as error:  # the user's code may raise anything
        came = f"'{str(error).splitlines()[0] if str(error) else type(error).__name__}'"
        shown = ", ".join((*(["T"] * over_time), "B", *map(str, net.in_shape)))
        expected = f"a forward that takes [{shown}]"
        raise refusal(place("", module), expected, came, AS_IT_IS) from None
    finally:
        for neuron in neurons:
            del vars(neuron)["forward"]
        for part, training in modes:
            part.training = training
    off = _difference(expected, values)
    if off > torch.finfo(like.dtype).eps ** ROUNDING:
        came = f"a relative difference of {off:.2g}" if off < torch.inf else "another shape"
        raise refusal(place("", module), "a forward that gives the net's values", came, AS_IT_IS)


class _Both(nn.Module):
    """A module and its net, run on the same input with the same parameters."""

    net: SpikingNet

    def __init__(self, module: nn.Module, net: SpikingNet, over_time: bool) -> None:
        super().__init__()
        self.module, self.over_time = module, over_time
        # not as a child: net and module share parameters, which must be listed once
        object.__setattr__(self, "net", net)

    def forward(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the results of the module and of the net.

        Shape:
            xs: [T, B, ...]; results: [T B, D].
        """
        ops = Ops(sequence=lambda visit, currents: currents.asinh())
        values = self.net.run_by_layer(xs, ops).flatten(0, 1)
        if self.net.last_linear is not None:
            values = self.net.last_linear(values)
        given = xs if self.over_time else xs.flatten(0, 1)
        expected = self.module(given.clone())
        return expected.reshape(values.shape[0], -1), values


def _difference(expected: Tensor, values: Tensor) -> float:
    """Return the norm of the difference relative to `expected`; infinity if shapes differ."""
    expected, values = expected.double(), values.double()
    if expected.shape != values.shape:
        return torch.inf
    if not bool(expected.isfinite().all()):
        return 0.0  # the user's weights are NaN or infinite: nothing to compare
    scale = float(expected.norm())
    return float((values - expected).norm()) / scale if scale > 0 else float(values.norm())
