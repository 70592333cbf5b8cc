import cmath
import math

import numpy as np
import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.data.timed.mel import Mel


def mel_by_hand(y: list[float], bands: int, rate: int, window: int, hop: int) -> list[list[float]]:
    """The equations in loops: window, transform, triangles, logarithm."""
    count = 1
    while window + (count - 1) * hop < len(y):
        count += 1
    y = y + [0.0] * (window + count * hop)
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    edges = [700 * (10 ** (highest * k / (bands + 1) / 2595) - 1) for k in range(bands + 2)]
    energies = []
    for t in range(count):
        power = []
        for k in range(window // 2 + 1):
            total = 0j
            for n in range(window):
                w = 0.5 - 0.5 * math.cos(2 * math.pi * n / window)
                total += w * y[t * hop + n] * cmath.exp(-2j * math.pi * k * n / window)
            power.append(abs(total) ** 2)
        row = []
        for m in range(1, bands + 1):
            energy = 0.0
            for k, p in enumerate(power):
                f = k * rate / window
                if edges[m - 1] < f <= edges[m]:
                    energy += p * (f - edges[m - 1]) / (edges[m] - edges[m - 1])
                elif edges[m] < f < edges[m + 1]:
                    energy += p * (edges[m + 1] - f) / (edges[m + 1] - edges[m])
            row.append(energy)
        energies.append(row)
    loudest = max(map(max, energies))
    return [
        [max(0.0, 1 + 10 * math.log10(e / loudest) / 60) if e else 0.0 for e in row]
        for row in energies
    ]


@pytest.mark.parametrize("samples", [5, 32, 33, 70])
def test_frames_are_the_equations(samples):
    rng = np.random.default_rng(samples)
    y = rng.normal(size=samples)
    found = Mel(4, rate=8000, window=32, hop=16).frames(y)
    expected = mel_by_hand(y.tolist(), 4, 8000, 32, 16)
    assert found.shape == (len(expected), 4) and found.dtype == np.float32
    assert found == pytest.approx(np.array(expected), abs=1e-6)


def test_a_tone_lies_in_its_band_whatever_its_volume():
    mel = Mel(32)
    t = np.arange(4000) / 8000
    tone = np.sin(2 * math.pi * 1000 * t)
    x = mel.frames(tone)
    assert x.shape == (mel.count(4000), 32) == (25, 32)  # 1 + ceil((4000 - 256) / 160)
    # mel(1000) = 1000, mel(4000) = 2146.1: band m is centred at 2146.1 m / 33
    assert int(x[10].argmax()) + 1 == round(1000 * 33 / 2146.1)
    assert x.max() == 1 and x.min() >= 0
    assert mel.frames(0.01 * tone) == pytest.approx(x, abs=1e-5)


def test_silence_is_zero():
    x = Mel(8).frames(np.zeros(600))
    assert x.shape == (4, 8) and not x.any()


@pytest.mark.parametrize(
    ("samples", "count"), [(1, 1), (256, 1), (257, 2), (416, 2), (417, 3), (8000, 50)]
)
def test_count(samples, count):
    assert Mel(8).count(samples) == count


def test_refuses_bands_without_a_frequency():
    with pytest.raises(ConfigError, match=r"^mel.bands: .* got 200; take fewer"):
        Mel(200)
