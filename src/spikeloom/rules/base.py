"""What a learning rule is, what it promises, and what it reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from spikeloom.base.citation import Citation
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.fields import Checked
from spikeloom.base.registry import Registry
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Objective

RULES: Registry[type["LearningRule"]] = Registry(
    "learning rule", "spikeloom.rules", ("facts", "trials", "prepare", "learn")
)

Commit = Callable[[], None]


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
        gathers: whether, where it is not, it asks the other processes of a run for what it needs
            (`Batch.across`), so that shares add up to the batch's update after all.
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
        variants: options that deserve a whole battery of their own; a rule with options that have
            no default needs one.
        trained: nets that look hard and must be trained.
        refused: nets and options that must be refused.
        body: hidden layers of the net the battery trains, as text.
        epochs: updates of all weights the battery grants on its small task.
    """

    variants: tuple[Mapping[str, Any], ...] = ()
    trained: tuple[Trial, ...] = ()
    refused: tuple[Trial, ...] = ()
    body: str = "f12 f8"
    epochs: int = 120


TIME_MEAN = 'c4 c4{unit="relu"} G f2'
"""A net whose last block reads the time mean."""
NO_STEPS = Trial(TIME_MEAN, "expected features at every step, but block 1 reads the time mean")
"""What `refuse_tail` must say."""


@dataclass(frozen=True)
class RuleReport:
    """What one call of `learn` did.

    Args:
        loss: of the batch.
        logits: of the batch.
        notes: figures the rule has of itself, by name; their means over an epoch are recorded.
        cautions: what a user should know of it; the loop says each sentence once.

    Shape:
        loss: []; logits: [B, K], the prediction over the whole sequence.
    """

    loss: Tensor
    logits: Tensor
    notes: Mapping[str, float] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()


class LearningRule(Checked):
    """Base of all rules: a frozen dataclass of options plus `learn`.

    `learn` leaves the update direction in ``.grad`` (accumulating, never zeroing) and calls
    `commit` whenever an update is due. `commit` belongs to the loop: it checks the gradients,
    steps the optimizer, projects and zeroes. `facts` say what the rule promises, `trials` what it
    is tried on; the battery of `spikeloom check rule` holds it to both.
    """

    facts: ClassVar[RuleFacts]
    trials: ClassVar[Trials] = Trials()

    @classmethod
    def place(cls) -> str:
        """Return how messages name the rule: as it is registered."""
        names = [name for name in RULES.names() if RULES.find(name) is cls]
        return f"rules.{names[0] if names else cls.__name__}"

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Check that the net can be trained and set up what the rule owns.

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

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what is trained and owned by the rule itself."""
        return ()

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Learn from one batch."""
        raise NotImplementedError

    def project(self) -> None:
        """Bring parameters back into their bounds; runs after each update."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the rule remembers between batches."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what the rule remembers."""


def refuse_tail(net: SpikingNet, rule: str) -> None:
    """Refuse nets whose last blocks read the time mean, for rules with a loss at every step.

    Raises:
        UnsupportedNet: there is such a block.
    """
    if net.spec.tail is not None:
        raise UnsupportedNet(
            f"rules.{rule}: expected features at every step, but block {net.spec.tail} reads the "
            "time mean; set reads = 'step' on it or train with bptt."
        )
