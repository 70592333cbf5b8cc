"""A run from its recipe to its record; it can stop anywhere and go on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spikeloom.base.errors import DataError
from spikeloom.data import Splits
from spikeloom.inference.opening import open_inputs
from spikeloom.measure.environment import difference, environment
from spikeloom.measure.rehearsal import set_up_first
from spikeloom.program.fabric import Place, make_fabric
from spikeloom.program.inputs import Inputs, describe_inputs, load_splits
from spikeloom.program.recipe import Recipe
from spikeloom.program.setup import Workbench, prepare, set_up
from spikeloom.records import names, storage
from spikeloom.records.files import open_record
from spikeloom.records.progress import SILENT, Progress, expect_progress
from spikeloom.records.run import EnvironmentRecord, TrainedRecord
from spikeloom.train import runs
from spikeloom.train.loop_stage import StageLoop
from spikeloom.train.record import finish
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State, Stored

Stop = Callable[[], bool]


def never() -> bool:
    """Do not stop."""
    return False


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: its record (also in result.json) and its live objects.

    The record is a `RunRecord` where the run was tested. `bench` is None where a finished run was
    found and nothing had to be done.
    """

    record: TrainedRecord
    bench: Workbench | None


def train(
    recipe: Recipe,
    out: Path | None = None,
    *,
    splits: Splits | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
    resume: bool = False,
    final: bool = True,
    stop: Stop = never,
) -> Outcome:
    """Train as the recipe says, stage after stage; select on validation, test once.

    A run that was killed at any moment and resumed is bit-identical to one that was never stopped,
    on the same machine with the same number of threads.

    Args:
        recipe: what to do.
        out: run folder; None writes nothing.
        splits: data already loaded.
        progress: receives phases, epochs and notes.
        overwrite: whether a run that is already there may be replaced.
        resume: go on with the run in the folder; a finished one is returned as it is, an empty
            folder begins one.
        final: test and measure costs at the end; without, the test part stays unused.
        stop: asked between batches; true saves the run and stops it.

    Raises:
        ConfigError: a setting does not fit, or the folder holds another run, is in use or cannot be
            written.
        NumericalError: a value stopped being finite; the last good state stays on disk.
        Stopped: `stop` said so; the message says how to go on.
    """
    expect_progress(progress)
    fabric = make_fabric(recipe)
    first = fabric.global_rank == 0
    shown = progress if first else SILENT
    with RunFolder(out if first else None) as folder:
        done = _done(out, recipe, final=final) if resume else None
        if done is None:  # a finished run is read and not locked: it may lie where nothing can be
            folder.claim(recipe, overwrite=overwrite, resume=resume)
            done = _done(out, recipe, final=final) if resume else None
        if done is not None:
            return Outcome(done, None)
        _launch(fabric)
        stored = _found(out, recipe) if resume else None
        begun = None if stored is None else _begun_on(out, recipe)
        splits = load(recipe, shown, begun) if splits is None else splits
        return _run(
            recipe,
            folder,
            stored,
            begun,
            fabric=fabric,
            splits=splits,
            progress=shown,
            final=final,
            stop=stop,
        )


def _run(
    recipe: Recipe,
    folder: RunFolder,
    stored: Stored | None,
    begun: Inputs | None,
    *,
    fabric: Place,
    splits: Splits,
    progress: Progress,
    final: bool,
    stop: Stop,
) -> Outcome:
    state = State() if stored is None else stored.state
    last = len(recipe.stages) - 1
    number = min(state.stage, last)
    if stored is None:  # what does not fit shows now, also what only a later stage would meet
        bench = set_up_first(recipe, splits, fabric)
    else:
        bench = set_up(recipe, splits, stage=number, fabric=fabric)
    if begun is not None:
        where = names.INPUTS if folder.path is None else str(folder / names.INPUTS)
        begun.check_same(where, splits)
    _open(folder, recipe, bench, state, fresh=stored is None, progress=progress)
    progress.plan(sum(stage.epochs for stage in recipe.stages), done=len(state.curve))
    loop = StageLoop(bench, folder, state, progress, stop)
    if stored is not None:
        stored.restore(bench, loop.optimizer)
        loop.publish()
    loop.run()
    for row in range(number + 1, last + 1):
        after = set_up(recipe, splits, stage=row, fabric=fabric, prepared=False)
        hand_on(bench, after)
        prepare(after)
        hand_on_memory(bench, after)
        bench = after
        StageLoop(bench, folder, state, progress, stop).run()
    record = finish(bench, folder, state, progress=progress, final=final, stop=stop)
    progress.close()
    return Outcome(record, bench)


