"""The one training loop, for every rule: a stage of epochs that can stop at any batch."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pydantic import ValidationError

from spikeloom.base.errors import NumericalError, Stopped
from spikeloom.base.seeding import derive_seed
from spikeloom.data.broken import named
from spikeloom.inference.evaluate import Score, added, evaluate
from spikeloom.measure.health import (
    health_lines,
    layer_health,
    memory_warning,
    predict_memory,
)
from spikeloom.measure.input_facts import input_facts, input_line, tiny_input
from spikeloom.program.batching import batches
from spikeloom.program.learn import learn
from spikeloom.program.setup import Workbench, make_optimizer, snapshot
from spikeloom.records import names
from spikeloom.records.part import LARGEST
from spikeloom.records.progress import Progress
from spikeloom.records.run import EpochRecord, HealthRecord, StageRecord, validation
from spikeloom.train.commit import TrainingCommit
from spikeloom.train.runs import RunFolder
from spikeloom.train.start import data_line, net_line, predict_seconds, room_line, time_line
from spikeloom.train.state import State, copied, gathered, nothing, save_state

SAVE_SECONDS = 60.0
"""Seconds after which a long epoch is saved again."""


class StageLoop:
    """Trains one stage from the position in the state.

    Args:
        bench: what is trained.
        folder: where the run writes.
        state: updated in place.
        progress: receives phases, epochs and notes.
        stop: asked between batches; true saves and stops.
    """

    def __init__(
        self,
        bench: Workbench,
        folder: RunFolder,
        state: State,
        progress: Progress,
        stop: Callable[[], bool],
    ) -> None:
        self.bench = bench
        self.folder = folder
        self.state = state
        self.progress = progress
        self.stop = stop
        self.optimizer = make_optimizer(
            bench.stage.optimizer,
            [parameter for _, parameter in bench.parameters()],
            undecayed=bench.head.undecayed(),
        )
        self.commit = TrainingCommit(bench, self.optimizer)
        self.saved = time.monotonic()
        self._sums = nothing()
        self._cautions: list[str] = []

    def run(self) -> None:
        """Train the epochs that are left and leave the weights that are kept.

        Raises:
            NumericalError: a value stopped being finite.
            Stopped: the run was asked to stop, and saved.
        """
        if self.state.predicted is None:
            self._predict()
        while (reason := self._over()) is None:
            self.epoch()
        self._caution(self.bench.head.findings(self.state.in_stage()[-1].notes))
        if self.state.best:
            then = self.state.best_memory
            self.bench.modules().load_state_dict(self.state.best)
            self.bench.memory = self.bench.memory.mapped(lambda path, _: then[path].value)
        self._close(None if reason == "epochs" else reason)

    def _over(self) -> str | None:
        """Return why the stage is over, None while it is not."""
        stage, state = self.bench.stage, self.state
        if state.epoch >= stage.epochs:
            return "epochs"
        if stage.patience is None or state.epoch == 0 or state.batch > 0:
            return None
        waited = state.since_best(self.bench.task.first)
        return "patience" if waited >= stage.patience else None

    def epoch(self) -> None:
        """Train for one pass over the training part, then validate."""
        bench, state = self.bench, self.state
        number = state.epoch
        try:
            trained = self._pass()
            check_weights(bench)
            score = evaluate(
                bench,
                bench.splits.validation,
                "validation",
                watch=self.progress,
                poll=self._poll,
            )
            entry = _epoch(trained, score, layer_health(bench) if number == 0 else None)
        except NumericalError as error:
            raise error.adding(self._left()).within(f"epoch {number + 1}") from None
        state.curve.append(entry)
        state.epoch, state.batch, state.sums = number + 1, 0, []
        self._sums = nothing()
        if bench.stage.select == "last" or state.since_best(bench.task.first) == 0:
            state.kept = entry
            if bench.stage.select == "best":
                state.best, state.best_memory = snapshot(bench.modules()), copied(bench.memory)
        health = entry.health or ()
        if not all(layer.healthy for layer in health):
            tiny = tiny_input(input_facts(bench), bench.splits)
            for line in health_lines(health, tiny):
                self._warn(line)
        self.save()
        self.publish()
        self.progress.epoch(entry)

    def _predict(self) -> None:
        """Report data, net, memory and time before the first batch."""
        if self.bench.number == 0:
            self.progress.inputs(data_line(self.bench.splits))
            self._show_inputs()
        self.progress.note(net_line(self.bench))
        self._caution(self.bench.rule.cautions(self.bench.net, self.bench.steps))
        self._caution(self.bench.head.cautions())
        self.state.predicted = predict_memory(self.bench)
        self.progress.note(room_line(self.state.predicted, self.bench))
        warning = memory_warning(self.state.predicted, self.bench)
        if warning is not None:
            self._warn(warning)
        elif self.progress.takes_notes:  # measured for this line alone
            predicted = predict_seconds(self.bench)
            if predicted is not None:
                self.progress.note(time_line(predicted, self.bench))

    def _show_inputs(self) -> None:
        splits, facts = self.bench.splits, input_facts(self.bench)
        self.progress.inputs(input_line(facts, splits))
        for note in splits.notes:
            self.progress.inputs(f"data: {note}")
        if splits.skipped:
            line = f"data: {len(splits.skipped)} broken pictures left out: {named(splits.skipped)}"
            self.state.warnings.append(line)
            self.progress.inputs(line)
        tiny = tiny_input(facts, splits)
        if tiny is not None:
            self._warn(f"{tiny}.")
        if facts.caution is not None:
            self._warn(facts.caution)

    def _caution(self, lines: Iterable[str]) -> None:
        """Pass cautions of rule and head on, each once."""
        for line in lines:
            if line not in self.state.warnings:
                self._cautions.append(line)
                self._warn(line)

    def _warn(self, line: str) -> None:
        self.state.warnings.append(line)
        self.progress.warn(line)

    def _pass(self) -> dict[str, Any]:
        """Train the batches that are left of an epoch; return its metrics."""
        bench, state, team = self.bench, self.state, self.bench.team
        passes = len(state.curve)  # over all stages, so that each draws its own
        seed = derive_seed(bench.recipe.seed, passes, "order")
        train = bench.splits.train
        order = batches(len(train), bench.stage.batch, seed)
        if state.sums:
            self._sums = list(state.sums[team.rank])
        bench.set_training()
        done = sum(map(len, order[: state.batch]))
        self.progress.phase(self._title(), len(train), done=done)
        for number in range(state.batch, len(order)):
            self._poll()
            start = time.perf_counter()
            self._set_rate(number, len(order))
            share = team.share(order[number])
            batch = bench.batch(
                train, share, epoch=passes, part="train", number=number, across=team
            )
            self.commit.begin(batch, len(order[number]))
            report = learn(bench, batch, self.commit, faulty=self.commit.faulty)
            self._caution(report.cautions)
            sums = self._sums
            sums[0] += float(report.loss) * batch.size
            sums[1] = added(sums[1], bench.task.sums(report.logits, batch.target))
            sums[2] += batch.size
            sums[3] += time.perf_counter() - start
            for name, value in report.notes.items():
                sums[4][name] = sums[4].get(name, 0.0) + value * batch.size
            state.batch = number + 1
            metrics = bench.task.figures(sums[1])
            self.progress.advance(len(order[number]), loss=sums[0] / sums[2], **metrics)
        for lines in team.gather(self._cautions):
            self._caution(lines)
        loss, sums, seen, seconds, notes = self._sums
        loss, seen, seconds = team.sums(loss, seen, seconds)
        metrics = bench.task.figures(added(*team.gather(sums)))
        means = {name: team.sums(notes[name])[0] / seen for name in sorted(notes)}
        return {
            "stage": bench.number,
            "rule": bench.stage.rule_title,
            "epoch": state.epoch,
            "lr": self._set_rate(len(order) - 1, len(order)),
            "loss": loss / seen,
            **metrics,
            "seconds": seconds / team.size,
        } | ({"notes": means} if means else {})

    def save(self) -> None:
        """Save the state; every process takes part."""
        self.state.sums = self.bench.team.gather(self._sums) if self.state.batch else []
        memory = gathered(self.bench, self.state.best_memory)
        if self.folder.path is not None:
            path = self.folder / names.STATE
            save_state(path, self.state, self.bench, self.optimizer, memory)
        self.saved = time.monotonic()

    def publish(self) -> None:
        """Write what others read, from the state: metrics so far and the weights kept."""
        state = self.state
        self.folder.write_epochs(state.curve)
        if state.best:
            self.folder.write_tensors(names.WEIGHTS, state.best)
        elif state.batch == 0 and state.kept is not None:
            self.folder.write_tensors(names.WEIGHTS, self.bench.modules().state_dict())

    def _poll(self) -> None:
        """Save where it is time to; stop where somebody asks for it."""
        due = self.folder.path is not None and time.monotonic() - self.saved > SAVE_SECONDS
        stop, due = self.bench.team.any(self.stop(), due)
        if stop or due:
            self.save()
        if stop:
            raise Stopped(self._stopped())

    def _close(self, stopped: str | None) -> None:
        """End the stage in the state."""
        state, bench = self.state, self.bench
        entries = state.in_stage()
        memory = {path: leaf.words for path, leaf in bench.memory.leaves()}
        assert state.kept is not None
        state.stages.append(
            StageRecord(
                rule=bench.stage.rule_title,
                options=bench.stage.rule.options,
                steps=bench.steps,
                epochs=len(entries),
                planned=bench.stage.epochs,
                batch=bench.stage.batch,
                seconds=sum(entry.seconds for entry in entries),
                stopped=stopped,
                kept_epoch=state.kept.epoch,
                **({"memory": memory} if memory else {}),
            )
        )
        state.stage, state.epoch, state.batch = state.stage + 1, 0, 0
        state.best, state.best_memory = {}, {}
        if state.stage < len(bench.recipe.stages):
            state.kept = state.predicted = None
        self.folder.write_tensors(names.WEIGHTS, bench.modules().state_dict())

    def _set_rate(self, number: int, count: int) -> float:
        """Set the learning rate of a batch; return it."""
        stage, epoch = self.bench.stage, self.state.epoch
        factor = stage.schedule.factor_at(epoch, epoch + (number + 1) / count, stage.epochs)
        rate = stage.optimizer.lr * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _title(self) -> str:
        stage, count = self.bench.stage, len(self.bench.recipe.stages)
        title = f"epoch {self.state.epoch + 1}/{stage.epochs}"
        return title if count == 1 else f"stage {self.bench.number + 1}/{count} {title}"

    def _stopped(self) -> str:
        state = self.state
        where = f"stopped in epoch {state.epoch + 1} after batch {state.batch}"
        if self.folder.path is None:
            return f"{where}."
        return f"{where}; go on with: spikeloom train --resume {self.folder.path}"

    def _left(self) -> str:
        """Say which epoch the folder of a failed run keeps."""
        kept = self.state.kept
        if kept is None or self.folder.path is None:
            return ""
        return f"The run folder keeps epoch {kept.epoch + 1}."


def _epoch(
    trained: dict[str, Any], score: Score, health: tuple[HealthRecord, ...] | None
) -> EpochRecord:
    """Put together the metrics of an epoch.

    Raises:
        NumericalError: a figure is too large.
    """
    held = {validation(name): value for name, value in score.metrics.items()}
    table: dict[str, Any] = trained | {"val_loss": score.loss} | held
    if notes := trained.get("notes", {}) | score.figures:
        table["notes"] = notes
    if health is not None:
        table["health"] = health
    try:
        return EpochRecord(**table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place, came = ".".join(map(str, first["loc"])), first["input"]
        raise NumericalError.of(
            place, f"a figure of at most {LARGEST:g}", came, "lower the learning rate"
        ) from None


def check_weights(bench: Workbench) -> None:
    """Stop at weights that are not finite; spikes could hide them from the loss.

    Raises:
        NumericalError: a weight is not finite.
    """
    for name, tensor in bench.modules().state_dict().items():
        if not torch.isfinite(tensor).all():
            raise NumericalError.of(
                "training",
                "finite weights",
                f"NaN or infinity in '{name}'",
                "lower the learning rate",
            )
