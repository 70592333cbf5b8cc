"""A compiler that is missing, broken, or without a folder: never an error, never another result."""

import ctypes
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from kernelkit import leaky, needs_compiler

import spikeloom
from spikeloom.kernels.scan import Scan
from spikeloom.kernels.source import jit
from spikeloom.kernels.source.program import Unsupported
from spikeloom.neurons import trains
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import kernel_source

XS = 2 * torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(0))
UNIT = LIF(alpha=0.59)
"""A unit that no other test uses: its kernel is compiled here."""


@pytest.fixture
def fresh():
    """Forget what this process has found out and compiled, before and after."""

    def forget():
        jit.numba.cache_clear()
        trains._scan.cache_clear()
        for name in [name for name in sys.modules if name.startswith("spikeloom_kernel_")]:
            del sys.modules[name]

    forget()
    yield
    forget()


def is_reference(unit=UNIT):
    """Whether a train that asks for the compiled loop gets the reference's."""
    calls, original = [], trains._reference
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trains, "_reference", lambda *a: calls.append(a) or original(*a))
        leaf = XS.clone().requires_grad_()
        out, _ = trains.run_train(unit, leaf, {}, kernels="compiled")
    (grad,) = torch.autograd.grad(out.sum(), leaf)
    leaf = XS.clone().requires_grad_()
    expected, _ = trains.run_train(unit, leaf, {}, kernels="reference")
    assert torch.equal(out, expected)
    assert torch.equal(grad, torch.autograd.grad(expected.sum(), leaf)[0])
    return bool(calls)


@pytest.mark.usefixtures("fresh")
class TestNoCompiler:
    def test_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "numba", None)  # importing it fails
        assert jit.numba() is None and is_reference()
        with pytest.raises(Unsupported, match="no compiler"):
            Scan(leaky, 0, 1)

    def test_one_that_breaks_while_it_loads(self, monkeypatch, tmp_path):
        (tmp_path / "numba.py").write_text("raise RuntimeError('numpy is too new')")
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.split(".")[0] == "numba"]:
            monkeypatch.delitem(sys.modules, name)
        assert jit.numba() is None and is_reference()

    def test_switched_off(self, monkeypatch):
        monkeypatch.setenv("SPIKELOOM_KERNELS", "reference")
        assert jit.numba() is None and is_reference()


@needs_compiler
@pytest.mark.usefixtures("fresh")
class TestBrokenCompiler:
    @pytest.fixture(autouse=True)
    def own_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @pytest.mark.parametrize("name", ["njit", "cfunc"])
    @pytest.mark.parametrize("error", [RuntimeError, TypeError, SystemError, AttributeError])
    def test_one_that_fails_to_compile(self, monkeypatch, name, error):
        def fail(*args, **kwargs):
            raise error("this machine is not supported")

        monkeypatch.setattr(jit.numba(), name, fail)
        assert is_reference()
        monkeypatch.undo()
        assert is_reference()  # tried once: a step costs no second attempt

    def test_generated_code_that_is_wrong(self, monkeypatch):
        monkeypatch.setattr(
            "spikeloom.kernels.source.emit._BINARY", {"mul": "* unknown *", "div": "/"}
        )
        assert is_reference()


SMALL = """
import numba
import numpy as np

@numba.cfunc(numba.types.void(numba.types.voidptr), cache=True)
def body(data):
    numba.carray(data, 1, dtype=np.int64)[0] += 41
"""


def answer(module):
    """Return what a compiled body makes of 1."""
    number = ctypes.c_int64(1)
    module.body.ctypes(ctypes.addressof(number))
    return number.value


