"""Optional libraries, and the extra that installs each."""

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
"""The extra in pyproject.toml, by library."""


def installed(library: str) -> bool:
    """Return whether a library can be imported, without importing it."""
    return find_spec(library) is not None


def version_of(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install_line(library: str) -> str:
    """Return the command that installs the extra of a library."""
    return f"pip install 'spikeloom[{EXTRAS[library]}]'"


def need(library: str, where: str, purpose: str) -> None:
    """Raise an error if a library is not installed.

    Args:
        library: key of `EXTRAS`.
        where: path for the error.
        purpose: what the library is for.

    Raises:
        ConfigError: it is not installed; the message has the command that installs it.

    Example:
        >>> need("numpy", "data", "everything")
    """
    if not installed(library):
        expected = f"the library {library} for {purpose}"
        raise ConfigError.of(where, expected, "none", install_line(library))
