"""Online training through time: each step's error meets a trace of past input spikes."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.checks import within
from spikeloom.base.citation import Citation
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.fields import conform
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import Credited, Ops, Visit, cut
from spikeloom.nets.readout import Objective
from spikeloom.neurons.base import LOW_PRECISION, declares
from spikeloom.rules.base import (
    NO_STEPS,
    RULES,
    Commit,
    LearningRule,
    RuleFacts,
    RuleReport,
    Trial,
    Trials,
    refuse_tail,
)
from spikeloom.rules.steps import learn_by_step

TRAINED_DECAY = 'c4{unit={name="lif",learn=["alpha"]}} c4 f2'


@RULES.register("ottt")
@dataclass(frozen=True)
class Ottt(LearningRule):
    r"""Online training through time (OTTT-A, OTTT-O).

    .. math::
        \nabla_W L = \frac{1}{T} \sum_t \delta[t]\, \hat p[t]^T, \qquad
        \hat p[t] = \lambda \hat p[t-1] + p[t]

    :math:`\delta` is SLTT's; biases and the first layer see no trace. :math:`\lambda` is the decay
    of the presynaptic neurons (of the synapse's own neurons on the net's input).

    Args:
        update: "batch" commits once with the sum over t (OTTT-A); "online" commits after every
            step, state and traces carried over unchanged (OTTT-O).
        first_layer_trace: whether synapses on the net's input keep a trace too: the paper's
            formula says yes, its code and the default no.
        trace_decay: lambda for every synapse, in [0, 1], instead of the `trace_decay` that the
            neurons declare (of IF and LIF: alpha).

    Raises:
        ConfigError: a setting out of range.

    Source:
        Xiao et al. 2022, sec. 4 and code.
    """

    update: Literal["batch", "online"] = "batch"
    first_layer_trace: bool = False
    trace_decay: float | None = None

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="online training through time",
        source=Citation(
            "Xiao et al.",
            "Online Training Through Time for Spiking Neural Networks",
            "NeurIPS",
            2022,
            "arXiv:2210.04195",
        ),
        order="time",
        memory="constant",
        online=True,
    )
    trials: ClassVar[Trials] = Trials(
        variants=({"update": "online"}, {"first_layer_trace": True}, {"trace_decay": 0.25}),
        trained=(
            Trial("M c4 P c4 f2"),  # before the first neurons there is no trace
            Trial(TRAINED_DECAY, options={"trace_decay": 0.5}),
        ),
        refused=(
            NO_STEPS,
            Trial("c4 M c4 f2", "expected a linear path into layer 2.0.0, got a max pool"),
            Trial("c4 c4 M f2", "expected a linear path into layer readout, got a max pool"),
            Trial(TRAINED_DECAY, "expected a fixed decay of the neurons before layer 1.0.0"),
            Trial(refusal="update: expected batch or online", options={"update": "once"}),
            Trial(refusal="trace_decay: expected a decay in [0, 1]", options={"trace_decay": 1.5}),
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_in("trace_decay", within(0, 1, noun="a decay"))

    def commits(self, steps: int) -> int:
        """Return 1, or T where updates are online."""
        return steps if self.update == "online" else 1

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse nets in which the trace of a layer's input is not the map of a spike trace."""
        refuse_tail(net, "ottt")
        for site in (*net.sites, *head_sites):
            if not self._traced(site):
                continue
            if not site.linear_path:
                raise UnsupportedNet.of(
                    "rules.ottt",
                    f"a linear path into layer {site.name}",
                    "a max pool or batch norm without neurons",
                    "use average pooling (P) or norm = 'weight'",
                )
            if self.trace_decay is None:
                self._decay(site)

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Go backward at every step with traces in the weight gradients."""
        online = self.update == "online"
        traces: dict[str, Tensor] = {}

        def trace(visit: Visit, x: Tensor) -> Tensor:
            site, value = visit.site, x.detach()
            if not self._traced(site):
                return x
            if site.name not in traces:
                wide = torch.float32 if value.dtype in LOW_PRECISION else value.dtype
                traces[site.name] = value.to(wide, copy=True)
            else:  # in place: the backward pass that read the last one is over
                torch.add(value, traces[site.name], alpha=self._decay(site), out=traces[site.name])
            return traces[site.name]

        credit = Credited(trace)

        def update() -> None:
            credit.flush()
            commit()

        report = learn_by_step(
            net,
            batch,
            objective,
            Ops(synapse=credit, carry=cut),
            after_step=update if online else None,
            may_hold=not online and not self._grows(net),
        )
        if not online:
            update()
        return report

    def _traced(self, site: Site) -> bool:
        return site.spec.weighted and (self.first_layer_trace or not site.external)

    def _grows(self, net: SpikingNet) -> bool:
        """Return whether a trace changes over time although its input does not."""
        return any(
            site.static_input and self._traced(site) and self._decay(site) for site in net.sites
        )

    def _decay(self, site: Site) -> float:
        if self.trace_decay is not None:
            return self.trace_decay
        unit = (site.upstream or site).unit
        if unit is None or not unit.stateful:
            return 0.0
        kind = type(unit).__name__
        if not declares(unit, "trace_decay"):
            raise UnsupportedNet.of(
                "rules.ottt",
                f"neurons before layer {site.name} that declare trace_decay, the factor per step "
                "by which their memory of a spike decays",
                f"{kind}, which declares none for its step",
                "add this attribute to the class, or set trace_decay of the rule",
            )
        decay = unit.trace_decay  # pyright: ignore[reportAttributeAccessIssue]
        if decay is None:
            raise UnsupportedNet.of(
                "rules.ottt",
                f"a fixed decay of the neurons before layer {site.name}",
                f"{kind} without it: alpha is trained, or beta > 0 adds a synaptic current, which "
                "a single trace cannot represent",
                "set trace_decay of the rule, or change these settings",
            )
        if type(decay) is not float:  # asked at every step
            decay = conform(float, decay, f"rules.ottt: trace_decay of {kind}")
        if not 0 <= decay <= 1:
            expected = f"a trace_decay in [0, 1] of the neurons before layer {site.name}"
            todo = "change it, or set trace_decay of the rule"
            raise UnsupportedNet.of("rules.ottt", expected, f"{decay} of {kind}", todo)
        return decay
