"""What every learning rule must keep to, as functions of one case.

Cases come from the registry. A rule needs an entry in a table here only if it needs options to be
built, another net to work on, or has variants worth a run of their own.
"""

import weakref
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeloom.base.citation import Citation
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.grammar import parse
from spikeloom.nets.net import SpikingNet
from spikeloom.neurons.base import Unit
from spikeloom.neurons.leaky import LIF
from spikeloom.rules.base import RULES, LearningRule, RuleFacts, RuleReport
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

BITS, T = 8, 4

OPTIONS: dict[str, LearningRule] = {}
"""Rules whose defaults build nothing useful, by name."""

NETS: dict[str, str] = {}
"""Rules that need a net of their own, by name (in the text form, without the readout)."""

VARIANTS: dict[str, tuple[LearningRule, ...]] = {
    "bptt": (Bptt(loss="step"),),
    "sltt": (Sltt(k_steps=2), Sltt(given=(0, 3))),
    "ottt": (Ottt(update="online"), Ottt(first_layer_trace=True), Ottt(trace_decay=0.25)),
}


@dataclass(frozen=True)
class Case:
    """One rule under test."""

    name: str
    rule: LearningRule = field(compare=False)

    def __str__(self) -> str:
        return repr(self.rule)


def cases() -> list[Case]:
    """Return every registered rule with its defaults, and the variants."""
    found = []
    for name in RULES.names():
        rule = OPTIONS[name] if name in OPTIONS else RULES.find(name)()
        found += [Case(name, one) for one in (rule, *VARIANTS.get(name, ()))]
    return found


class Setup:
    """A net, a head and a batch that suit a rule; the task is the parity of two of eight bits."""

    def __init__(
        self,
        case: Case,
        *,
        dtype: torch.dtype = torch.float64,
        steps: int = T,
        unit: Unit | None = None,
        body: str = "f12 f8",
        head: type[Head] = Softmax,
        seed: int = 1,
    ) -> None:
        self.rule = case.rule
        spec = parse(f"{NETS.get(case.name, body)} f2", unit=unit or LIF(alpha=0.5))
        if not self.rule.facts.spiking:
            spec, steps = spec.as_ann(), 1
        self.net = SpikingNet(spec, (BITS,), seed=seed).to(dtype)
        self.head = head.of(self.net, seed=2).to(dtype)
        x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=dtype)] * BITS)
        self.xs = x.expand(steps, *x.shape)
        self.target = (x[:, 0] != x[:, 1]).long()
        self.rows = torch.arange(len(x))
        self.rule.prepare(self.net, self.head.sites, self.batch())

    def batch(self, epoch: int = 0, rows: Tensor | None = None, copy: bool = False) -> Batch:
        rows = self.rows if rows is None else rows
        xs = self.xs[0, rows].expand(len(self.xs), len(rows), BITS)
        return Batch(xs.clone() if copy else xs, self.target[rows], SampleRng(0, epoch, rows))

    def parameters(self) -> dict[str, Tensor]:
        found = {f"net.{name}": p for name, p in self.net.named_parameters()}
        found |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return found | {f"rule.{n}": p for n, p in enumerate(self.rule.parameters())}

    def learn(self, batch: Batch | None = None, commit=lambda: None) -> RuleReport:
        batch = self.batch() if batch is None else batch
        return self.rule.learn(self.net, batch, self.head.bind(batch.target, batch.rng), commit)

    def clear(self) -> None:
        for parameter in self.parameters().values():
            parameter.grad = None

    def grads(self) -> dict[str, Tensor]:
        found = self.parameters().items()
        return {name: p.grad.clone() for name, p in found if p.grad is not None}

    def train(self, epochs: int, *, frozen: bool = False, first: int = 0, optimizer=None):
        """Train on the whole world at once; return the optimizer."""
        parts = self.parameters()
        if frozen:
            parts = {name: p for name, p in parts.items() if name.startswith("head.")}
        optimizer = optimizer or torch.optim.Adam(parts.values(), 0.03)

        def commit():
            optimizer.step()
            self.rule.project()
            self.clear()

        for epoch in range(first, first + epochs):
            self.learn(self.batch(epoch), commit)
        return optimizer

    @torch.no_grad()
    def accuracy(self) -> float:
        logits = self.head.logits(self.head.reduced(self.net(self.xs)))
        return (logits.argmax(1) == self.target).double().mean().item()


def learns_what_frozen_layers_cannot(case: Case) -> None:
    frozen = Setup(case)
    start = {key: p.detach().clone() for key, p in frozen.parameters().items()}
    frozen.train(120, frozen=True)
    for key, p in frozen.parameters().items():
        assert torch.equal(p, start[key]) == key.startswith("net."), key
    assert frozen.accuracy() < 0.75  # two classes: chance is 0.5
    whole = Setup(case)
    whole.train(120)
    assert whole.accuracy() > 0.98


def keeps_type_and_device(case: Case) -> None:
    for dtype in (torch.float64, torch.float32):
        one = Setup(case, dtype=dtype)
        report = one.learn()
        assert report.loss.dtype == report.logits.dtype == dtype
        for p in one.parameters().values():
            assert p.dtype == dtype and p.grad is not None
            assert p.grad.dtype == dtype and p.grad.device == p.device


