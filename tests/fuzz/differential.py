"""Random nets, units, rules and inputs: every way to compute them gives the same.

`check` holds one try against the reference: compiled kernels, forced, in both layouts, saving
memory or not, with and without observers; time order against layer order; states step by step.
`python tests/fuzz/search.py --minutes 60` looks for tries that differ.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.errors import SpikeloomError
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.peak import peak_allocated
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Ops, cut
from spikeloom.nets.spec.codec import from_table
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import Unit
from spikeloom.neurons.trains import state_leaves
from spikeloom.rules.base import RULES

REFERENCE = Execution(kernels="reference", layout="rows")
CLASSES = 3

SLACK = 1024
"""Bytes that a peak may move by itself: below what a single tensor of each step would take."""

SOLVER = 1.5
"""Peak of an equilibrium's solver over that at another T; time steps kept would triple it."""

MEASURED = 3
"""Seed of the tries whose memory is measured."""


@dataclass(frozen=True)
class Try:
    """One problem, and how it is computed beside the reference.

    Args:
        net: as text, readout included.
        shape: of a sample.
        unit: of layers that name none.
        rule: its name.
        options: of the rule.
        steps: T.
        batch: B.
        form: of the input: one tensor seen T times, frames, or a strided view of frames.
        dtype: of everything; float32 is compared forward alone, to the bit.
        layout: of images.
        memory: plain or saving.
        watched: whether a meter looks on.
        drawn: seed of weights and input.
    """

    net: str = "f4 f3"
    shape: tuple[int, ...] = (5,)
    unit: dict[str, Any] = field(default_factory=lambda: {"name": "lif"})
    rule: str = "bptt"
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 3
    batch: int = 2
    form: str = "frames"
    dtype: str = "float64"
    layout: str = "rows"
    memory: str = "plain"
    watched: bool = False
    drawn: int = 0

    @property
    def compiled(self) -> Execution:
        """The other way: kernels for trains of any size."""
        return Execution(kernels="compiled", layout=self.layout, memory=self.memory, worth=0)  # pyright: ignore


class Difference(AssertionError):
    """Two ways differ."""


class Refused(Exception):
    """The library takes no such problem."""


# ------------------------------------------------------------------------------------------ one try


