"""A user's own unit is compiled without a word, and where it cannot be, it runs as it is."""

import ownunits as own
import pytest
import torch
import trainpairs as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ShapeError
from spikeloom.kernels.runs import TrainOptions
from spikeloom.neurons.integrate_fire import IF, SpikingState
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.normed import Normed
from spikeloom.neurons.trains import compiled, run_train, state_leaves

WITHIN = settings(max_examples=12)
SEEDS = st.integers(0, 999)
XS = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))


def close(mine, theirs, rounding):
    scale = max(1.0, theirs.abs().max().item())
    return bool((mine - theirs).abs().max() <= rounding * scale)


@kit.needs_compiler
class TestCompiled:
    @WITHIN
    @given(xs=kit.currents(), seed=SEEDS)
    def test_two_states_and_many_operations(self, xs, seed):
        """Transcendental functions of another library: spikes are the same, the rest is close."""
        unit = own.Adaptive()
        expected, got = kit.both(unit, xs, seed=seed, final=True)
        assert close(got.out, expected.out, 0)
        assert all(close(*pair, 1e-5) for pair in zip(got.finals, expected.finals, strict=True))
        assert kit.near(got.current, expected.current, 1e-4)

    @WITHIN
    @given(xs=kit.currents(torch.float64), seed=SEEDS)
    def test_the_same_in_float64(self, xs, seed):
        expected, got = kit.both(own.Adaptive(), xs, seed=seed)
        assert all(close(*pair, 1e-12) for pair in zip(got.finals, expected.finals, strict=True))
        assert close(got.out, expected.out, 0) and kit.near(got.current, expected.current, 1e-12)

    @WITHIN
    @given(xs=kit.currents(), seed=SEEDS)
    def test_in_place_operations_on_its_own_tensors(self, xs, seed):
        kit.same(own.Writes(), xs, seed=seed)

    def test_an_object_that_changes_is_taken_as_it_is(self):
        unit = own.Changing(0.5, 1.0)
        kit.same(unit, XS)
        unit.alpha = 0.9
        kit.same(unit, XS)
        unit.gain = 2.0
        kit.same(unit, XS)

    @pytest.mark.parametrize("wrapped", [False, True], ids=["unit", "normed"])
    def test_a_part_of_a_frozen_unit_that_changes_is_taken_as_it_is(self, wrapped):
        slope = own.Slope(0.5)
        unit = LIF(surrogate=slope)
        theta = {}
        if wrapped:
            unit = Normed(unit)
            theta = dict(zip(unit.learn, torch.tensor([0.1, 1.5, 0.2]), strict=True))
        _, first = kit.same(unit, XS, theta=theta)
        slope.height = 2.0
        _, second = kit.same(unit, XS, theta=theta)
        assert first.current.any() and not torch.equal(first.current, second.current)

    def test_a_frozen_unit_without_a_dictionary(self):
        slope = own.Slope(0.5)
        unit = own.Slotted(0.7, slope)
        _, first = kit.same(unit, XS)
        slope.height = 2.0
        _, second = kit.same(unit, XS)
        assert first.current.any() and not torch.equal(first.current, second.current)

    def test_a_subclass_of_a_frozen_unit_is_not_taken_for_it(self):
        for gain in (1.0, 0.0):
            kit.same(own.Scaled(gain), XS)

    def test_gradients_are_those_of_finite_differences(self):
        unit = own.Soft()
        draw = torch.Generator().manual_seed(1)
        xs = torch.randn(4, 2, 3, generator=draw, dtype=torch.float64).requires_grad_()
        values = [torch.tensor(0.6), torch.full((3,), 0.9), torch.rand(2, 3, generator=draw)]
        alpha, v_th, v = (one.double().requires_grad_() for one in values)

        def run(xs, alpha, v_th, v):
            theta = {"alpha": alpha, "v_th": v_th}
            out, last = run_train(unit, xs, theta, v, kernels="compiled")
            return out, *state_leaves(last)

        with kit.no_fallback():
            assert torch.autograd.gradcheck(run, (xs, alpha, v_th, v), check_undefined_grad=True)
            once = xs[:1].detach().requires_grad_()
            assert torch.autograd.gradcheck(
                lambda x: run(x.expand(5, 2, 3), alpha, v_th, v)[0], (once,)
            )
        assert torch.autograd.gradgradcheck(run, (xs, alpha, v_th, v))
        assert torch.autograd.gradgradcheck(
            lambda x: run(x.expand(5, 2, 3), alpha, v_th, v)[0], (once,)
        )

    def test_gradients_behind_a_pool_are_those_of_finite_differences(self):
        theta = {"alpha": torch.tensor(0.6).double(), "v_th": torch.tensor(0.9).double()}
        draw = torch.Generator().manual_seed(1)
        images = torch.randn(2, 1, 2, 4, 2, generator=draw, dtype=torch.float64)
        for order in ("rows", "channels_last"):
            leaf = kit.laid_out(images, order).requires_grad_()
            with kit.no_fallback():
                assert torch.autograd.gradcheck(
                    lambda x: run_train(
                        own.Soft(), x, theta, kernels="compiled", options=TrainOptions(pool=2)
                    )[0],
                    leaf,
                )
            assert torch.autograd.gradgradcheck(
                lambda x: run_train(
                    own.Soft(), x, theta, kernels="compiled", options=TrainOptions(pool=2)
                )[0],
                leaf,
            )

    def test_it_serves_the_module_too(self):
        neuron, xs = Neuron(own.Writes()), torch.randn(4, 64, 80)
        with kit.no_fallback():
            out = neuron(xs)
        assert torch.equal(out, run_train(own.Writes(), xs, {}, kernels="reference")[0])


