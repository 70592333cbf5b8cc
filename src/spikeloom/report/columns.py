"""The columns of the table of results: name, unit, meaning, and how each is read from records.

Everything that shows results uses this list: terminal, Markdown, CSV, data frames and the page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, stdev

from spikeloom.base.errors import unknown_name
from spikeloom.records.comparison import EntryRecord
from spikeloom.records.costs import CostRecord
from spikeloom.records.run import RunRecord
from spikeloom.records.units import megabytes
from spikeloom.report.efficiency import Efficiency
from spikeloom.report.means import (
    Means,
    latency_of,
    over,
    scores_of,
    seconds_of,
    slowdown_of,
    slower_than,
    spread_text,
    time_of,
)
from spikeloom.report.numbers import count, joules, milliseconds, times
from spikeloom.tasks.metric import ACCURACY, Metric

MAIN = "main"
"""The group that is shown unless another one is asked for."""


@dataclass(frozen=True)
class Cell:
    """One figure of an entry.

    Args:
        text: as tables show it.
        value: mean over seeds, in the unit of its column; None where there is none.
        spread: standard deviation over seeds or half the distance of the quartiles, where known.
    """

    text: str = "-"
    value: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class Row:
    """The records from which the figures of an entry are read.

    Args:
        entry: with one run or more.
        means: of the entry.
        efficiency: against its measured ANN, where there is one.
        clock: the ANN whose training time others are divided by, where there is one.
        uneven: whether the entries of the table have different numbers of runs.
    """

    entry: EntryRecord
    means: Means
    efficiency: Efficiency | None
    clock: EntryRecord | None
    uneven: bool


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        key: its name in ``--columns``, in CSV files and in data frames.
        words: its heading without the unit.
        unit: of its figures; empty for counts and ratios.
        group: the columns it is shown with.
        about: one sentence on what it says.
        read: takes the figure of an entry.
        best: `min` or `max`, whichever figure is better; None where none is.
        spread: whether its figures have one.
    """

    key: str
    words: str
    unit: str
    group: str
    about: str
    read: Callable[[Row], Cell]
    best: Callable[[Sequence[float]], float] | None = None
    spread: bool = False

    @property
    def heading(self) -> str:
        """Return its heading in one line: words and unit."""
        return f"{self.words}, {self.unit}" if self.unit else self.words


def _score(metric: Metric, row: Row) -> Cell:
    if metric not in row.entry.runs[0].metrics:
        return Cell()
    values = scores_of(row.entry, metric)
    text = spread_text(values, metric.written)
    if row.means.failed:
        text += f" ({row.means.failed} of {row.means.runs + row.means.failed} failed)"
    elif row.uneven:
        text += f" (n {row.means.runs})"
    return Cell(text, mean(values), stdev(values) if len(values) > 1 else None)


def judged(metric: Metric) -> Column:
    """Return the column of a metric on the test part."""
    words = f"test {metric.word}"
    best = max if metric.best == "high" else min
    read = partial(_score, metric)
    return Column(metric.name, words, metric.unit, MAIN, metric.about, read, best, spread=True)


def _figure(read: Callable[[Row], float | None], write: Callable[[float], str], row: Row) -> Cell:
    value = read(row)
    return Cell() if value is None else Cell(write(value), value)


def _counted(read: Callable[[CostRecord], float]) -> Callable[[Row], Cell]:
    return partial(_figure, lambda row: over(row.entry, read), count)


def _timed(read: Callable[[RunRecord], tuple[float, float] | None], row: Row) -> Cell:
    found = time_of(row.entry, read)
    return Cell() if found is None else Cell(milliseconds(*found), *found)


def _over_seeds(values: Sequence[float]) -> Cell:
    if not values:
        return Cell()
    spread = stdev(values) if len(values) > 1 else None
    return Cell(spread_text(values, "{:.1f}".format), mean(values), spread)


def _growth(row: Row) -> Cell:
    """Read what one more step adds to the peak; older records and T = 1 do not say."""
    growths = [run.costs.training.growth for run in row.entry.runs]
    added = [growth.bytes_per_step for growth in growths if growth is not None]
    if len(added) < len(growths):
        return Cell()
    more = megabytes(mean(added))
    return Cell(f"{round(more, 2) + 0.0:.2f}", more)


def _slower(row: Row) -> Cell:
    if row.clock is None or row.entry.control:
        return Cell()
    return _over_seeds(slower_than(row.entry, row.clock))


