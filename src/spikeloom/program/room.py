"""Whether a stage can fit into the machine at all, said before anything of it is built."""

import torch

from spikeloom.base.errors import ConfigError
from spikeloom.base.memory import in_words, total_bytes
from spikeloom.nets.module.size import Size
from spikeloom.program.stage import Stage


def check_room(
    where: str,
    stage: Stage,
    size: Size,
    *,
    classes: int,
    samples: int,
    encoded: int,
    kind: torch.dtype,
    device: torch.device,
    training: bool,
) -> None:
    """Refuse a stage that needs more memory than there is, whatever else uses it.

    Counted is what is there at once in any case: weights, for training their gradients and the
    optimizer's copies, a batch as it is encoded, and one step of the widest layer for it. What a
    rule keeps comes on top; that is predicted before the first epoch.

    Args:
        where: of the stage, for the message.
        stage: with its optimizer.
        size: of the net.
        classes: width of the head.
        samples: of a batch, in one process.
        encoded: bytes of one sample over all its steps.
        kind: type of weights and inputs.
        device: that has to hold them.
        training: whether gradients and optimizer count.

    Raises:
        ConfigError: it does not fit.
    """
    room = total_bytes(device)
    copies = 2 + stage.optimizer.copies if training else 1
    weights = (size.parameters + size.features * classes) * kind.itemsize * copies
    batch = samples * (encoded + size.widest * kind.itemsize)
    if room is None or weights + batch <= room:
        return
    what = "weights, gradients and optimizer" if training else "weights"
    raise ConfigError(
        f"{where}: expected what fits into the {in_words(room)} of {device}, got "
        f"{in_words(weights)} for {what} and {in_words(batch)} for a batch of {samples} at "
        f"T = {stage.steps}; make net, batch or steps smaller."
    )


def check_train(where: str, steps: int, sample: torch.Tensor) -> None:
    """Refuse a train of one sample that would not fit, before it is encoded.

    Raises:
        ConfigError: it does not.
    """
    room, needed = total_bytes(), steps * sample.nbytes
    if room is not None and needed > room:
        raise ConfigError(
            f"{where}: expected a sample over time that fits into the {in_words(room)} of this "
            f"machine, got {in_words(needed)} for {list(sample.shape[1:])} at T = {steps}; take "
            "fewer steps."
        )
