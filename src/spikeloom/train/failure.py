"""Why a run failed, in one line."""

import traceback
from pathlib import Path

from spikeloom.base.errors import SpikeloomError, too_big
from spikeloom.records.names import TRACEBACK
from spikeloom.records.storage import write_bytes


def reason(error: Exception, folder: Path) -> str:
    """Return one line about an error; of one that is not the user's, keep the traceback on disk.

    Args:
        error: what ended the run.
        folder: of the run, for traceback.txt.
    """
    known = error if isinstance(error, SpikeloomError) else too_big(error)
    if known is None:
        path = folder / TRACEBACK
        known = f"{type(error).__name__}: {error} (unexpected; see {path})"
        write_bytes(path, "".join(traceback.format_exception(error)).encode())
    return " ".join(str(known).split())
