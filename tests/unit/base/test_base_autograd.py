"""Backward passes stay out of autocast, and overwrite no gradient that somebody holds."""

import pytest
import torch

from spikeloom.base.autograd import add_gradient, backpropagate, is_nobodys, lies_like
from spikeloom.kernels.runs import TrainOptions
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import run_train


def gradients(inside):
    layer = torch.nn.Linear(64, 32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(32, 64, generator=generator))
        layer.bias.zero_()
    x = torch.rand(128, 64, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        value = layer(x).float().square().mean()
        if inside:
            backpropagate([value])
            assert torch.is_autocast_enabled("cpu")
    if not inside:
        value.backward()
    assert layer.bias.grad is not None and layer.weight.grad is not None
    return layer.weight.grad, layer.bias.grad


def test_inside_autocast_is_as_outside():
    for one, other in zip(gradients(inside=True), gradients(inside=False), strict=True):
        assert torch.equal(one, other)


def test_several_values_with_their_gradients():
    x = torch.ones(3, requires_grad=True)
    backpropagate([2 * x, 3 * x], [torch.ones(3), torch.arange(3.0)])
    assert x.grad is not None and x.grad.tolist() == [2.0, 5.0, 8.0]


class Asked(torch.autograd.Function):
    """Passes a step on, and asks whose its gradient is."""

    @staticmethod
    def forward(ctx, x, answers):
        ctx.answers = answers
        return x.clone()

    @staticmethod
    def backward(ctx, *grads):
        ctx.answers.append(is_nobodys(grads))
        return grads[0].clone(), None


def leaf(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, generator=generator).requires_grad_()


def step(x, answers):
    return Asked.apply(x.unsqueeze(0), answers).squeeze(0)


KEPT = []
W = torch.randn(4, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
NOBODYS = {
    "product": lambda y, _: (2 * y).sum().backward(),
    "linear": lambda y, _: torch.nn.functional.linear(y, W).square().sum().backward(),
    "two readers": lambda y, _: (2 * y + y @ W).square().sum().backward(),
    "retained": lambda y, _: (y.retain_grad(), (2 * y).sum().backward()),
}
SOMEBODYS = {
    "kept by a hook": lambda y, _: (y.register_hook(KEPT.append), (2 * y).sum().backward()),
    "asked for": lambda y, x: torch.autograd.grad((2 * y).sum(), [y, x]),
    "the same for two": lambda y, x: (y + x).square().sum().backward(),
    "one value for all": lambda y, _: y.sum().backward(),
}


@pytest.mark.parametrize("use", NOBODYS.values(), ids=NOBODYS)
def test_what_nobody_else_holds_may_be_overwritten(use):
    answers, x = [], leaf()
    use(step(x, answers), x)
    assert answers == [True]


@pytest.mark.parametrize("use", SOMEBODYS.values(), ids=SOMEBODYS)
def test_what_somebody_holds_may_not(use):
    answers, x = [], leaf()
    use(step(x, answers), x)
    assert answers == [False]


class Numpys(torch.autograd.Function):
    """A loss that keeps the memory of its gradient as an array."""

    @staticmethod
    def forward(ctx, h, kept):
        ctx.kept = kept
        return h.sum()

    @staticmethod
    def backward(ctx, *grads):
        return torch.from_numpy(ctx.kept), None


def test_memory_of_another_library_is_not_overwritten():
    kept = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).numpy()
    before = kept.copy()
    answers = []
    Numpys.apply(step(leaf(), answers), kept).backward()
    run(leaf(), lambda y, _: Numpys.apply(y, kept).backward())
    assert answers == [False] and (kept == before).all()


def test_of_two_readers_of_a_sum_the_last_one_has_it_alone():
    answers, x, y = [], leaf(), leaf(1)
    (step(x, answers) + step(y, answers)).square().sum().backward()
    assert not answers[0]


def run(x, use, kernels="compiled"):
    """Take one step of an online rule; return the gradient of its current."""
    current = 2 * x
    out, _ = run_train(
        LIF(),
        current.unsqueeze(0),
        {},
        kernels=kernels,
        options=TrainOptions(local=kernels == "compiled"),
    )
    use(out.squeeze(0), x)
    return None if x.grad is None else x.grad.clone()


@pytest.mark.parametrize("use", {**NOBODYS, **SOMEBODYS}.values(), ids={**NOBODYS, **SOMEBODYS})
def test_steps_have_the_gradients_of_the_reference(use):
    KEPT.clear()
    found, expected = run(leaf(), use), run(leaf(), use, "reference")
    assert found is expected is None or torch.equal(found, expected)
    if KEPT:
        assert len(KEPT) == 2 and torch.equal(KEPT[0], KEPT[1])


def test_a_gradient_takes_the_place_of_the_one_before():
    places, x = [], leaf()
    current = 2 * x
    current.register_hook(lambda grad: places.append(grad.data_ptr()))
    out, _ = run_train(
        LIF(), current.unsqueeze(0), {}, kernels="compiled", options=TrainOptions(local=True)
    )
    spikes = out.squeeze(0)
    spikes.register_hook(lambda grad: places.append(grad.data_ptr()))
    (3 * spikes).sum().backward()
    assert places[0] == places[1]


LAYOUTS = {
    "rows": torch.rand(4, 3, 2, 5),
    "channels last": torch.rand(4, 3, 2, 5).contiguous(memory_format=torch.channels_last),
    "turned": torch.rand(5, 2, 3, 4).permute(3, 2, 1, 0),
    "expanded": torch.rand(3, 1, 5).expand(4, 3, 2, 5),
    "with gaps": torch.rand(4, 3, 2, 10)[..., ::2],
}


class TestAddGradient:
    @pytest.mark.parametrize("grad", LAYOUTS.values(), ids=LAYOUTS)
    @pytest.mark.parametrize("before", [None, *LAYOUTS])
    @pytest.mark.parametrize("of", ["rows", "channels last", "turned"])
    def test_lies_as_the_parameter(self, of, before, grad):
        parameter = torch.nn.Parameter(LAYOUTS[of].clone())
        assert parameter.stride() == LAYOUTS[of].stride()
        start = None if before is None else LAYOUTS[before]
        if start is not None:
            parameter.grad = start if before == "expanded" else start.clone()
        expected = grad.clone() if start is None else start + grad
        add_gradient(parameter, grad.clone())
        assert parameter.grad is not None and torch.equal(parameter.grad, expected)
        assert parameter.grad.stride() == parameter.stride()
        assert lies_like(parameter.grad, parameter)

    @pytest.mark.parametrize("shape", [(4, 3, 1, 1), (4, 1, 3, 3), (1, 3, 1, 1), (1,)])
    def test_axes_of_one_element_get_the_parameters_strides(self, shape):
        parameter = torch.nn.Parameter(torch.rand(shape))
        odd = torch.rand(shape[::-1]).permute(tuple(range(len(shape)))[::-1])
        value = odd.clone()
        assert lies_like(parameter, parameter)
        add_gradient(parameter, odd)
        assert parameter.grad is not None and torch.equal(parameter.grad, value)
        assert parameter.grad.stride() == parameter.stride()

    def test_a_fitting_gradient_is_taken_as_it_is_and_added_to_in_place(self):
        parameter, grad = torch.nn.Parameter(torch.rand(3, 4)), torch.ones(3, 4)
        add_gradient(parameter, grad)
        assert parameter.grad is grad
        add_gradient(parameter, torch.ones(3, 4))
        assert parameter.grad is grad and grad.eq(2).all()

    def test_a_parameter_with_gaps_gets_a_dense_gradient(self):
        parameter = torch.nn.Parameter(torch.rand(4, 6)[:, ::2])
        add_gradient(parameter, torch.ones(3, 4).t())
        assert parameter.grad is not None and parameter.grad.is_contiguous()
        assert lies_like(parameter.grad, parameter)
        assert not lies_like(torch.ones(3, 4).t(), parameter)
