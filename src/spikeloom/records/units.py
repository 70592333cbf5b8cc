"""Conversions from the units of records to those of tables."""

_PICO_PER_MICRO = 1e6
_BYTES_PER_MEGABYTE = 1e6


def microjoules(picojoules: float) -> float:
    """Convert energies: records hold pJ.

    Example:
        >>> microjoules(540_000.0)
        0.54
    """
    return picojoules / _PICO_PER_MICRO


def megabytes(count: float) -> float:
    """Convert sizes: records hold bytes, a megabyte is 10^6 of them.

    Example:
        >>> megabytes(5_500_000)
        5.5
    """
    return count / _BYTES_PER_MEGABYTE


def percent(share: float) -> float:
    """Convert shares: records hold them from 0 to 1.

    Example:
        >>> percent(0.5)
        50.0
    """
    return 100 * share


def milliseconds(seconds: float) -> float:
    """Convert times of a round: meters measure seconds, records hold ms.

    Example:
        >>> milliseconds(0.25)
        250.0
    """
    return 1e3 * seconds


def span(seconds: float) -> str:
    """Write a time span in its largest fitting unit: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