def commits_as_often_as_it_says(case: Case) -> None:
    for steps in (1, T):
        calls = []
        try:
            one = Setup(case, steps=steps)
        except ValueError:
            assert steps == 1  # a rule that chooses among several steps
            continue
        one.learn(commit=lambda one=one, calls=calls: calls.append(one.grads()))
        assert len(calls) == one.rule.commits(len(one.xs)) >= 1
        assert all(set(call) <= set(one.parameters()) and call for call in calls)


def adds_gradients_and_never_zeroes(case: Case) -> None:
    one = Setup(case)
    weights = {key: p.detach().clone() for key, p in one.parameters().items()}
    one.learn()
    alone = one.grads()
    assert set(alone) == set(one.parameters())
    assert all(bool(part.any()) for part in alone.values())
    for p in one.parameters().values():
        p.grad = torch.ones_like(p)
    one.learn()
    for key, part in one.grads().items():
        assert torch.allclose(part, 1 + alone[key], rtol=1e-13, atol=1e-13), key
    for key, p in one.parameters().items():
        assert torch.equal(p, weights[key]), f"{key} moved without a commit"


def reports_what_it_saw(case: Case) -> None:
    one = Setup(case)
    report = one.learn()
    assert report.loss.shape == () and report.logits.shape == (len(one.target), 2)
    for part in (report.loss, report.logits):
        assert bool(torch.isfinite(part).all()) and not part.requires_grad
    with torch.no_grad():
        features = one.net(one.xs)
        logits = torch.stack([one.head.logits(h) for h in features]).mean(0)
    assert torch.allclose(report.logits, logits, rtol=0, atol=1e-12)


def is_deterministic_and_leaves_the_world_alone(case: Case) -> None:
    found = []
    for _ in range(2):
        one = Setup(case)
        torch.manual_seed(0)
        before, batch = torch.random.get_rng_state(), one.batch(copy=True)
        xs = batch.xs.clone()
        one.learn(batch)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.equal(batch.xs, xs) and batch.xs.grad is None
        assert torch.is_grad_enabled() and one.net.training and one.head.training
        assert all(p.requires_grad for p in one.parameters().values())
        found.append(one.grads())
    assert all(torch.equal(part, found[1][key]) for key, part in found[0].items())


def is_linear_in_the_batch_where_it_says_so(case: Case) -> None:
    one = Setup(case)
    if not one.rule.facts.linear_in_batch or getattr(case.rule, "k_steps", None):
        return  # SLTT-K is linear for given steps; each batch draws its own
    rows = torch.tensor([3, 70, 200, 9])
    one.learn(one.batch(rows=rows))
    whole = one.grads()
    one.clear()
    for row in rows:
        one.learn(one.batch(rows=row[None]))
    for key, part in one.grads().items():
        assert torch.allclose(part / 4, whole[key], rtol=1e-12, atol=1e-14), key


def resumes_to_the_bit(case: Case) -> None:
    whole = Setup(case)
    whole.train(8)
    first = Setup(case)
    optimizer = first.train(4)
    second = Setup(case, seed=9)
    second.net.load_state_dict(first.net.state_dict())
    second.head.load_state_dict(first.head.state_dict())
    second.rule.load_state_dict(first.rule.state_dict())
    again = torch.optim.Adam(second.parameters().values(), 0.03)
    again.load_state_dict(optimizer.state_dict())
    second.train(4, first=4, optimizer=again)
    for key, p in whole.parameters().items():
        assert torch.equal(p, second.parameters()[key]), key


def has_complete_facts(case: Case) -> None:
    facts = type(case.rule).facts
    assert isinstance(facts, RuleFacts) and case.rule.facts is facts
    assert len(facts.title) > 5 and isinstance(facts.source, Citation)
    assert facts.source.authors and facts.source.title and 1900 < facts.source.year < 2100
    assert facts.order in ("time", "layer", "equilibrium")
    assert facts.memory in ("constant", "linear")
    assert type(case.rule).__doc__ and "Source" in type(case.rule).__doc__


def remembers_as_much_of_the_past_as_it_says(case: Case) -> None:
    """Compare the bytes autograd holds at the worst moment over 4 and over 12 steps."""
    if not case.rule.facts.spiking:
        return
    few, many = (_peak(case, steps) for steps in (4, 12))
    if case.rule.facts.memory == "constant":
        assert many <= few
    else:
        assert many > 2 * few


def _peak(case: Case, steps: int) -> int:
    one = Setup(case, steps=steps)
    live, peak = 0, 0

    class Box:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def freed(size: int) -> None:
        nonlocal live
        live -= size

    def pack(tensor: Tensor) -> Box:
        nonlocal live, peak
        box, size = Box(tensor), tensor.numel() * tensor.element_size()
        weakref.finalize(box, freed, size)
        live += size
        peak = max(peak, live)
        return box

    batch = one.batch(rows=one.rows[:8], copy=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        one.learn(batch)
    return peak


BATTERY = (
    learns_what_frozen_layers_cannot,
    keeps_type_and_device,
    commits_as_often_as_it_says,
    adds_gradients_and_never_zeroes,
    reports_what_it_saw,
    is_deterministic_and_leaves_the_world_alone,
    is_linear_in_the_batch_where_it_says_so,
    resumes_to_the_bit,
    has_complete_facts,
    remembers_as_much_of_the_past_as_it_says,
)
