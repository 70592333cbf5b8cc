"""From a recipe to live objects: batches, optimizers, schedules, and what does not fit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spikeloom.base.errors import ConfigError, DataError, ShapeError, SpikeloomError
from spikeloom.data import splits_from_tensors
from spikeloom.program.batching import batches, fewest_samples
from spikeloom.program.fabric import make_fabric
from spikeloom.program.learn import learn
from spikeloom.program.setup import make_optimizer, set_up
from spikeloom.program.stage import Optimizer, Schedule
from trainkit import bench, recipe, tiny


class TestBatches:
    @given(st.integers(1, 300), st.integers(1, 70), st.none() | st.integers(0, 2**62))
    def test_every_sample_once_in_balanced_batches(self, count, size, seed):
        cut = batches(count, size, seed)
        sizes = [len(one) for one in cut]
        assert sorted(torch.cat(cut).tolist()) == list(range(count))
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= size or (size == 2 and max(sizes) == 3 and count % 2)
        assert min(sizes) > 1 or size == 1 or count == 1

    def test_no_seed_keeps_the_order(self):
        assert torch.cat(batches(10, 3, None)).tolist() == list(range(10))

    def test_the_seed_decides_the_order(self):
        one, again, other = (torch.cat(batches(50, 8, seed)) for seed in (1, 1, 2))
        assert torch.equal(one, again) and not torch.equal(one, other)

    @pytest.mark.parametrize(
        ("count", "size", "sizes"),
        [(7, 3, [3, 2, 2]), (4, 4, [4]), (5, 2, [3, 2]), (3, 2, [3]), (1, 2, [1]), (2, 1, [1, 1])],
    )
    def test_by_hand(self, count, size, sizes):
        assert [len(one) for one in batches(count, size, None)] == sizes


def trained(make) -> torch.Tensor:
    """A weight after five steps down a fixed bowl."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    optimizer = make([weight])
    for _ in range(5):
        optimizer.zero_grad()
        (weight**4).sum().backward()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        (
            Optimizer(name="sgd", lr=1e-3, momentum=0.9, weight_decay=0.1),
            lambda one: torch.optim.SGD(one, lr=1e-3, momentum=0.9, weight_decay=0.1),
        ),
        (
            Optimizer(name="adam", lr=0.1, weight_decay=0.1),
            lambda one: torch.optim.Adam(one, lr=0.1, weight_decay=0.1),
        ),
        (
            Optimizer(name="adamw", lr=0.1, weight_decay=0.1),
            lambda one: torch.optim.AdamW(one, lr=0.1, weight_decay=0.1),
        ),
        (
            Optimizer(name="radam", lr=0.1, betas=(0.8, 0.9)),
            lambda one: torch.optim.RAdam(one, lr=0.1, betas=(0.8, 0.9)),
        ),
        (Optimizer(), lambda one: torch.optim.AdamW(one, lr=3e-3, weight_decay=0.0)),
    ],
)
def test_optimizers_are_torchs(settings, make):
    assert torch.equal(trained(lambda one: make_optimizer(settings, one)), trained(make))


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        (Schedule(), lambda e: (1 + math.cos(math.pi * e / 6)) / 2),
        (Schedule(name="constant"), lambda e: 1.0),
        (Schedule(name="step", every=2, factor=0.5), lambda e: 0.5 ** (e // 2)),
        (Schedule(name="step", at=(2, 5), factor=0.5), lambda e: 0.5 ** ((e >= 2) + (e >= 5))),
    ],
)
def test_schedules_follow_their_law(settings, law):
    rates = [settings.factor_at(epoch, epoch + 0.5, 6) for epoch in range(6)]
    assert rates == pytest.approx([law(epoch) for epoch in range(6)])


def test_schedules_agree_with_torchs():
    schedulers = torch.optim.lr_scheduler
    for settings, make in (
        (Schedule(), lambda one: schedulers.CosineAnnealingLR(one, T_max=9)),
        (Schedule(name="step", every=4), lambda one: schedulers.StepLR(one, 4, 0.1)),
    ):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make(optimizer)
        for epoch in range(9):
            (rate,) = schedule.get_last_lr()
            assert settings.factor_at(epoch, epoch + 1.0, 9) == pytest.approx(rate)
            optimizer.step()
            schedule.step()


