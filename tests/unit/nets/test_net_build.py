"""What cannot be built or run is refused by name; shapes are inferred."""

import netkit as kit
import pytest
import torch

from spikeloom.base.errors import ShapeError, UnsupportedNet
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.leaky import LIF


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("c4 f3", (4, 9, 7)),
        ("c4s2 f3", (4, 5, 4)),
        ("c4k5p0 f3", (4, 5, 3)),
        ("c4k1 P f3", (4, 4, 3)),
        ("c4 M3s2 f3", (4, 4, 3)),
        ("c4 P3s1p1 f3", (4, 9, 7)),
        ("t4k4s2p1 f3", (4, 18, 14)),
        ("t4k3s2p1{output_padding = 1} f3", (4, 18, 14)),
        ("U3 c4 f3", (4, 27, 21)),
        ("c4 G f3", (4, 1, 1)),
        ("c4 f8 f3", (8,)),
        ("I c4 I f3", (4, 9, 7)),
        ("[c4 c2]x3 f3", (2, 9, 7)),
        ("f3", (2, 9, 7)),
    ],
)
def test_shapes_are_those_of_torch(text, shape):
    net = SpikingNet(parse(text, unit=LIF()), (2, 9, 7))
    assert net.plan.out_shape == shape
    assert net.features == torch.Size(shape).numel()
    assert net(torch.rand(2, 3, 2, 9, 7)).shape == (2, 3, net.features)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("P P P P c4 f3", ShapeError, r"layer 3\.0\.0 \(avg_pool, window 2\).*2x2, got 1x1"),
        ("c4k9p0 f3", ShapeError, r"layer 0\.0\.0 \(conv, window 9\)"),
        ("f4 c4 f3", ShapeError, r"layer 1\.0\.0 \(conv\): expected maps .*, got \(4,\)"),
        ("f4 P f3", ShapeError, r"layer 1\.0\.0 \(avg_pool\): expected maps"),
        ("[c4 P]x2 f3", UnsupportedNet, r"blocks\.0: expected a repeated block to keep"),
        ("[c4s2]x2 f3", UnsupportedNet, r"blocks\.0: expected a repeated block to keep"),
        ("[c4]x2 f3", UnsupportedNet, r"blocks\.0: expected 2 channels for the next pass, got 4"),
        ('[c5]x2{fit = "average"} f3', UnsupportedNet, "divisible by 2"),
        ('c3 [c4]{join = "add"} f3', UnsupportedNet, r"blocks\.1: .*\(3, 8, 8\) and \(4, 8, 8\)"),
        ('c4 [c4s2]{join = "and"} f3', UnsupportedNet, r"for join 'and'"),
        ('c3 [c4]{join = "before_unit"} f3', UnsupportedNet, r"shortcut = 'c4k1'"),
        (
            '[c4]{join = "add", shortcut = "c4k1s2"} f3',
            UnsupportedNet,
            r"\(4, 4, 4\) and \(4, 8, 8\)",
        ),
        (
            '{feedback = [{source = 1, target = 0, layers = "c4"}]} c4 P f3',
            ShapeError,
            r"feedback\.0: expected a path that ends in \(4, 8, 8\).*got \(4, 4, 4\)",
        ),
        (
            '{feedback = [{source = 1, target = 0, layers = "f4"}]} c4 P f3',
            ShapeError,
            r"feedback\.0",
        ),
        (
            '{feedback = [{source = 1, target = 1, layers = "c4"}]} c4 f9 f3',
            ShapeError,
            r"layer feedback0\.\S* \(conv\): expected maps",
        ),
    ],
)
def test_build_refuses(text, error, message):
    with pytest.raises(error, match=message):
        SpikingNet(text, (2, 8, 8))


