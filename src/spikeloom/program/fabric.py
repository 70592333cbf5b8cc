"""Where a run computes: its device, its processes, its precision.

Several processes and mixed precision are Lightning Fabric's. One process at full precision needs
none of it, and is spared the import, which takes longer than a small training.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from spikeloom.base.errors import ConfigError
from spikeloom.base.extras import need
from spikeloom.program.recipe import Recipe

DTYPES = {"32-true": torch.float32, "64-true": torch.float64}
"""Type of inputs, weights and results by precision; mixed ones are not here."""


class Place(Protocol):
    """What training asks of Lightning Fabric."""

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        ...

    @property
    def global_rank(self) -> int:
        """Number of this process among all, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """Number of processes."""
        ...

    def launch(self) -> object:
        """Start the other processes."""
        ...

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in the run's precision inside the context."""
        ...


@dataclass(frozen=True)
class PlainProcess:
    """One process at full precision.

    Args:
        device: it computes on.
        precision: key of `DTYPES`.
    """

    device: torch.device
    precision: str = "32-true"

    @property
    def global_rank(self) -> int:
        """Return 0: this is the first process."""
        return 0

    @property
    def world_size(self) -> int:
        """Return 1: there are no others."""
        return 1

    def launch(self) -> None:
        """Do nothing: there are no others."""

    def autocast(self) -> AbstractContextManager[None]:
        """Give new tensors the run's type inside the context."""
        return default_type(self.precision)


def default_type(precision: str) -> AbstractContextManager[None]:
    """Give new tensors the type of a precision; torch's default stays where that is float32."""
    dtype = DTYPES.get(precision, torch.float32)
    return nullcontext() if dtype is torch.float32 else _default_dtype(dtype)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def make_fabric(recipe: Recipe, *, processes: int | None = None) -> Place:
    """Return where a recipe computes, not yet launched: CUDA where there is one, else the CPU.

    It is Lightning Fabric for several processes or mixed precision. Under torchrun the processes
    are there already and may lie on several machines.

    Args:
        recipe: names device, precision and number of processes.
        processes: instead of the recipe's.

    Raises:
        ConfigError: the device does not exist here, or not as often, torchrun started another
            number of processes, or Lightning is needed and absent.
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
    if count == 1 and recipe.precision in DTYPES:
        return PlainProcess(torch.device("cuda:0" if cuda else "cpu"), recipe.precision)
    if count > 1:
        need("lightning", "devices", f"{count} processes")
    else:
        need("lightning", "precision", recipe.precision)
    return _lightning(recipe, count, cuda=cuda)


def _lightning(recipe: Recipe, count: int, *, cuda: bool) -> Place:
    """Return Lightning Fabric for a number of processes."""
    from lightning.fabric import Fabric

    for room in ("fabric", "pytorch"):  # its greetings are no news to the user
        logging.getLogger(f"lightning.{room}").setLevel(logging.WARNING)
    machines = int(os.environ.get("GROUP_WORLD_SIZE", "1")) if _launched() else 1
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=max(1, count // machines),
        num_nodes=machines,
        strategy="ddp" if count > 1 else "auto",
        precision=recipe.precision,
    )


def _launched() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ
