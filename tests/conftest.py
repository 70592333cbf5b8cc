"""One thread, the same examples in every run, and no test writes into the user's cache.

Small tensors gain nothing from two threads, and lose much where the cores are shared. Property
tests have no deadline: how long an example takes says how busy the machine is. Files are not forced
onto the disk, and times are measured with the fewest rounds.
"""

import gc
import os
import traceback
from types import SimpleNamespace

os.environ["OMP_NUM_THREADS"] = "1"  # before torch; also for the commands that tests start

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

torch.set_num_threads(1)

settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    """Start the longest files first, so that no core waits for one of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="module")
def little_to_collect():
    """Leave what lives at the start of a file out of its collections of garbage.

    With the objects of thousands of tests and of torch.compile's modules each takes half a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def cheap_records():
    """Leave out what a run takes for the day the power fails, and for a steadier median of times.

    Tests kill processes and break calls of fsync; none can see what a disk had not yet written.
    Torch notes the stack for its own developers at every operation it traces, under pytest a deep
    one: half of the time that tracing takes.
    """
    from torch._subclasses import fake_tensor

    from spikeloom.measure import costs

    stackless = SimpleNamespace(**vars(traceback) | {"extract_stack": list})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        patch.setattr(costs, "TIMING_SECONDS", 0.0)
        patch.setattr(fake_tensor, "traceback", stackless, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def decoded_elsewhere(tmp_path_factory):
    """Keep decoded pictures of tests in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIKELOOM_CACHE", str(tmp_path_factory.mktemp("decoded")))
        yield
