"""DSR: backpropagation through firing rates, with a clamp in the place of each population."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.autograd import backpropagate, refuse_second
from spikeloom.base.citation import Citation
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.nets.execution import Execution
from spikeloom.nets.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.nets.readout import Objective
from spikeloom.nets.site import Site
from spikeloom.nets.walk import is_constant
from spikeloom.neurons.declared import FIRING_THRESHOLD
from spikeloom.neurons.integrate_fire import NO_BOUND, ONE_SPIKE
from spikeloom.neurons.reduction import sum_over_time
from spikeloom.neurons.trains import run_train
from spikeloom.rules.base import (
    RULES,
    Commit,
    LearningRule,
    RuleFacts,
    RuleReport,
    Trial,
    Trials,
)
from spikeloom.rules.by_rate import cautions_of
from spikeloom.rules.clamps import Clamped, clamped, refuse_units
from spikeloom.rules.leaks import discounted, leak_cautions, reduction_cautions


class Clamp(NamedTuple):
    r"""How a population's rate follows from its mean current.

    .. math:: a = A\,clamp(q z / v_{th}, 0, 1), \quad
              z = \sum_t w[t] c[t], \quad w[t] \propto \lambda^{T-t}

    Args:
        weights: w, which sum to 1.
        slope: q, the unit's `RateClamp.scale` or, for one that scales its input by its leak, the
            limit of it.
        closed: whether the ends of the linear part pass a gradient.
        scaled: whether A grows with the threshold.
        share: factor of the threshold's gradient.
    """

    weights: tuple[float, ...]
    slope: float
    closed: bool
    scaled: bool
    share: float


@RULES.register("dsr")
@dataclass(frozen=True)
class Dsr(LearningRule):
    r"""Differentiation on spike representation.

    The net runs forward in spikes. Backward, a population is the clamp that its rate follows in
    the limit of many steps (`Clamp`), so that every step's current gets the same gradient:

    .. math::
        \frac{\partial L}{\partial c[t]} = \frac{q}{v_{th}}\,\frac{G}{T}\,
        1(0 \le q z \le v_{th}), \qquad G = T \sum_t w[t]\,\frac{\partial L}{\partial s[t]}

    (for LIF without the ends), and a threshold v_th that scales its outputs gets
    :math:`\sum G\,1(q z > v_{th}) / v_{th}`. No step's spike needs a slope, and no state is kept.
    What lies between populations (batch norm too) is ordinary autograd.

    Args:
        slope: q of a leaky unit that scales its input by :math:`1 - \lambda`: "limit" is
            :math:`-\ln\lambda = \Delta t / \tau`, as in the authors' code; "exact" is
            :math:`1 - \lambda`, with which the clamp has no bias.
        threshold: gradient of a leaky unit's threshold: "reference" as in the authors' code, which
            multiplies by :math:`\Delta t = 1 / gain` where the clamp's derivative divides by it;
            "formula" is that derivative.

    Raises:
        ConfigError: another choice.

    Source:
        Meng et al. 2022, and the authors' code.
    """

    slope: Literal["limit", "exact"] = "limit"
    threshold: Literal["reference", "formula"] = "reference"

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="differentiation on spike representation",
        source=Citation(
            "Meng, Xiao, Yan, Wang, Lin & Luo",
            "Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on "
            "Spike Representation",
            "CVPR",
            2022,
            "arXiv:2205.00459",
        ),
        order="layer",
        memory="linear",
    )
    trials: ClassVar[Trials] = Trials(
        variants=({"slope": "exact", "threshold": "formula"},),
        trained=(
            Trial('c4{norm = "batch_all"} P c4 f2'),
            Trial('c4{unit = "if", amplitude = "v_th"} f2'),
        ),
        refused=(
            Trial(
                'c4{unit = {name = "lif", reset = "hard"}} f2',
                "expected a soft reset right after the spike in layer 0.0.0",
            ),
            Trial(
                '{feedback = [{source = 0, target = 0, layers = "c4"}]} c4 f2',
                "expected a net without feedback",
            ),
            Trial(
                'c4{unit = {name = "if", max_spikes = 4}} f2',
                f"{ONE_SPIKE} in layer 0.0.0",
            ),
            Trial('c4{unit = {name = "if", v_min = -1.0}} f2', f"{NO_BOUND} in layer 0.0.0"),
            Trial(refusal="slope: expected limit or exact, got 'mean'", options={"slope": "mean"}),
        ),
    )

    @property
    def loss_at(self) -> Literal["end", "step"]:
        """On the rates."""
        return "end"

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse feedback, and units whose rate is no clamp of their mean current."""
        if net.spec.feedback:
            raise UnsupportedNet(
                f"rules.dsr: expected a net without feedback, got {len(net.spec.feedback)} "
                "feedback edge(s); drop them or train with ide."
            )
        refuse_units(net, "dsr")

    def cautions(self, net: SpikingNet, steps: int) -> list[str]:
        """Warn of coarse rates and of leaky units, whose clamp is never right."""
        return [*cautions_of(net, steps, "dsr"), *leak_cautions(net, "dsr", self._slope)]

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Run in spikes, go back through rates; one commit."""

        def sequence(site: Site, currents: Tensor, pool: int) -> Tensor:
            assert site.neuron is not None
            threshold = FIRING_THRESHOLD.of(site.neuron.unit)
            assert threshold is not None  # `prepare` has asked
            v_th = threshold(site.neuron.theta())
            if not isinstance(v_th, Tensor):
                v_th = torch.tensor(v_th, dtype=currents.dtype, device=currents.device)
            clamp = self._clamp(site, clamped(site.neuron.unit), len(currents))
            out: Tensor = _Represented.apply(  # pyright: ignore[reportAssignmentType]
                site, net.execution, clamp, pool, currents, v_th
            )
            return out

        ops = Ops(sequence=sequence, trains_amplitude=False)
        logits, value = objective.over(net.run_by_layer(batch.xs, ops, rng=batch.rng))
        backpropagate([value])
        commit()
        shares = objective.weights(batch.steps)
        cautions = reduction_cautions(net, shares, "dsr", self._share)
        return RuleReport(value.detach(), logits.detach(), cautions=tuple(cautions))

    def _share(self, rate: Sequence[float]) -> str:
        """Say how large gradients are beside those with the rate as the head's mean."""
        factor = len(rate) * sum(weight**2 for weight in rate)
        return f"gradients are 1/{factor:.3g} of those with the unit's own mean"

    def _slope(self, clamp: Clamped) -> float:
        """Return q of a unit's clamp, or its limit where it is 1 - decay."""
        scaled = clamp.scale != 1 and math.isclose(clamp.scale, 1 - clamp.decay)
        return -math.log(clamp.decay) if scaled and self.slope == "limit" else clamp.scale

    def _clamp(self, site: Site, own: Clamped, steps: int) -> Clamp:
        leaks = own.decay != 1
        share = 1.0
        if leaks and self.threshold == "reference":
            share = 1 / site.spec.gain**2
        return Clamp(
            discounted(own.decay, steps),
            self._slope(own),
            closed=not leaks,
            scaled=site.spec.amplitude == "v_th",
            share=share,
        )


