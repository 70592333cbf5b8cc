"""Tiny sets of recordings."""

import numpy as np
import pytest
from timedkit import SPEAKERS, wav_bytes


@pytest.fixture
def spoken() -> dict[str, bytes]:
    """Four speakers, ten digits, one take: tones whose length grows with the digit."""
    files = {}
    for number, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            t = np.arange(300 + 500 * digit)
            tone = 8000 * np.sin(t * (0.2 + 0.05 * digit + 0.01 * number))
            files[f"{digit}_{speaker}_0.wav"] = wav_bytes(tone)
    return files
