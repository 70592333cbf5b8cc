"""What makes many tiny runs quick."""

import gc

import pytest
import torch

# small tensors gain nothing from two threads, and lose much where the cores are shared
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect():
    """Measuring memory collects garbage first; keep the libraries' objects out of it."""
    gc.freeze()
    yield
    gc.unfreeze()
