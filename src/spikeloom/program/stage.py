"""One stage of training as typed values: rule, optimizer, schedule, when to stop."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, field_serializer, model_validator

from spikeloom.base.checks import above, at_least, expect, within
from spikeloom.nets.spec.codec import from_table
from spikeloom.program.tables import Strict
from spikeloom.rules.base import RULES, LearningRule, rules_within

MOST = 1e6
"""Largest rate or decay of an optimizer: beyond, its arithmetic overflows float32."""

Decay = Annotated[float, within(0, 1, "[)", "a decay")]
Count = Annotated[int, at_least(1, most=10**9)]

MOST_STEPS = 10**6
"""Largest T: beyond, one batch takes minutes to hours whatever the net."""


class Choice(Strict):
    """Something found by name in a registry, with its options; a bare name is enough."""

    model_config = ConfigDict(extra="allow")
    bare: ClassVar[str | None] = "name"

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything besides the name."""
        return dict(self.model_extra or {})


class Optimizer(Strict):
    """The optimizer: sgd, adam, adamw or radam; a bare name is enough.

    Args:
        name: of the method.
        lr: learning rate before the schedule.
        weight_decay: decoupled in adamw, added to the gradient elsewhere.
        momentum: of sgd.
        betas: decays of the moments of the Adam family.
    """

    bare: ClassVar[str | None] = "name"

    name: Literal["sgd", "adam", "adamw", "radam"] = "adamw"
    lr: Annotated[float, above(0, most=MOST)] = 3e-3
    weight_decay: Annotated[float, at_least(0, most=MOST)] = 0.0
    momentum: Decay = 0.0
    betas: tuple[Decay, Decay] = (0.9, 0.999)

    @model_validator(mode="after")
    def _options_fit(self) -> "Optimizer":
        none = self.momentum == 0 or self.name == "sgd"
        expect(none, "momentum", f"none with {self.name}", self.momentum, "drop it, or use sgd")
        none = self.betas == (0.9, 0.999) or self.name != "sgd"
        expect(none, "betas", "none with sgd", list(self.betas), "use momentum")
        return self

    @property
    def copies(self) -> int:
        """Number of tensors it keeps of every parameter's size."""
        return int(self.momentum > 0) if self.name == "sgd" else 2


class Schedule(Strict):
    r"""Learning rate over a stage of E epochs, as a factor of the optimizer's.

    .. math::
        f(e) = \begin{cases} 1 & \text{constant} \\ \tfrac12 (1 + \cos(\pi e / E)) &
        \text{cosine} \\ factor^{\lfloor e / every \rfloor} & \text{step} \end{cases}
        \qquad \times\; \min(1, p / warmup)

    With `at` the rate of "step" falls at these epochs instead. e is the whole epoch, p the progress
    in epochs at the end of the present batch. A pure function of the position, so that there is no
    state to save.
    """

    bare: ClassVar[str | None] = "name"

    name: Literal["constant", "cosine", "step"] = "cosine"
    every: Count = 1
    at: tuple[Count, ...] = ()
    factor: Annotated[float, within(0, 1, "(]", "a factor")] = 0.1
    warmup: Annotated[float, at_least(0, most=MOST)] = 0.0

    def factor_at(self, epoch: int, progress: float, epochs: int) -> float:
        """Return f.

        Args:
            epoch: whole epochs done, e.
            progress: epochs done at the end of the present batch, p in (e, e + 1].
            epochs: of the stage, E.
        """
        match self.name:
            case "constant":
                value = 1.0
            case "cosine":
                value = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
            case "step":
                falls = sum(epoch >= one for one in self.at) if self.at else epoch // self.every
                value = self.factor**falls
        return value * min(1.0, progress / self.warmup) if self.warmup else value


class _Weights:
    """Reads class weights: "balanced", or a list of numbers."""

    def read(self, value: Any, path: str) -> Any:
        """Return them as the annotation says."""
        if value in (None, "balanced"):
            return value
        numbers = value if isinstance(value, (list, tuple)) else ()
        good = bool(numbers) and all(_is_weight(one) for one in numbers)
        expect(good, path, '"balanced" or a list of numbers above 0, one per class', value)
        return tuple(map(float, numbers))


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST


class Stage(Strict):
    """One way of training for a number of epochs.

    Args:
        rule: learning rule with options.
        steps: T; rules for the ReLU net run at 1 whatever stands here.
        epochs: passes over the training part.
        batch: samples per update; the last batches differ by one sample at most.
        optimizer, schedule: see there.
        clip: largest norm of all gradients together; larger ones are scaled down to it.
        patience: stop after this many epochs in which the task's first metric got no better on the
            validation part.
        freeze_body: train the head alone (a control).
        select: weights kept at the end: of the "last" epoch, or the "best" on validation.
        class_weights: what a sample of each class counts in the loss, one number above 0 per class;
            "balanced" for the inverse of its share of the training part.
    """

    rule: Choice
    steps: Annotated[int, at_least(1, most=MOST_STEPS)] = 6
    epochs: Count = 20
    batch: Count = 64
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    clip: Annotated[float, above(0, most=MOST)] | None = None
    patience: Count | None = None
    freeze_body: bool = False
    select: Literal["last", "best"] = "last"
    class_weights: Annotated[tuple[float, ...] | Literal["balanced"] | None, _Weights()] = None

    @field_serializer("class_weights")
    def _plain(self, value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    @property
    def rule_title(self) -> str:
        """Name of the rule, with those of rules among its options behind it: ``outer(inner)``."""
        _, *inner = (rule.place() for rule, _ in rules_within(self.learning_rule(), ""))
        names = ", ".join(place.removeprefix("rules.") for place in inner)
        return f"{self.rule.name}({names})" if names else self.rule.name

    def learning_rule(self, where: str = "rule") -> LearningRule:
        """Build the rule."""
        return from_table(RULES.find(self.rule.name, where), self.rule.options, where)