class Watch:
    """An observer that looks at everything."""

    def see(self, site: Any, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        for value in (x_in, current, s_out):
            assert value is None or bool(value.isfinite().all())


class Problem:
    """A try's net, head, rule and batch."""

    def __init__(self, one: Try, execution: Execution) -> None:
        dtype = getattr(torch, one.dtype)
        unit = from_table(Unit, one.unit, "unit")  # pyright: ignore[reportArgumentType]
        spec = parse(one.net, unit=unit)
        self.rule = RULES.find(one.rule)(**one.options)
        kind = Softmax
        if not self.rule.facts.spiking:
            spec, kind = spec.as_ann(), Softmax.baseline()
        self.net = SpikingNet(spec, one.shape, seed=one.drawn, execution=execution).to(dtype)
        self.head = kind.of(self.net, seed=one.drawn + 1)
        self.xs = inputs(one, 1 if not self.rule.facts.spiking else one.steps, dtype)
        rows = torch.arange(one.batch)
        self.batch = Batch(self.xs, rows % CLASSES, SampleRng(one.drawn, 0, rows), 0)
        self.rule.prepare(self.net, self.head.sites, self.batch)

    def named(self) -> dict[str, Tensor]:
        """Parameters of net and head."""
        found = {f"net.{name}": p for name, p in self.net.named_parameters()}
        return found | {f"head.{name}": p for name, p in self.head.named_parameters()}

    def learned(self, watched: bool) -> dict[str, Tensor]:
        """Loss, logits, gradients and buffers of one call of the rule."""
        objective = self.head.bind(self.batch.target, self.batch.rng)
        watch = Watch()
        with self.net.observe(*([watch] if watched else [])):
            report = self.rule.learn(self.net, self.batch, objective, lambda: None)
        found = {"loss": report.loss, "logits": report.logits}
        found |= {f"{name}.grad": p.grad for name, p in self.named().items() if p.grad is not None}
        return found | {f"buffer {name}": b.clone() for name, b in self.net.named_buffers()}

    def outputs(self, order: str) -> Tensor:
        """Features in training mode, or of a mode without dropout where orders are compared."""
        with torch.no_grad():
            return getattr(self.net, f"run_by_{order}")(self.xs, rng=self.batch.rng)

    def states(self, ops: Ops) -> list[Tensor]:
        """Every tensor of the state behind the last step."""
        state = None
        with torch.no_grad():
            for x in self.xs:
                _, state = self.net.step(x, state, ops, rng=self.batch.rng)
        assert state is not None
        return [leaf for one in state.units.values() for leaf in state_leaves(one)]


def inputs(one: Try, steps: int, dtype: torch.dtype) -> Tensor:
    """Draw a train; multiples of 1/64, so that sums of few are exact in float32."""
    generator = torch.Generator().manual_seed(one.drawn + 2)

    def drawn(*sizes: int) -> Tensor:
        return torch.randint(0, 97, sizes, generator=generator).to(dtype) / 64

    if one.form == "constant":
        return drawn(one.batch, *one.shape).expand(steps, one.batch, *one.shape)
    if one.form == "frames":
        return drawn(steps, one.batch, *one.shape)
    wide = drawn(steps + 2, one.batch, *one.shape[:-1], 2 * one.shape[-1])
    return wide[1:-1, ..., ::2]


def built(one: Try, execution: Execution) -> Problem:
    """Build a try.

    Raises:
        Refused: the library takes no such problem.
    """
    try:
        problem = Problem(one, execution)
        problem.learned(False)  # some nets refuse when they run
        return Problem(one, execution)
    except SpikeloomError as error:
        raise Refused(str(error)) from None


def check(one: Try) -> None:
    """Hold a try against the reference.

    Raises:
        Difference: two ways differ.
        Refused: the library takes no such problem.
    """
    expected = built(one, REFERENCE)
    same_layout = replace(one, layout="rows")
    if one.dtype == "float32":  # sums of convolutions differ between layouts, and spikes with them
        found = Problem(same_layout, same_layout.compiled)
        exactly(
            found.outputs("layer" if not found.net.spec.feedback else "time"),
            expected.outputs("layer" if not expected.net.spec.feedback else "time"),
            "outputs",
        )
        return
    theirs = expected.learned(False)
    ways = {"compiled": built(one, one.compiled)}
    if one.watched:
        ways["compiled, watched"] = built(one, one.compiled)
        ways["reference, watched"] = built(one, REFERENCE)
    for name, problem in ways.items():
        ours = problem.learned("watched" in name)
        if ours.keys() != theirs.keys():
            raise Difference(f"{name}: gradients of {sorted(ours.keys() ^ theirs.keys())}")
        for key, value in theirs.items():
            closely(ours[key], value, f"{name}: {key}")
    if expected.rule.facts.spiking:
        check_orders(one)
    if one.drawn == MEASURED:
        check_memory(one)


def check_memory(one: Try) -> None:
    """A rule that says so takes as much memory for 18 steps as for 6, on compiled kernels."""
    peaks = {}
    for steps in (6, 18):
        problem = built(replace(one, steps=steps, batch=64), one.compiled)
        facts = problem.rule.facts
        if facts.memory != "constant" or not facts.spiking:
            return
        problem.learned(False)  # gradients are there, kernels are compiled
        once = partial(problem.learned, False)
        # Python's collector frees a few bytes now and then
        peaks[steps] = min(peak_allocated(once) for _ in range(2))
    # a solver of an equilibrium keeps a vector per product, and takes as many as it needs
    most = SOLVER * peaks[6] if facts.order == "equilibrium" else peaks[6] + SLACK
    if peaks[18] > most:
        raise Difference(f"memory: {peaks[6]} bytes at T = 6, {peaks[18]} at T = 18")


def check_orders(one: Try) -> None:
    """Time order against layer order, and states after the last step."""
    kept = Problem(one, REFERENCE)
    kept.net.eval()
    kept.states(Ops())
    expected = kept.states(Ops())
    for execution in (REFERENCE, one.compiled):
        for ops in (Ops(), Ops(carry=cut)):
            problem = Problem(one, execution)
            problem.net.eval()
            for ours, theirs in zip(problem.states(ops), expected, strict=True):
                closely(ours, theirs, f"{execution.kernels}: a state")
        if not kept.net.spec.feedback:
            closely(
                problem.outputs("time"), problem.outputs("layer"), f"{execution.kernels}: order"
            )


def exactly(ours: Tensor, theirs: Tensor, what: str) -> None:
    """Compare to the bit."""
    if not torch.equal(ours, theirs):
        raise Difference(f"{what}: {int((ours != theirs).sum())} of {ours.numel()} differ")


def closely(ours: Tensor, theirs: Tensor, what: str) -> None:
    """Compare to the rounding of float64."""
    if not torch.allclose(ours, theirs, rtol=1e-8, atol=1e-10, equal_nan=True):
        apart = (ours - theirs).abs().max()
        raise Difference(f"{what}: {float(apart):.3g} apart")
