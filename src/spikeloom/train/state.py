"""The position of a run: all that a resumed run needs, in one file that is whole or absent.

Every draw is a function of (seed, epoch, sample) and every learning rate one of the position, so
there is no state of a sampler, augmentation or schedule. Torch's own generator is kept for rules
of users that draw from it.
"""

import json
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.program.recipe import Recipe, fingerprint, fingerprint_as_written
from spikeloom.program.setup import Workbench
from spikeloom.records import checkpoint, checksum
from spikeloom.records.part import Part
from spikeloom.records.run import EpochRecord, StageRecord, validation
from spikeloom.rules.memory import Leaf, Memory, Value
from spikeloom.tasks.metric import Metric

BEST = "best_"
"""Stands before the names of the best epoch's memory."""

Sums = list[Any]
"""Of one process over the batches done in an epoch: loss times samples, the task's sums, samples,
seconds, and the rule's notes times samples."""


def nothing() -> Sums:
    """Return the sums of no batch."""
    return [0.0, [], 0, 0.0, {}]


@dataclass
class State:
    """The position in a run, and its metrics so far.

    Args:
        stage: stages done.
        epoch: epochs done in the present stage.
        batch: batches done in the present epoch.
        sums: of the present epoch, one per process.
        curve: metrics of all epochs done.
        kept: metrics of the epoch whose weights are kept in the present stage.
        stages: records of the stages done.
        warnings: lines worth reading, kept for the record.
        predicted: bytes that learning from one batch of the present stage was said to take; None
            before that was asked.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    sums: list[Sums] = field(default_factory=list)
    curve: list[EpochRecord] = field(default_factory=list)
    kept: EpochRecord | None = None
    stages: list[StageRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    predicted: int | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the kept epoch where it need not be the last."""
    best_memory: dict[str, Leaf] = field(default_factory=dict)
    """What the rule remembered in that epoch, by path."""

    def table(self) -> dict[str, Any]:
        """Return the position for JSON, without tensors."""
        names = (one.name for one in fields(self) if not one.name.startswith("best"))
        return {name: _plain(getattr(self, name)) for name in names}

    @classmethod
    def from_table(cls, table: dict[str, Any], best: dict[str, Tensor]) -> "State":
        """Build the state that `table` wrote.

        Raises:
            TypeError, ValueError: it is none.
        """
        state = cls(**table, best=best)
        # before tasks, right answers stood for the sums
        state.sums = [
            [loss, [right, seen] if isinstance(right, int) else right, seen, *rest]
            for loss, right, seen, *rest in state.sums
        ]
        state.curve = [EpochRecord.model_validate(epoch) for epoch in state.curve]
        state.stages = [StageRecord.model_validate(stage) for stage in state.stages]
        state.kept = None if state.kept is None else EpochRecord.model_validate(state.kept)
        return state

    def in_stage(self) -> list[EpochRecord]:
        """Return the metrics of the present stage's epochs."""
        return [entry for entry in self.curve if entry.stage == self.stage]

    def since_best(self, metric: Metric) -> int:
        """Return the epochs since the stage was best by a metric of the validation part."""
        name = validation(metric.name)
        scores = [metric.rank(entry[name]) for entry in self.in_stage()]
        return len(scores) - 1 - scores.index(max(scores))


def save_state(
    path: Path,
    state: State,
    bench: Workbench,
    optimizer: torch.optim.Optimizer,
    memory: dict[str, Tensor],
) -> None:
    """Write state, weights, optimizer, rule and generator in one file.

    Args:
        path: of the file.
        state: the position.
        bench: with the weights.
        optimizer: with its moments.
        memory: of the rule in all processes, as `gathered` gives it.

    Raises:
        ConfigError: the folder cannot be written; the old file stays.
    """
    tensors = {f"weights.{name}": one for name, one in bench.modules().state_dict().items()}
    tensors |= {f"best.{name}": one for name, one in state.best.items()}
    tensors |= memory
    scalars: dict[str, dict[str, Any]] = {}
    for row, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{row}.{key}"] = value
            else:
                scalars.setdefault(str(row), {})[key] = value
    tensors["generator.cpu"] = torch.get_rng_state()
    if bench.fabric.device.type == "cuda":
        tensors["generator.cuda"] = torch.cuda.get_rng_state(bench.fabric.device)
    extra = {
        "recipe": fingerprint(bench.recipe),
        "state": json.dumps(state.table(), allow_nan=False),
        "optimizer": json.dumps(scalars),
    }
    checkpoint.write_weights(path, tensors, extra)


def copied(memory: Memory) -> dict[str, Leaf]:
    """Return the leaves of a memory by path, with copies of their tensors."""
    return {
        path: Leaf(
            value.detach().clone() if isinstance(value := leaf.value, Tensor) else value, leaf.kept
        )
        for path, leaf in memory.leaves()
    }


