"""Cache of the arrays that are decoded from an archive, so that it is decoded only once."""

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
"""Version of the cache files; increase it if the arrays made from an archive change."""

LOG = logging.getLogger(__name__)


def kept_arrays(name: str, archive: Path, settings: str, read: Callable[[], Arrays]) -> Arrays:
    """Return the arrays of `read`, from the cache if they are there.

    The key of an entry is made from path, size and times of the archive, and from `settings`. An
    entry is written under another name and renamed when complete, so that nobody reads half of it.
    A damaged entry fails its checksums and is made again. If the cache cannot be written, or there
    is no archive, nothing is cached.

    Args:
        name: name of the data set.
        archive: archive that `read` decodes.
        settings: all options that change the arrays, as a text.
        read: decodes the arrays.
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
        LOG.info("%s: %s", file, error)  # not an error: the archive is decoded again next time
    return arrays
