"""IDE: implicit differentiation at the equilibrium of a net with feedback."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.autograd import backpropagate
from spikeloom.base.citation import Citation
from spikeloom.base.errors import NumericalError, UnsupportedNet, addressed
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Objective
from spikeloom.neurons.integrate_fire import NO_BOUND, ONE_SPIKE
from spikeloom.rules.base import RULES, Commit, RuleFacts, RuleReport, Trial, Trials
from spikeloom.rules.by_rate import (
    OnceWeights,
    ThroughRates,
    cautions_of,
    loss_on_rates,
    pulled,
    refuse_equilibrium,
    settle,
    still,
)
from spikeloom.rules.leaks import leak_cautions, reduction_cautions
from spikeloom.rules.linear_solve import Name, Products, Solution, Solver, Tolerance

LATERAL = '{feedback = [{source = 1, target = 1, layers = "f8", restrict = 0.5}]} '
BACK = '{feedback = [{source = 1, target = 0, layers = "t4s2{output_padding = 1}"}]} '


APART = (
    "rules.ide: the Jacobian J is evaluated at the simulated rates a; for nets of several layers, "
    "the authors' code evaluates it at their map f(a). With batch norms, the two gradients have a "
    "cosine of 0.97 to 0.98 (measured on small nets at T = 8 to 100, 0.93 at worst); set "
    "linearise = 'map' to follow the code."
)

GAP = "in measurements, gradients differed by 1 to 5 % (alpha = 0.5 to 0.95)"


@RULES.register("ide")
@dataclass(frozen=True)
class Ide(ThroughRates):
    r"""Implicit differentiation on the equilibrium state.

    The simulation of T steps finds the rates :math:`a = f(a, x)` at which feedback settles. Their
    gradient does not go through it: with g the gradient of the loss at a and
    :math:`J = \partial f / \partial a`,

    .. math::
        v = J^T v + g, \qquad
        \frac{\partial L}{\partial \theta} = v^T \frac{\partial f(a, x; \theta)}{\partial \theta}

    where f is one pass of the net in rates (`SpikingNet.rate_map`). Memory and time of the backward
    pass do not depend on T.

    Args:
        solver: of the equation for v (`linear_solve`).
        tolerance: residual relative to its right side at which the solver stops; some roundings of
            the type in use are always enough.
        limit: products with J at most.
        linearise: where J is taken: at the simulated "rates", or at their "map" f(a), as the
            authors' code does for several layers.

    Raises:
        ConfigError: a setting out of range.

    Source:
        Xiao et al. 2021, and the authors' code. That code's solver "iter" halves the gradient;
        "fixed_point" here has the right damping.
    """

    solver: Name = "broyden"
    tolerance: Tolerance = 1e-13
    limit: Products = 30
    linearise: Literal["rates", "map"] = "rates"

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="implicit differentiation on the equilibrium state",
        source=Citation(
            "Xiao, Meng, Zhang, Wang & Lin",
            "Training Feedback Spiking Neural Networks by Implicit Differentiation on the "
            "Equilibrium State",
            "NeurIPS",
            2021,
            "arXiv:2109.14247",
        ),
        order="equilibrium",
        memory="constant",
    )
    trials: ClassVar[Trials] = Trials(
        body=f"{LATERAL}f12 f8",
        variants=({"solver": "fixed_point", "limit": 100}, {"linearise": "map"}),
        trained=(Trial(f"{BACK}c4 c4s2 f2"),),
        refused=(
            Trial("c4 f2", "expected a net with feedback, got none"),
            Trial(f'{BACK}c4{{unit = {{name = "if", max_spikes = 4}}}} c4s2 f2', ONE_SPIKE),
            Trial(f'{BACK}c4 c4s2{{unit = {{name = "if", v_min = -1.0}}}} f2', NO_BOUND),
            Trial(refusal="linearise: expected rates or map", options={"linearise": "there"}),
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        with addressed("solver.name", f"{self.place()}.solver"):
            Solver(self.solver, self.tolerance, self.limit)

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse nets without feedback, and units without a rate."""
        if not net.spec.feedback:
            edge = '{feedback = [{source = 0, target = 0, layers = "f400", restrict = 1.0}]}'
            todo = f"add an edge, e.g. {edge}, or train with dsr"
            raise UnsupportedNet.of("rules.ide", "a net with feedback", "none", todo)
        refuse_equilibrium(net, "ide")

    def cautions(self, net: SpikingNet, steps: int) -> list[str]:
        """Warn of coarse rates, feedback that may not settle, leaks, and where J is taken."""
        lines = [*cautions_of(net, steps, "ide"), *leak_cautions(net, "ide")]
        populations = sum(site.unit is not None and site.unit.stateful for site in net.sites)
        normed = any(site.norm is not None for site in net.sites)
        if self.linearise == "rates" and populations > 1 and normed:
            lines.append(APART)
        return lines

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Settle in spikes, solve for v, go back through one pass in rates; one commit."""
        weights, shares = OnceWeights(), objective.weights(batch.steps)
        settled = settle(net, batch, weights, shares)
        (logits, value), g = loss_on_rates(settled, objective, shares)
        map_ = _Map(net, batch, weights, settled.x, settled.sources)
        at = map_
        if self.linearise == "map":
            with still(net):
                at = _Map(net, batch, weights, settled.x, map_.rates())
        solution = at.solve(g, Solver(self.solver, self.tolerance, self.limit))
        if solution.diverged:
            raise NumericalError.of(
                "rules.ide",
                "a solution of v = J^T v + g",
                f"a residual of {solution.residual:.3g} times g after {solution.products} "
                f"products, most of it {at.worst(g, solution.value)}",
                "the feedback does not contract: lower its restrict, or raise v_th",
            )
        map_.back(g, solution.value)
        commit()
        notes = {
            "residual of rates": map_.residual,
            "residual of v": solution.residual,
            "products with J": solution.products,
        }
        cautions = reduction_cautions(net, shares, "ide", lambda rate: GAP)
        if not solution.converged:
            cautions.append(self._short)
        return RuleReport(value, logits, notes, tuple(cautions))

    @property
    def _short(self) -> str:
        return (
            f"rules.ide: expected v = J^T v + g to be solved within {self.limit} products, got a "
            'residual that is too large in some batches (for the mean see "residual of v"); raise '
            "limit, or lower the feedback's restrict."
        )


class _Map:
    """The net in rates around some rates at the starts of its feedback edges."""

    def __init__(
        self,
        net: SpikingNet,
        batch: Batch,
        weights: OnceWeights,
        x: Tensor,
        sources: dict[int, Tensor],
    ) -> None:
        self.net = net
        self.fed = {number: rate.detach().requires_grad_() for number, rate in sources.items()}
        self.features, self.sources = net.rate_map(x, self.fed, weights.ops, rng=batch.rng)

    @property
    def residual(self) -> float:
        """Mean distance |a - f(a)|, of the feedback edge where it is largest."""
        gaps = [(self.sources[n].detach() - a.detach()).abs().mean() for n, a in self.fed.items()]
        return max(float(gap) for gap in gaps)

    def rates(self) -> dict[int, Tensor]:
        """Return f of the rates."""
        return self.sources

    def solve(self, g: Tensor, solver: Solver) -> Solution:
        """Solve for v, the whole gradient at the starts of the feedback edges."""
        where = g.device.type
        low = torch.get_autocast_dtype(where) if torch.is_autocast_enabled(where) else None
        return solver.solve(self._product, self._first(g), low)

    def worst(self, g: Tensor, v: Tensor) -> str:
        """Name the feedback edge with the largest residual of v."""
        gaps = self._parts(self._product(v) - v + self._first(g))
        norms = [float(gap.double().nan_to_num(nan=torch.inf).norm()) for gap in gaps]
        number = max(zip(norms, self.sources, strict=True))[1]
        source = self.net.spec.feedback[number].source
        layer = self.net.plan.blocks[source].upstream
        where = f" in layer {layer.name}" if layer is not None else ""
        return f"at the start of feedback edge {number}{where}"

    def _first(self, g: Tensor) -> Tensor:
        return self._pulled([self.features], [g.to(self.features.dtype)])

    def _product(self, v: Tensor) -> Tensor:
        return self._pulled(list(self.sources.values()), self._parts(v))

    def _pulled(self, outs: Sequence[Tensor], grads: Sequence[Tensor]) -> Tensor:
        found = pulled(outs, grads, list(self.fed.values()))
        return torch.cat([one.flatten() for one in found])

    def back(self, g: Tensor, v: Tensor) -> None:
        """Add the gradients of all parameters to `.grad`."""
        values = [self.features, *self.sources.values()]
        backpropagate(values, [g.to(self.features.dtype), *self._parts(v)])

    def _parts(self, v: Tensor) -> list[Tensor]:
        ends = list(self.sources.values())
        parts = v.split([one.numel() for one in ends])
        return [part.view(end.shape).to(end.dtype) for part, end in zip(parts, ends, strict=True)]
