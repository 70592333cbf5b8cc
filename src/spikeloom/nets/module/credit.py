"""Weight gradients that a rule collects step by step, summed in place."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from spikeloom.base.autograd import add_gradient, backpropagate, refuse_second
from spikeloom.base.torch_private import release_saved, waits
from spikeloom.neurons.base import LOW_PRECISION

if TYPE_CHECKING:
    from spikeloom.nets.module.synapse import Synapse


PART = 1 << 16
"""Most elements of a product made at once, if it is added to a sum of another type.

The whole product would need a temporary as large as the weight.
"""


class WeightSum:
    r"""The effective weight of a synapse, computed once, and the sum of its gradients.

    .. math:: \sum_t \delta[t]\, p[t]^T

    Each step adds its product in place, so a linear layer never needs a second buffer of the
    weight's size. Standardisation and masks of the weight run once instead of at every step.

    Args:
        synapse: the synapse.
    """

    def __init__(self, synapse: "Synapse") -> None:
        with torch.enable_grad():
            self.effective = synapse.effective_weight()
        self.weight = self.effective.detach()
        self.cast = self.weight
        self.total: Tensor | None = None
        # Autograd calls backward only if an input requires a gradient. The weight itself is passed
        # detached, so this scalar stands in for it.
        self.handle = torch.zeros((), requires_grad=self.effective.requires_grad)

    @property
    def wanted(self) -> bool:
        """Whether the weight is trained."""
        return self.effective.requires_grad

    def use(self, dtype: torch.dtype) -> Tensor:
        """Return the weight in the type of a product; the cast weight is kept for later steps."""
        if self.cast.dtype != dtype:
            self.cast = self.weight.to(dtype)
        return self.cast

    def add(self, grad: Tensor) -> None:
        """Add a gradient."""
        if self.total is None:
            # the first gradient may become the sum: our own product made it, nobody else reads it
            self.total = grad.to(self.weight.dtype)
        else:
            self.total += grad

    def add_product(self, delta: Tensor, presynaptic: Tensor) -> None:
        """Add delta^T p, the weight gradient of a linear layer.

        Shape:
            delta: [N, out]; presynaptic: [N, in].
        """
        if self.total is None:
            self.total = torch.empty_like(self.weight, memory_format=torch.contiguous_format)
            beta = 0
        else:
            beta = 1
        if delta.dtype == self.total.dtype:
            torch.addmm(self.total, delta.t(), presynaptic, beta=beta, out=self.total)
            return
        rows = max(1, PART // presynaptic.shape[1])
        for part, some in zip(self.total.split(rows), delta.split(rows, 1), strict=True):
            product = some.t() @ presynaptic
            part.add_(product) if beta else part.copy_(product)


class Credit:
    """The gradient sums of one batch, one per weight; call `flush` before the weights change."""

    def __init__(self) -> None:
        self._sums: dict[Synapse, WeightSum] = {}

    def apply(self, synapse: "Synapse", x: Tensor, presynaptic: Tensor) -> Tensor:
        r"""Apply a map with weights; its weight gradient is the product of delta and presynaptic.

        Shape:
            x, presynaptic: [N, \*in_shape]; result: [N, \*out_shape].
        """
        if synapse not in self._sums:
            self._sums[synapse] = WeightSum(synapse)
        return synapse.credited(x, presynaptic, self._sums[synapse])

    def flush(self) -> None:
        """Backpropagate every sum from its effective weight to the parameters, and drop the sums.

        Gradients get the memory layout of their parameters (`base.autograd.add_gradient`).
        """
        shaped: list[tuple[Tensor, Tensor]] = []
        for one in self._sums.values():
            weight, total = one.effective, one.total
            if total is None:
                continue
            if weight.is_leaf and not waits(weight):
                add_gradient(weight, total)  # the sum may be channels last, as convolutions give it
            else:
                shaped.append((weight, total))
        # cleared first: if the backward pass fails, the next batch must not get these sums
        self._sums.clear()
        if shaped:
            backpropagate([one for one, _ in shaped], [grad for _, grad in shaped])


class Taken(NamedTuple):
    """Arguments of `CreditFunction` that are no tensors.

    Args:
        synapse: the synapse.
        into: sum that the weight's gradient is added to; None returns it to autograd.
    """

    synapse: "Synapse"
    into: WeightSum | None


class CreditFunction(torch.autograd.Function):
    """A synapse whose weight gradient uses a given presynaptic signal in place of its input.

    If it adds weight gradients to a `WeightSum`, second derivatives raise an error.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any,
        taken: Taken,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        presynaptic: Tensor,
        handle: Tensor | None,
    ) -> Tensor:
        synapse, into = taken
        used = weight if into is None else into.use(_product_type(x, weight))
        value = synapse.apply_map(x, used, bias)
        ctx.save_for_backward(presynaptic, used)
        ctx.synapse, ctx.into, ctx.x_shape = synapse, into, x.shape
        ctx.types = x.dtype, weight.dtype, None if bias is None else bias.dtype
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        if ctx.into is not None:
            refuse_second("nets.credit", "a sum of weight gradients has no graph; use bptt")
        (grad,) = grads
        presynaptic, weight = ctx.saved_tensors
        release_saved(ctx)
        synapse: Synapse = ctx.synapse
        into: WeightSum | None = ctx.into
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[1:4]
        needs_weight = needs_weight if into is None else into.wanted
        dtype = grad.dtype
        if dtype in LOW_PRECISION and into is None:
            dtype = torch.promote_types(dtype, presynaptic.dtype)
        grad, presynaptic, weight = (one.to(dtype) for one in (grad, presynaptic, weight))
        wanted = needs_weight, needs_bias
        trained = synapse.parameter_gradients(grad, presynaptic, weight, wanted, into)
        del presynaptic
        of_x = synapse.input_gradient(grad, weight, ctx.x_shape) if needs_x else None
        parts = (of_x, *trained)
        found = [
            None if part is None else part.to(kind)
            for part, kind in zip(parts, ctx.types, strict=True)
        ]
        return None, *found, None, None


def _product_type(x: Tensor, weight: Tensor) -> torch.dtype:
    """Return the type in which a product is computed: autocast's, unless the weight is float64."""
    kind = x.device.type
    casts = torch.is_autocast_enabled(kind) and weight.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if casts else weight.dtype