def gathered(bench: Workbench, best: dict[str, Leaf]) -> dict[str, Tensor]:
    """Return the memory of a rule by name in the file; every process takes part.

    Leaves that each process keeps for itself are under its rank.

    Args:
        bench: with the memory of now.
        best: the memory of the best epoch, where that is kept.

    Raises:
        ConfigError: a leaf that is the same everywhere, as the rule says, is not.
    """
    now = _gathered(bench, dict(bench.memory.leaves()))
    then = _gathered(bench, best) if best else {}
    return now | {f"{BEST}{name}": one for name, one in then.items()}


def _gathered(bench: Workbench, leaves: dict[str, Leaf]) -> dict[str, Tensor]:
    shared, own = {}, {}
    for path, leaf in leaves.items():
        (own if leaf.kept == "local" else shared)[path] = leaf.tensor
    if bench.team.size > 1:
        sums = {name: checkpoint.of_tensors({name: one}, {}) for name, one in shared.items()}
        first, *others = bench.team.gather(sums)
        for name in (name for other in others for name in sums if other[name] != first[name]):
            where = f"{bench.rule.place()}: memory '{name}'"
            todo = "say averaged(...) or local(...), or compute it from batch.across"
            raise ConfigError.of(where, "the same in every process", "several values", todo)
    shared = {f"memory.{path}": one for path, one in shared.items()}
    for rank, tensors in enumerate(bench.team.collect(own)):
        shared |= {f"local.{rank}.{path}": one for path, one in tensors.items()}
    return shared


class Stored:
    """A state file as read; nothing in it is executed.

    Args:
        path: of the file.
        recipe: of the run.

    Raises:
        ConfigError: it is the state of another recipe.
        DataError: it is damaged, or of a newer format.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        self.tensors, extra = checkpoint.read_tensors(path)
        if extra.get("recipe") not in (fingerprint(recipe), fingerprint_as_written(recipe)):
            raise ConfigError.of(
                path,
                "the state of the recipe beside it",
                "one of another recipe",
                "train again with --force",
            )
        if checksum.KEY not in extra:  # states have had one in every format
            raise self._damaged("no checksum")
        try:
            self.state = State.from_table(json.loads(extra["state"]), self._part("best"))
            self.scalars: dict[str, dict[str, Any]] = json.loads(extra["optimizer"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._damaged(error) from None

    def restore(self, bench: Workbench, optimizer: torch.optim.Optimizer) -> None:
        """Put weights, optimizer, rule and generator back.

        Raises:
            DataError: a tensor is missing or of another shape.
        """
        try:
            bench.modules().load_state_dict(self._part("weights"))
            if self.state.best:
                self.state.best_memory = {
                    path: Leaf(self._leaf(bench, path, leaf, BEST), leaf.kept)
                    for path, leaf in bench.memory.leaves()
                }
            bench.memory = bench.memory.mapped(partial(self._leaf, bench))
            rows = self._rows(bench)
            moments: dict[int, dict[str, Any]] = {
                rows[int(row)]: dict(values) for row, values in self.scalars.items()
            }
            for name, tensor in self._part("optimizer").items():
                row, key = name.split(".", 1)
                moments.setdefault(rows[int(row)], {})[key] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
            torch.set_rng_state(self.tensors["generator.cpu"])
            if "generator.cuda" in self.tensors and bench.fabric.device.type == "cuda":
                state = self.tensors["generator.cuda"]
                torch.cuda.set_rng_state(state, bench.fabric.device)
        except (LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise self._damaged(error) from None

    def _leaf(self, bench: Workbench, path: str, leaf: Leaf, prefix: str = "") -> Value:
        """Return a leaf of the rule's memory in this process.

        Before memory was a value, it lay under rule.<name>, and parameters under owned.<row>.
        Before that of the best epoch was kept, there was the last one's alone.
        """
        own = [id(one) for one in bench.memory.parameters()]
        named = f"local.{bench.team.rank}" if leaf.kept == "local" else "memory"
        older = f"owned.{own.index(id(leaf.value))}" if id(leaf.value) in own else f"rule.{path}"
        places = (f"{prefix}{named}.{path}", f"{named}.{path}", older)
        found = next((self.tensors[name] for name in places if name in self.tensors), None)
        if found is None or found.dtype != leaf.tensor.dtype:
            raise LookupError(f"no '{path}' of the rule's memory as {leaf.words}")
        return leaf.back(found)

    def _rows(self, bench: Workbench) -> list[int]:
        """Return the place of each stored parameter among those trained now.

        An older run may lack some: `Head` says which, and gives them their value.
        """
        return [
            row
            for row, (name, _) in enumerate(bench.parameters())
            if name.startswith("rule.") or f"weights.{name}" in self.tensors
        ]

    def _part(self, prefix: str) -> dict[str, Tensor]:
        start = f"{prefix}."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }

    def _damaged(self, error: object) -> DataError:
        expected, todo = "the state of a run", "train again with --force"
        return DataError.caused(self.path, expected, error, todo)


def _plain(value: Any) -> Any:
    """Return a field of the state as JSON has it."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.table() if isinstance(value, Part) else value
