"""Pairs of operand and weight in a linear map: in closed form, and per input position."""

import torch
from torch import Tensor

from spikeloom.nets.module.synapse import Synapse


def count(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    total = 1
    for size in shape:
        total *= size
    return total


def formula(synapse: Synapse) -> int:
    r"""Return eq. 8's multiply-accumulates of one evaluation for one sample.

    .. math:: O_h O_w\, N k^2 M

    Padding counts as operands. A transposed convolution uses its input's size, since each of its
    inputs meets every weight; a linear layer has O = k = 1; maps without weights give 0.

    Source:
        Panda et al. 2020, eq. 8.
    """
    spec = synapse.spec
    if not spec.weighted:
        return 0
    if spec.kind == "linear":
        return synapse.in_shape[0] * spec.out
    side = synapse.out_shape if spec.kind == "conv" else synapse.in_shape
    return count(side[1:]) * synapse.in_shape[0] * spec.kernel_size**2 * spec.out


def pairs(synapse: Synapse) -> int:
    r"""Return the pairs of one evaluation for one sample, operands in the padding left out.

    .. math:: N M\, V_h V_w, \qquad V = |\{(o, k) : 0 \le s o + k - p < n\}|

    (o and n change roles in a transposed convolution.)
    """
    spec = synapse.spec
    if not spec.weighted or spec.kind == "linear":
        return formula(synapse)
    small, large = synapse.out_shape, synapse.in_shape
    if spec.kind == "conv_transpose":
        small, large = large, small
    total = synapse.in_shape[0] * spec.out
    for axis in (-2, -1):
        total *= sum(
            0 <= spec.step_size * o + k - spec.pad_size < large[axis]
            for o in range(small[axis])
            for k in range(spec.kernel_size)
        )
    return total


def fan_out(synapse: Synapse) -> Tensor:
    r"""Return how many non-zero weights each input position meets.

    .. math:: F = A(\mathbb 1_{\hat W \ne 0})^T\, \mathbb 1

    with A(W) the layer's map for the weight W: the transposed map of ones, so that borders count
    right.

    Shape:
        result: [prod(in_shape)], float64.

    Source:
        sinabs, `hooks.py` (fan-out by a transposed convolution of ones).
    """
    with torch.inference_mode(False), torch.no_grad():
        weight = synapse.effective_weight()
        if synapse.spec.kind == "linear":
            return weight.count_nonzero(0).double()
        binary = (weight != 0).double()
        with torch.enable_grad():
            x = binary.new_zeros((1, *synapse.in_shape), requires_grad=True)
            y = synapse.apply_map(x, binary, None)
        return torch.autograd.grad(y, x, torch.ones_like(y))[0].flatten()
