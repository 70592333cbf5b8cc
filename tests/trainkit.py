"""A tiny data set and recipes for it; a run takes a few hundredths of a second."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.registry import Registry
from spikeloom.data import Splits, splits_from_tensors
from spikeloom.program.recipe import Recipe, build_recipe
from spikeloom.program.setup import Workbench, set_up
from spikeloom.program.tables import override
from spikeloom.records.part import Part

TABLE: dict[str, Any] = {
    "name": "tiny",
    "net": "c4 P f3",
    "data": "digits",  # stands in the record; the runs get `tiny()`
    "stages": [
        {"rule": "bptt", "steps": 2, "epochs": 2, "batch": 20, "optimizer": {"lr": 0.01}},
    ],
}

NETS = {
    "plain": {"net": "c4 P f8 f3"},
    "backres": {"net": "c4 P [c4]x2 f8 f3"},
    "norm": {"net": 'c4{norm = "batch_step", dropout = 0.2} P f3'},
    "hybrid": {"net": 'c4{unit = "relu"} P f8 f3'},
    "tail": {"net": 'c4 P f8{unit = "relu"} f3'},
    "feedback": {
        "net": '{feedback = [{source = 1, target = 0, layers = "f8{unit = \\"none\\"}"}]} f8 f6 f3'
    },
    "filtered": {"net": "{input_psp = {decay = 0.5, scale = 0.5}} c4 P f3"},
    "topk": {"net": '[c2]x2{fit = "topk"} f3'},
    "stochmax": {"net": "c4 f3", "head": "stochmax"},
    "count": {"net": "c4 f3", "head": {"name": "softmax", "reduce": "count"}},
    "membrane": {"net": "c4 f3", "head": {"name": "softmax", "reduce": "membrane"}},
    "weighted": {"net": "c4 f3", "head": {"name": "softmax", "reduce": "weighted"}},
    "last": {"net": "c4 f3", "head": {"name": "softmax", "reduce": "last"}},
    "tail, count": {
        "net": 'c4 P f8{unit = "relu"} f3',
        "head": {"name": "softmax", "reduce": "count"},
    },
}
"""Changes to TABLE: what a net, its encoder or its head may differ in over time."""


def tiny(seed: int = 0, shape: tuple[int, ...] = (1, 4, 4)) -> Splits:
    """45 training samples of three classes, 15 for validation and 30 for the test."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(90) % 3
    x = 0.3 * torch.rand(90, *shape, generator=generator)
    x += 0.7 * (y.view(-1, *[1] * len(shape)) == torch.arange(shape[-1]) % 3)
    return splits_from_tensors(x, y, test=30, validation=15)


def recipe(changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of TABLE with changes by dotted path."""
    table = TABLE
    for path, value in (changes or {}).items():
        table = override(table, path, value, "test")
    return build_recipe(table, "test")


def bench(changes: Mapping[str, Any] | None = None, splits: Splits | None = None) -> Workbench:
    return set_up(recipe(changes), splits or tiny())


def active(changes, splits=None):
    """A bench in float64 whose layers all fire."""
    torch.manual_seed(0)
    one = bench({"precision": "64-true", "stages.0.steps": 5} | changes, splits)
    with torch.no_grad():
        for site in one.net.sites:
            if site.spec.weighted:
                site.synapse.weight.abs_().mul_(1.5)
    return one


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors agree to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def without_times(record: Mapping[str, Any] | Part) -> dict[str, Any]:
    """A run's record as JSON, but for what a clock or an allocator's start decides."""
    record = record.table() if isinstance(record, Part) else dict(record)
    record.pop("train_seconds")
    timed = ("training", "inference")
    if "costs" in record:
        record["costs"] = {key: part for key, part in record["costs"].items() if key not in timed}
    for rows in ("curve", "stages"):
        record[rows] = [
            {key: part for key, part in entry.items() if key != "seconds"} for entry in record[rows]
        ]
    return record


@contextmanager
def registered(registry: Registry[Any], name: str, member: Any) -> Iterator[None]:
    """Keep a member in a registry inside the block only."""
    registry.names()
    registry.register(name)(member)
    try:
        yield
    finally:
        del registry._members[name]
