"""What a learning rule is, what it promises, and what it reports."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.fields import FAMILIES, Checked, Family
from spikeloom.base.registry import Registry
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Objective
from spikeloom.rules.commit import Commit, PlainCommit
from spikeloom.rules.memory import Memory

_NEEDS = ("facts", "trials", "prepare", "learn")

RULES: Registry[type["LearningRule"]] = Registry("learning rule", "spikeloom.rules", _NEEDS)


@dataclass(frozen=True)
class RuleFacts:
    """What can be said about a rule without running it.

    Args:
        title: full name.
        source: where it comes from.
        order: how it runs the net.
        memory: law of training memory in the number of steps T.
        online: whether it learns while the input is still arriving.
        spiking: whether it trains spiking nets; a rule for the ReLU net of the spec says no.
        linear_in_batch: whether the update of a batch is the mean of its samples' updates.
        gathers: whether a rule that is not linear asks the other processes of a run for what it
            needs (`Batch.across`), so that all together make the update of the whole batch.
        needs_labels: whether it needs targets.
    """

    title: str
    source: Citation
    order: Literal["time", "layer", "equilibrium"]
    memory: Literal["constant", "linear"]
    online: bool = False
    spiking: bool = True
    linear_in_batch: bool = True
    gathers: bool = False
    needs_labels: bool = True


@dataclass(frozen=True)
class Trial:
    """A net put before a rule: it must train it, or refuse it.

    Args:
        net: as text, readout included; its input is two maps of 4x4.
        refusal: words of the refusal after ``rules.<name>``; empty where the rule must train it.
        options: of the rule; bad ones may be what is refused.
        steps: T.
    """

    net: str = "c4 f2"
    refusal: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 4


@dataclass(frozen=True)
class Trials:
    """What the battery (`spikeloom check rule`) puts before a rule, besides its defaults.

    Args:
        variants: options for which the whole battery is run again; a rule with an option that has
            no default needs one.
        trained: nets that must be trained, the unusual ones.
        refused: nets and options that must be refused.
        body: hidden layers of the net the battery trains, as text.
        epochs: updates that the rule may take to solve the battery's small task.
    """

    variants: tuple[Mapping[str, Any], ...] = ()
    trained: tuple[Trial, ...] = ()
    refused: tuple[Trial, ...] = ()
    body: str = "f12 f8"
    epochs: int = 120


TIME_MEAN = 'c4 c4{unit="relu"} G f2'
"""A net whose last block reads the time mean."""
NO_STEPS = Trial(TIME_MEAN, "expected features at every step, got block 1, which reads the time")
"""What `refuse_tail` must say."""


@dataclass(frozen=True)
class RuleReport:
    """What one call of `learn` did.

    Args:
        loss: of the batch.
        logits: of the batch.
        notes: figures of the rule, by name; their means over an epoch are recorded.
        cautions: sentences for the user; the loop says each of them once.

    Shape:
        loss: []; logits: [B, K], the prediction over the whole sequence.
    """

    loss: Tensor
    logits: Tensor
    notes: Mapping[str, float] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()


class _Facts:
    """Facts: of a class as they are written, of an instance as its options refine them."""

    def __init__(self, static: RuleFacts) -> None:
        self.static = static

    def __get__(self, rule: "LearningRule | None", kind: type) -> RuleFacts:
        return self.static if rule is None else rule.refined(self.static)


class LearningRule(Checked):
    """Base of all rules: a frozen dataclass of options plus `learn`; it has no state.

    `learn` leaves the update direction in ``.grad`` (accumulating, never zeroing) and calls
    `commit` whenever an update is due. `commit` belongs to the loop: it checks the gradients,
    steps the optimizer, projects and zeroes. What a rule remembers is a `Memory`: `prepare` makes
    the first one, `commit.memory` is the present one, ``commit(memory=...)`` takes the next.
    `facts` say what the rule promises, `trials` what it is tried on; the battery of
    `spikeloom check rule` holds it to both.

    The first `learn` prepares a net that `prepare` has not seen, so a net that the rule cannot
    train never gets a gradient.
    """

    facts: ClassVar[RuleFacts]
    trials: ClassVar[Trials] = Trials()

    def __init_subclass__(cls, **options: Any) -> None:
        """Wrap `learn` and `prepare` of a subclass, and refuse the form of version 1."""
        super().__init_subclass__(**options)
        own = vars(cls)
        _refuse_older_form(cls)
        if isinstance(own.get("facts"), RuleFacts):
            cls.facts = _Facts(own["facts"])  # pyright: ignore[reportAttributeAccessIssue]
        if "prepare" in own:
            cls.prepare = _recorded(own["prepare"])
        if "learn" in own:
            cls.learn = _guarded(own["learn"])

    @classmethod
    def place(cls) -> str:
        """Return how messages name the rule: as it is registered."""
        names = [name for name in RULES.names() if RULES.find(name) is cls]
        return f"rules.{names[0] if names else cls.__name__}"

    def refined(self, facts: RuleFacts) -> RuleFacts:
        """Return the facts of this instance, where options change those of the class."""
        return facts

    def sources(self) -> tuple[Citation, ...]:
        """Return the publications behind this instance."""
        return (self.facts.source,)

    def prepare(
        self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch
    ) -> Memory | None:
        """Check that the net can be trained, and return the first memory with all its leaves.

        A rule without memory need not return one: whoever calls it gets an empty one.

        Raises:
            UnsupportedNet: it cannot; the message says why and what to change.
        """

    def cautions(self, net: SpikingNet, steps: int) -> Iterable[str]:
        """Return what a user should know before training T steps, for screen and record."""
        return ()

    @property
    def loss_at(self) -> Literal["end", "step"]:
        """Where the loss stands: on the features reduced over T, or at every step."""
        return "step"

    def commits(self, steps: int) -> int:
        """Return how many updates `learn` makes for a batch of `steps` time steps."""
        return 1

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Learn from one batch."""
        raise NotImplementedError

    def parameters(self, memory: Memory) -> Iterable[nn.Parameter]:
        """Return what of the memory an optimizer trains."""
        return memory.parameters()

    def project(self, net: SpikingNet, memory: Memory) -> None:
        """Bring parameters back into their bounds; runs after each update."""

    def accepts(self, before: "LearningRule") -> bool:
        """Whether a stage with this rule goes on with the memory of the stage before."""
        return type(before) is type(self)


