"""Where a run computes: its device, its processes, its precision."""

import logging
import os
from typing import TYPE_CHECKING

import torch

from spikeloom.base.errors import ConfigError
from spikeloom.train.recipe import Recipe

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def make_fabric(recipe: Recipe, *, processes: int | None = None) -> "Fabric":
    """Return Lightning Fabric for the recipe's device and precision, not yet launched.

    Under torchrun the processes are there already and may lie on several machines.

    Args:
        recipe: names device, precision and number of processes.
        processes: instead of the recipe's.

    Raises:
        ConfigError: the device does not exist here, or not as often, or torchrun started another
            number of processes.
    """
    count = recipe.devices if processes is None else processes
    there = torch.cuda.device_count()
    if recipe.device == "cuda" and not there:
        raise ConfigError("device: expected a CUDA device for 'cuda', got none; use 'cpu'.")
    cuda = there > 0 and recipe.device != "cpu"
    most = there if cuda else max(2, os.cpu_count() or 1)  # two show what several do, anywhere
    if count > most and not _launched():
        what = "CUDA devices" if cuda else "processor cores"
        raise ConfigError(
            f"devices: expected at most the {most} {what} of this machine, got {count}; use fewer, "
            "or torchrun for several machines."
        )
    if _launched() and count != int(os.environ["WORLD_SIZE"]):
        raise ConfigError(
            f"devices: expected one process for each that torchrun started, "
            f"{os.environ['WORLD_SIZE']}, got {count}; start without torchrun, or as many."
        )
    from lightning.fabric import Fabric

    for room in ("fabric", "pytorch"):  # its greetings are no news to the user
        logging.getLogger(f"lightning.{room}").setLevel(logging.WARNING)
    machines = int(os.environ.get("GROUP_WORLD_SIZE", "1")) if _launched() else 1
    return Fabric(
        accelerator=recipe.device,
        devices=max(1, count // machines),
        num_nodes=machines,
        strategy="ddp" if count > 1 else "auto",
        precision=recipe.precision,
    )


def _launched() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ
