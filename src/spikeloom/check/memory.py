"""Check of the memory law: what a rule takes while it learns, as T grows."""

import weakref
from functools import partial

import torch
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.check.outcome import CheckSkipped, Places, require
from spikeloom.check.toy import Case, Toy
from spikeloom.meters.peak import peak_allocated
from spikeloom.neurons.base import Unit
from spikeloom.neurons.leaky import LIF

WAITS = LIF(alpha=0.5, refractory=1)
"""Neurons with two states, which a compiled step carries in another form than one."""

CONSTANT = "the same memory at every T for 'constant'"
FREE = "free each step's graph and keep none of its tensors, or say linear"

AGAIN = 2
"""Times that differing peaks are measured again: when Python's collector comes moves a few bytes.
What a rule keeps of every step is there each time."""


def remembers_as_much_of_the_past_as_it_says(case: Case) -> Places:
    """Bytes held for the backward pass stay the same from T = 4 to 12, or more than double.

    What is constant is so in all its memory too, on compiled kernels, for every kind of state.
    """
    if not case.rule.facts.spiking:
        raise CheckSkipped("it trains nets without time")
    yield "autograd", partial(_keeps_its_law, case)
    if case.rule.facts.memory == "constant" and case.kernels == "compiled":
        for unit in (LIF(alpha=0.5), WAITS):
            yield f"all memory, {unit}", partial(_takes_the_same, case, unit)


def _keeps_its_law(case: Case) -> None:
    few, many = (_held(case, steps) for steps in (4, 12))
    came = f"{few} bytes in autograd at T = 4 and {many} at T = 12"
    if case.rule.facts.memory == "constant":
        require(many <= few, "facts.memory", CONSTANT, came, FREE)
        return
    if many <= 2 * few:  # a rule without autograd keeps its trains elsewhere
        few, many = (_taken(case, steps, LIF(alpha=0.5)) for steps in (4, 12))
        came += f", and {few} and {many} in all"
    require(many > 2 * few, "facts.memory", "more memory with T for 'linear'", came, "say constant")


def _takes_the_same(case: Case, unit: Unit) -> None:
    try:
        few, many = (_taken(case, steps, unit) for steps in (8, 24))
    except UnsupportedNet:
        return  # the rule takes no such neurons
    for _ in range(AGAIN):
        if many > few:
            few = max(few, _taken(case, 8, unit))
            many = min(many, _taken(case, 24, unit))
    came = f"{few} bytes in kernels of {unit} at T = 8 and {many} at T = 24"
    require(many <= few, "facts.memory", CONSTANT, came, FREE)


def _taken(case: Case, steps: int, unit: Unit) -> int:
    """Return the peak of a rule's memory on compiled kernels, its input left out."""
    toy = Toy(case, steps=steps, unit=unit)
    batch = toy.batch(rows=toy.rows[:8], copy=True)
    toy.learn(batch)  # gradients are there, kernels are compiled
    return peak_allocated(lambda: toy.learn(batch))


def _held(case: Case, steps: int) -> int:
    """Return the most bytes that saved tensors hold at one time."""
    toy = Toy(case, steps=steps)
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

    batch = toy.batch(rows=toy.rows[:8], copy=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        toy.learn(batch)
    return peak