class _Represented(torch.autograd.Function):
    """A population: forward its spikes, backward its clamp. It stores one mean current."""

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any,
        site: Site,
        execution: Execution,
        clamp: Clamp,
        pool: int,
        currents: Tensor,
        v_th: Tensor,
    ) -> Tensor:
        assert site.neuron is not None
        kernels = execution.kernels_for(currents)
        theta = site.neuron.theta()
        ctx.clamp, ctx.pool, ctx.dtype, ctx.steps = clamp, pool, currents.dtype, len(currents)
        constant = is_constant(currents)
        ctx.strides = None if constant else currents.stride()
        z = currents[0] if constant else sum_over_time(currents, clamp.weights)
        ctx.save_for_backward(z, v_th)
        unit = site.neuron.unit
        return run_train(unit, currents, theta, kernels=kernels, pool=pool, final=False)[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        refuse_second("rules.dsr", "the gradient of a clamp has no graph; use bptt")
        (grad,) = grads
        z, v_th = ctx.saved_tensors
        clamp, steps = ctx.clamp, ctx.steps
        load = clamp.slope * z
        inside = (load >= 0) & (load <= v_th) if clamp.closed else (load > 0) & (load < v_th)
        whole = steps * sum_over_time(grad, clamp.weights).to(z.dtype)
        if ctx.pool > 1:  # every neuron of a window gets its share
            whole = F.interpolate(whole / ctx.pool**2, scale_factor=ctx.pool)
        each = whole * (clamp.slope / steps) / v_th * inside
        threshold = None
        if ctx.needs_input_grad[5]:
            if clamp.scaled:
                threshold = clamp.share * whole / v_th * (load > v_th)
            else:
                threshold = -whole * load / v_th**2 * inside
            threshold = threshold.sum_to_size(v_th.shape)
        each = each.to(ctx.dtype).expand(steps, *each.shape)
        if ctx.strides is not None:  # a gradient in another layout makes batch norms slow
            own = torch.empty_strided(each.shape, ctx.strides, dtype=each.dtype, device=each.device)
            each = own.copy_(each)
        return None, None, None, None, each, threshold
