"""The record of a finished run: tested once, with what it cost beside it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from spikeloom.base.errors import Stopped
from spikeloom.nets.grammar import write
from spikeloom.rules.base import RULES
from spikeloom.train import checkpoint, runs
from spikeloom.train.costs import measure_costs
from spikeloom.train.environment import environment
from spikeloom.train.over_time import score_over_time
from spikeloom.train.probe import probe
from spikeloom.train.progress import Progress
from spikeloom.train.runs import RunFolder
from spikeloom.train.setup import Workbench
from spikeloom.train.state import State


def finish(
    bench: Workbench,
    folder: RunFolder,
    state: State,
    *,
    progress: Progress,
    final: bool,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """Test once, measure costs, write and return the run's record.

    Args:
        bench: of the last stage, with the weights that were kept.
        folder: where the run writes.
        state: after all stages.
        progress: told what happens.
        final: whether to test and to measure at all.
        stop: asked between batches.

    Raises:
        Stopped: the run was asked to stop; resuming begins here.
    """

    def poll() -> None:
        if bench.team.any(stop())[0]:
            raise Stopped(
                "stopped after the last epoch, before the test; go on with: spikeloom train "
                f"--resume {folder.path}"
            )

    record = _trained(bench, state) | {"final": final}
    if final:
        test = score_over_time(bench, bench.splits.test, "test", progress=_Polling(progress, poll))
        record |= {
            "test_accuracy": test.accuracy[-1],
            "test_loss": test.loss[-1],
            "test_samples": test.samples,
            "per_class": {"correct": test.correct, "samples": test.by_class},
            "accuracy_by_step": list(test.accuracy) if bench.rule.facts.spiking else None,
        }
        record["costs"] = measure_costs(bench, progress=progress)
        training = record["costs"]["training"]
        training["predicted_bytes"] = state.predicted
        if state.predicted:
            peak, off = training["peak_bytes"], training["peak_bytes"] / state.predicted - 1
            progress.note(
                f"training memory: {peak / 1e6:.1f} MB measured, {100 * off:+.1f} % of the "
                "prediction"
            )
        folder.write_json(runs.SAMPLES, probe(bench))
    folder.write_json(runs.RESULT, record)
    folder.remove(runs.STATE)  # what it holds beyond the result is of use to nobody
    return record


class _Polling(Progress):
    """Passes phases and advance on, and asks after each batch whether to stop."""

    def __init__(self, inner: Progress, poll: Callable[[], None]) -> None:
        self.phase = inner.phase
        self.poll = poll
        self._advance = inner.advance

    def advance(self, count: int, **figures: float) -> None:
        self.poll()
        self._advance(count, **figures)


def _trained(bench: Workbench, state: State) -> dict[str, Any]:
    """Return what is known without the test part."""
    recipe, stage = bench.recipe, bench.stage
    assert state.kept is not None
    return {
        "format": checkpoint.FORMAT,
        "name": recipe.name,
        "seed": recipe.seed,
        "net": write(bench.net.spec),
        "ann_net": write(bench.net.spec.as_ann()),
        "data": recipe.data.name,
        "classes": list(bench.splits.labels) or None,
        "skipped": list(bench.splits.skipped),
        "rule": stage.rule.name,
        "rule_options": stage.rule.options,
        "steps": bench.steps,
        "loss_at": bench.rule.loss_at if bench.steps > 1 else None,
        "epochs": len(state.curve),
        "stages": state.stages,
        "val_accuracy": state.kept["val_accuracy"],
        "val_loss": state.kept["val_loss"],
        "val_samples": len(bench.splits.validation),
        "train_seconds": sum(entry["seconds"] for entry in state.curve),
        "facts": {
            key: value
            for key, value in asdict(bench.rule.facts).items()
            if not isinstance(value, dict)
        },
        "source": str(bench.rule.facts.source),
        "sources": _sources(bench),
        "curve": state.curve,
        "warnings": state.warnings,
        "processes": bench.team.size,
        "recipe": recipe.model_dump(mode="json"),
        "environment": environment(bench.fabric, bench.net),
    }


def _sources(bench: Workbench) -> list[dict[str, Any]]:
    """Return the publications behind rules and head, each once."""
    found = [RULES.find(stage.rule.name).facts.source for stage in bench.recipe.stages]
    found += [bench.head.source] if bench.head.source is not None else []
    return [asdict(source) for source in dict.fromkeys(found)]
