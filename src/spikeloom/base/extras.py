"""Libraries that a plain installation lacks, and the extra that brings each."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from spikeloom.base.errors import ConfigError

EXTRAS = {
    "datasets": "hub",
    "h5py": "hdf5",
    "lightning": "fabric",
    "pandas": "frame",
    "plotly": "pages",
    "pyarrow": "parquet",
    "scipy": "gmres",
    "tensorboard": "tensorboard",
}
"""Extra by library, as in pyproject.toml."""


def installed(library: str) -> bool:
    """Return whether a library can be imported, without importing it."""
    return find_spec(library) is not None


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None for one that is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install_line(library: str) -> str:
    """Return the command that installs the extra of a library."""
    return f"pip install 'spikeloom[{EXTRAS[library]}]'"


def need(library: str, where: str, purpose: str) -> None:
    """Refuse to go on without a library.

    Args:
        library: key of `EXTRAS`.
        where: what asks for it.
        purpose: what it is for.

    Raises:
        ConfigError: it is not installed; the message names the extra.

    Example:
        >>> need("numpy", "data", "everything")
    """
    if not installed(library):
        expected = f"the library {library} for {purpose}"
        raise ConfigError.of(where, expected, "none", install_line(library))