COLUMNS = (
    judged(ACCURACY),
    Column(
        "steps",
        "time steps",
        "",
        MAIN,
        "T, per prediction",
        partial(_figure, lambda row: row.entry.runs[0].steps, str),
    ),
    Column(
        "energy",
        "energy",
        "uJ per sample",
        MAIN,
        "energy of a prediction by exact counts of operations, 32-bit floats, operations on zeros "
        "left out; a model (45 nm, 2014), not a measurement",
        partial(_figure, lambda row: row.means.energy, joules),
        min,
    ),
    Column(
        "ann_energy",
        "ANN / SNN energy",
        "",
        MAIN,
        "energy of the ReLU net of the same layers, measured in the same table, over this net's: "
        "above 1 this net takes less; no figure where that net is not in the table",
        partial(_figure, lambda row: row.efficiency and row.efficiency.strict, times),
        max,
    ),
    Column(
        "memory",
        "training memory",
        "MB",
        MAIN,
        "highest memory of the allocator while one batch is trained, 10^6 bytes",
        partial(_figure, lambda row: row.means.memory, "{:.1f}".format),
        min,
    ),
    Column(
        "seconds",
        "training time",
        "s",
        MAIN,
        "without validation and test; two seeds or more, on the machine of the runs",
        lambda row: _over_seeds(seconds_of(row.entry)),
        min,
        spread=True,
    ),
    Column(
        "parameters",
        "parameters",
        "",
        "size",
        "trained numbers that a prediction needs",
        _counted(lambda cost: cost.parameters),
    ),
    Column(
        "predict_ms",
        "prediction time",
        "ms",
        "size",
        "of one sample, all time steps, on the machine of the runs: median over rounds",
        partial(_timed, latency_of),
        spread=True,
    ),
    Column(
        "spikes",
        "spikes per sample",
        "",
        "operations",
        "mean over test samples",
        partial(_figure, lambda row: row.means.spikes, count),
        min,
    ),
    Column(
        "ac",
        "additions (AC)",
        "",
        "operations",
        "accumulate operations per prediction",
        _counted(lambda cost: cost.ac.mean),
    ),
    Column(
        "mac",
        "multiply-adds (MAC)",
        "",
        "operations",
        "multiply-accumulate operations per prediction",
        _counted(lambda cost: cost.mac.mean),
    ),
    Column(
        "paper_energy",
        "energy by paper",
        "uJ",
        "paper",
        "by the formulas of Panda et al. 2020, eq. 8-11: 32-bit integers, mean firing rates",
        partial(_figure, lambda row: row.means.energy_paper, joules),
        min,
    ),
    Column(
        "paper_ann_energy",
        "ANN / SNN energy by paper",
        "",
        "paper",
        "the paper's energy efficiency (EE): the same ratio by its formulas",
        partial(_figure, lambda row: row.efficiency and row.efficiency.paper, times),
        max,
    ),
    Column(
        "forward_mac",
        "forward MAC",
        "",
        "training",
        "multiply-accumulates of the forward pass per training sample, zeros included",
        _counted(lambda cost: cost.training.forward_macs),
    ),
    Column(
        "backward_mac",
        "backward MAC",
        "",
        "training",
        "multiply-accumulates of the backward pass per training sample, zeros included",
        _counted(lambda cost: cost.training.backward_macs),
    ),
    Column(
        "memory_per_step",
        "memory per step",
        "MB",
        "training",
        "what one more time step adds to the training memory",
        _growth,
    ),
    Column(
        "ms_per_step",
        "time per step",
        "ms",
        "training",
        "what one more time step adds to training on a batch: median over rounds",
        partial(_timed, lambda run: slowdown_of(run.costs)),
        spread=True,
    ),
    Column(
        "ann_seconds",
        "time / ANN time",
        "",
        "training",
        "training time over that of the ANN on the same data, seed by seed",
        _slower,
        spread=True,
    ),
)
GROUPS = tuple(dict.fromkeys(column.group for column in COLUMNS))
BY_KEY = {"score": COLUMNS[0]} | {column.key: column for column in COLUMNS}


def fitted(columns: Sequence[Column], entries: Sequence[EntryRecord]) -> tuple[Column, ...]:
    """Return columns for the task of some entries: its metrics in the place of the accuracy."""
    metrics = next((entry.runs[0].metrics for entry in entries if entry.runs), (ACCURACY,))
    own = tuple(map(judged, metrics)) if metrics != (ACCURACY,) else COLUMNS[:1]
    return tuple(fit for column in columns for fit in (own if column is COLUMNS[0] else (column,)))


def of_group(*groups: str) -> tuple[Column, ...]:
    """Return the columns of some groups, in their order in the table."""
    return tuple(column for column in COLUMNS if column.group in groups)


def choose(names: str | None) -> tuple[Column, ...] | None:
    """Return the columns that a text names; None where there is no text.

    Args:
        names: groups and keys by comma, "all" for every column.

    Raises:
        ConfigError: a name that is neither a group nor a column.
    """
    if names is None:
        return None
    chosen: list[Column] = []
    for name in (part.strip() for part in names.split(",")):
        if name == "all":
            chosen += COLUMNS
        elif name in GROUPS:
            chosen += of_group(name)
        elif name in BY_KEY:
            chosen.append(BY_KEY[name])
        else:
            raise unknown_name("--columns", "column", name, ["all", *GROUPS, *BY_KEY])
    return tuple(dict.fromkeys(chosen))


def explained(columns: Sequence[Column]) -> list[str]:
    """Return one line for each column on what it says."""
    lines = [f"{column.heading}: {column.about}." for column in columns]
    spread = (
        "\N{PLUS-MINUS SIGN}: standard deviation over seeds; for times, if that is larger, half "
        "the distance of the quartiles over rounds. Brackets: the values of two seeds. "
        "-: not measured, or too uncertain to print."
    )
    return [*lines, spread]
