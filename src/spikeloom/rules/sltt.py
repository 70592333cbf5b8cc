"""Spatial learning through time: gradients within a time step only."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from spikeloom.base.checks import at_least
from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import derive_seed
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import Credited, Ops, cut
from spikeloom.nets.readout import Objective
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


@RULES.register("sltt")
@dataclass(frozen=True)
class Sltt(LearningRule):
    r"""Spatial learning through time (SLTT, SLTT-K).

    .. math:: \nabla_W L = \frac{1}{T} \sum_{t \in S} \delta[t]\, p[t]^T

    :math:`\delta` runs through layers within a step; every path between steps is cut. S holds all
    steps, or K of them drawn per batch (SLTT-K). The factor stays 1/T, so SLTT-K's gradient is
    K/T of SLTT's in expectation.

    Args:
        k_steps: K; None takes all steps.
        given: the steps of S themselves (from 0), instead of a draw.

    Raises:
        ConfigError: K below 1, or both options given.

    Source:
        Meng et al. 2023, sec. 4 and code.
    """

    k_steps: int | None = None
    given: tuple[int, ...] | None = None

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="spatial learning through time",
        source=Citation(
            "Meng et al.",
            "Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural "
            "Networks",
            "ICCV",
            2023,
            "arXiv:2302.14311",
        ),
        order="time",
        memory="constant",
    )
    trials: ClassVar[Trials] = Trials(
        variants=({"k_steps": 2}, {"given": (0, 3)}),
        trained=(Trial("c4 M c4 f2"), Trial('[c4] [c4{unit="relu"}]{reads="step"} f2')),
        refused=(
            NO_STEPS,
            Trial(refusal="k_steps: expected 1 or more, got 0", options={"k_steps": 0}),
            Trial(refusal="k_steps: expected at most T = 4, got 5", options={"k_steps": 5}),
            Trial(
                refusal="expected k_steps or given, got both", options={"k_steps": 1, "given": (0,)}
            ),
            Trial(refusal="given: expected steps from 0 to 3", options={"given": (0, 4)}),
            Trial(refusal="given: expected steps from 0 to 3", options={"given": (-1,)}),
            Trial(refusal="given: expected steps from 0 to 3", options={"given": ()}),
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_in("k_steps", at_least(1))
        if self.k_steps is not None and self.given is not None:
            raise ConfigError.of(self.place(), "k_steps or given", "both", "drop one of them")

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse nets without features at every step, and steps that do not exist."""
        refuse_tail(net, "sltt")
        self._chosen(sample)

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Go backward at the chosen steps; one commit."""
        credit = Credited()
        ops = Ops(synapse=credit, carry=cut)
        report = learn_by_step(net, batch, objective, ops, active=self._chosen(batch))
        credit.flush()
        commit()
        return report

    def _chosen(self, batch: Batch) -> frozenset[int]:
        steps = batch.steps
        if self.given is not None:
            if not self.given or min(self.given) < 0 or max(self.given) >= steps:
                expected = f"steps from 0 to {steps - 1}"
                raise ConfigError.of("rules.sltt.given", expected, self.given, "change them")
            return frozenset(self.given)
        if self.k_steps is None:
            return frozenset(range(steps))
        if self.k_steps > steps:
            most = f"at most T = {steps}"
            raise ConfigError.of("rules.sltt.k_steps", most, self.k_steps, "lower it")
        rng = batch.rng
        draw = derive_seed(rng.seed, rng.epoch, batch.number, "sltt")
        order = torch.randperm(steps, generator=torch.Generator().manual_seed(draw))
        return frozenset(order[: self.k_steps].tolist())
