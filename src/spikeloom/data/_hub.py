"""A data set of the Hugging Face hub, fetched once and decoded once."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from spikeloom.base.errors import DataError
from spikeloom.base.extras import need
from spikeloom.base.seeding import derive_seed
from spikeloom.data._columns import Columns
from spikeloom.data._layout import PARTS
from spikeloom.data._sources import Source, TableSource
from spikeloom.data.cache import data_cache

if TYPE_CHECKING:
    import datasets

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PATIENCE = 10.0
"""Seconds to wait for the hub's first answer."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hub:
    """A data set of the hub: its name `owner/name`, and the revision."""

    name: str
    revision: str


def hub_parts(name: str, hub: Hub, columns: Columns) -> dict[str, Source]:
    """Return the parts of a hub's set, downloading only what the cache lacks.

    Args:
        name: of the set, for messages.
        hub: its name and revision.
        columns: named by the user.

    Raises:
        ConfigError: the library datasets is absent.
        DataError: the hub cannot be reached, knows no such set, or the set has no training part.
    """
    fetch = cache(lambda: _fetch(name, hub))
    note = data_cache() / f"hub-{derive_seed(hub.name, hub.revision):016x}.json"
    known = _read_note(note)
    if known is None:
        known = {part: word for part, words in PARTS.items() for word in words if word in fetch()}
        if "train" not in known:
            raise DataError.of(
                f"data.{name}",
                f"a part train in '{hub.name}'",
                ", ".join(map(str, fetch())),
                "choose another set",
            )
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(known), encoding="utf-8")
        except OSError as error:
            LOG.info("%s: %s", note, error)  # it is asked again next time

    def rows(word: str) -> Callable[[], Any]:
        return lambda: fetch()[word]

    return {
        part: TableSource(
            f"{hub.name.replace('/', '--')}-{part}",
            ("hub", hub.name, hub.revision, word),
            rows(word),
            columns,
        )
        for part, word in known.items()
    }


def _fetch(name: str, hub: Hub) -> "datasets.DatasetDict":
    """Fetch all parts; the first request shows at once whether the hub can be reached."""
    need("datasets", f"data.{name}", f"the set '{hub.name}' of the hub")
    import datasets
    import huggingface_hub

    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:  # else what it fetched before is used
            api = huggingface_hub.HfApi()
            api.dataset_info(hub.name, revision=hub.revision, timeout=PATIENCE)
        found = datasets.load_dataset(hub.name, revision=hub.revision)
    except Exception as error:  # whatever network, disk and the set's own files can raise
        raise DataError.caused(
            f"data.{name}",
            f"the data set '{hub.name}' of the hub",
            error,
            "check name and network, or give the path of a local copy",
        ) from error
    assert isinstance(found, datasets.DatasetDict), "no part was asked for by name"
    return found


def _read_note(note: Any) -> dict[str, str] | None:
    try:
        known = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    sound = isinstance(known, dict) and "train" in known and set(known) <= set(PARTS)
    return known if sound else None
