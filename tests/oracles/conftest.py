"""Every oracle holds on the reference loops and on compiled kernels, which small nets leave out."""

import pytest

from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet


@pytest.fixture(autouse=True, params=["reference", "compiled"])
def kernels(request, monkeypatch):
    """Which loops take neurons through time in every net that a test builds."""
    build = SpikingNet.__init__

    def built(self, *args, **options):
        build(self, *args, **options)
        self.execution = Execution(kernels=request.param)

    monkeypatch.setattr(SpikingNet, "__init__", built)
    return request.param
