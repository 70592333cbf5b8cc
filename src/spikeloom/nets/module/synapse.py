"""Synapses: the linear map of a layer, and its weight gradient with any presynaptic signal."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.base.errors import ShapeError
from spikeloom.kernels.layout import interleaved
from spikeloom.nets.module.credit import CreditFunction, Taken, WeightSum
from spikeloom.nets.module.weight import Masked, Restricted, Shrunk, Standardised
from spikeloom.nets.spec.layer import LayerSpec, MaskSpec
from spikeloom.neurons.base import LOW_PRECISION

Shape = tuple[int, ...]


def multiply(x: Tensor, weight: Tensor) -> bool:
    """Whether a synapse accepts an input and a weight of these types.

    The types must be equal, with two exceptions: autocast casts everything but float64, and an
    input is cast to the type of a low-precision weight.
    """
    if x.dtype == weight.dtype or weight.dtype in LOW_PRECISION:
        return True
    return torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, weight.dtype)


class Synapse(nn.Module):
    """The linear map of one layer; pools and upsampling are maps without weights.

    Args:
        spec: the layer.
        in_shape: one sample's shape at its input, (C, H, W) or (D,).
        where: the layer's name, for errors.
        mask: fixed sparse connections.
        restrict: bound on the norm of the weight; None for no bound.
        restrict_norm: which norm is bounded.
        zero: whether the weight starts at 0.

    Raises:
        ShapeError: the layer cannot take that input, e.g. a pool below 1x1.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        spec: LayerSpec,
        in_shape: Shape,
        where: str,
        *,
        mask: MaskSpec | None = None,
        restrict: float | None = None,
        restrict_norm: Literal["spectral", "frobenius"] = "spectral",
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.zero = zero
        self.in_shape = (_count(in_shape),) if spec.kind == "linear" else in_shape
        self.out_shape = _out_shape(spec, self.in_shape, where)
        self.weighted = spec.weighted
        self.window = (spec.kernel_size, spec.step_size, spec.pad_size)
        self.shaping: nn.Module = nn.Identity()  # maps the trained weight to the effective one
        self._make_parameters()
        if self.weighted:
            if spec.norm == "weight":
                self.shaping = Standardised(self.weight, self.out_axis)
            if mask is not None:
                self.shaping = Masked(self.weight, mask)
            self.restrict, self.restrict_norm = restrict, restrict_norm

    def _make_parameters(self) -> None:
        spec, self.bias = self.spec, None
        if self.weighted:
            self.weight = nn.Parameter(torch.zeros(self.weight_shape))
            self.bias = nn.Parameter(torch.zeros(spec.out)) if spec.bias else None

    def bound(self) -> None:
        """Set up the bound on the weight's norm; called once, after the weights are initialised."""
        if self.weighted and self.restrict is not None:
            if self.restrict_norm == "spectral":
                bound: nn.Module = Restricted(self.effective_weight(), self.restrict)
            else:
                bound = Shrunk(self.restrict)
            self.shaping = nn.Sequential(self.shaping, bound)

    @property
    def weight_shape(self) -> Shape:
        """Shape that the weight must have."""
        return _weight_shape(self.spec, self.in_shape)

    @property
    def out_axis(self) -> int:
        """Axis of the weight that holds the output channels."""
        return 1 if self.spec.kind == "conv_transpose" else 0

    @property
    def fan_in(self) -> int:
        """Number of inputs of one output neuron (for convolutions: inside, not at a border)."""
        return self.weight.numel() // self.weight.shape[self.out_axis]

    def effective_weight(self) -> Tensor:
        """Return the weight that the map uses: standardised, masked or bounded."""
        return self.shaping(self.weight)

    def apply_map(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        r"""Apply the map with a given weight and bias.

        Shape:
            x: [N, \*in_shape]; a linear layer flattens it. result: [N, \*out_shape].
        """
        spec = self.spec
        kernel, stride, padding = self.window
        if weight is not None and weight.dtype in LOW_PRECISION:
            x = x.to(weight.dtype)  # states stay float32, so spikes arrive in float32
        match spec.kind:
            case "linear":
                assert weight is not None
                return F.linear(x.flatten(1), weight, bias)
            case "conv":
                assert weight is not None
                return F.conv2d(x, weight, bias, stride, padding)
            case "conv_transpose":
                assert weight is not None
                return F.conv_transpose2d(x, weight, bias, stride, padding, spec.output_padding)
            case "avg_pool":
                return F.avg_pool2d(x, kernel, stride, padding)
            case "max_pool":
                return F.max_pool2d(x, kernel, stride, padding)
            case "global_pool":
                return x.mean((-2, -1), keepdim=True)
            case "upsample":
                return x.repeat_interleave(kernel, -1).repeat_interleave(kernel, -2)
            case "identity":
                return x

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map."""
        if not self.weighted:
            return self.apply_map(x, None, None)
        return self.apply_map(x, self.effective_weight(), self.bias)

    def credited(self, x: Tensor, presynaptic: Tensor, into: WeightSum | None = None) -> Tensor:
        r"""Apply the map to `x`; the weight's gradient uses `presynaptic` in place of `x`.

        .. math::
            y = W x + b, \quad
            \frac{\partial L}{\partial W} := \delta\, p^T, \quad
            \frac{\partial L}{\partial x} = W^T \delta, \quad
            \frac{\partial L}{\partial b} = \textstyle\sum \delta

        The forward pass costs no second product, since the map is linear in the weight.

        Args:
            x: input.
            presynaptic: p in the weight's gradient.
            into: gives the effective weight and collects its gradient; None leaves both to
                autograd.

        Shape:
            x, presynaptic: [N, \\*in_shape]; result: [N, \\*out_shape].
        """
        if not self.weighted:
            return self(x)
        weight = self.effective_weight() if into is None else into.weight
        handle = None if into is None else into.handle
        args = (Taken(self, into), x, weight, self.bias, presynaptic.detach(), handle)
        out: Tensor = CreditFunction.apply(*args)  # pyright: ignore[reportAssignmentType]
        return out

    def parameter_gradients(
        self,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        wanted: tuple[bool, bool],
        into: WeightSum | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        r"""Return the gradients of the effective weight and the bias; None if not wanted.

        Args:
            grad: gradient of the output.
            x: input.
            weight: effective weight.
            wanted: whether the gradients of weight and bias are wanted.
            into: sum that the weight's gradient is added to; None is returned for it then.

        Shape:
            grad: [N, \*out_shape]; x: [N, \*in_shape].
        """
        for_weight, for_bias = wanted
        found, of_bias = None, None
        if self.spec.kind != "linear" and for_weight:
            _, found, of_bias = self._convolved_back(grad, x, weight, [False, *wanted])
            if into is not None:
                into.add(found)
                found = None
        elif for_weight and into is not None:
            into.add_product(grad, x.flatten(1))
        elif for_weight:
            found = grad.t() @ x.flatten(1)
        if not for_bias:
            return found, None
        if of_bias is None:
            of_bias = grad.sum([axis for axis in range(grad.dim()) if axis != 1])
        return found, of_bias

    def input_gradient(self, grad: Tensor, weight: Tensor, shape: Shape) -> Tensor:
        r"""Return the gradient of the input; the input's values are not needed for it.

        Args:
            grad: gradient of the output.
            weight: effective weight.
            shape: shape of the input, [N, \*in_shape].

        Shape:
            grad: [N, \*out_shape]; result: `shape`.
        """
        if self.spec.kind == "linear":
            return (grad @ weight).view(shape)
        hollow = _hollow(grad, shape)
        return self._convolved_back(grad, hollow, weight, [True, False, False])[0]

    def _convolved_back(
        self, grad: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        spec = self.spec
        _, stride, padding = self.window
        return torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            [spec.out],
            [stride] * 2,
            [padding] * 2,
            [1, 1],
            spec.kind == "conv_transpose",
            [spec.output_padding] * 2,
            1,
            wanted,
        )

    def extra_repr(self) -> str:
        """Show kind and shapes."""
        return f"{self.spec.kind}, {self.in_shape} -> {self.out_shape}"


def _hollow(like: Tensor, shape: Shape) -> Tensor:
    """Return a tensor with arbitrary values, in the memory layout of `like`.

    ``convolution_backward`` needs an input tensor for its shape and layout only. The tensor shares
    the memory of `like` if that is large enough, which saves an allocation. It must be dense: torch
    copies tensors with gaps or overlaps.
    """
    _, channels, height, width = shape
    strides = (channels * height * width, height * width, width, 1)
    if interleaved(like):
        strides = (strides[0], 1, width * channels, channels)
    whole = like.is_contiguous() or interleaved(like)
    if whole and like.numel() >= strides[0] * shape[0]:
        return like.as_strided(shape, strides)
    return like.new_empty_strided(shape, strides)


def _count(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _weight_shape(spec: LayerSpec, in_shape: Shape) -> Shape:
    window = (spec.kernel_size, spec.kernel_size)
    match spec.kind:
        case "linear":
            return (spec.out, in_shape[0])
        case "conv":
            return (spec.out, in_shape[0], *window)
        case _:
            return (in_shape[0], spec.out, *window)


def _out_shape(spec: LayerSpec, in_shape: Shape, where: str) -> Shape:
    if spec.kind == "linear":
        return (spec.out,)
    if spec.kind == "identity":
        return in_shape
    if len(in_shape) != 3:
        raise ShapeError(
            f"net layer {where} ({spec.kind}): expected maps (C, H, W), got {in_shape}; "
            "put it before the first fully connected layer."
        )
    channels, *sides = in_shape
    kernel, stride, padding = spec.kernel_size, spec.step_size, spec.pad_size
    match spec.kind:
        case "global_pool":
            return (channels, 1, 1)
        case "upsample":
            sides = [side * kernel for side in sides]
        case "conv_transpose":
            sides = [
                (side - 1) * stride - 2 * padding + kernel + spec.output_padding for side in sides
            ]
        case _:
            sides = [(side + 2 * padding - kernel) // stride + 1 for side in sides]
    if min(sides) < 1:
        raise ShapeError(
            f"net layer {where} ({spec.kind}, window {kernel}): expected maps of at least "
            f"{max(1, kernel - 2 * padding)}x{max(1, kernel - 2 * padding)}, got "
            f"{in_shape[1]}x{in_shape[2]}; drop a pool or use larger images."
        )
    return (spec.out if spec.weighted else channels, *sides)
