"""Every option of every unit, compiled, is the reference: forward to the bit, backward as stated.

Forward, float32 and float64: every operation is rounded as the reference rounds it. Backward, the
operations are the same, but exponentials are another library's, gradients that meet in a state and
sums over T are added in another order.
"""

import pytest
import torch
import trainpairs as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.kernels.runs import TrainOptions
from spikeloom.neurons.leaky import LIF

pytestmark = kit.needs_compiler
WITHIN = settings(max_examples=12)
SEEDS = st.integers(0, 999)


@pytest.mark.parametrize("unit", kit.UNITS, ids=kit.NAMES)
@WITHIN
@given(xs=kit.currents(), seed=SEEDS)
def test_float32(unit, xs, seed):
    kit.same(unit, xs, theta=kit.theta_of(unit, xs.dtype, seed=seed), seed=seed)


@pytest.mark.parametrize("unit", kit.UNITS[:2], ids=["plain", "full"])
@WITHIN
@given(xs=kit.currents(torch.float64), seed=SEEDS)
def test_float64(unit, xs, seed):
    kit.same(unit, xs, theta=kit.theta_of(unit, xs.dtype, seed=seed), seed=seed)


@WITHIN
@given(xs=kit.currents(torch.bfloat16), seed=SEEDS)
def test_bfloat16(xs, seed):
    expected, got = kit.same(LIF(), xs, seed=seed)
    assert got.out.dtype == torch.bfloat16 and got.finals[0].dtype == torch.float32
    assert got.current.dtype == torch.bfloat16


@WITHIN
@given(xs=kit.currents(torch.bfloat16), seed=SEEDS)
def test_bfloat16_with_a_scaled_input_is_computed_in_float32(xs, seed):
    """Reference: (1 - alpha) c is rounded to bfloat16 there; ours never leaves float32."""
    theta = kit.theta_of(kit.FULL, torch.float32, seed=seed)
    with kit.no_fallback():
        got = kit.run(kit.FULL, xs, theta=theta, seed=seed, kernels="compiled")
    expected = kit.run(kit.FULL, xs.float(), theta=theta, seed=seed, kernels="reference")
    assert torch.equal(got.out, expected.out.bfloat16())
    assert all(map(torch.equal, got.finals, expected.finals))


@pytest.mark.parametrize("unit", [kit.UNITS[1], kit.UNITS[2]], ids=["full", "learned"])
@WITHIN
@given(xs=kit.currents(shapes=st.sampled_from([(2, 3, 4, 4), (5, 3, 1, 1)])), seed=SEEDS)
def test_theta_per_channel(unit, xs, seed):
    theta = kit.theta_of(unit, xs.dtype, shape=(3, 1, 1), seed=seed)
    _, got = kit.same(unit, xs, theta=theta, seed=seed)
    assert [one.shape for one in got.thetas.values()] == [(3, 1, 1)] * 2


@WITHIN
@given(xs=kit.currents(shapes=st.just((4, 6))), seed=SEEDS, shape=st.sampled_from([(6,), (4, 1)]))
def test_theta_that_broadcasts_otherwise(xs, seed, shape):
    unit = kit.UNITS[2]
    kit.same(unit, xs, theta=kit.theta_of(unit, xs.dtype, shape=shape, seed=seed), seed=seed)


@pytest.mark.parametrize("unit", kit.UNITS[:3], ids=["plain", "full", "learned"])
@WITHIN
@given(xs=kit.currents(), seed=SEEDS)
def test_a_state_that_is_given(unit, xs, seed):
    state = kit.state_of(unit, xs[0], seed)
    theta = kit.theta_of(unit, xs.dtype, seed=seed)
    expected, got = kit.same(unit, xs, theta=theta, state=state, seed=seed)
    assert any(one is not None and one.any() for one in expected.states)


@WITHIN
@given(xs=kit.currents(), cut=st.integers(0, 12), seed=SEEDS)
def test_a_train_cut_in_two_is_one_train(xs, cut, seed):
    """States lie between the halves, gradients pass through them."""
    unit, cut = kit.UNITS[4], cut % len(xs)
    whole = kit.run(unit, xs, kernels="reference", seed=seed)
    up = kit.weights(whole.out, seed)
    leaf = xs.detach().requires_grad_()
    with kit.no_fallback():
        outs, state = [], None
        for part in (leaf[:cut], leaf[cut:]) if cut else (leaf,):
            out, state = kit.trains.run_train(unit, part, {}, state, kernels="compiled")
            outs.append(out)
    assert torch.equal(torch.cat(outs), whole.out)
    lasts = [one for one in kit.trains.state_leaves(state) if one.requires_grad]
    assert all(map(torch.equal, kit.trains.state_leaves(state), whole.finals))
    (grad,) = torch.autograd.grad((torch.cat(outs) * up).sum(), leaf)
    expected = kit.run(unit, xs, kernels="reference", seed=seed, final=False)
    assert lasts and kit.near(grad, expected.current, kit.ROUNDING[xs.dtype] * max(len(xs), 4))


