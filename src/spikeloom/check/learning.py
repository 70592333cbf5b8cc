"""The one check of substance: hidden layers must learn."""

import inspect
from pathlib import Path

import torch

from spikeloom.check.outcome import CheckSkipped, require
from spikeloom.check.toy import Case, Toy, idle_layers

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
    idle = idle_layers(toy)
    require(not idle, f"layers {', '.join(idle)} got a gradient of zeros; {_where(case)}")
    whole = Toy(case)
    epochs, accuracy = _train_until_solved(whole, rule.trials.epochs)
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
    require(
        accuracy > SOLVED,
        f"expected an accuracy above {SOLVED:.0%} after {epochs} updates, got {accuracy:.0%} "
        f"({alone:.0%} with hidden layers frozen); {_where(case)}",
    )


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
