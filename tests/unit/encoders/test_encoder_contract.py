"""What every registered encoder keeps to."""

import pytest
import torch

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng
from spikeloom.encoders import ENCODERS, Encoder

T = 4


def sample_for(name: str, batch: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return samples in [0, 1] that the encoder makes trains [T, B, 2, 5] of, or [T, B, 10]."""
    own = {"frames": (batch, T, 2, 5), "sequential": (batch, 2, T, 5)}
    shape = own.get(name, (batch, 2, 5))
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def step_of(name: str) -> tuple[int, ...]:
    return (10,) if name == "sequential" else (2, 5)


def rng_of(index: list[int]) -> SampleRng:
    return SampleRng(seed=5, epoch=2, index=torch.tensor(index))


def test_registry_lists_the_files():
    assert ENCODERS.names() == ("constant", "frames", "latency", "poisson", "sequential")


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"encoder 'poison'; did you mean 'poisson'\?"):
        ENCODERS.find("poison")


@pytest.mark.parametrize("name", ENCODERS.names())
class TestEveryEncoder:
    def test_is_a_frozen_value_with_a_description(self, name):
        encoder = ENCODERS.find(name)()
        assert isinstance(encoder, Encoder)
        assert encoder == ENCODERS.find(name)() and hash(encoder) == hash(ENCODERS.find(name)())
        assert 20 < len(encoder.about) < 90 and "\n" not in encoder.about
        with pytest.raises(AttributeError):
            encoder.anything = 1

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_shape_and_type(self, name, dtype):
        x = sample_for(name, dtype=dtype)
        xs = ENCODERS.find(name)().encode(x, T, rng_of([0, 1, 2]))
        assert xs.shape == (T, 3, *step_of(name))
        assert xs.dtype == dtype and xs.device == x.device

    def test_does_not_write_into_its_input(self, name):
        x = sample_for(name)
        before = x.clone()
        ENCODERS.find(name)().encode(x, T, rng_of([0, 1, 2]))
        assert torch.equal(x, before)

    def test_commutes_with_batching(self, name):
        x, encoder = sample_for(name), ENCODERS.find(name)()
        whole = encoder.encode(x, T, rng_of([7, 8, 9]))
        order = [2, 0]
        some = encoder.encode(x[order], T, rng_of([9, 7]))
        assert torch.equal(some, whole[:, order])

    def test_takes_samples_without_further_dimensions_and_empty_batches(self, name):
        encoder = ENCODERS.find(name)()
        if name != "sequential":  # which takes pictures alone
            x = torch.ones(2, 1) if name == "frames" else torch.ones(2)
            assert encoder.encode(x, 1, rng_of([0, 1])).tolist() == [[1.0, 1.0]]
        empty = encoder.encode(sample_for(name)[:0], T, rng_of([]))
        assert empty.shape == (T, 0, *step_of(name))

    @pytest.mark.parametrize("steps", [0, -3])
    def test_refuses_no_steps(self, name, steps):
        message = rf"^encoders.{name}.steps: expected 1 or more, got {steps}; "
        with pytest.raises(ConfigError, match=message):
            ENCODERS.find(name)().encode(sample_for(name), steps, rng_of([0, 1, 2]))

    def test_knows_the_one_length_that_its_samples_have(self, name):
        encoder = ENCODERS.find(name)()
        wanted = encoder.length(tuple(sample_for(name).shape[1:]))
        assert wanted == (T if name in ("frames", "sequential") else None)

    def test_refuses_integers(self, name):
        x = sample_for(name).to(torch.uint8)
        with pytest.raises(ShapeError, match=rf"^encoders.{name}: .* got torch.uint8; "):
            ENCODERS.find(name)().encode(x, T, rng_of([0, 1, 2]))

    def test_refuses_a_scalar(self, name):
        with pytest.raises(ShapeError, match=rf"^encoders.{name}: .* got a scalar; "):
            ENCODERS.find(name)().encode(torch.tensor(0.5), T, rng_of([0]))
