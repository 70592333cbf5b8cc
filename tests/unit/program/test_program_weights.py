"""Class weights: the loss by hand, every head and rule, and where nothing may change."""

from dataclasses import replace

import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import SampleRng
from spikeloom.data import Samples, Splits
from spikeloom.heads.base import HEADS
from spikeloom.heads.losses import batch_mean
from spikeloom.heads.softmax import Softmax
from spikeloom.program.learn import learn
from spikeloom.program.weights import class_weights
from spikeloom.train.loop import train
from trainkit import active, bench, recipe, registered, same, tiny

B, D, K = 6, 5, 4
F64 = torch.float64
HEAD_OPTIONS = [
    ("softmax", {}),
    ("softmax", {"mse": 1.0}),
    ("softmax", {"mse": 0.25, "mse_target": "ones"}),
    *(
        ("stochmax", {"variant": name})
        for name in ("dropmax", "qp", "panda", "determ", "random", "softmax")
    ),
    ("rates", {}),
]
LOOP = '{feedback = [{source = 0, target = 0, layers = "f8", restrict = 0.5}]} f8 f3'
RULES = [
    ("bptt", "c4 P f8 f3"),
    ("sltt", "c4 P f8 f3"),
    ("ottt", "c4 P f8 f3"),
    ("ann", "c4 P f8 f3"),
    ("dsr", "c4 P f8 f3"),
    ("ide", LOOP),
    ("spide", LOOP),
]


def unbalanced(counts=(27, 12, 6)) -> Splits:
    """The tiny set with so many training samples of each class."""
    splits = tiny()
    rows = [(splits.train.y == k).nonzero().flatten() for k in range(3)]
    index = torch.cat(
        [one[torch.arange(n) % len(one)] for one, n in zip(rows, counts, strict=True)]
    )
    return replace(splits, train=splits.train.select(index))


@pytest.mark.parametrize(("name", "options"), HEAD_OPTIONS)
def test_a_weighted_loss_is_the_sum_of_single_ones(name, options):
    """1/B sum of w_b l_b, every l_b from a batch of that sample alone."""
    kind = HEADS.find(name)
    features = K if name == "rates" else D
    head = kind(features, K, **options).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(generator=generator)
    h = torch.rand(B, features, dtype=F64, generator=generator)
    target = torch.tensor([0, 3, 1, 1, 2, 0])
    w = torch.tensor([0.5, 2.0, 1.25, 0.25, 3.0, 1.0], dtype=F64)

    def loss(rows, weights=None):
        rng = SampleRng(0, 0, torch.tensor(rows))
        return head.bind(target[rows], rng, weights)(h[rows]).value.detach()

    expected = sum(float(w[row]) * float(loss([row])) for row in range(B)) / B
    assert float(loss(list(range(B)), w)) == pytest.approx(expected, rel=1e-12)
    assert float(loss(list(range(B)), torch.ones(B))) == pytest.approx(
        float(loss(list(range(B)))), rel=1e-12
    )


def test_divided_by_the_batch_and_not_by_the_weights():
    """Cross entropy of two classes at equal scores is log 2: (3 + 1) log 2 / 2."""
    head = Softmax(2, 2).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    weights = torch.tensor([3.0, 1.0])
    value = head.bind(torch.tensor([0, 1]), None, weights)(torch.rand(2, 2, dtype=F64))
    value = value.value.detach()
    assert float(value) == pytest.approx(2 * torch.log(torch.tensor(2.0, dtype=F64)).item())
    assert float(batch_mean(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0]))) == 4.25


@pytest.mark.parametrize(("rule", "net"), RULES)
def test_a_sample_of_weight_two_is_two_samples(rule, net):
    """The gradient of every rule: B times that with weights is B' times that with repeats."""
    changes = {"net": net, "stages.0.rule": rule, "stages.0.class_weights": [1.0, 2.0, 3.0]}
    if rule == "spide":
        changes["stages.0.rule"] = {"name": "spide", "scale": 64.0}  # its own follows the batch
    weighted = active(changes)
    plain = active(changes | {"stages.0.class_weights": None})

    def gradients(one, index):
        one.set_training()
        batch = one.batch(one.splits.train, index, epoch=0, part="train")
        learn(one, batch, lambda: None)
        return {name: len(index) * p.grad for name, p in one.parameters() if p.grad is not None}

    index = torch.arange(9)
    y = weighted.splits.train.y[index]
    ours = gradients(weighted, index)
    theirs = gradients(plain, index.repeat_interleave(y + 1))
    assert ours.keys() == theirs.keys() and any(bool(one.any()) for one in ours.values())
    tolerance = 0.05 if rule == "spide" else 1e-9  # its spikes come in whole steps
    for name, gradient in ours.items():
        scale = float(theirs[name].abs().max()) or 1.0
        assert float((gradient - theirs[name]).abs().max()) <= tolerance * scale, name


class TestBalanced:
    def test_by_hand(self):
        stage = recipe({"stages.0.class_weights": "balanced"}).last
        weights = class_weights(stage, unbalanced((27, 12, 6)))
        assert torch.equal(weights, torch.tensor([45 / 81, 45 / 36, 45 / 18], dtype=F64))
        assert float((weights * torch.tensor([27, 12, 6])).sum()) == pytest.approx(45)

    def test_a_class_without_training_samples(self):
        stage = recipe({"stages.0.class_weights": "balanced"}).last
        weights = class_weights(stage, unbalanced((30, 10, 0)))
        assert torch.equal(weights, torch.tensor([40 / 60, 40 / 20, 0], dtype=F64))

    def test_balanced_data_change_no_bit(self):
        plain = train(recipe(), splits=tiny())
        same_share = train(recipe({"stages.0.class_weights": "balanced"}), splits=tiny())
        ones = train(recipe({"stages.0.class_weights": [1, 1, 1]}), splits=tiny())
        states = [one.bench.modules().state_dict() for one in (plain, same_share, ones)]
        assert same(states[0], states[1]) and same(states[0], states[2])
        losses = [[epoch.loss for epoch in one.record.curve] for one in (plain, same_share)]
        assert losses[0] == losses[1]

    def test_unbalanced_data_change_the_run(self):
        plain = train(recipe(), splits=unbalanced())
        weighed = train(recipe({"stages.0.class_weights": "balanced"}), splits=unbalanced())
        states = [one.bench.modules().state_dict() for one in (plain, weighed)]
        assert not same(*states)
        stored = weighed.record.recipe["stages"][0]["class_weights"]
        assert stored == "balanced"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("even", 'stages.0.class_weights: expected "balanced" or a list of numbers above 0'),
        ([], "one per class, got []; change it"),
        ([1, 0, 2], "got [1, 0, 2]; change it"),
        ([1, True, 2], "expected"),
        ({"a": 1}, "expected"),
        ([1, 2], "stages.0.class_weights: expected 3 numbers, one per class of data"),
    ],
)
def test_what_is_refused(value, message):
    with pytest.raises(ConfigError) as caught:
        bench({"stages.0.class_weights": value})
    assert message in str(caught.value)


def test_a_head_that_takes_no_weights():
    class Own(Softmax):
        def loss(self, h, target, *, noise, ops):
            return super().loss(h, target, noise=noise, ops=ops)

    with registered(HEADS, "own", Own):
        assert bench({"head": "own"}).class_weights is None
        with pytest.raises(ConfigError, match="expected a head whose loss takes weights"):
            bench({"head": "own", "stages.0.class_weights": [1, 2, 3]})


def test_samples_are_what_the_data_room_says():
    assert isinstance(unbalanced().train, Samples) and len(unbalanced((3, 2, 1)).train) == 6
