"""Run folders and comparison folders, read into one list of entries."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.report.blocks import tuned
from spikeloom.report.entries import Entry, Record, Unfinished, merge, name_apart
from spikeloom.report.formats import Comparison, Epoch, Run, Samples, check
from spikeloom.train import checkpoint

DEPTH = 3
"""How far below a given folder runs are looked for."""

_LONG = ("recipe", "sources", "stages", "accuracy_by_step", "warnings", "classes", "rule_options")
"""Parts of a run's record that no table shows."""

_SLUG = re.compile("[a-z0-9]+(?:-[a-z0-9]+)*")

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What could move a terminal's cursor, turn a line's direction, or not be written at all."""


def read_entries(folders: Sequence[Path]) -> tuple[Entry, ...]:
    """Read run folders and comparison folders, in the order given.

    Runs that differ in nothing but their seed become one entry. A folder that holds neither a run
    nor a comparison stands for all that lie below it.

    Raises:
        ConfigError: a path that is missing or no folder, or one without any run.
        DataError: a file that is damaged, foreign, or of a newer format.
    """
    entries: list[Entry] = []
    seen: set[Path] = set()
    for folder in folders:
        found = list(_find(folder, DEPTH))
        if not found:
            raise ConfigError(
                f"{folder}: expected a folder of `spikeloom train` or `compare`, found no "
                "result.json, results.json or recipe.json; name a run folder."
            )
        for place in found:
            if place.resolve() not in seen:
                seen.add(place.resolve())
                comparison = (place / "results.json").is_file()
                entries += _read_comparison(place) if comparison else [_read_run(place)]
    return tuple(name_apart(merge(entries)))


def _find(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folder if it holds records, else those below it that do."""
    try:
        if not folder.is_dir():
            came = "a file" if folder.exists() else "nothing there"
            todo = "name the folder it lies in" if folder.exists() else "check the path"
            raise ConfigError(f"{folder}: expected a run folder, found {came}; {todo}.")
        names = ("results.json", "result.json", "recipe.json")
        if any((folder / name).is_file() for name in names):
            yield folder
        elif depth:
            for below in sorted(folder.iterdir()):
                if below.is_dir() and not below.name.startswith("."):
                    yield from _find(below, depth - 1)
    except OSError as error:
        raise ConfigError(
            f"{folder}: expected a folder that can be read, got '{error.strerror}'; check the path."
        ) from None


def _read_run(folder: Path) -> Entry:
    recipe = _read(folder / "recipe.json") if (folder / "recipe.json").is_file() else None
    if not (folder / "result.json").is_file():
        assert recipe is not None
        partial = _unfinished(folder, recipe)
        return Entry(partial.name, unfinished=(partial,), folder=str(folder), recipe=recipe)
    record = _read(folder / "result.json")
    check(Run, record, folder / "result.json")
    return Entry(
        record["name"],
        runs=(record,),
        folder=str(folder),
        recipe=record.get("recipe") or recipe,
        samples=_samples(folder),
    )


def _read_comparison(folder: Path) -> list[Entry]:
    results = read_comparison(folder)
    entries = []
    for row in results["entries"]:
        places = _seed_folders(folder / _slug(row))
        done = {one["seed"] for one in (*row["runs"], *row.get("errors", ()))}
        partial = [
            _unfinished(place, _read(place / "recipe.json"))
            for place in places
            if not (place / "result.json").is_file()
        ]
        runs = row["runs"]
        own = next((place for place in places if (place / "result.json").is_file()), None)
        recipe = runs[0].get("recipe") if runs else None
        if recipe is None and places:
            recipe = _read(places[0] / "recipe.json")
        entries.append(
            Entry(
                " ".join(row["label"].split()) or "entry",
                runs=tuple(runs),
                unfinished=tuple(one for one in partial if one.seed not in done),
                folder=str(folder),
                origin=results["name"],
                control=row.get("control", False),
                refusal=row.get("refusal"),
                error=row.get("error"),
                block=row.get("block"),
                differences=_differences(row),
                recipe=recipe,
                samples=_samples(own) if own else None,
                command=results.get("command"),
            )
        )
    return entries


def read_comparison(folder: Path) -> Record:
    """Read the records of one comparison.

    Raises:
        ConfigError: the folder holds none.
        DataError: they are damaged, foreign, or of a newer format.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise ConfigError(
            f"{folder}: expected the folder of one comparison, found no results.json; name what "
            "`spikeloom compare` wrote."
        )
    results = _read(path)
    check(Comparison, results, path)
    return results


def compact(results: Record) -> Record:
    """Return what a comparison's table is made of: no curves, traces and settings.

    Written as results.json into a folder of its own, it can be reported again.
    """

    def costs(record: Record) -> Record:
        return {key: part for key, part in record.items() if key not in ("layers", "settling")}

    def run(record: Record) -> Record:
        kept = {key: part for key, part in record.items() if key not in _LONG}
        return kept | {"curve": [], "costs": costs(record["costs"])}

    entries = [
        {key: part for key, part in entry.items() if key != "tuning"}
        | {"runs": [run(one) for one in entry["runs"]]}
        for entry in results["entries"]
    ]
    return results | {"entries": entries}


def _seed_folders(folder: Path) -> list[Path]:
    """Return the run folders of one entry, by seed."""
    found = [place.parent for place in folder.glob("seed*/recipe.json") if place.is_file()]
    return sorted(found, key=lambda place: (len(place.name), place.name))


def _slug(row: Record) -> str:
    """Name the folder of an entry; older records do not, and a bad name is not followed."""
    slug = row.get("slug") or ""
    if _SLUG.fullmatch(slug):
        return slug
    return re.sub(r"[^a-z0-9]+", "-", row["label"].lower()).strip("-") or "entry"


def _differences(row: Record) -> tuple[str, ...] | None:
    """Return in what an entry differs from the first, and what was tuned."""
    found = row.get("differences")
    if found is None and not row.get("tuning"):
        return None
    return (*(found or ()), *filter(None, [tuned(row)]))


def _unfinished(folder: Path, recipe: Record) -> Unfinished:
    path = folder / "metrics.jsonl"
    curve = tuple(_curve(path)) if path.is_file() else ()
    name, seed = recipe.get("name"), recipe.get("seed")
    if not isinstance(name, str) or not isinstance(seed, int):
        raise DataError(
            f"{folder / 'recipe.json'}: expected a resolved recipe, got one without a name or "
            "seed; name a folder that `spikeloom train` wrote."
        )
    return Unfinished(name, seed, recipe, curve)


def _samples(folder: Path) -> Record | None:
    path = folder / "samples.json"
    if not path.is_file():
        return None
    record = _read(path)
    check(Samples, record, path)
    return record


def _read(path: Path) -> Record:
    return _clean(checkpoint.read_json(path), path)


def _curve(path: Path) -> Iterator[Record]:
    """Yield the epochs of a metrics file, one JSON record per line."""
    for epoch in checkpoint.read_lines(path):
        check(Epoch, epoch, path)
        yield _clean(epoch, path)


def _clean(value: Any, path: Path) -> Any:
    """Replace characters that are no text, in every string of a record."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _UNPRINTABLE.sub("\ufffd", value)
        if isinstance(value, list):
            return [clean(part) for part in value]
        if isinstance(value, dict):
            return {clean(key): clean(part) for key, part in value.items()}
        return value

    try:
        return clean(value)
    except RecursionError as error:
        raise _damaged(path, "a JSON record", error) from None


def _damaged(path: Path, expected: str, came: object) -> DataError:
    text = " ".join(str(came).split())
    return DataError(f"{path}: expected {expected}, got '{text}'; train again.")
