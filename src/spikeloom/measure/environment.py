"""What a run ran on: versions and hardware, for its record."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from spikeloom.base.provenance import commit, processor
from spikeloom.nets.module.net import SpikingNet
from spikeloom.program.fabric import Place
from spikeloom.records.run import EnvironmentRecord

_PACKAGES = ("spikeloom", "torch", "numpy", "lightning", "safetensors")


def environment(fabric: Place, net: SpikingNet) -> EnvironmentRecord:
    """Return commit, versions, hardware and what runs the units; no paths and no host name."""
    return EnvironmentRecord(
        commit=commit(),
        processor=processor(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cpu_cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=str(fabric.device),
        kernels=net.backend,
        gpu=torch.cuda.get_device_name() if fabric.device.type == "cuda" else None,
        packages={name: _version(name) for name in _PACKAGES},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def difference(one: EnvironmentRecord, other: EnvironmentRecord) -> str:
    """Name what differs between two environments, e.g. "threads (2, now 1)"; empty for nothing."""
    old, new = (
        record.model_dump(exclude={"packages"}) | record.packages for record in (one, other)
    )
    changed = [key for key in new if old.get(key) != new[key]]
    return ", ".join(f"{key} ({old.get(key)}, now {new[key]})" for key in changed)
