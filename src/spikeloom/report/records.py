"""Run folders and comparison folders, read into one list of entries."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.records import names
from spikeloom.records.comparison import ComparisonRecord, EntryRecord
from spikeloom.records.files import open_epochs, open_record, open_table
from spikeloom.records.run import RunRecord, by_step
from spikeloom.records.samples import SamplesRecord
from spikeloom.report.blocks import tuned
from spikeloom.report.entries import Entry, Recipe, Unfinished, merge, name_apart

DEPTH = 3
"""How far below a given folder runs are looked for."""

_LONG = ("recipe", "sources", "stages", "warnings", "classes", "rule_options")
"""Parts of a run's record that no table shows."""

_SLUG = re.compile("[a-z0-9]+(?:-[a-z0-9]+)*")

_MARKS = (names.RESULTS, names.RESULT, names.RECIPE)
"""Files that make a folder one of a comparison or a run."""


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
            raise ConfigError.of(
                folder,
                "a folder of `spikeloom train` or `compare`",
                f"found no {names.RESULT}, {names.RESULTS} or {names.RECIPE}",
                "name a run folder",
            )
        for place in found:
            if place.resolve() not in seen:
                seen.add(place.resolve())
                comparison = (place / names.RESULTS).is_file()
                entries += _read_comparison(place) if comparison else [_read_run(place)]
    return tuple(name_apart(merge(entries)))


def _find(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folder if it holds records, else those below it that do."""
    try:
        if not folder.is_dir():
            came = "a file" if folder.exists() else "nothing there"
            todo = "name the folder it lies in" if folder.exists() else "check the path"
            raise ConfigError.of(folder, "a run folder", f"found {came}", todo)
        if any((folder / name).is_file() for name in _MARKS):
            yield folder
        elif depth:
            for below in sorted(folder.iterdir()):
                if below.is_dir() and not below.name.startswith("."):
                    yield from _find(below, depth - 1)
    except OSError as error:
        raise ConfigError.caused(
            folder, "a folder that can be read", error, "check the path"
        ) from None


def _read_run(folder: Path) -> Entry:
    recipe = open_table(folder / names.RECIPE) if (folder / names.RECIPE).is_file() else None
    if not (folder / names.RESULT).is_file():
        assert recipe is not None
        partial = _unfinished(folder, recipe)
        label = partial.name or "run"
        return Entry(label, unfinished=(partial,), folder=str(folder), recipe=recipe)
    record = open_record(folder / names.RESULT, RunRecord)
    return Entry(
        record.name or "run",
        runs=(record,),
        folder=str(folder),
        recipe=record.recipe or recipe,
        samples=_samples(folder),
    )


def _read_comparison(folder: Path) -> list[Entry]:
    results = read_comparison(folder)
    entries = []
    for row in results.entries:
        places = _seed_folders(folder / _slug(row))
        done = {one.seed for one in (*row.runs, *row.errors)}
        partial = [
            _unfinished(place, open_table(place / names.RECIPE))
            for place in places
            if not (place / names.RESULT).is_file()
        ]
        own = next((place for place in places if (place / names.RESULT).is_file()), None)
        recipe = row.runs[0].recipe if row.runs else None
        if recipe is None and places:
            recipe = open_table(places[0] / names.RECIPE)
        entries.append(
            Entry(
                " ".join(row.label.split()) or "entry",
                runs=row.runs,
                unfinished=tuple(one for one in partial if one.seed not in done),
                folder=str(folder),
                origin=results.name,
                control=row.control,
                refusal=row.refusal,
                error=row.error,
                block=row.block,
                differences=_differences(row),
                recipe=recipe,
                samples=_samples(own) if own else None,
                command=results.command,
            )
        )
    return entries


def read_comparison(folder: Path) -> ComparisonRecord:
    """Read the records of one comparison.

    Raises:
        ConfigError: the folder holds none.
        DataError: they are damaged, foreign, or of a newer format.
    """
    path = folder / names.RESULTS
    if not path.is_file():
        raise ConfigError.of(
            folder,
            "the folder of one comparison",
            f"found no {names.RESULTS}",
            "name what `spikeloom compare` wrote",
        )
    return open_record(path, ComparisonRecord)


def compact(results: ComparisonRecord) -> ComparisonRecord:
    """Return what a comparison's table needs: no curves, traces and settings.

    Saved into a folder of its own, it can be reported again.
    """

    def run(record: RunRecord) -> RunRecord:
        costs = record.costs.with_only(without=("layers", "settling"))
        without = (*_LONG, by_step(record.first.name))
        return record.with_only(without=without, curve=(), costs=costs)

    def entry(record: EntryRecord) -> EntryRecord:
        return record.with_only(runs=tuple(map(run, record.runs)))

    return results.with_only(entries=tuple(map(entry, results.entries)))


def _seed_folders(folder: Path) -> list[Path]:
    found = [place.parent for place in folder.glob(f"seed*/{names.RECIPE}") if place.is_file()]
    return sorted(found, key=lambda place: (len(place.name), place.name))


def _slug(row: EntryRecord) -> str:
    """Name the folder of an entry; older records do not, and a bad name is not followed."""
    return row.slug if _SLUG.fullmatch(row.slug) else names.entry_folder(row.label)


def _differences(row: EntryRecord) -> tuple[str, ...] | None:
    """Return in what an entry differs from the first, and what was tuned."""
    if row.differences is None and row.tuning is None:
        return None
    return (*(row.differences or ()), *filter(None, [tuned(row)]))


def _unfinished(folder: Path, recipe: Recipe) -> Unfinished:
    path = folder / names.METRICS
    curve = open_epochs(path) if path.is_file() else ()
    name, seed = recipe.get("name"), recipe.get("seed")
    if not isinstance(name, str) or not isinstance(seed, int):
        raise DataError.of(
            folder / names.RECIPE,
            "a resolved recipe",
            "one without a name or seed",
            "name a folder that `spikeloom train` wrote",
        )
    return Unfinished(name, seed, recipe, curve)


def _samples(folder: Path) -> SamplesRecord | None:
    path = folder / names.SAMPLES
    return open_record(path, SamplesRecord) if path.is_file() else None
