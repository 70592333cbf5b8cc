"""The record of a finished run: tested once, with its costs."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from spikeloom.base.errors import Stopped
from spikeloom.inference.over_time import score_over_time
from spikeloom.measure.costs import measure_costs
from spikeloom.measure.environment import environment
from spikeloom.measure.probe import probe
from spikeloom.nets.spec.grammar import write
from spikeloom.program.setup import Workbench
from spikeloom.records import names
from spikeloom.records.costs import CostRecord
from spikeloom.records.progress import Progress
from spikeloom.records.run import (
    FactsRecord,
    MetricRecord,
    PerClass,
    RunRecord,
    SourceRecord,
    TrainedRecord,
    by_step,
    tested,
    validation,
)
from spikeloom.records.storage import FORMAT
from spikeloom.records.units import megabytes, percent
from spikeloom.rules.base import RuleFacts
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State


def finish(
    bench: Workbench,
    folder: RunFolder,
    state: State,
    *,
    progress: Progress,
    final: bool,
    stop: Callable[[], bool],
) -> TrainedRecord:
    """Test once, measure costs, write and return the run's record.

    Args:
        bench: of the last stage, with the weights that were kept.
        folder: where the run writes.
        state: after all stages.
        progress: receives phases and notes.
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

    record = _trained(bench, state, final=final)
    if final:
        test = score_over_time(bench, bench.splits.test, "test", progress=_Polling(progress, poll))
        last: dict[str, Any] = {tested(name): values[-1] for name, values in test.metrics.items()}
        if bench.rule.facts.spiking:
            first = bench.task.first.name
            last[by_step(first)] = test.metrics[first]
        if test.by_class is not None:
            correct, samples = test.by_class
            last["per_class"] = PerClass(correct=tuple(correct), samples=tuple(samples))
        record = RunRecord(
            **dict(record),
            **last,
            test_loss=test.loss[-1],
            test_samples=test.samples,
            costs=_costs(bench, state, progress),
        )
        folder.write(names.SAMPLES, probe(bench))
    folder.write(names.RESULT, record)
    folder.remove(names.STATE)  # what it holds beyond the result is of use to nobody
    return record


def _costs(bench: Workbench, state: State, progress: Progress) -> CostRecord:
    """Measure costs, and compare the training memory with its prediction."""
    costs = measure_costs(bench, progress=progress)
    peak = costs.training.peak_bytes
    if state.predicted:
        progress.note(
            f"training memory: {megabytes(peak):.1f} MB measured, "
            f"{percent(peak / state.predicted - 1):+.1f} % of the prediction"
        )
    training = costs.training.model_copy(update={"predicted_bytes": state.predicted})
    return costs.model_copy(update={"training": training})


class _Polling(Progress):
    """Passes phases and advance on, and asks after each batch whether to stop."""

    def __init__(self, inner: Progress, poll: Callable[[], None]) -> None:
        self.phase = inner.phase
        self.poll = poll
        self._advance = inner.advance

    def advance(self, count: int, **figures: float) -> None:
        self.poll()
        self._advance(count, **figures)


def _trained(bench: Workbench, state: State, *, final: bool) -> TrainedRecord:
    """Return what is known without the test part."""
    recipe, stage = bench.recipe, bench.stage
    assert state.kept is not None
    keys = [validation(metric.name) for metric in bench.task.metrics]
    held: dict[str, Any] = {key: state.kept[key] for key in keys}
    return TrainedRecord(
        format=FORMAT,
        name=recipe.name,
        seed=recipe.seed,
        net=write(bench.net.spec),
        ann_net=write(bench.net.spec.as_ann()),
        data=recipe.data.name,
        classes=tuple(bench.splits.labels) or None,
        skipped=tuple(bench.splits.skipped),
        rule=stage.rule_title,
        rule_options=stage.rule.options,
        steps=bench.steps,
        loss_at=bench.rule.loss_at if bench.steps > 1 else None,
        epochs=len(state.curve),
        stages=tuple(state.stages),
        task=recipe.task.name,
        judged=tuple(map(MetricRecord.of, bench.task.metrics)),
        **held,
        val_loss=state.kept.val_loss,
        val_samples=len(bench.splits.validation),
        train_seconds=sum(entry.seconds for entry in state.curve),
        facts=FactsRecord.model_validate(_plain(bench.rule.facts)),
        source=str(bench.rule.facts.source),
        sources=_sources(bench),
        curve=tuple(state.curve),
        warnings=tuple(state.warnings),
        processes=bench.team.size,
        recipe=recipe.model_dump(mode="json"),
        environment=environment(bench.fabric, bench.net),
        final=final,
    )


def _plain(facts: RuleFacts) -> dict[str, Any]:
    """Return the facts that are no values of their own; the source is recorded apart."""
    return {key: value for key, value in asdict(facts).items() if not isinstance(value, dict)}


def _sources(bench: Workbench) -> tuple[SourceRecord, ...]:
    """Return the publications behind rules and head, each once."""
    rules = [stage.learning_rule() for stage in bench.recipe.stages]
    found = [source for rule in rules for source in rule.sources()]
    found += [bench.head.source] if bench.head.source is not None else []
    return tuple(SourceRecord.model_validate(asdict(source)) for source in dict.fromkeys(found))