@pytest.mark.parametrize("shape", [(), (3, 4), (0, 8, 8), (2, 3, 8, 8)])
def test_in_shape_is_an_image_or_a_vector(shape):
    with pytest.raises(ShapeError, match=r"expected an input shape \(C, H, W\) or \(D,\)"):
        SpikingNet("f3", shape)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 8), r"expected \[T, B, 2, 8, 8\] with time as the first axis, got \(2, 8, 8\)"),
        ((3, 2, 8, 8), "time as the first axis"),
        ((4, 3, 1, 8, 8), "time as the first axis"),
        ((4, 3, 2, 8, 9), "time as the first axis"),
        ((1, 4, 3, 2, 8, 8), "time as the first axis"),
        ((0, 3, 2, 8, 8), "at least one step and one sample, got T = 0, B = 3"),
        ((4, 0, 2, 8, 8), "at least one step and one sample, got T = 4, B = 0"),
    ],
)
@pytest.mark.parametrize("run", ["forward", "run_by_time", "run_by_layer"])
def test_run_refuses_shapes(shape, message, run):
    net = SpikingNet("c4 P f3", (2, 8, 8))
    with pytest.raises(ShapeError, match=message):
        getattr(net, run)(torch.zeros(shape))


def test_run_refuses_integers():
    net = SpikingNet("c4 P f3", (2, 8, 8))
    with pytest.raises(ShapeError, match=r"expected a floating-point input, got torch\.uint8"):
        net(torch.zeros(2, 2, 2, 8, 8, dtype=torch.uint8))


def test_run_refuses_the_other_precision():
    net = SpikingNet("c4 P f3", (2, 8, 8))
    with pytest.raises(ShapeError, match=r"input of type torch\.float32.* got torch\.float64"):
        net(torch.zeros(2, 2, 2, 8, 8, dtype=torch.float64))


def test_run_refuses_another_device():
    net = SpikingNet("c4 P f3", (2, 8, 8))
    with pytest.raises(ShapeError, match="expected an input on cpu"):
        net(torch.zeros(2, 2, 2, 8, 8, device="meta"))


class TestBatchNorm:
    def test_batch_of_one_in_training(self):
        net = SpikingNet('f4{norm = "batch_step"} f3', (5,))
        x = torch.rand(3, 1, 5)
        for run in (net.run_by_time, net.run_by_layer):
            with pytest.raises(ShapeError, match=r"layer 0\.0\.0: expected more than one value"):
                run(x)
        assert net.eval()(x).shape == (3, 1, 4)

    def test_maps_have_enough_values(self):
        net = SpikingNet('c4{norm = "batch_step"} f3', (2, 8, 8))
        assert net(torch.rand(3, 1, 2, 8, 8)).shape == (3, 1, 256)

    def test_batch_all_trains_in_layer_order_only(self):
        net = SpikingNet('c4{norm = "batch_all"} f3', (2, 8, 8))
        x = torch.rand(3, 2, 2, 8, 8)
        assert net.run_by_layer(x).shape == (3, 2, 256)
        for run in (net.run_by_time, lambda xs: net.step(xs[0], None)):
            with pytest.raises(UnsupportedNet, match=r"layer 0\.0\.0: expected norm 'batch_step'"):
                run(x)
        assert torch.equal(net.eval().run_by_time(x), net.run_by_layer(x))

    def test_batch_all_takes_statistics_over_time(self):
        net = SpikingNet('c4{norm = "batch_all", unit = "none"} f3', (2, 8, 8)).double()
        x = torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
        out = net.run_by_layer(x).unflatten(2, (4, 64))
        assert out.mean((0, 1, 3)).abs().max() < 1e-9
        assert out[0].mean((0, 2)).abs().max() > 1e-4

    def test_batch_step_takes_them_at_each_step(self):
        net = SpikingNet('c4{norm = "batch_step", unit = "none"} f3', (2, 8, 8)).double()
        x = torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
        for run in (net.run_by_layer, net.run_by_time):
            assert run(x).unflatten(2, (4, 64)).mean((1, 3)).abs().max() < 1e-9

    def test_passes_have_their_own_statistics(self):
        net = SpikingNet('c4 [c4{norm = "batch_step"}]x3 f3', (2, 8, 8))
        first, second, third = (one.sites[0] for one in net.plan.blocks[1].passes)
        assert first.synapse is second.synapse is third.synapse
        assert len({id(site.norm) for site in (first, second, third)}) == 3
        assert len({id(site.neuron) for site in (first, second, third)}) == 3