def as_the_reference(unit, xs, theta=None, state=None, **options):
    """Whether the loop that is chosen gives the reference's values and gradients to the bit."""
    found = []
    for kernels in ("reference", "compiled"):
        leaf = xs.clone().requires_grad_()
        out, left = run_train(
            unit, leaf, theta or {}, state, kernels=kernels, options=TrainOptions(**options)
        )
        grad = torch.autograd.grad(out.sum(), leaf)[0] if out.requires_grad else torch.zeros(1)
        found.append((out, grad, left))
    (out, grad, left), (mine, my_grad, mine_left) = found
    assert torch.equal(out, mine) and out.dtype == mine.dtype and torch.equal(grad, my_grad)
    assert type(left) is type(mine_left)
    return True


class TestReference:
    """What no kernel can hold runs as it is: kernels are never an error, never another result."""

    @pytest.mark.parametrize("name", own.MIXING)
    def test_a_step_in_which_elements_meet(self, name):
        unit = own.MIXING[name]
        assert as_the_reference(unit, XS)
        assert as_the_reference(unit, torch.randn(3, 2, 3, 4, 4))

    @pytest.mark.parametrize("name", own.FOREIGN)
    def test_a_step_with_foreign_operations(self, name):
        assert as_the_reference(own.FOREIGN[name], XS)

    @pytest.mark.parametrize("unit", own.STRANGE, ids=lambda unit: type(unit).__name__)
    def test_a_strange_unit(self, unit):
        assert as_the_reference(unit, XS)

    def test_a_tensor_of_the_units_own_keeps_its_gradient_and_its_value(self):
        unit = own.Weighted()
        run_train(unit, XS, {}, kernels="compiled")[1].sum().backward()
        assert unit.factor.grad is not None and unit.factor.grad != 0
        with torch.no_grad():
            unit.factor.fill_(0.25)
        assert as_the_reference(unit, XS)

    @pytest.mark.parametrize("name", ["mean", "rolled", "by_rank", "by_size", "data_dependent"])
    @kit.needs_compiler
    def test_it_is_refused_by_name_of_what_is_wrong(self, name):
        found = compiled(own.MIXING[name], XS)
        assert found is not None
        with pytest.raises(kit.trains.Unsupported):
            found.scan.run(XS, [], [torch.zeros(4, 6)], steps=5)

    def test_an_error_of_the_step_is_the_users(self):
        class Failing(own.Own):
            def step(self, state, current, theta):
                raise ValueError("this is mine")

        with pytest.raises(ValueError, match="this is mine"):
            run_train(Failing(), XS, {}, kernels="compiled")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        assert as_the_reference(LIF(), XS.to(dtype))

    def test_under_a_transform_of_functions(self):
        def loss(xs):
            return run_train(own.Soft(), xs, theta, kernels="compiled")[0].sum()

        theta = {"alpha": torch.tensor(0.6), "v_th": torch.tensor(0.9)}
        leaf = XS.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf), leaf)
        torch.testing.assert_close(torch.func.grad(loss)(XS), expected)
        each = torch.func.vmap(torch.func.grad(loss), in_dims=1, out_dims=1)(XS[:, :, None])
        torch.testing.assert_close(each[:, :, 0], expected)


