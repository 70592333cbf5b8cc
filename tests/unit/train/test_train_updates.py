"""Training as the library does it is a plain loop over reference gradients, weight for weight.

Every registered rule with every variant trains nets with every kind of layer (`check.nets`), under
layouts, kernels and optimizers in turn. The battery tries each rule on all of the nets; here the
way through recipe, `make_optimizer` and `TrainingCommit` is tried on a part of them for each rule.
"""

from dataclasses import fields
from functools import cache
from itertools import islice, product
from typing import get_args

import pytest
import torch

from spikeloom.base.errors import ShapeError
from spikeloom.check.battery import all_cases
from spikeloom.check.nets import LAYERS, MAPS, specs_for
from spikeloom.data import splits_from_tensors
from spikeloom.nets.spec.grammar import write
from spikeloom.nets.spec.layer import Kind, Norm
from spikeloom.program.batching import batches
from spikeloom.program.learn import learn
from spikeloom.program.setup import make_optimizer, set_up
from spikeloom.rules.base import RULES
from spikeloom.train.commit import TrainingCommit
from trainkit import recipe

pytestmark = pytest.mark.long

PLAIN = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "radam": torch.optim.RAdam,
}
HOW = [
    {"kernels": kernels, "layout": layout, "memory": memory}
    for kernels, layout, memory in product(
        ("compiled", "reference"), ("auto", "rows", "channels_last"), ("plain", "saving")
    )
]
REFERENCE = {"kernels": "reference", "layout": "rows", "memory": "plain"}
WAYS = list(product(HOW, PLAIN))
CASES = all_cases()
EVERY = 3
"""A rule trains every third net, another third than its neighbours."""


@cache
def nets(row):
    """Return the nets that a rule trains, by name."""
    return dict(specs_for(CASES[row]))


def chosen(row):
    """Yield the nets on which a rule is tried here, each with how it is computed."""
    for place, (name, spec) in enumerate(islice(nets(row).items(), row % EVERY, None, EVERY)):
        yield name, spec, WAYS[(7 * row + 5 * place) % len(WAYS)]


def small():
    draw = torch.Generator().manual_seed(4)
    x, y = torch.rand(30, *MAPS, generator=draw), torch.arange(30) % 2
    return splits_from_tensors(x, y, test=6, validation=6)


def bench_of(case, spec, how, optimizer):
    options = {one.name: getattr(case.rule, one.name) for one in fields(case.rule)}
    table = {
        "net": {"text": write(spec)},
        "precision": "64-true",
        "execution": how,
        "stages.0.rule": {"name": case.name} | {k: v for k, v in options.items() if v is not None},
        "stages.0.steps": 4,
        "stages.0.batch": 6,
        "stages.0.optimizer": {"name": optimizer, "lr": 0.02, "weight_decay": 0.01},
    }
    return set_up(recipe(table), small())


def order(one):
    train = one.splits.train
    for number, index in enumerate(batches(len(train), one.stage.batch, seed=7)):
        yield index, one.batch(train, index, epoch=0, part="train", number=number)


def trained(one):
    """Train an epoch as the library does; return the weights after each batch."""
    named = one.parameters()
    commit = TrainingCommit(one, make_optimizer(one.stage.optimizer, [p for _, p in named]))
    for index, batch in order(one):
        commit.begin(batch, len(index))
        learn(one, batch, commit)
        yield {name: value.clone() for name, value in one.modules().state_dict().items()}


def by_hand(one, name):
    """Train the same epoch with torch's plain optimizer on dense copies of the gradients."""
    weights = [p for _, p in one.parameters()]
    options = {"momentum": 0.0} if name == "sgd" else {"betas": (0.9, 0.999), "eps": 1e-8}
    plain = {"foreach": False} | ({} if name == "radam" else {"fused": False})
    optimizer = PLAIN[name](weights, lr=0.02, weight_decay=0.01, **options, **plain)

    def commit():
        for weight in weights:
            assert weight.is_contiguous()
            if weight.grad is not None:
                weight.grad = weight.grad.clone(memory_format=torch.contiguous_format)
        optimizer.step()
        one.net.project()
        one.rule.project(one.net, one.memory)
        optimizer.zero_grad()

    for _, batch in order(one):
        one.rule.learn(one.net, batch, one.head.bind(batch.target, batch.rng), commit)
        yield one.modules().state_dict()


@pytest.mark.parametrize("row", range(len(CASES)), ids=[str(case) for case in CASES])
def test_every_update_is_the_plain_one(row):
    case = CASES[row]
    for name, spec, (how, optimizer) in chosen(row):
        mine = trained(bench_of(case, spec, how, optimizer))
        theirs = by_hand(bench_of(case, spec, REFERENCE, optimizer), optimizer)
        for number, (found, expected) in enumerate(zip(mine, theirs, strict=True)):
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                where = f"{name}, {how}, {optimizer}: {key} after batch {number + 1}"
                assert torch.allclose(found[key], value, rtol=1e-8, atol=1e-9), where
        assert number == 2


def test_nothing_is_left_out():
    """Of kinds of layers, of norms, of optimizers and of ways to compute a net."""
    found = [spec for row in range(len(CASES)) for spec in nets(row).values()]
    layers = [layer for spec in found for block in spec.blocks for layer in block.layers]
    assert {layer.kind for layer in layers} == set(get_args(Kind))
    assert {layer.norm for layer in layers} == set(get_args(Norm))
    assert {case.name for case in CASES} == set(RULES.names())
    used = [way for row in range(len(CASES)) for _, _, way in chosen(row)]
    assert {name for _, name in used} == set(PLAIN)
    assert all(how in [one for one, _ in used] for how in HOW)

    assert {name for row in range(len(CASES)) for name, _, _ in chosen(row)} == set(LAYERS)


def test_a_rule_trains_most_kinds_of_layers():
    for row in range(len(CASES)):
        assert len(nets(row)) > 0.7 * len(LAYERS), CASES[row]


def test_a_gradient_in_another_layout_than_its_weight_is_refused():
    """A plug-in rule may write `.grad` itself; fused optimizers would scramble it in silence."""
    case = next(case for case in CASES if case.name == "bptt")
    one = bench_of(case, nets(CASES.index(case))["convolution"], REFERENCE, "adamw")
    commit = TrainingCommit(
        one, make_optimizer(one.stage.optimizer, [p for _, p in one.parameters()])
    )
    weight = one.net.sites[1].synapse.weight
    weight.grad = torch.ones_like(weight).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ShapeError, match=r"rules.bptt: expected the gradient of 'net.*set gradien"):
        commit()
