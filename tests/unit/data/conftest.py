"""No test writes into the user's cache."""

import pytest


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch, tmp_path_factory):
    """A folder for decoded pictures that is this test's own."""
    folder = tmp_path_factory.mktemp("decoded")
    monkeypatch.setenv("SPIKELOOM_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def quiet_writer():
    """The library that writes the test files draws bars."""
    from datasets import disable_progress_bars

    disable_progress_bars()