@needs_compiler
@pytest.mark.usefixtures("fresh")
class TestFolder:
    @pytest.fixture(autouse=True)
    def own_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return tmp_path

    def again(self):
        """Load the small kernel as another process does."""
        for name in [name for name in sys.modules if name.startswith("spikeloom_kernel_")]:
            del sys.modules[name]
        return answer(jit.load_source(SMALL))

    def files(self, pattern="*.n*"):
        found = jit.kernel_cache().rglob(pattern)
        return {path: path.stat().st_mtime_ns for path in found}

    def test_compiled_code_is_used_again(self):
        assert self.again() == 42
        left = self.files()
        assert {path.suffix for path in left} == {".nbi", ".nbc"}
        assert self.again() == 42 and self.files() == left

    def test_so_is_that_of_a_unit(self):
        assert not is_reference()
        left = self.files()
        trains._scan.cache_clear()
        for path in self.files("*.py"):
            del sys.modules[path.stem]
        assert len(left) == 4 and not is_reference() and self.files() == left

    @pytest.mark.parametrize("pattern", ["*.py", "*.nbi", "*.nbc"])
    @pytest.mark.parametrize("damage", [b"", b"\xff\xfe broken", b"\x80\x04 no code"])
    def test_a_damaged_file_is_made_again(self, pattern, damage):
        self.again()
        (path,) = self.files(pattern)
        whole = path.read_bytes()
        path.write_bytes(damage)
        assert self.again() == 42
        left = self.files()
        assert self.again() == 42 and self.files() == left
        assert pattern != "*.py" or path.read_bytes() == whole

    @pytest.mark.parametrize("kind", ["a file", "absent", "no right"])
    def test_nowhere_to_write(self, monkeypatch, tmp_path, kind):
        folder = tmp_path / "cache"
        if kind == "a file":
            folder.write_text("")
        elif kind == "absent":
            folder = Path("/proc/none") if Path("/proc").is_dir() else folder
        else:
            folder.mkdir(mode=0o500)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        assert self.again() == 42

    def started(self, *lines, **variables):
        source = str(Path(spikeloom.__file__).parents[1])
        script = "\n".join(
            ["from spikeloom.kernels.source import jit", f"source = {SMALL!r}", *lines]
        )
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": source, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, process):
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0 and not err, err
        return out.strip()

    def test_processes_at_the_same_time(self):
        many = [self.started("print(jit.load_source(source).body.address > 0)") for _ in range(3)]
        assert [self.ended(one) for one in many] == ["True"] * 3
        assert not self.files("*.tmp")
        assert len(self.files("*.py")) == 1 and self.again() == 42

    def test_a_process_without_a_folder_leaves_nothing_behind(self, tmp_path):
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        (tmp_path / "cache").write_text("")
        variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(temporary)}
        process = self.started("print(jit.load_source(source).__file__)", **variables)
        assert self.ended(process).startswith(str(temporary))
        assert not list(temporary.iterdir())


@needs_compiler
@pytest.mark.usefixtures("fresh")
class TestProcess:
    @pytest.fixture(autouse=True)
    def own_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def test_threads_that_need_one_kernel_at_once_all_get_it(self, monkeypatch):
        def refuse(*args):
            raise AssertionError("the compiled loop gave way to the reference")

        monkeypatch.setattr(trains, "_reference", refuse)
        found, start = [], threading.Barrier(3)

        def work():
            start.wait()
            found.append(trains.run_train(UNIT, XS, {}, kernels="compiled")[0])

        workers = [threading.Thread(target=work) for _ in range(3)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        assert len(found) == 3 and all(torch.equal(one, found[0]) for one in found)

    def test_helpers_of_another_version_make_another_kernel(self, monkeypatch, tmp_path):
        source = "import numba\nvalue = 1\n"
        first = jit.load_source(source)
        assert jit.load_source(source) is first
        monkeypatch.setattr(jit, "_built_on", lambda: "another")
        second = jit.load_source(source)
        assert second.__name__ != first.__name__
        assert len(list(jit.kernel_cache().glob("*.py"))) == 2

    def test_every_helper_that_generated_code_imports_is_part_of_its_name(self):
        source = kernel_source(UNIT)
        helpers = {*re.findall(r"^from spikeloom\.kernels\.(\w+) import", source, re.MULTILINE)}
        assert helpers == {"_memory_numba", "_scalar_numba"}
        room = Path(spikeloom.__file__).parent / "kernels"
        for name in helpers:
            assert (room / f"{name}.py").read_text(encoding="utf-8") in jit._built_on()

    def test_a_module_that_fails_is_forgotten(self):
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                jit.load_source("value = 1 / 0\n")
        assert not [name for name in sys.modules if re.match("spikeloom_kernel_", name)]

    def test_source_is_kept_whole_and_untouched(self):
        jit.load_source("value = 2\n")
        (path,) = jit.kernel_cache().glob("*.py")
        before = path.stat().st_mtime_ns
        del sys.modules[path.stem]
        assert jit.load_source("value = 2\n").value == 2
        assert path.stat().st_mtime_ns == before and path.read_text() == "value = 2\n"
