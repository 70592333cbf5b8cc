"""One thread, and no test writes into the user's cache.

Small tensors gain nothing from two threads, and lose much where the cores are shared.
"""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def decoded_elsewhere(tmp_path_factory):
    """Keep decoded pictures of tests in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIKELOOM_CACHE", str(tmp_path_factory.mktemp("decoded")))
        yield
