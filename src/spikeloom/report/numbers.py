"""How figures are written in tables."""


def count(value: float) -> str:
    """Write a count with about three digits: 0.25, 873, 12.3k, 4.56M."""
    for limit, scale, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= limit:
            digits = value / scale
            return f"{digits:.{2 if digits < 10 else 1 if digits < 100 else 0}f}{unit}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def joules(value: float) -> str:
    """Write microjoules: 1.234, and 0.00046 where three places show nothing."""
    return f"{value:.3f}" if value >= 1e-3 or value == 0 else f"{value:.2g}"


def times(value: float) -> str:
    """Write a ratio of energies; a net that takes none is dead."""
    return "inf (dead)" if value == float("inf") else f"{value:.2f}"


def milliseconds(value: float, spread: float) -> str:
    """Write a time to the place of its spread's first digits.

    Example:
        >>> milliseconds(0.7134, 0.0213), milliseconds(12.34, 1.6)
        ('0.713 ± 0.021', '12.3 ± 1.6')
    """
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} ± {spread:.{digits}f}"