def test_layer_order_refuses_feedback():
    text = '{feedback = [{source = 0, target = 0, layers = "c4"}]} c4 f3'
    net = SpikingNet(text, (2, 8, 8))
    xs = torch.rand(2, 2, 2, 8, 8)
    with pytest.raises(UnsupportedNet, match="run_by_layer: expected a net without feedback"):
        net.run_by_layer(xs)
    assert torch.equal(net(xs), net.run_by_time(xs))


class TestSites:
    def test_names_sources_and_roles(self):
        text = (
            '{feedback = [{source = 3, target = 0, layers = "U4 c4"}]} '
            'c4 P [c4]x2{join = "add", shortcut = "c4k1"} P c4 f3'
        )
        net = SpikingNet(text, (2, 8, 8))
        roles = {site.name: site.role for site in net.sites}
        assert list(roles) == [
            *("0.0.0", "1.0.0", "2.0.0", "2.s0.0", "2.0.1", "2.s0.1", "3.0.0", "4.0.0"),
            *("feedback0.0.0", "feedback0.1.0"),
        ]
        assert [name for name, role in roles.items() if role == "shortcut"] == ["2.s0.0", "2.s0.1"]
        by_name = {site.name: site for site in net.sites}
        assert by_name["2.0.0"].upstream is by_name["0.0.0"]
        assert by_name["2.0.1"].source is None  # joined
        assert by_name["0.0.0"].external and not by_name["2.0.0"].external
        assert by_name["2.0.0"].synapse is by_name["2.0.1"].synapse

    def test_feedback_from_a_joined_block_has_no_single_source(self):
        text = '{{feedback = [{{source = 0, target = 1, layers = "c4"}}]}} [c2]{} c4 f3'
        plain = SpikingNet(text.format(""), (2, 8, 8))
        assert plain.sites[-1].upstream is plain.sites[0]
        joined = SpikingNet(text.format('{join = "add"}'), (2, 8, 8))
        assert joined.sites[-1].source is None
        before = SpikingNet(text.format('{join = "before_unit"}'), (2, 8, 8))
        assert before.sites[-1].upstream is before.sites[0]

    def test_max_pools_break_the_linear_path(self):
        sites = SpikingNet("c4 M P c4 P c4 f3", (2, 16, 16)).sites
        assert not sites[3].linear_path and sites[5].linear_path

    def test_shared_weights_count_once(self):
        def count(repeat):
            net = SpikingNet(f"c4 [c4 c4]x{repeat} f3", (2, 8, 8))
            return sum(value.numel() for value in net.parameters())

        assert count(1) == count(2) == count(5)


def test_builds_without_memory_on_the_meta_device():
    with torch.device("meta"):
        plan = Plan(parse("c8 [c8]x2 P f16 f3"), (8, 8, 8))
    assert all(value.is_meta for value in plan.parameters())


def test_same_seed_same_net():
    first, again = (SpikingNet("c4 f3", (2, 8, 8), seed=4) for _ in range(2))
    other = SpikingNet("c4 f3", (2, 8, 8), seed=5)
    weights = [next(net.parameters()) for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_observers_leave_again():
    net = SpikingNet("c4 f3", (2, 8, 8))
    seen = kit.Recorder()
    with net.observe(seen):
        net(torch.rand(2, 2, 2, 8, 8))
    count = len(seen.seen)
    net(torch.rand(2, 2, 2, 8, 8))
    assert count == len(seen.seen) == 1