def load(recipe: Recipe, progress: Progress = SILENT, begun: Inputs | None = None) -> Splits:
    """Load the data a recipe names; reports progress while pictures are decoded for the first time.

    Args:
        recipe: names the data.
        progress: shown while pictures are decoded.
        begun: what the run to go on with was trained on; read in the same way.

    Raises:
        ConfigError, DataError: as `load_data`.
    """
    before = 0

    def told(done: int, total: int) -> None:
        nonlocal before
        if before == 0:
            progress.phase(f"decode {recipe.data.name}", total)
        progress.advance(done - before)
        before = done

    return load_splits(recipe, inputs=begun, progress=told)


def hand_on(before: Workbench, after: Workbench) -> None:
    """Start a stage with what the one before learned.

    Weights and buffers of one name and shape are taken over: all synapses, norms and the head. What
    only the next net has, such as thresholds after a ReLU net, keeps its initial value.
    """
    learned = before.modules().state_dict()
    target = after.modules()
    taken = {
        name: learned[name] if name in learned and learned[name].shape == own.shape else own
        for name, own in target.state_dict().items()
    }
    target.load_state_dict(taken)


def hand_on_memory(before: Workbench, after: Workbench) -> None:
    """Let the rule of a stage that accepts the one before it go on with what that remembers.

    Leaves of one path, kind and shape are taken over; the others keep their first value.
    """
    if after.rule.accepts(before.rule):
        after.memory = after.memory.with_values_of(before.memory)


def _open(
    folder: RunFolder,
    recipe: Recipe,
    bench: Workbench,
    state: State,
    *,
    fresh: bool,
    progress: Progress,
) -> None:
    """Write what is known before training; say what a resumed run finds changed."""
    folder.occupy()
    here = environment(bench.fabric, bench.net)
    if not fresh:
        if folder.has(names.ENVIRONMENT):
            try:
                before = open_record(folder / names.ENVIRONMENT, EnvironmentRecord)
                changed = difference(before, here)
            except DataError:  # no reason to lose a run
                changed = f"versions perhaps ({names.ENVIRONMENT} is damaged)"
            if changed:
                state.warnings.append(
                    f"resumed with other {changed}: results may not be bit-identical."
                )
                progress.warn(state.warnings[-1])
        _mend_inputs(folder, bench, state, progress)
        return
    folder.remove(*names.RUN)
    folder.write(names.ENVIRONMENT, here)
    folder.write_table(names.INPUTS, describe_inputs(bench.splits))
    folder.write_table(names.RECIPE, recipe.model_dump(mode="json"))


def _mend_inputs(folder: RunFolder, bench: Workbench, state: State, progress: Progress) -> None:
    """Write a damaged inputs.json anew, since the data it describes are at hand.

    Raises:
        NewerFormat: a newer library wrote it.
    """
    if not folder.has(names.INPUTS):
        return
    try:
        storage.read_json(folder / names.INPUTS)
    except storage.NewerFormat:
        raise
    except DataError:
        folder.write_table(names.INPUTS, describe_inputs(bench.splits))
        state.warnings.append(f"{names.INPUTS} was damaged; it was written anew from the data.")
        progress.warn(state.warnings[-1])


def _done(out: Path | None, recipe: Recipe, *, final: bool) -> TrainedRecord | None:
    """Return the record of the run in the folder, None where something is left to do."""
    done = None if out is None else runs.stored_result(out, recipe)
    return done if done is not None and (done.final or not final) else None


def _begun_on(out: Path | None, recipe: Recipe) -> Inputs | None:
    """Return what a stopped run was trained on; None where inputs.json is not there or damaged.

    Raises:
        NewerFormat: a newer library wrote it.
    """
    if out is None or not (out / names.INPUTS).exists():
        return None
    try:
        return open_inputs(out, recipe)
    except storage.NewerFormat:
        raise
    except DataError:  # no reason to lose a run: it is written anew, with a warning
        return None


def _found(out: Path | None, recipe: Recipe) -> Stored | None:
    """Return the state in the folder, None where there is none yet."""
    if out is None or not (out / names.STATE).exists():
        return None
    written = (out / names.RECIPE).exists()  # equal to `recipe`, as `claim` made sure
    return Stored(out / names.STATE, runs.stored_recipe(out) if written else recipe)


def _launch(fabric: Place) -> None:
    """Start the other processes, where there are to be some."""
    if fabric.world_size > 1:
        fabric.launch()