def test_warm_up_is_linear_in_the_batches_done():
    settings = Schedule(name="constant", warmup=2)
    rates = [settings.factor_at(batch // 4, (batch + 1) / 4, 5) for batch in range(12)]
    assert rates == pytest.approx([(batch + 1) / 8 for batch in range(8)] + [1.0] * 4)


class TestFabric:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_no_cuda_here(self):
        with pytest.raises(ConfigError, match="device: expected a CUDA device for 'cuda', got no"):
            make_fabric(recipe({"device": "cuda"}))


class TestWorkbench:
    def test_the_seed_decides_the_weights(self):
        one, again, other = (bench({"seed": seed}) for seed in (1, 1, 2))
        for name, weight in one.modules().state_dict().items():
            assert torch.equal(weight, again.modules().state_dict()[name])
        weight = next(one.net.parameters())
        assert not torch.equal(weight, next(other.net.parameters()))

    def test_draws_are_a_matter_of_seed_part_epoch_and_sample(self):
        one = bench({"encoder": "poisson", "stages.0.steps": 8})
        train = one.splits.train

        def draw(rows, epoch=0, part="train"):
            return one.batch(train, torch.tensor(rows), epoch=epoch, part=part).xs

        assert torch.equal(draw([3, 5])[:, 1], draw([5])[:, 0])
        assert not torch.equal(draw([5]), draw([5], epoch=1))
        assert not torch.equal(draw([5]), draw([5], part="test"))

    def test_the_type_follows_the_precision(self):
        one = bench({"precision": "64-true"})
        assert {weight.dtype for weight in one.modules().parameters()} == {torch.float64}
        assert one.batch(one.splits.train, torch.arange(2), epoch=0, part="x").xs.dtype is (
            torch.float64
        )

    def test_frozen_bodies_train_the_head_alone(self):
        names = [name for name, _ in bench({"stages.0.freeze_body": True}).parameters()]
        assert names and all(name.startswith("head.") for name in names)

    def test_inference_needs_no_posterior(self):
        plain, stochastic = bench(), bench({"head": "stochmax"})
        count = sum(one.numel() for one in plain.head.parameters())
        more = len(stochastic.inference_parameters()) - len(plain.inference_parameters())
        assert more == 2  # weight and bias of the retain map
        assert sum(one.numel() for one in stochastic.head.parameters()) == 3 * count

    def test_a_preset_of_another_width(self):
        changes = {"net": {"preset": "vgg5"}}
        with pytest.raises(ConfigError, match="got f10; set net.classes to it"):
            bench(changes, tiny(shape=(1, 8, 8)))
        changes["net"]["classes"] = 3
        assert bench(changes, tiny(shape=(1, 8, 8))).head.classes == 3


UNFIT = [
    ({"net": "c4 P f10"}, ConfigError, "expected a last layer of 3 neurons .*; end with f3"),
    ({"net": "c4 P [f3]"}, ConfigError, "head: expected a net that ends with its classes"),
    ({"net": "c4 P P P f3"}, ShapeError, "net layer 3.0.0 .*window 2.*at least 2x2, got 1x1"),
    ({"net": "f4 c4 f3"}, ShapeError, "net layer 1.0.0 .*expected maps"),
    ({"encoder": "frames"}, ShapeError, "encoder 'frames' with rule 'bptt', T = 2: .*T = 2, got"),
    ({"encoder": "frames", "stages.0.steps": 1}, ShapeError, r"expected \[C, H, W\] or \[D\] at"),
    ({"stages.0.rule": {"name": "sltt", "k_steps": 3}}, ConfigError, "at most T = 2, got 3"),
    ({"stages.0.rule": {"name": "sltt", "given": [2]}}, ConfigError, "steps from 0 to 1"),
    ({"net": "c4 M c4 f3", "stages.0.rule": "ottt"}, SpikeloomError, "rules.ottt: .*max pool"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), UNFIT)
def test_what_does_not_fit_is_refused_before_training(changes, kind, message):
    with pytest.raises(kind, match=message):
        bench(changes)


def test_latency_wants_data_as_stored():
    x, y = torch.rand(60, 1, 4, 4), torch.arange(60) % 3
    splits = splits_from_tensors(x, y, test=10, normalise=True)
    with pytest.raises(DataError, match=r"encoder 'latency'.*expected x in \[0, 1\]"):
        bench({"encoder": "latency"}, splits)


def test_frames_bring_their_own_time():
    splits = tiny(shape=(5, 1, 4, 4))
    one = bench({"encoder": "frames", "stages.0.steps": 5}, splits)
    assert one.net.in_shape == (1, 4, 4)
    x = torch.rand(60, 5, 1, 4, 4)
    scaled = splits_from_tensors(x, torch.arange(60) % 3, test=12, validation=12, normalise=True)
    assert bench({"encoder": "frames", "stages.0.steps": 5}, scaled).net.in_shape == (1, 4, 4)
    with pytest.raises(ConfigError, match="expected data without a time axis, got 'tensors'"):
        bench({"encoder": "constant", "stages.0.steps": 5}, scaled)
    with pytest.raises(ShapeError, match="with rule 'bptt', T = 4: "):
        bench({"encoder": "frames", "stages.0.steps": 4}, splits)


def test_a_net_without_time_sees_the_undistorted_sample():
    index = torch.arange(4)
    ann = {"stages.0.rule": "ann", "stages.0.steps": 7}
    still = tiny()
    for encoder in ("constant", "poisson", "latency"):
        one = bench(ann | {"encoder": encoder}, still)
        batch = one.batch(still.train, index, epoch=0, part="train")
        assert torch.equal(batch.xs, still.train.take(index)[0].unsqueeze(0))
    moving = tiny(shape=(5, 1, 4, 4))
    one = bench(ann | {"encoder": "frames"}, moving)
    assert one.net.in_shape == (1, 4, 4)
    batch = one.batch(moving.train, index, epoch=0, part="train")
    assert torch.equal(batch.xs, moving.train.take(index)[0].mean(1).unsqueeze(0))


@pytest.mark.parametrize(("norm", "steps"), [("batch_step", 2), ("batch_all", 1)])
@pytest.mark.parametrize("batch", [1, 20])
def test_batch_norm_needs_a_batch(norm, steps, batch):
    net = {
        "net": {"text": "f8 f3", "norm": norm},
        "stages.0.batch": batch,
        "stages.0.steps": steps,
    }
    splits = tiny()
    if batch > 1:
        x, y = torch.rand(3, 1, 4, 4), torch.arange(3)
        splits = splits_from_tensors(x, y, test=(x, y), validation=2)  # one is left to train on
    with pytest.raises(ShapeError, match="stages.0.batch: expected 2 samples or more"):
        bench(net, splits)


def test_a_batch_of_one_is_fine_without_batch_norm():
    set_up(recipe({"stages.0.batch": 1}), tiny())


@pytest.mark.parametrize(
    ("text", "norm", "rule", "fewest"),
    [
        ("f8 f3", "batch_all", "bptt", 1),  # of T = 2 values
        ("f8 f3", "batch_step", "bptt", 2),
        ("f8 f3", "batch_all", "ann", 2),  # T = 1
        ('c4{norm = "none"} f8{unit = "relu"} f3', "batch_all", "bptt", 2),  # of the time mean
        ("c4 f3", "batch_step", "sltt", 1),  # of maps
        ("f8 f3", "weight", "bptt", 1),
    ],
)
def test_how_many_samples_give_a_variance(text, norm, rule, fewest):
    table = {"net": {"text": text, "norm": norm}, "stages.0.rule": rule}
    assert fewest_samples(bench(table)) == fewest
    if fewest == 1:
        one = bench(table | {"stages.0.batch": 1})
        batch = one.batch(one.splits.train, torch.arange(1), epoch=0, part="train")
        assert torch.isfinite(learn(one, batch, lambda: None).loss)
        assert all(torch.isfinite(value).all() for value in one.net.buffers())
