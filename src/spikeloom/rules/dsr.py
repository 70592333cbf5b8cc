"""DSR: backpropagation through firing rates, with a clamp in the place of each population."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from spikeloom.base.autograd import backpropagate
from spikeloom.base.citation import Citation
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import MeanCurrent, Ops, Visit, cut
from spikeloom.nets.readout import Objective
from spikeloom.neurons.base import Theta, Unit
from spikeloom.neurons.declared import FIRING_THRESHOLD
from spikeloom.neurons.integrate_fire import NO_BOUND, ONE_SPIKE
from spikeloom.rules.base import RULES, Commit, RuleFacts, RuleReport, Trial, Trials
from spikeloom.rules.by_rate import ThroughRates, cautions_of
from spikeloom.rules.clamps import Clamped, clamped, refuse_units
from spikeloom.rules.leaks import discounted, leak_cautions, reduction_cautions


class Clamp(NamedTuple):
    r"""How a population's rate follows from its mean current.

    .. math:: a = A\,clamp(q z / v_{th}, 0, 1), \quad
              z = \sum_t w[t] c[t], \quad w[t] \propto \lambda^{T-t}

    Args:
        slope: q, the unit's `RateClamp.scale` or, for one that scales its input by its leak, the
            limit of it.
        closed: whether the ends of the linear part pass a gradient.
        scaled: whether A grows with the threshold.
        share: factor of the threshold's gradient.
    """

    slope: float
    closed: bool
    scaled: bool
    share: float


@RULES.register("dsr")
@dataclass(frozen=True)
class Dsr(ThroughRates):
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
            Trial('c4{unit = {name = "if", max_spikes = 4}} f2', f"{ONE_SPIKE} in layer 0.0.0"),
            Trial('c4{unit = {name = "if", v_min = -1.0}} f2', f"{NO_BOUND} in layer 0.0.0"),
            Trial(refusal="slope: expected limit or exact, got 'mean'", options={"slope": "mean"}),
        ),
    )

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse feedback, and units whose rate is no clamp of their mean current."""
        if net.spec.feedback:
            came = f"{len(net.spec.feedback)} feedback edge(s)"
            todo = "drop them or train with ide"
            raise UnsupportedNet.of("rules.dsr", "a net without feedback", came, todo)
        refuse_units(net, "dsr")

    def cautions(self, net: SpikingNet, steps: int) -> list[str]:
        """Warn of coarse rates, and of leaky units, for which the clamp is never exact."""
        return [*cautions_of(net, steps, "dsr"), *leak_cautions(net, "dsr", self._slope)]

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Run in spikes, go back through rates; one commit."""
        ops = Ops(sequence=MeanCurrent(self._weights, self._backward), amplitude=cut)
        logits, value = objective.over(net.run_by_layer(batch.xs, ops, rng=batch.rng))
        backpropagate([value])
        commit()
        shares = objective.weights(batch.steps)
        cautions = reduction_cautions(net, shares, "dsr", self._share)
        return RuleReport(value.detach(), logits.detach(), cautions=tuple(cautions))

    def _weights(self, visit: Visit, steps: int) -> tuple[float, ...]:
        """Return the weights of the mean current of a population."""
        assert visit.site.unit is not None
        return discounted(clamped(visit.site.unit).decay, steps)

    def _backward(
        self, visit: Visit, steps: int, z: Tensor, theta: Theta, g: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the gradient of each step's current, and that of a trained threshold.

        Args:
            visit: the population.
            steps: T.
            z: its mean current.
            theta: its trained quantities, of which its threshold may be a function.
            g: G / T.

        Shape:
            z, g, gradient: [B, ...].
        """
        unit, whole = visit.site.unit, steps * g
        assert unit is not None
        clamp = self._clamp(visit.site, clamped(unit))
        trained = {name: value.detach().requires_grad_() for name, value in theta.items()}
        with torch.enable_grad():
            of_theta = _threshold(unit, trained, z)
        v_th = of_theta.detach()
        load = clamp.slope * z
        inside = (load >= 0) & (load <= v_th) if clamp.closed else (load > 0) & (load < v_th)
        each = whole * (clamp.slope / steps) / v_th * inside
        if not of_theta.requires_grad:
            return each, {}
        if clamp.scaled:
            grad = clamp.share * whole / v_th * (load > v_th)
        else:
            grad = -whole * load / v_th**2 * inside
        grad = grad.sum_to_size(v_th.shape).to(v_th.dtype)
        grads = torch.autograd.grad(of_theta, list(trained.values()), grad, allow_unused=True)
        found = zip(trained, grads, strict=True)
        return each, {name: value for name, value in found if value is not None}

    def _share(self, rate: Sequence[float]) -> str:
        """Compare the size of gradients with that under the unit's own mean, in words."""
        factor = len(rate) * sum(weight**2 for weight in rate)
        return f"gradients are 1/{factor:.3g} of those with the unit's own mean"

    def _slope(self, clamp: Clamped) -> float:
        """Return q of a unit's clamp, or its limit where it is 1 - decay."""
        scaled = clamp.scale != 1 and math.isclose(clamp.scale, 1 - clamp.decay)
        return -math.log(clamp.decay) if scaled and self.slope == "limit" else clamp.scale

    def _clamp(self, site: Site, own: Clamped) -> Clamp:
        leaks = own.decay != 1
        share = 1.0
        if leaks and self.threshold == "reference":
            share = 1 / site.spec.gain**2
        return Clamp(
            self._slope(own), closed=not leaks, scaled=site.spec.amplitude == "v_th", share=share
        )


def _threshold(unit: Unit, theta: Theta, like: Tensor) -> Tensor:
    """Return the threshold of a unit that has passed `prepare`."""
    threshold = FIRING_THRESHOLD.of(unit)
    assert threshold is not None
    v_th = threshold(theta)
    return v_th if isinstance(v_th, Tensor) else like.new_tensor(v_th)
