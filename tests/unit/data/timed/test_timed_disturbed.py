import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng
from spikeloom.data import Scaling
from spikeloom.data.augment import Augment
from spikeloom.data.timed.disturbed import disturbed


def draws(*samples: int, seed: int = 0, epoch: int = 0) -> SampleRng:
    return SampleRng(seed, epoch, torch.tensor(samples), stream="train")


def counts(*size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 6, size, generator=generator) - 3
    return x.clamp(min=0).to(torch.uint8)


def slow(x: torch.Tensor, rng: SampleRng, drop: float, jitter: int) -> torch.Tensor:
    """The same, event by event."""
    out = torch.zeros_like(x, dtype=torch.int64)
    for b, sample in enumerate(x.tolist()):
        numbers = rng.stream_for("events").numbers(2000)[b].tolist()
        k = 0
        for t, frame in enumerate(sample):
            for d, count in enumerate(frame):
                for _ in range(int(count)):
                    lost, late = numbers[2 * k] < drop, int(numbers[2 * k + 1] * (2 * jitter + 1))
                    k += 1
                    step = t + late - jitter
                    if not lost and 0 <= step < len(sample):
                        out[b, step, d] += 1
    return out


@given(
    drop=st.sampled_from([0.0, 0.3, 0.9]),
    jitter=st.integers(0, 4),
    seed=st.integers(0, 2**40),
    size=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)),
)
@settings(max_examples=60)
def test_equals_the_loop_over_events(drop, jitter, seed, size):
    x = counts(*size, seed=seed)
    before = x.clone()
    rng = draws(*range(size[0]), seed=seed)
    out = disturbed(x, rng, drop=drop, jitter=jitter)
    assert out.dtype == torch.uint8 and torch.equal(out.long(), slow(x, rng, drop, jitter))
    assert torch.equal(x, before)
    events = disturbed(x > 0, rng, drop=drop, jitter=jitter)
    assert events.dtype == torch.bool
    assert torch.equal(events, slow(x > 0, rng, drop, jitter) > 0)


def test_nothing_to_do_changes_nothing():
    x = counts(3, 5, 2, 4, 4)
    assert torch.equal(disturbed(x, draws(0, 1, 2), drop=0.0, jitter=0), x)
    empty = torch.zeros(2, 3, 4, dtype=torch.bool)
    assert not disturbed(empty, draws(0, 1), drop=0.5, jitter=2).any()
    signed = torch.tensor([[[-2, 0], [1, -1]]], dtype=torch.int8)
    assert torch.equal(disturbed(signed, draws(0), drop=0.0, jitter=0), signed)


def test_shares():
    x = torch.full((8, 21, 50), 4, dtype=torch.uint8)
    out = disturbed(x, draws(*range(8)), drop=0.25, jitter=0)
    assert out.double().mean().item() == pytest.approx(3, abs=0.05)
    spike = torch.zeros(1, 21, 3000, dtype=torch.bool)
    spike[0, 10] = True
    moved = disturbed(spike, draws(0), drop=0.0, jitter=2)[0].double().mean(1)
    assert moved[8:13].tolist() == pytest.approx([0.2] * 5, abs=0.03)
    assert moved.sum().item() == pytest.approx(1)


def test_a_sample_is_blind_to_its_batch():
    x = counts(6, 4, 2, 5, 5)
    augment = Augment(crop=1, flip=True, drop=0.3, jitter=1)
    whole = augment.apply(x, draws(*range(6)))
    some = augment.apply(x[[4, 1]], draws(4, 1))
    assert torch.equal(some, whole[[4, 1]])
    assert not torch.equal(whole, augment.apply(x, draws(*range(6), epoch=1)))


@pytest.mark.parametrize("kind", [torch.uint8, torch.bool, torch.float32])
def test_frames_are_shifted_and_flipped_alike_at_every_step(kind):
    x = counts(5, 3, 2, 6, 6).to(kind)
    augment = Augment(crop=2, flip=True, cutout=2)
    out = augment.apply(x, draws(*range(5)), Scaling(time=True))
    assert out.dtype == kind
    for t in range(3):
        assert torch.equal(out[:, t], augment.apply(x[:, t], draws(*range(5))))


@pytest.mark.parametrize(
    ("augment", "shape", "values", "message"),
    [
        ({"drop": 0.1}, (3, 8, 8), "real", r"augment.drop: expected none for .* \[3, 8, 8\] of re"),
        ({"jitter": 1}, (9, 4), "real", r"augment.jitter: .* take event data without normalise"),
        ({"flip": True, "drop": 0.1}, (9, 4), "events", r"augment: expected pictures .* or frames"),
        ({"crop": 9}, (5, 2, 8, 7), "counts", r"augment.crop: expected at most 7 pixels"),
        ({"flip": True}, (9,), "real", r"augment: expected pictures"),
    ],
)
def test_refuses(augment, shape, values, message):
    with pytest.raises(ShapeError, match=rf"^{message}"):
        Augment(**augment).check(shape, values)


def test_takes_events_over_time():
    Augment(drop=0.1, jitter=2).check((9, 4), "events")
    Augment(drop=0.1, crop=2).check((9, 2, 8, 8), "counts")
    Augment(crop=2, flip=True).check((9, 2, 8, 8), "real")
    for wrong in ({"drop": 1.0}, {"jitter": -1}):
        with pytest.raises(ConfigError):
            Augment(**wrong)
