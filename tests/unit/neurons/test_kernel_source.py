"""Generated code says whose it is: unit, settings, equation; the compiler never sees it."""

import sys
from dataclasses import dataclass

import ownunits as own
import pytest
import torch
import trainpairs as kit

from spikeloom.base.docstrings import equations
from spikeloom.base.errors import UnsupportedNet
from spikeloom.kernels.moments import moments
from spikeloom.kernels.source import jit
from spikeloom.neurons import trains
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.normed import Normed
from spikeloom.neurons.trains import kernel_source, run_train

pytestmark = kit.needs_compiler


@dataclass(frozen=True)
class Leak(own.Soft):
    r"""A user's leak.

    .. math:: u[t] = \rho\, u[t-1] +
        \tanh(c[t])
    """

    learn = ()
    rho: float = 0.37

    def step(self, state, current, theta):
        u = self.rho * state + torch.tanh(current)
        return torch.sigmoid(u), u


def comments(text):
    """Return the comments of each part of generated code."""
    parts = [part for part in text.split("# A ") if part]
    lines = [[line for line in part.splitlines() if line.startswith("#")] for part in parts]
    return ["\n".join(part) for part in lines]


def test_equations_are_those_of_a_class_then_of_its_bases():
    assert equations(Leak) == [r"u[t] = \rho\, u[t-1] +", r"\tanh(c[t])"]
    assert equations(LIF)[0].startswith(r"u[t] = \alpha v[t-1] + i[t]")
    assert equations(LIF)[1:] == equations(IF) and len(equations(IF)) == 4
    assert equations(own.Own) == []


@pytest.mark.parametrize("local", [False, True])
def test_it_opens_with_unit_settings_and_equation(local):
    text = kernel_source(LIF(alpha=0.71875), local=local, pool=2)
    what = "A step between pivots" if local else "A train"
    assert text.startswith(f"# {what}, forward, float32; behind it an average pool of side 2.\n#\n")
    assert f"\n# {what}, backward, float32" in text
    for part in comments(text):
        assert "# spikeloom.neurons.leaky.LIF\n# LIF(" in part and "alpha=0.71875" in part
        assert r"# u[t] = \alpha v[t-1] + i[t]" in part
    assert "= 0.71875" in comments(text)[0]  # the number that stands for it in the code
    below = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "0.71875" not in below and "LIF" not in below
    compile(text, "kernel", "exec")


def test_a_norm_says_its_own_and_the_units():
    text = kernel_source(Normed(LIF()), dtype=torch.float64)
    assert "a (c[t] - \\mu) + b" in text and r"u[t] = \alpha v[t-1]" in text


def test_a_users_unit():
    first, _ = comments(kernel_source(Leak()))
    assert f"# {__name__}.Leak\n# Leak(" in first and "rho=0.37" in first
    assert "# u[t] = \\rho\\, u[t-1] +\n# \\tanh(c[t])\n" in first


def test_a_users_unit_without_an_equation():
    first, _ = comments(kernel_source(own.Soft()))
    assert "# No step anywhere: an exponential" in first
    assert "# (without an equation in its docstring)" in first


@pytest.mark.parametrize("unit", [own.FOREIGN["sine"], object()])
def test_what_has_no_kernel_is_refused_with_the_reason(unit):
    with pytest.raises(UnsupportedNet, match="expected a unit with compiled kernels, got"):
        kernel_source(unit)


def test_files_carry_it_and_units_that_differ_in_numbers_share_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trains._scan.cache_clear()
    for name in [name for name in sys.modules if name.startswith("spikeloom_kernel_")]:
        monkeypatch.delitem(sys.modules, name)
    xs = torch.rand(3, 2, 5)
    left = []
    for rho in (0.37, 0.38):
        run_train(Leak(rho=rho), xs, {}, kernels="compiled")
        left.append({path: path.read_bytes() for path in jit.kernel_cache().glob("*.py")})
        for path in left[-1]:
            monkeypatch.delitem(sys.modules, path.stem)  # as in another process
    (text,) = left[0].values()
    assert b"# A train, forward, float32.\n#\n" in text and b"Leak(alpha" in text
    assert b"\\tanh(c[t])" in text and left[1] == left[0]
    trains._scan.cache_clear()


def test_moments_say_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from spikeloom.kernels.moments import _run

    _run.cache_clear()
    for name in [name for name in sys.modules if name.startswith("spikeloom_kernel_")]:
        monkeypatch.delitem(sys.modules, name)
    assert moments(torch.rand(2, 3, 4)) is not None
    (path,) = jit.kernel_cache().glob("*.py")
    assert path.read_text().startswith(
        "# Sums over a train, float32.\n#\n# Moments of a batch norm"
    )
    _run.cache_clear()
