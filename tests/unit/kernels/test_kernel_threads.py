"""Bodies on several threads: every piece once, whoever calls and however many there are."""

import ctypes
import itertools
import os
import select
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernelkit import leaky, needs_compiler

from spikeloom.kernels import threads
from spikeloom.kernels.source.jit import numba


class Body:
    """A body in Python: notes its pieces instead of working on them.

    The place of the next piece is read and raised under a lock, as `claim` does without one.
    """

    def __init__(self):
        self.pieces, self.numbers, self.callers = [], [], set()
        self.lock = threading.Lock()
        self.ctypes = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.run)
        self.address = ctypes.cast(self.ctypes, ctypes.c_void_p).value

    def run(self, address):
        data = (ctypes.c_int64 * 16).from_address(address)
        self.callers.add(threading.get_ident())
        while True:
            with self.lock:
                piece, data[0] = data[0], data[0] + 1
                if piece >= data[1]:
                    return
                lo = piece * data[2]
                self.pieces.append((lo, min(lo + data[2], data[3])))
                self.numbers.append(list(data[threads.HEAD : threads.HEAD + 2]))
            time.sleep(0)


@pytest.fixture(autouse=True)
def own_number_of_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def covers(pieces, count):
    ends = sorted(pieces)
    assert ends[0][0] == 0 and ends[-1][1] == count
    assert all(one[1] == other[0] for one, other in zip(ends, ends[1:], strict=False))


@given(
    count=st.integers(1, 5000),
    workers=st.integers(1, 4),
    grain=st.sampled_from([1, 7, 64, 1000]),
    multiple=st.sampled_from([1, 3, 64]),
)
def test_pieces_cover_everything_once(count, workers, grain, multiple):
    torch.set_num_threads(workers)
    body = Body()
    numbers = [7, 9, *[0] * (16 - threads.HEAD - 2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_gomp", lambda: None)
        work = threads.shares(count, grain=grain, multiple=multiple)
        threads.run_body(body, numbers, work)
    covers(body.pieces, count)
    assert len(body.pieces) == work.pieces
    assert all(lo % multiple == 0 for lo, _ in body.pieces)
    assert body.numbers == [[7, 9]] * len(body.pieces)
    assert len(body.callers) <= max(1, min(workers, count // grain))


def test_little_work_stays_on_the_calling_thread(monkeypatch):
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "_pool", None)  # calling it would fail
    monkeypatch.setattr(threads, "_gomp", None)
    body = Body()
    threads.run_body(body, [0] * 12, threads.shares(1999, grain=1000))
    assert body.pieces == [(0, 1999)] and body.callers == {threading.get_ident()}


@pytest.fixture(params=["openmp", "pool"])
def team(request, monkeypatch):
    """Run on torch's own threads, or on ours where torch has none of that kind."""
    if request.param == "pool":
        monkeypatch.setattr(threads, "_gomp", lambda: None)
    elif threads._gomp() is None:
        pytest.skip("torch runs on other threads here")
    return request.param


@pytest.fixture(scope="module")
def scan():
    from spikeloom.kernels.scan import Scan  # noqa: PLC0415

    return Scan(leaky, 0, 1)


@needs_compiler
class TestCompiled:
    xs = 2 * torch.rand(4, 300_003, generator=torch.Generator().manual_seed(0))

    def spikes(self, scan, xs=None):
        xs = self.xs if xs is None else xs
        return scan.run(xs, [], [torch.zeros(xs.shape[1:])], steps=len(xs))[0]

    def expected(self):
        v, outs = torch.zeros(self.xs.shape[1:]), []
        for current in self.xs:
            out, v = leaky(current, [], [v])
            outs.append(out)
        return torch.stack(outs)

    @pytest.mark.parametrize("workers", [1, 2, 3, 8])
    def test_any_number_of_threads(self, scan, team, workers):
        torch.set_num_threads(workers)
        assert torch.equal(self.spikes(scan), self.expected())

    def test_python_threads_at_the_same_time(self, scan, team):
        torch.set_num_threads(2)
        self.spikes(scan)
        found, start = [], threading.Barrier(3)

        def work():
            start.wait()
            found.extend(self.spikes(scan) for _ in range(3))

        workers = [threading.Thread(target=work) for _ in range(3)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        expected = self.expected()
        assert len(found) == 9 and all(torch.equal(one, expected) for one in found)

    def test_from_inside_the_backward_pass(self, scan, team):
        torch.set_num_threads(2)
        found = []
        leaf = torch.ones(2, requires_grad=True)
        out = leaf * 2
        out.register_hook(lambda grad: found.append(self.spikes(scan)))
        out.sum().backward()
        assert torch.equal(found[0], self.expected())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_after_a_fork(self, scan, team):
        """The child has lost the threads; it makes its own, and does not wait for the old ones."""
        torch.set_num_threads(2)
        few = self.xs[:, :20_000].repeat(8, 1)  # torch's own fork trouble begins above this
        expected = self.spikes(scan, few)
        child = os.fork()
        if child == 0:  # no test runs here, whatever happens
            code = 1
            try:
                code = 0 if _same(self.spikes(scan, few), expected) else 2
            finally:
                os._exit(code)
        assert _waited(child) == 0
        assert torch.equal(self.spikes(scan, few), expected)

    def test_no_lock_is_held_meanwhile(self):
        """A body asks another Python thread, and waits until that has answered."""
        compiler, pipes = numba(), [os.pipe() for _ in range(3)]
        (asked, ask), (answered, answer), (seen, show) = pipes
        libc = ctypes.CDLL(None)
        write, poll, letter = libc.write, libc.poll, ctypes.c_int64(0)
        write.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        poll.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int]
        write.restype, poll.restype = ctypes.c_int64, ctypes.c_int
        pollfd = np.array([answered, select.POLLIN], dtype=np.int32)

        @compiler.cfunc(compiler.types.void(compiler.types.voidptr))
        def body(data):
            numbers = compiler.carray(data, 6, dtype=np.int64)
            write(ask, numbers[4], 1)
            if poll(numbers[5], 1, 600_000) == 1:  # milliseconds; with the lock held, all of them
                write(show, numbers[4], 1)

        def reply():
            os.read(asked, 1)
            os.write(answer, b"x")

        other = threading.Thread(target=reply, daemon=True)
        other.start()
        addresses = [ctypes.addressof(letter), pollfd.ctypes.data]
        threads.run_body(body, addresses, threads.shares(1, grain=1))
        os.set_blocking(seen, False)
        assert os.read(seen, 1)
        for end in itertools.chain(*pipes):
            os.close(end)


def _same(mine, theirs):
    return mine.numpy().tobytes() == theirs.numpy().tobytes()


def _waited(child, seconds=600):
    """Return how a child ended; one that hangs is ended here."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"