@pytest.mark.parametrize("unit", [kit.UNITS[0], kit.UNITS[2]], ids=["plain", "learned"])
class TestConstantInput:
    @WITHIN
    @given(x=kit.currents(steps=st.just(1)), steps=st.integers(2, 9), seed=SEEDS)
    def test_is_the_same_input_repeated(self, unit, x, steps, seed):
        xs = x.expand(steps, *x.shape[1:])
        theta = kit.theta_of(unit, xs.dtype, seed=seed)
        expected, got = kit.both(unit, xs, theta=theta, seed=seed)
        assert torch.equal(got.out, expected.out)
        # a leaf that is an expanded view has one value per step; all are the share of one
        assert kit.near(got.current.sum(0), expected.current.sum(0), 1e-5)

    def test_gives_one_gradient_to_what_was_expanded(self, unit):
        x = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
        theta, grads = kit.theta_of(unit, x.dtype), {}
        for kernels in ("reference", "compiled"):
            leaf = x.clone().requires_grad_()
            out, _ = kit.trains.run_train(unit, leaf.expand(7, 3, 5), theta, kernels=kernels)
            (grads[kernels],) = torch.autograd.grad(out.sum(), leaf)
        assert grads["compiled"].shape == (3, 5)
        assert kit.near(grads["compiled"], grads["reference"], 1e-5)


class TestUse:
    """Kernels as autograd meets them."""

    unit = kit.UNITS[2]
    xs = 2 * torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(3))

    def started(self):
        xs = self.xs.clone().requires_grad_()
        theta = {name: v.requires_grad_() for name, v in kit.theta_of(self.unit, xs.dtype).items()}
        with kit.no_fallback():
            out, state = kit.trains.run_train(self.unit, xs, theta, kernels="compiled")
        return xs, theta, out, state

    def test_backward_twice_gives_the_same_twice(self):
        xs, theta, out, _ = self.started()
        leaves = [xs, *theta.values()]
        first = torch.autograd.grad(out.sum(), leaves, retain_graph=True)
        second = torch.autograd.grad(out.sum(), leaves)
        assert all(map(torch.equal, first, second)) and first[0].any()

    def test_a_loss_on_the_last_state_alone(self):
        xs, theta, _, state = self.started()
        grads = torch.autograd.grad(state.v.square().sum(), [xs, *theta.values()])
        xs2 = self.xs.clone().requires_grad_()
        theta2 = {name: v.detach().requires_grad_() for name, v in theta.items()}
        _, state2 = kit.trains.run_train(self.unit, xs2, theta2, kernels="reference")
        expected = torch.autograd.grad(state2.v.square().sum(), [xs2, *theta2.values()])
        assert all(
            kit.near(mine, theirs, 1e-5) for mine, theirs in zip(grads, expected, strict=True)
        )

    def test_only_some_inputs_want_a_gradient(self):
        theta = kit.theta_of(self.unit, torch.float32)
        theta["alpha"].requires_grad_()
        grads = []
        for kernels in ("reference", "compiled"):
            out, _ = kit.trains.run_train(self.unit, self.xs, theta, kernels=kernels)
            grads += torch.autograd.grad(out.sum(), theta["alpha"])
        assert kit.near(grads[1], grads[0], 1e-5, scale=float(self.xs.numel()))

    def test_without_gradients_nothing_is_kept(self):
        xs = self.xs.clone().requires_grad_()
        for context in (torch.no_grad(), torch.inference_mode()):
            with context, kit.no_fallback():
                theta = kit.theta_of(self.unit, xs.dtype)
                out, state = kit.trains.run_train(self.unit, xs, theta, kernels="compiled")
            assert not out.requires_grad and not state.v.requires_grad

    def test_a_state_that_nobody_wants_is_not_made(self):
        with kit.no_fallback():
            theta = kit.theta_of(self.unit, torch.float32)
            args = (self.unit, self.xs, theta)
            out, state = kit.trains.run_train(
                *args, kernels="compiled", options=TrainOptions(final=False)
            )
        assert state is None
        assert torch.equal(out, kit.trains.run_train(*args, kernels="reference")[0])

    def test_inputs_changed_before_the_backward_pass_are_noticed(self):
        xs = self.xs.clone()
        theta = {"v_th": torch.tensor(1.0, requires_grad=True), "alpha": torch.tensor(0.5)}
        out, _ = kit.trains.run_train(self.unit, xs, theta, kernels="compiled")
        xs.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()

    def test_nothing_is_written_into_what_was_given(self):
        xs, state = self.xs.clone(), kit.state_of(kit.FULL, self.xs[0])
        kept = [one.clone() for one in state]
        kit.run(kit.FULL, xs, theta=kit.theta_of(kit.FULL, xs.dtype), state=state, kernels="auto")
        with kit.no_fallback():
            theta = kit.theta_of(kit.FULL, xs.dtype)
            kit.run(kit.FULL, xs, theta=theta, state=state, kernels="compiled")
        assert torch.equal(xs, self.xs) and all(map(torch.equal, state, kept))

    def test_values_that_are_no_numbers_stay_none(self):
        xs = torch.tensor([[float("nan"), float("inf"), -float("inf"), 1.0]]).expand(3, 4).clone()
        expected, got = kit.both(LIF(), xs)
        assert torch.equal(got.out, expected.out)
        torch.testing.assert_close(got.finals, expected.finals, equal_nan=True, rtol=0, atol=0)
