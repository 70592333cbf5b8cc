import torch

from spikeloom.encoders.constant import Constant


def test_is_a_view_that_costs_no_memory():
    x = torch.rand(2, 3, 4)
    xs = Constant().encode(x, 7, torch.Generator())
    assert xs.stride(0) == 0
    assert xs.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert all(torch.equal(step, x) for step in xs)


def test_passes_gradients_to_its_input():
    x = torch.rand(2, 3, requires_grad=True)
    Constant().encode(x, 5, torch.Generator()).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.full_like(x, 5.0))
