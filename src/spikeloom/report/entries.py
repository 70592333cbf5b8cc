"""The rows of a report as values: finished and unfinished runs under one label."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spikeloom.records.comparison import EntryRecord
from spikeloom.records.run import EpochRecord, RunRecord
from spikeloom.records.samples import SamplesRecord
from spikeloom.tasks.metric import ACCURACY, Metric, named

Recipe = dict[str, Any]
"""A resolved recipe as it was stored: its keys are those of the version that trained it."""


@dataclass(frozen=True)
class Unfinished:
    """A run that was stopped, or still goes on."""

    name: str
    seed: int
    recipe: Recipe
    curve: tuple[EpochRecord, ...] = ()

    @property
    def first(self) -> Metric:
        """The metric that decides, as far as its epochs say."""
        return named(self.curve[0].judged[0]) if self.curve else ACCURACY

    @property
    def planned(self) -> int:
        """Epochs the recipe asks for; 0 where it does not say."""
        stages = self.recipe.get("stages")
        planned = [
            stage.get("epochs", 0)
            for stage in (stages if isinstance(stages, list) else [])
            if isinstance(stage, dict)
        ]
        return sum(count for count in planned if isinstance(count, int))


@dataclass(frozen=True)
class Entry:
    """One row of the report.

    Args:
        label: its name, unlike every other entry's.
        runs: finished runs, one per seed.
        unfinished: the others.
        folder: where it was read.
        origin: name of the comparison it is part of; empty for a run of its own.
        control: whether it is there to measure the others against.
        refusal: why its rule could not train its net.
        error: why it failed.
        block: "common", "native" or "control", where the comparison says so.
        differences: from the first entry and what was tuned, where the comparison says so.
        recipe: the resolved recipe of its first run, where known.
        samples: sample traces of its first run, where known.
        command: what made the comparison it is part of, where known.
    """

    label: str
    runs: tuple[RunRecord, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    folder: str = ""
    origin: str = ""
    control: bool = False
    refusal: str | None = None
    error: str | None = None
    block: str | None = None
    differences: tuple[str, ...] | None = None
    recipe: Recipe | None = None
    samples: SamplesRecord | None = None
    command: str | None = None

    @property
    def single(self) -> bool:
        """Whether it was read from a run folder, not from a comparison."""
        return not self.origin

    @property
    def seeds(self) -> set[int]:
        """Seeds of all its runs."""
        return {run.seed for run in self.runs} | {one.seed for one in self.unfinished}

    @property
    def spiking(self) -> bool:
        """Whether its net spikes."""
        return bool(self.runs) and self.runs[0].facts.spiking

    @property
    def competes(self) -> bool:
        """Whether it can be the best of something: no control, and none of its runs failed."""
        return bool(self.runs) and not self.control and self.error is None

    @property
    def drawn(self) -> bool:
        """Whether it appears in any figure."""
        return bool(self.runs) or any(one.curve for one in self.unfinished)

    @property
    def data(self) -> str:
        """Name of its data set; empty where no record says."""
        if self.runs:
            return self.runs[0].data
        choice = (self.recipe or {}).get("data")
        name = choice.get("name") if isinstance(choice, dict) else None
        return name if isinstance(name, str) else ""

    @property
    def state(self) -> str:
        """Its state: "refused", "failed", "unfinished" or "done"."""
        if self.refusal is not None:
            return "refused"
        if self.error is not None:
            return "failed"
        return "unfinished" if self.unfinished or not self.runs else "done"

    def record(self) -> EntryRecord:
        """Return the entry as `report.table` reads it."""
        return EntryRecord.of(self)


def merge(found: Iterable[Entry]) -> list[Entry]:
    """Join single runs that differ in their seed alone, each at its first one's place."""
    merged: dict[str, Entry] = {}
    for number, entry in enumerate(found):
        key = f"own {number}"
        if entry.single and entry.recipe is not None:
            alike = json.dumps(entry.recipe | {"seed": None}, sort_keys=True)
            other = merged.get(alike)
            if other is not None and entry.seeds.isdisjoint(other.seeds):
                merged[alike] = replace(
                    other,
                    runs=other.runs + entry.runs,
                    unfinished=other.unfinished + entry.unfinished,
                    samples=other.samples or entry.samples,
                )
                continue
            key = alike if other is None else key
        merged[key] = entry
    return list(merged.values())


def name_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Give entries that share a label a longer one: with rule or comparison, folder, number."""
    for longer in (_with_origin, _with_folder):
        often = Counter(entry.label for entry in entries)
        entries = [
            replace(entry, label=longer(entry)) if often[entry.label] > 1 else entry
            for entry in entries
        ]
    seen: Counter[str] = Counter()
    distinct = []
    for entry in entries:
        seen[entry.label] += 1
        number = seen[entry.label]
        distinct.append(entry if number == 1 else replace(entry, label=f"{entry.label} #{number}"))
    return distinct


def _with_origin(entry: Entry) -> str:
    if not entry.single:
        return f"{entry.origin}: {entry.label}"
    rule = entry.runs[0].rule if entry.runs else ""
    return f"{entry.label} {rule}".strip()


def _with_folder(entry: Entry) -> str:
    return f"{entry.label} ({entry.folder})"
