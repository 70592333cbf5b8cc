"""Check of the memory law: what autograd holds while a rule learns, as T grows."""

import weakref

import torch
from torch import Tensor

from spikeloom.check.outcome import CheckSkipped, require
from spikeloom.check.toy import Case, Toy


def remembers_as_much_of_the_past_as_it_says(case: Case) -> None:
    """Bytes held for the backward pass stay the same from T = 4 to 12, or more than double."""
    if not case.rule.facts.spiking:
        raise CheckSkipped("it trains nets without time")
    few, many = (_peak(case, steps) for steps in (4, 12))
    came = f"autograd held {few} bytes at T = 4 and {many} at T = 12"
    if case.rule.facts.memory == "constant":
        require(many <= few, f"facts.memory says constant, but {came}; free each step's graph")
    else:
        require(many > 2 * few, f"facts.memory says linear, but {came}; say constant")


def _peak(case: Case, steps: int) -> int:
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
