import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import derive_seed
from spikeloom.data import DATA, load_data

STEP, WORD = 0x9E3779B97F4A7C15, 2**64


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def draws(seed: int, part: str, sample: int, count: int) -> list[float]:
    """Numbers of SplitMix64 in whole numbers of Python."""
    key = derive_seed(seed, 0, f"/delayed_recall/{part}".removeprefix("/"))
    start = mix(mix((sample * STEP + key) % WORD) ^ key)
    return [(mix((start + (j + 1) * STEP) % WORD) >> 11) / 2**53 for j in range(count)]


def symbols(x: torch.Tensor, classes: int) -> list[int]:
    """Read which symbol each step shows, -1 for none; the go channel is left out."""
    return [step.index(True) if any(step) else -1 for step in x[:, :classes].tolist()]


def small(**options) -> dict:
    return {"train_size": 30, "validation": 20, "test": 20} | options


def by_number(samples):
    """Put samples back into the order in which they were made."""
    return samples.store


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_sample_by_hand(part):
    """Three classes, two steps of cue, five of delay, one of go, in loops and whole numbers."""
    k, cue, delay, seed = 3, 2, 5, 7
    splits = load_data("delayed_recall", classes=k, cue=cue, delay=delay, seed=seed, **small())
    stored = by_number(getattr(splits, part))
    for n in range(6):
        label = n % k
        u = draws(seed, part, n, 3 * delay)
        shown = [int(u[delay + d] * k) if u[d] < 0.5 else -1 for d in range(delay)]
        others = [(label + 1 + j) % k for j in range(k - 1)] * cue
        shown[: len(others)] = others
        order = sorted(range(delay), key=lambda d: u[2 * delay + d])
        expected = [label] * cue + [shown[d] for d in order] + [-1]
        assert symbols(stored[n], k) == expected
        assert stored[n, :, k].tolist() == [False] * 7 + [True]


def test_what_a_net_sees():
    splits = load_data("delayed_recall", classes=4, delay=6, width=3, go=2, **small())
    assert splits.shape == (9, 15) and splits.scaling.time and splits.values == "events"
    assert [len(part) for _, part in splits.parts()] == [30, 20, 20]
    x, y = splits.train.take(torch.arange(30))
    assert x.dtype == torch.float32 and set(x.unique().tolist()) == {0.0, 1.0}
    for sample, label in zip(x, y.tolist(), strict=True):
        cue = torch.zeros(15)
        cue[3 * label : 3 * label + 3] = 1
        assert torch.equal(sample[0], cue)
        assert torch.equal(sample[-2:, 12:], torch.ones(2, 3)) and not sample[:-2, 12:].any()
    assert y.bincount().tolist() in ([8, 8, 7, 7], [7, 8, 8, 7], [8, 7, 7, 8])


@pytest.mark.parametrize("distractors", [0.0, 0.4, 1.0])
def test_steps_without_their_order_say_nothing(distractors):
    """Every symbol is shown once by balance, the rest does not depend on the label."""
    splits = load_data(
        "delayed_recall", classes=4, delay=8, distractors=distractors, **small(train_size=4000)
    )
    stored, y = by_number(splits.train), torch.arange(4000) % 4
    counts = stored[:, :, :4].sum(1)  # [N, K]
    assert int(counts.min()) >= 1
    shown = counts.sum(1).double()
    assert shown.mean().item() == pytest.approx(4 + 5 * distractors, abs=0.1)
    own = counts[torch.arange(4000), y].double().mean().item()
    assert own == pytest.approx(1 + 5 * distractors / 4, abs=0.06)


def test_without_balance_the_delay_is_noise():
    options = small(classes=5, delay=40, balanced=False, distractors=0.25, train_size=1000)
    splits = load_data("delayed_recall", **options)
    shown = splits.train.x[:, 1:41, :5].double()
    assert shown.sum(2).max() == 1
    assert shown.mean((0, 1)).tolist() == pytest.approx([0.05] * 5, abs=0.01)
    silent = load_data("delayed_recall", **(options | {"distractors": 0.0}))
    assert not silent.train.x[:, 1:41].any()
    now = load_data("delayed_recall", **(options | {"delay": 0}))
    assert now.shape == (2, 6)


def test_parts_share_no_draws_and_a_larger_part_begins_with_the_smaller():
    few = load_data("delayed_recall", delay=60, **small())
    many = load_data("delayed_recall", delay=60, **small(train_size=60))
    assert torch.equal(by_number(many.train)[:30], by_number(few.train))
    assert torch.equal(many.test.x, few.test.x) and torch.equal(many.validation.x, few.validation.x)
    rows = [tuple(row) for _, part in many.parts() for row in part.x.flatten(1).tolist()]
    assert len(set(rows)) == 100
    other = load_data("delayed_recall", delay=60, seed=1, **small())
    assert not torch.equal(by_number(other.train), by_number(few.train))


def test_normalised_samples_are_real():
    splits = load_data("delayed_recall", normalise=True, **small())
    assert splits.values == "real"
    x, _ = splits.train.take(torch.arange(30), torch.float64)
    assert x.mean((0, 1)).tolist() == pytest.approx([0.0] * 11, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 8}, r"delay: expected 9 steps or more, to balance 10 symbols, got 8; raise it"),
        ({"cue": 3}, r"delay: expected 27 steps or more, to balance 10 symbols, got 20; "),
        ({"delay": -1}, r"delay: expected 0 or more, got -1; "),
        ({"classes": 1}, r"classes: expected 2 or more, got 1; "),
        ({"distractors": 1.5}, r"distractors: expected a number in \[0, 1\], got 1.5; "),
        ({"width": 0}, r"width: expected 1 or more, got 0; "),
        ({"train_size": 0}, r"train_size: expected 1 sample or more, got 0; "),
        ({"seed": -1}, r"seed: expected 0 or more, got -1; "),
        ({"length": 9}, r"unknown option 'length'; "),
        (
            {"delay": 100_000, "width": 10_000},
            r" expected samples that fit into the .* of \[100002, 110000\], 33 TB; make delay, ",
        ),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ConfigError, match=rf"^data\.delayed_recall(\.|:) ?{message.lstrip()}"):
        load_data("delayed_recall", **options)


def test_length_is_known_before_anything_is_made():
    info = DATA.find("delayed_recall")
    assert info.length({}) == 22 and info.shape == (22, 11)
    assert info.length({"delay": 40, "cue": 2, "go": 3, "classes": 5}) == 45
    assert info.length({"delay": "x"}) is None  # whoever loads it refuses that
    assert DATA.find("digits").length({}) is None
