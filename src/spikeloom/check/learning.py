"""The checks of substance: hidden layers must learn."""

import dataclasses
import inspect
from pathlib import Path

import torch

from spikeloom.check.outcome import CheckSkipped, agree, require
from spikeloom.check.prepared import Values
from spikeloom.check.toy import Case, Toy

CHANCE, SOLVED = 0.75, 0.98
"""Accuracies: what random hidden layers stay below, and what counts as solved (chance is 0.5)."""

BETWEEN_LOOKS = 20
"""Epochs after which the accuracy is looked at: a task that is solved is trained no longer, and a
net with frozen layers just as long."""


def learns_what_frozen_layers_cannot(case: Case) -> None:
    """The rule solves a task that stays unsolved with hidden layers frozen."""
    rule = case.rule
    if not rule.facts.needs_labels:
        raise CheckSkipped("it learns without labels; a classifier's task says nothing about it")
    toy = Toy(case)
    toy.learn()
    idle = toy.idle_layers()
    require(not idle, f"layers {', '.join(idle)} got a gradient of zeros; {_where(case)}")
    whole = Toy(case)
    epochs, accuracy = _train_until_solved(whole, rule.trials.epochs)
    if case.kernels == "reference":  # the task proves itself once, whatever the kernels
        alone = f" ({_alone(case, epochs):.0%} with hidden layers frozen)"
    else:
        alone = ""
    require(
        accuracy > SOLVED,
        f"expected an accuracy above {SOLVED:.0%} after {epochs} updates, got {accuracy:.0%}"
        f"{alone}; {_where(case)}",
    )


def _alone(case: Case, epochs: int) -> float:
    """Return the accuracy of the head alone, which must be low."""
    frozen = Toy(case)
    start = {name: p.detach().clone() for name, p in frozen.parameters().items()}
    frozen.train(epochs, frozen=True)
    for name, p in frozen.parameters().items():
        moved = not torch.equal(p, start[name])
        require(
            moved == name.startswith("head."),
            f"with the head alone in the optimizer, {name} {'moved' if moved else 'did not move'}",
        )
    alone = frozen.accuracy()
    require(
        alone < CHANCE,
        f"the task proves nothing: the accuracy is {alone:.0%} with hidden layers frozen; choose "
        "a smaller trials.body",
    )
    return alone


def learns_without_labels_if_it_says_so(case: Case) -> None:
    """Without labels, every hidden layer moves with the input, whatever the labels, and is finite.

    Whether what it learns is of any use is not judged. The head may learn from labels.
    """
    if case.rule.facts.needs_labels:
        raise CheckSkipped("facts.needs_labels is True")
    toy = Toy(case)
    batch = toy.batch()
    expected = _of_body(toy.update(batch))
    toy.rewind()
    other = dataclasses.replace(batch, target=1 - batch.target.roll(1))
    why = "depends on the labels, though facts.needs_labels is False"
    agree(_of_body(toy.update(other)), expected, why, rtol=0, atol=0)
    toy.rewind()
    toy.learn(batch)
    idle = toy.idle_layers()
    require(not idle, f"layers {', '.join(idle)} got no gradient; {_where(case)}")
    toy.rewind()
    few = _of_body(toy.update(toy.batch(rows=toy.rows[:7])))
    moved = any(not torch.equal(few[name], value) for name, value in expected.items())
    require(moved, "hidden layers learn the same from any samples")
    toy.train(BETWEEN_LOOKS)
    for name, value in toy.weights().items():
        finite = bool(torch.isfinite(value).all())
        require(finite, f"{name} number {BETWEEN_LOOKS} is no longer finite")


def _of_body(values: Values) -> Values:
    return {name: value for name, value in values.items() if name.startswith(("net.", "rule."))}


def _train_until_solved(toy: Toy, most: int) -> tuple[int, float]:
    """Train for `most` epochs, or fewer if that does; return how many, and the accuracy."""
    done, accuracy, optimizer = 0, 0.0, None
    while done < most and accuracy <= SOLVED:
        epochs = min(BETWEEN_LOOKS, most - done)
        optimizer = toy.train(epochs, first=done, optimizer=optimizer)
        done, accuracy = done + epochs, toy.accuracy()
    return done, accuracy


def _where(case: Case) -> str:
    """Say where the rule's equation belongs."""
    learn = inspect.unwrap(type(case.rule).learn)
    line = learn.__code__.co_firstlineno
    return f"write the rule's equation in learn, {Path(learn.__code__.co_filename).name}:{line}"
