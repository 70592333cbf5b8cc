"""A site: one layer in one pass of its block. Rules act on sites, and meters observe them."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ShapeError
from spikeloom.base.torch_private import hooked
from spikeloom.nets.module.norms import over_copies, step_after_step
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.neurons.base import Unit
from spikeloom.neurons.declared import FIRING_THRESHOLD
from spikeloom.neurons.module import Neuron

Role = Literal["body", "shortcut", "feedback", "readout"]


@dataclass(eq=False)
class Site:
    """One layer in one pass. The passes of a block share the synapse, not norms and neurons.

    Args:
        name: "block.layer.pass"; in shortcuts "block.s<layer>.pass", in feedback edges
            "feedback<edge>.layer.pass", in the head "readout".
        spec: the layer.
        synapse: linear map, shared between passes.
        norm: batch norm of this pass, if any.
        neuron: neurons of this pass; None for a linear layer.
        role: part of the net that the site belongs to.
    """

    name: str
    spec: LayerSpec
    synapse: Synapse
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    neuron: Neuron | None = None
    role: Role = "body"

    source: "Site | None" = field(default=None, repr=False)
    """Site whose output is the input here; None for the net's input and for a joined signal."""
    upstream: "Site | None" = field(default=None, repr=False)
    """Last site with a unit before this one, past pools and joins. Its decay is that of traces."""
    external: bool = False
    """Whether the input is the net's own input, pooled at most."""
    static_input: bool = False
    """Whether the current is the same at every step if the net's input is."""
    meets: bool = False
    """Whether a shortcut or feedback is added to the current."""
    pool: "Site | None" = field(default=None, repr=False)
    """An average pool without overlap that is the only reader of this site's spikes, if any."""
    looped: bool = False
    """Whether the site lies in a feedback loop; then its unit always runs step by step."""
    static: bool = False
    """Whether the output is the same at every step if the net's input is."""

    @property
    def unit(self) -> Unit | None:
        """The neuron model; None for a linear layer."""
        return self.neuron.unit if self.neuron else None

    @property
    def linear_path(self) -> bool:
        """Whether no max pool and no batch norm lies between the unit before and this site."""
        site = self.source
        while site is not None and site.unit is None:
            if site.spec.kind == "max_pool" or site.norm is not None:
                return False
            site = site.source
        return True

    @property
    def plain_pool(self) -> bool:
        """Whether this is an average pool without overlap and padding, and nothing else."""
        spec, size = self.spec, self.spec.kernel_size
        whole = spec.kind == "avg_pool" and spec.step_size == size and not spec.pad_size
        bare = self.norm is None and self.neuron is None and spec.psp is None
        bare = bare and not spec.dropout and spec.gain == 1
        return whole and bare and all(side % size == 0 for side in self.synapse.in_shape[1:])

    def amplitude(self) -> Tensor | float:
        """Size of a spike for the next layer: gain, times v_th if the spec's amplitude is "v_th".

        v_th is what the unit declares as `firing_threshold`.
        """
        if self.spec.amplitude == "v_th":
            assert self.neuron is not None
            threshold = FIRING_THRESHOLD.of(self.neuron.unit)
            assert threshold is not None  # the spec asked for it
            return self.spec.gain * threshold(self.neuron.theta())
        return self.spec.gain

    def normalise(self, current: Tensor, *, steps: int = 1) -> Tensor:
        r"""Apply this pass's norm; batch statistics are taken over the whole of `current`.

        Args:
            current: output of the synapse.
            steps: number of equal steps the current stands for. "batch_all" updates its running
                statistics once, with all steps; "batch_step" updates them once per step.

        Shape:
            current, result: [N, \*out_shape].

        Raises:
            ShapeError: in training, only one value per channel, which has no variance.
        """
        norm = self.norm
        if norm is None:
            return current
        self.check_statistics(current, steps=steps)
        if steps == 1 or not norm.training:
            return norm(current)
        over = over_copies if self.spec.norm == "batch_all" else step_after_step
        return over(norm, current, steps)

    def check_statistics(self, current: Tensor, *, steps: int = 1) -> None:
        r"""Refuse currents [N, \*out_shape] with one value per channel; see `normalise`."""
        norm = self.norm
        if norm is None or not norm.training or getattr(norm, "joint", False):
            return  # statistics shared between processes: each of them has at least one sample
        if self.values_per_channel(len(current), steps) < 2:
            raise ShapeError(
                f"net layer {self.name}: expected more than one value per channel for its batch "
                "norm in training, got a batch of one; use a larger batch or norm = 'weight'."
            )

    def values_per_channel(self, batch: int, steps: int) -> int:
        """Return over how many values the norm's statistics are taken, with T = `steps`."""
        together = steps if self.spec.norm == "batch_all" else 1
        return batch * together * math.prod(self.out_shape[1:])

    @property
    def folds(self) -> bool:
        """Whether the norm can be folded into the weights: a convolution, norm in evaluation."""
        norm = self.norm
        if norm is None or norm.training or norm.running_mean is None or hooked(norm):
            return False
        return self.spec.kind.startswith("conv")

    def folded(self, x: Tensor) -> Tensor:
        r"""Apply the synapse with its norm folded into the weights; equal up to rounding.

        .. math::
            \hat W = a W, \quad \hat b = a (b - \mu) + \beta, \quad
            a = \gamma / \sqrt{\sigma^2 + \epsilon}

        Shape:
            x: [N, \*in_shape]; result: [N, \*out_shape].
        """
        norm, synapse = self.norm, self.synapse
        assert norm is not None and norm.running_mean is not None and norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.affine:
            scale = norm.weight * scale
        shift = -norm.running_mean if synapse.bias is None else synapse.bias - norm.running_mean
        weight = synapse.effective_weight()
        sides = [1] * weight.dim()
        sides[synapse.out_axis] = -1
        bias = scale * shift + norm.bias if norm.affine else scale * shift
        return synapse.apply_map(x, weight * scale.view(sides), bias)

    @property
    def out_shape(self) -> Shape:
        """One sample's shape at the output."""
        return self.synapse.out_shape