FAMILIES[LearningRule] = Family(RULES, _NEEDS)


def _recorded(prepare: Any) -> Any:
    """Make `prepare` return a memory in any case, and note the rule in the net."""

    @wraps(prepare)
    def call(
        self: LearningRule, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch
    ) -> Memory:
        memory = prepare(self, net, head_sites, sample)
        if self not in net.prepared:
            net.prepared.append(self)
        return Memory() if memory is None else memory

    return call


LearningRule.prepare = _recorded(LearningRule.prepare)


def _guarded(learn: Any) -> Any:
    """Make `learn` prepare a net that is new to its rule, and take any function as commit."""

    @wraps(learn)
    def call(
        self: LearningRule, net: SpikingNet, batch: Batch, objective: Objective, commit: Any
    ) -> RuleReport:
        if self not in net.prepared:
            if not hasattr(objective, "sites"):
                expected = (
                    "a net that this rule has prepared, or an objective with its head's sites"
                )
                todo = "call rule.prepare(net, head.sites, batch) once before you train"
                raise UnsupportedNet.of(self.place(), expected, "neither", todo)
            self.prepare(net, objective.sites, batch)
        if not isinstance(commit, Commit):
            commit = PlainCommit(commit, self)
        return learn(self, net, batch, objective, commit)

    return call


_OLDER = {
    "state_dict": "return a Memory from prepare and go on with commit(memory=...)",
    "load_state_dict": "leave it out: a Memory is restored by its names",
}


def _refuse_older_form(cls: type) -> None:
    """Refuse a rule in the form of version 1, whose memory would be lost.

    Raises:
        ConfigError: it has a state of its own, facts that are no value, or lacks an argument.
    """
    own, where = vars(cls), f"rules.{cls.__name__}"
    for name, todo in _OLDER.items():
        if name in own:
            raise ConfigError.of(where, "memory as a value", name, todo)
    for name, arguments in {"parameters": ["memory"], "project": ["net", "memory"]}.items():
        if name in own and len(inspect.signature(own[name]).parameters) != 1 + len(arguments):
            wanted = f"{name}(self, {', '.join(arguments)})"
            raise ConfigError.of(where, wanted, "other arguments", "add them")
    if isinstance(own.get("facts"), property) or inspect.isroutine(own.get("facts")):
        todo = "put what options change into refined(self, facts)"
        raise ConfigError.of(f"{where}.facts", "RuleFacts on the class", "a function", todo)


def rules_within(rule: LearningRule, path: str) -> Iterator[tuple[LearningRule, str]]:
    """Yield a rule and those among its options, with the path at which a recipe sets each."""
    yield rule, path
    for option in fields(rule) if is_dataclass(rule) else ():
        value = getattr(rule, option.name)
        if isinstance(value, LearningRule):
            yield from rules_within(value, f"{path}.{option.name}")


def refuse_tail(net: SpikingNet, rule: str) -> None:
    """Refuse nets whose last blocks read the time mean, for rules with a loss at every step.

    Raises:
        UnsupportedNet: there is such a block.
    """
    if net.spec.tail is not None:
        came = f"block {net.spec.tail}, which reads the time mean"
        todo = "set reads = 'step' on it or train with bptt"
        raise UnsupportedNet.of(f"rules.{rule}", "features at every step", came, todo)
