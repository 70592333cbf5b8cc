"""Every rule's learning curve is the one that was kept: a change of form changes no figure.

Where torch or its instructions are others than those of the file, the first epoch is compared, to
rounding: later a spike may fall on the other side of its threshold.
"""

import pytest
from curvekit import cases, curve, kept, place

KEPT = kept()
CASES = cases()


def named(name):
    """A case; those in float64 by the reference are slow."""
    slow = [pytest.mark.slow] if name.endswith("reference") else []
    return pytest.param(name, id=name, marks=slow)


def test_every_run_is_kept():
    assert set(KEPT["curves"]) == set(CASES)


@pytest.mark.parametrize("name", [named(name) for name in CASES])
def test_the_curve_is_the_kept_one(name):
    found, before = curve(CASES[name]), KEPT["curves"][name]
    if place() == KEPT["place"]:
        assert found == before
    else:
        close = 1e-9 if name.endswith("reference") else 1e-3
        assert found["loss"][0] == pytest.approx(before["loss"][0], rel=close)
