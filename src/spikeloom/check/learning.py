"""The checks of substance: hidden layers must learn."""

import dataclasses

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
    toy.require_movement()
    whole = Toy(case)
    epochs, accuracy = _train_until_solved(whole, rule.trials.epochs)
    came = f"{accuracy:.0%} after {epochs} updates"
    if case.kernels == "reference":  # the task proves itself once, whatever the kernels
        came += f" ({_alone(case, epochs):.0%} with hidden layers frozen)"
    todo = "mind the equation's sign and size, or raise trials.epochs"
    require(accuracy > SOLVED, "the accuracy", f"above {SOLVED:.0%}", came, todo)


def _alone(case: Case, epochs: int) -> float:
    """Return the accuracy of the head alone, which must be low."""
    frozen = Toy(case)
    start = frozen.weights()
    frozen.train(epochs, frozen=True)
    for name, p in frozen.weights().items():
        moved, head = not torch.equal(p, start[name]), name.startswith("head.")
        came, todo = f"one that {'moved' if moved else 'stays'}", "move weights by commit alone"
        require(moved == head, name, "the head to move alone where it is trained alone", came, todo)
    alone = frozen.accuracy()
    todo = "choose a smaller trials.body: the task proves nothing"
    require(alone < CHANCE, "the head alone", f"below {CHANCE:.0%}", f"{alone:.0%}", todo)
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
    words, todo = "the same with other labels", "read no labels, or say needs_labels=True"
    agree(_of_body(toy.update(other)), expected, words, todo, rtol=0, atol=0)
    toy.rewind()
    toy.learn(batch)
    toy.require_movement()
    toy.rewind()
    few = _of_body(toy.update(toy.batch(rows=toy.rows[:7])))
    moved = any(not torch.equal(few[name], value) for name, value in expected.items())
    todo = "let the input decide what is learned"
    require(moved, "hidden layers", "other changes for other samples", "the same", todo)
    toy.train(BETWEEN_LOOKS)
    toy.require_finite(toy.weights())


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
