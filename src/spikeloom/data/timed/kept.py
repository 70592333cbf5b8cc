"""Arrays read from an archive once, and kept in the cache of decoded data."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from spikeloom.data.cache import data_cache
from spikeloom.data.npy import ARRAY_FAULTS

Arrays: TypeAlias = dict[str, np.ndarray]

FORMAT = 1
"""Of the files; raised where what is read of an archive changes."""

LOG = logging.getLogger(__name__)


def kept_arrays(name: str, archive: Path, settings: str, read: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that `read` makes, from the cache where they are there.

    An entry depends on path, size and times of the archive. It is written under another name and
    renamed when whole; a damaged one fails its checksums and is made again. Where the cache cannot
    be written, the arrays are read again next time. Without an archive nothing is kept.

    Args:
        name: of the set.
        archive: that is read.
        settings: of reading, as a text.
        read: makes the arrays.
    """
    if not archive.is_file():
        return read()
    found = archive.stat()
    stamp = (str(archive.absolute()), found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    digest = hashlib.sha256(f"{FORMAT} {stamp} {settings}".encode()).hexdigest()[:20]
    file = data_cache() / f"{name}-{digest}.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except FileNotFoundError:
        pass
    except ARRAY_FAULTS as error:
        LOG.warning("%s: expected decoded data, got '%s'; decoding again.", file, error)
    arrays = read()
    draft = file.with_name(f"{file.stem}.{os.getpid()}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as out:
            np.savez(out, allow_pickle=False, **arrays)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        LOG.info("%s: %s", file, error)  # it is read again next time
    return arrays
