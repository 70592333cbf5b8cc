"""A synapse's own gradients are those of autograd, whatever its input was."""

import pytest
import torch

from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.spec.layer import LayerSpec

LAYERS = {
    "linear": (LayerSpec("linear", 5), (12,)),
    "linear on maps": (LayerSpec("linear", 5), (3, 2, 2)),
    "widening": (LayerSpec("conv", 8, kernel=3), (3, 6, 6)),
    "narrowing": (LayerSpec("conv", 2, kernel=3), (6, 7, 5)),
    "strided": (LayerSpec("conv", 4, kernel=3, stride=2), (6, 7, 7)),
    "transposed": (LayerSpec("conv_transpose", 4, kernel=2, stride=2), (3, 4, 4)),
}
DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name, dtype, layout):
    spec, shape = LAYERS[name]
    synapse = Synapse(spec, shape, "a").to(dtype)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        synapse.weight.copy_(torch.randn(synapse.weight.shape, generator=draw))
    x = torch.randn(4, *shape, generator=draw).to(dtype)
    x = x.contiguous(memory_format=layout) if x.dim() == 4 else x
    leaf = x.clone().requires_grad_()
    out = synapse(leaf)
    grad = torch.randn(out.shape, generator=draw).to(dtype)
    grad = grad.contiguous(memory_format=layout) if grad.dim() == 4 else grad
    expected = torch.autograd.grad(out, [leaf, synapse.weight, synapse.bias], grad)
    weight = synapse.weight.detach()
    before = grad.clone()
    of_x = synapse.input_gradient(grad, weight, tuple(x.shape))
    of_weight, of_bias = synapse.parameter_gradients(grad, x, weight, (True, True))
    for mine, theirs in zip((of_x, of_weight, of_bias), expected, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        assert (mine - theirs).abs().max() <= DTYPES[dtype] * theirs.abs().max()
    assert torch.equal(grad, before)
    if spec.kind != "linear":
        assert of_x.is_contiguous(memory_format=layout)
    assert synapse.parameter_gradients(grad, x, weight, (False, False)) == (None, None)
    only = synapse.parameter_gradients(grad, x, weight, (False, True))
    assert only[0] is None
    assert (only[1] - of_bias).abs().max() <= DTYPES[dtype] * of_bias.abs().max()


@pytest.mark.parametrize("name", ["widening", "narrowing"])
@pytest.mark.parametrize("reduced", [(), (0,), (2, 3), (1,)])
def test_a_gradient_that_is_one_value_seen_many_times(name, reduced):
    spec, shape = LAYERS[name]
    synapse = Synapse(spec, shape, "a").double()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        synapse.weight.copy_(torch.randn(synapse.weight.shape, generator=draw))
    x = torch.randn(4, *shape, generator=draw, dtype=torch.float64, requires_grad=True)
    found = []
    for out in (synapse(x), synapse.credited(x, x)):
        loss = (out.sum(reduced) ** 2).sum() if reduced else out.sum()
        found.append(torch.autograd.grad(loss, [x, synapse.weight, synapse.bias]))
    for mine, theirs in zip(*found, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)
