"""Turns sound into log-mel frames, with numpy only."""

from dataclasses import dataclass

import numpy as np

from spikeloom.base.errors import ConfigError

RANGE = 60.0
"""Range in decibels: values further below the loudest one become 0."""


@dataclass(frozen=True)
class Mel:
    r"""Log-mel spectrogram: logarithm of the energy in bands of equal width on the mel scale.

    .. math::
        P_t(k) &= \Big| \sum_{n=0}^{N-1} w(n)\, y(tH + n)\, e^{-2 \pi i k n / N} \Big|^2,
        \qquad w(n) = \tfrac12 - \tfrac12 \cos(2 \pi n / N) \\
        E_t(m) &= \sum_k F_m(k)\, P_t(k) \\
        x_t(m) &= \max\Big(0,\; 1 + \frac{10 \log_{10} (E_t(m) / \max_{t, m} E)}{60}\Big)

    y is the signal, w a Hann window, P the power spectrum. F_m is a triangle of height 1 over the
    frequencies :math:`f_{m-1}, f_m, f_{m+1}`; :math:`f_0 .. f_{M+1}` are equally spaced on the mel
    scale :math:`2595 \log_{10}(1 + f / 700)` from 0 to half the rate. So the loudest value of a
    recording is 1, whatever its volume, and values 60 dB or more below it are 0. The end of a
    recording is filled with zeros to a whole frame.

    Args:
        bands: number of mel bands, M.
        rate: sampling rate in Hz.
        window: length of a frame in samples, N.
        hop: distance between the starts of two frames in samples, H.

    Raises:
        ConfigError: too many bands: one of them contains no frequency of the Fourier transform.

    Source:
        Stevens, Volkmann and Newman 1937 (the scale), O'Shaughnessy 1987 (its formula).
    """

    bands: int
    rate: int = 8000
    window: int = 256
    hop: int = 160

    def __post_init__(self) -> None:
        if not (self.filters().sum(1) > 0).all():
            raise ConfigError.of(
                "mel.bands",
                f"bands that hold a frequency of a window of {self.window} samples",
                self.bands,
                "take fewer",
            )

    def count(self, samples: int) -> int:
        """Return the number of frames of a recording with so many samples."""
        return 1 + max(0, -(-(samples - self.window) // self.hop))

    def filters(self) -> np.ndarray:
        """Return the filters F, [M, N / 2 + 1]."""
        highest = 2595 * np.log10(1 + self.rate / 2 / 700)
        edges = 700 * (10 ** (np.linspace(0, highest, self.bands + 2) / 2595) - 1)
        low, middle, high = (edges[k : k + self.bands, None] for k in range(3))
        f = np.fft.rfftfreq(self.window, 1 / self.rate)
        return np.clip(np.minimum((f - low) / (middle - low), (high - f) / (high - middle)), 0, 1)

    def frames(self, y: np.ndarray) -> np.ndarray:
        """Return the frames of a recording.

        Shape:
            y: [S], S above 0; result: [count(S), M], float32 in [0, 1].
        """
        count = self.count(len(y))
        padded = np.zeros(self.window + (count - 1) * self.hop)
        padded[: len(y)] = y
        cut = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop]
        w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        energy = np.abs(np.fft.rfft(cut * w)) ** 2 @ self.filters().T  # [T, M]
        loudest = energy.max()
        if loudest == 0:
            return np.zeros((count, self.bands), np.float32)
        with np.errstate(divide="ignore"):  # silence is -inf dB, and becomes 0
            x = 1 + 10 * np.log10(energy / loudest) / RANGE
        return np.maximum(x, 0).astype(np.float32)
