"""What stored numbers mean: the types that are read, the axis of time, the value that becomes 1."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.checks import expect
from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.fields import conform
from spikeloom.base.types import Values

if TYPE_CHECKING:
    from spikeloom.data.base import Scaling

LARGEST = float(np.finfo(float).max)

PEAKS = {"pictures": 255.0, "counts": 1.0}
"""Values that become 1, by what the samples are."""


class _Scale:
    def read(self, value: Any, path: str) -> Any:
        """Return it as the annotation says."""
        if value is None or (isinstance(value, str) and value in PEAKS):
            return value
        good = False
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            good = bool(0 < value <= LARGEST)
        todo = 'e.g. scale = "counts"'
        expect(good, path, '"pictures", "counts" or a number above 0', value, todo)
        return float(value)


Scale: TypeAlias = Annotated[str | float | None, _Scale()]
"""A recipe's `scale`: "pictures", "counts", the stored value that becomes 1, or None."""

WHITE = PEAKS["pictures"]

WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_WIDER = {
    torch.uint16: torch.int32,  # torch knows these types but for few operations
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,
}


def stored_array(where: str, array: np.ndarray) -> Tensor:
    """Return an array of a file as the tensor that is stored; values are kept.

    Raises:
        DataError: anything but booleans, whole numbers and floats of at most 64 bits.
    """
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise _no_numbers(where, array.dtype.name)
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return stored_tensor(where, torch.from_numpy(native))


def stored_tensor(where: str, x: Tensor) -> Tensor:
    """Return a tensor in a type that all of torch works with; values are kept.

    Raises:
        DataError: another type, or a whole number beyond 64 bits.
    """
    if x.dtype == torch.uint64 and bool((x.view(torch.int64) < 0).any()):
        raise DataError.of(where, "whole numbers below 2^63", "larger", "scale them")
    x = x.to(_WIDER.get(x.dtype, x.dtype))
    if x.dtype not in WHOLE + REAL:
        raise _no_numbers(where, str(x.dtype).removeprefix("torch."))
    return x


def is_whole(x: Tensor) -> bool:
    """Whether a tensor holds whole numbers or booleans."""
    return x.dtype in WHOLE


def time_axis(where: str, shape: Sequence[int], time: bool | None) -> bool | None:
    """Say whether dimension 1 of samples [N, *shape] is time.

    A net reads [D] or [C, H, W] at every step, so the rank decides, but for [N, A, B].

    Args:
        where: for messages.
        shape: of one sample.
        time: what the user states; None states nothing.

    Returns:
        None where the rank leaves it open and nothing is stated.

    Raises:
        ConfigError: the statement is no bool, or does not fit the rank.
    """
    if time is not None and not isinstance(time, bool):
        raise ConfigError.of(f"{where}.time", "true or false", f"{time!r}", "set one")
    rank = len(shape)
    if rank == 2:
        return time
    if time is not None and rank in (1, 3, 4) and time != (rank == 4):
        expected = "[N, T, C] or [N, T, C, H, W]" if time else "[N, D] or [N, C, H, W]"
        raise ConfigError.of(
            f"{where}.time",
            f"samples {expected} with time = {str(time).lower()}",
            _named(shape),
            axes_advice(shape),
        )
    return rank == 4


def axes_advice(shape: Sequence[int]) -> str:
    """Say what samples of a shape can be, and what to do for each."""
    dims = _named(shape)
    match len(shape):
        case 1:
            return (
                f"{dims} is [N, D] without time: take encoder 'constant', 'poisson' or 'latency'."
            )
        case 2:
            return (
                f"{dims} can be read in several ways: if dimension 1 is time, [N, T, C], take "
                "encoder 'frames' (in Python time=True); signals [N, C, L] become [N, T, C] with "
                "T = L by x.transpose(1, 2), or [N, D] by x.flatten(1); grey pictures [N, H, W] "
                "become [N, 1, H, W] by x.unsqueeze(1)."
            )
        case 3:
            return (
                f"{dims} is [N, C, H, W] without time: take encoder 'constant', 'poisson' or "
                "'latency'; if dimension 1 is the time of grey frames, give [N, T, 1, H, W] by "
                "x.unsqueeze(2)."
            )
        case 4:
            return f"{dims} is [N, T, C, H, W]: take encoder 'frames', with steps = {shape[0]}."
        case _:
            return "give [N, D], [N, C, H, W], [N, T, D] or [N, T, C, H, W]."


def peak_of(where: str, x: Tensor, scale: Scale, time: bool | None) -> float:
    """Return the stored value that becomes 1 at the net.

    Stated is what is not obvious: floats and truth values are taken as they are, whole numbers with
    a time axis are counts and stay counts, bytes without one are grey levels 0..255. Other
    whole numbers without a time axis have no meaning of their own.

    Args:
        where: for messages.
        x: what is stored, [N, ...].
        scale: "pictures" for 255, "counts" for 1, or the value itself; None for the above.
        time: whether dimension 1 is time, as `time_axis` returns it.

    Raises:
        ConfigError: an unknown word, or a number that is not above 0.
        DataError: whole numbers whose meaning must be stated.
    """
    scale = conform(Scale, scale, f"{where}.scale")
    if scale is not None:
        return PEAKS[scale] if isinstance(scale, str) else scale
    if x.dtype in REAL or x.dtype == torch.bool or time:
        return 1.0
    if x.dtype == torch.uint8 and time is False:
        return WHITE
    kind = str(x.dtype).removeprefix("torch.")
    shape = _named(x.shape[1:])
    ways = 'scale = "pictures" for 0..255, "counts" for counts, or the value that becomes 1'
    if time is None:
        raise DataError.of(
            f"{where}.scale",
            f"the meaning of {kind} in samples {shape}",
            "none",
            f"state time = true if dimension 1 is time, or {ways}. {axes_advice(x.shape[1:])}",
        )
    raise DataError.of(
        f"{where}.scale", f"the meaning of {kind} without a time axis", "none", f"state {ways}"
    )


def values_of(x: Tensor, scale: Scale, scaling: "Scaling") -> Values:
    """Return what kind of values samples are, for the count of operations.

    With a time axis, booleans are events and whole numbers are numbers of events, unless they
    are divided; floats are where `scale` says so. All else is real.

    Args:
        x: what is stored.
        scale: as stated.
        scaling: how it becomes network input.
    """
    if not scaling.time or scaling.peak != 1:
        return "real"
    if x.dtype == torch.bool:
        return "events"
    return "counts" if is_whole(x) or scale == "counts" else "real"


def _named(shape: Sequence[int]) -> str:
    return f"[N, {', '.join(map(str, shape))}]" if len(shape) else "[N]"


def _no_numbers(where: str, kind: str) -> DataError:
    return DataError.of(
        where, "booleans, whole numbers or floats of 16 to 64 bits", kind, "convert them"
    )