LEARNED = LIF(learn=("v_th",))
WIDE = {"v_th": torch.tensor(0.3, dtype=torch.float64)}
NARROW = {"v_th": torch.tensor(0.3)}


def state(v):
    return SpikingState(v, None, None, None)


class TestWhatDoesNotFit:
    """Quantities of another type, shape or number are the reference's to answer."""

    @pytest.mark.parametrize(
        ("unit", "xs", "theta"),
        [
            (LEARNED, XS, {}),  # the unit's own constant
            (LIF(), XS, NARROW),
            (LIF(learn=("alpha",)), XS, NARROW),
            (LEARNED, XS, WIDE),
            (LEARNED, XS.double(), NARROW),
            (LEARNED, XS.double(), {"v_th": torch.full((6,), 0.3)}),
            (LEARNED, XS, {"v_th": torch.full((6,), 0.3, dtype=torch.float64)}),
            (LEARNED, XS.bfloat16(), {"v_th": torch.tensor(0.3).bfloat16()}),
            (LEARNED, XS.bfloat16(), {"v_th": torch.full((6,), 0.3).bfloat16()}),
        ],
        ids=range(9),
    )
    def test_theta(self, unit, xs, theta):
        assert as_the_reference(unit, xs, theta)

    @pytest.mark.parametrize(
        ("xs", "v"),
        [
            (XS, torch.rand(4, 6, dtype=torch.float64)),
            (XS.double(), torch.rand(4, 6)),
            (XS.bfloat16(), torch.rand(4, 6).bfloat16()),
        ],
    )
    def test_a_state_of_another_type(self, xs, v):
        assert as_the_reference(LIF(), xs, state=state(v))

    @pytest.mark.parametrize("shape", [(1, 6), (4, 1), (2, 6), (4, 7), (6,)])
    def test_a_state_of_another_shape_is_the_same_error(self, shape):
        for kernels in ("reference", "compiled", "auto"):
            with pytest.raises(ShapeError, match=r"^neurons.LIF: expected a current shaped as"):
                run_train(LIF(), XS, {}, state(torch.zeros(shape)), kernels=kernels)

    def test_the_state_of_another_unit(self):
        assert as_the_reference(IF(beta=0.5), XS, state=state(torch.rand(4, 6)))
        other = LIF(order="next_step").init(XS[0])
        assert as_the_reference(LIF(), XS, state=other)

    def test_no_sample(self):
        assert as_the_reference(LIF(), XS[:, :0])

    def test_a_module_in_another_type_than_its_input(self):
        neuron, xs = Neuron(LEARNED), torch.rand(4, 64, 80, dtype=torch.float64)
        expected = run_train(LEARNED, xs, neuron.theta(), kernels="reference")[0]
        assert torch.equal(neuron(xs), expected) and expected.dtype == torch.float64
