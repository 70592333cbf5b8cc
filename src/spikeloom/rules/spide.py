"""SPIDE: implicit differentiation by a second stage of spikes."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from spikeloom.base.autograd import backpropagate
from spikeloom.base.checks import above, at_least
from spikeloom.base.citation import Citation
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import OnWeights, Ops, Visit
from spikeloom.nets.readout import Objective
from spikeloom.neurons.declared import FIRING_THRESHOLD
from spikeloom.neurons.integrate_fire import NO_BOUND, ONE_SPIKE
from spikeloom.rules.base import RULES, Commit, RuleFacts, RuleReport, Trial, Trials
from spikeloom.rules.by_rate import (
    OnceWeights,
    Settled,
    ThroughRates,
    cautions_of,
    loss_on_rates,
    pulled,
    refuse_equilibrium,
    settle,
)
from spikeloom.rules.clamps import clamped
from spikeloom.rules.leaks import leak_cautions, reduction_cautions

REACH = 14**0.5 / 4
"""The largest scaled g, in levels; irrational, so that no number of steps adds up to a level."""

FULL = 1e-5
"""Rates this close to 0 or 1 count as 0 or 1, since discounted sums of ones are rounded."""


GAP = "in measurements, gradients differed by 2 to 50 % (alpha = 0.5 to 0.95)"


@RULES.register("spide")
@dataclass(frozen=True)
class Spide(ThroughRates):
    r"""Spike-based implicit differentiation on the equilibrium state.

    The first stage finds rates a by simulation, as IDE does. The second solves IDE's equation for v
    by simulating, for `back_steps` steps, one ternary neuron per neuron: with g the gradient of the
    loss at the last rates, :math:`N` the maps between populations, m = 1 where 0 < a < 1,

    .. math::
        w_i[t] = \lambda w_i[t-1] + \kappa g_i + \sum_j \tfrac{1}{V_j} N_{ji}^T (m_j\, p_j), \quad
        p_i = 2\theta\,(1(w_i \ge \theta) - 1(w_i \le -\theta)), \quad w_i \leftarrow w_i - p_i

    Populations fire in the order of the backward pass; across feedback, p is the last step's.
    :math:`\beta_i`, the mean of p_i, tends to IDE's v like 1 / `back_steps`, and
    :math:`\beta_i m_i / (\kappa V_i)` is the gradient of the mean current.

    Args:
        back_steps: steps of the second stage.
        scale: :math:`\kappa`, which lifts gradients into the range of spikes: too small and
            nothing fires, too large and p saturates. It is divided out again. None brings the
            largest input that g gives a neuron in each batch close to :math:`\theta`.
        level: :math:`\theta`; half of a backward spike.

    Raises:
        ConfigError: a setting out of range.

    Source:
        Xiao et al. 2023, and the authors' code (there the learning rate is divided by the scale,
        and so, with it, is weight decay).
    """

    back_steps: Annotated[int, at_least(1, "step")] = 100
    scale: Annotated[float, above(0, "a factor")] | None = None
    level: Annotated[float, above(0, "a level")] = 0.5

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="spike-based implicit differentiation on the equilibrium state",
        source=Citation(
            "Xiao, Meng, Zhang, Wang & Lin",
            "SPIDE: A Purely Spike-based Method for Training Feedback Spiking Neural Networks",
            "Neural Networks",
            2023,
            "arXiv:2302.00232",
        ),
        order="equilibrium",
        memory="constant",
        linear_in_batch=False,
        gathers=True,
    )
    trials: ClassVar[Trials] = Trials(
        body='{feedback = [{source = 1, target = 1, layers = "f8", restrict = 0.5}]} f12 f8',
        trained=(Trial("c4 P c4 f2"),),
        refused=(
            Trial('c4{norm = "batch_step"} f2', "expected linear maps between populations"),
            Trial('c4{unit = {name = "if", max_spikes = "none"}} f2', ONE_SPIKE),
            Trial('c4{unit = {name = "lif", v_min = -1.0}} f2', NO_BOUND),
            Trial("P f2", "expected a net with a layer of neurons"),
            Trial(refusal="back_steps: expected 1 step or more", options={"back_steps": 0}),
        ),
    )

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse trained thresholds, and what is not linear between populations."""
        refuse_equilibrium(net, "spide")
        if all(site.unit is None for site in net.sites):
            expected, came = "a net with a layer of neurons", "none before the readout"
            raise UnsupportedNet.of("rules.spide", expected, came, "add one")
        for site in net.sites:
            if site.unit is not None and site.unit.learn:
                expected = f"fixed thresholds in layer {site.name}"
                came = f"learn = {site.unit.learn}"
                raise UnsupportedNet.of("rules.spide", expected, came, "drop it")
            if site.norm is not None or site.spec.kind == "max_pool":
                came = f"a norm or max pool in layer {site.name}"
                todo = "drop it or train with ide"
                raise UnsupportedNet.of(
                    "rules.spide", "linear maps between populations", came, todo
                )

    def cautions(self, net: SpikingNet, steps: int) -> list[str]:
        """Warn of coarse rates, feedback that may not settle, and leaks."""
        return [*cautions_of(net, steps, "spide"), *leak_cautions(net, "spide")]

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Settle in spikes, solve in spikes, credit with both rates; one commit."""
        weights, shares = OnceWeights(), objective.weights(batch.steps)
        settled = settle(net, batch, weights, shares, units=True)
        (logits, value), g = loss_on_rates(settled, objective, shares)
        pairs = _Pairs(self, net, batch, weights, settled)
        pairs.credit(g)
        commit()
        notes = {"firing rate backward": pairs.rate}
        cautions = reduction_cautions(net, shares, "spide", lambda rate: GAP)
        return RuleReport(value, logits, notes, tuple(cautions))


class _Partner:
    """The ternary neurons of one population."""

    def __init__(self, site: Site, rate: Tensor, current: Tensor, level: float) -> None:
        assert site.neuron is not None
        clamp, threshold = clamped(site.neuron.unit), FIRING_THRESHOLD.of(site.neuron.unit)
        assert threshold is not None  # `prepare` has asked
        inside = (rate > FULL) & (rate < 1 - FULL)
        self.slope = clamp.scale / threshold({}) * inside.to(rate.dtype)
        self.current, self.level, self.decay = current, level, clamp.decay
        self.w = torch.zeros_like(rate)
        self.p = torch.zeros_like(rate)
        self.total = torch.zeros_like(rate)
        self.weight = 0.0
        self.fired = torch.zeros((), dtype=torch.int64, device=rate.device)

    def fire(self, drive: Tensor) -> None:
        """Advance one step."""
        w = self.w + drive
        up, down = w >= self.level, w <= -self.level
        self.p = 2 * self.level * (up.to(w.dtype) - down.to(w.dtype))
        self.w = self.decay * (w - self.p)
        self.total = self.decay * self.total + self.p
        self.weight = self.decay * self.weight + 1
        self.fired += torch.count_nonzero(self.p)

    @property
    def sent(self) -> Tensor:
        """Gradient of the population's current from the partners' spikes of this step."""
        return self.slope * self.p

    @property
    def mean(self) -> Tensor:
        """Mean of `sent` over the steps so far."""
        return self.slope * self.total / self.weight


class _Pairs:
    """All populations with their partners, and the linear maps between them as one graph."""

    def __init__(
        self, rule: Spide, net: SpikingNet, batch: Batch, weights: OnceWeights, settled: Settled
    ) -> None:
        self.rule, self.batch = rule, batch
        self.leaves: dict[str, Tensor] = {}
        self.currents: dict[str, Tensor] = {}
        rates = settled.units

        def emit(visit: Visit, rate: Tensor) -> Tensor:
            site = visit.site
            if site.unit is not None and not site.unit.stateful:
                return rate  # it passes gradients as it is
            # behind a delay of T steps or more nothing has come by now: it has been silent
            known = rates.setdefault(site.name, torch.zeros_like(rate))
            self.leaves[site.name] = known.clone().requires_grad_()
            return self.leaves[site.name]

        self.fed = {
            number: one.detach().requires_grad_() for number, one in settled.sources.items()
        }
        ops = Ops(synapse=OnWeights(weights.synapse), emit=emit)
        with net.observe(self):
            self.features, sources = net.rate_map(settled.x, self.fed, ops, rng=batch.rng)
        self.edges = list(sources)
        self.sources = list(sources.values())
        self.partners = {
            site.name: _Partner(site, rates[site.name], self.currents[site.name], rule.level)
            for site in net.sites
            if site.name in self.leaves
        }
        self.order = list(reversed(self.leaves))

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Keep the currents of populations, with the graph of the maps before them."""
        if site.unit is not None:
            self.currents[site.name] = current.squeeze(0)

    def credit(self, g: Tensor) -> None:
        """Run the second stage and add its gradients to `.grad`.

        Shape:
            g: [B, D].
        """
        scale = self._scale(g)
        scaled = scale * g
        for _ in range(self.rule.back_steps):
            late = self._across_feedback()
            for name in self.order:
                self.partners[name].fire(self._drive(name, late, scaled))
        currents = [self.currents[name] for name in self.order]
        means = [self.partners[name].mean / scale for name in self.order]
        late = pulled(currents, means, list(self.fed.values()))
        values = [self.features, *self.sources, *currents]
        backpropagate(values, [g.to(self.features.dtype), *late, *means])

    @property
    def rate(self) -> float:
        """Share of partners that fire in a step of the second stage."""
        fired = sum(int(one.fired) for one in self.partners.values())
        count = sum(one.p.numel() for one in self.partners.values())
        return fired / max(1, count * self.rule.back_steps)

    def _scale(self, g: Tensor) -> float:
        r"""Return :math:`\kappa`, which brings gradients into the range of spikes.

        The loss is a mean over samples, so g is taken relative to the batch of all processes.
        """
        size = self.batch.size
        if self.rule.scale is not None:
            return self.rule.scale * size / self.batch.across.total(size)
        drives = pulled([self.features], [g], list(self.leaves.values()))
        own = max((float(one.abs().max()) for one in drives), default=0.0)
        largest = self.batch.across.highest(own * size)
        return REACH * self.rule.level * size / largest if largest > 0 else 1.0

    def _across_feedback(self) -> list[Tensor]:
        """Return what the spikes of the last step send to the starts of the feedback edges."""
        starts = list(self.fed.values())
        return pulled(
            [self.currents[name] for name in self.order],
            [self.partners[name].sent for name in self.order],
            starts,
        )

    def _drive(self, name: str, late: list[Tensor], g: Tensor) -> Tensor:
        """Return what arrives at one population's partners in this step."""
        later = self.order[: self.order.index(name)]
        outs = [self.features, *self.sources, *(self.currents[one] for one in later)]
        grads = [g, *late, *(self.partners[one].sent for one in later)]
        return pulled(outs, grads, [self.leaves[name]])[0]
