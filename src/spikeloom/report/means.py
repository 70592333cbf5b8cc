"""Means of an entry over the runs that finished."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from spikeloom.records.comparison import EntryRecord
from spikeloom.records.costs import CostRecord, Energies
from spikeloom.records.run import RunRecord
from spikeloom.records.units import megabytes, microjoules
from spikeloom.report.entries import Entry
from spikeloom.tasks.metric import Metric

FEWEST_RUNS_TIMED = 2
"""Fewest trainings of which a time is reported; one alone has no spread."""


@dataclass(frozen=True)
class Means:
    """Means over seeds.

    Args:
        label: of the entry.
        runs: number of runs.
        failed: number of runs that failed.
        metric: the one that decides.
        score: its value on the test part, in its unit.
        deviation: of the score over seeds; None for one seed.
        sample: what one test sample is worth; 0 for metrics that are no share of samples, and in
            records that do not say.
        energy: strict convention, fp32, in uJ per inference.
        energy_paper: paper's convention, int32, in uJ per inference.
        spikes: per inference; None for a net without spikes.
        memory: peak of one training batch, in MB (10^6 bytes).
        latency: of predicting one sample, in ms; None where no run has a figure with its spread.
        seconds: of training.
    """

    label: str
    runs: int
    failed: int
    metric: Metric
    score: float
    deviation: float | None
    sample: float
    energy: float
    energy_paper: float
    spikes: float | None
    memory: float
    latency: float | None
    seconds: float

    @property
    def rank(self) -> float:
        """What is higher for better scores."""
        return self.metric.rank(self.score)


def means(entry: EntryRecord) -> Means:
    """Return the means of an entry with one run or more; those of format 1 serve as well."""
    runs = entry.runs
    scores, metric = scores_of(entry), runs[0].first
    spiking = runs[0].facts.spiking
    tested = [run.test_samples for run in runs if run.test_samples and metric.of_samples]
    latency = time_of(entry, latency_of)
    return Means(
        label=entry.label,
        runs=len(runs),
        failed=len(entry.errors),
        metric=metric,
        score=mean(scores),
        deviation=stdev(scores) if len(runs) > 1 else None,
        sample=metric.shown(1 / min(tested)) if len(tested) == len(runs) else 0.0,
        energy=microjoules(over(entry, lambda cost: cost.energy.strict_fp32.net)),
        energy_paper=microjoules(over(entry, lambda cost: cost.energy.paper_int32.net)),
        spikes=over(entry, lambda cost: cost.spikes.mean) if spiking else None,
        memory=megabytes(over(entry, lambda cost: cost.training.peak_bytes)),
        latency=None if latency is None else latency[0],
        seconds=mean(run.train_seconds for run in runs),
    )


def scores_of(entry: EntryRecord | Entry, metric: Metric | None = None) -> list[float]:
    """Return a metric on the test part of every finished run, in its unit.

    Args:
        entry: with runs of one task.
        metric: None for the one that decides.
    """
    return [(one := metric or run.first).shown(run.test(one)) for run in entry.runs]


def over(entry: EntryRecord, read: Callable[[CostRecord], float]) -> float:
    """Return the mean over an entry's runs of a figure of their cost records."""
    return mean(read(run.costs) for run in entry.runs)


def energy_of(entry: EntryRecord, read: Callable[[Energies], float | None]) -> float | None:
    """Return the mean over an entry's runs of an energy in pJ; None where a record lacks it."""
    found = [read(run.costs.energy) for run in entry.runs]
    known = [value for value in found if value is not None]
    return mean(known) if len(known) == len(found) else None


def time_of(
    entry: EntryRecord, read: Callable[[RunRecord], tuple[float, float] | None]
) -> tuple[float, float] | None:
    """Return a time measured in each run with its spread, mean over the runs.

    The spread is half the distance of the quartiles over the rounds, or the deviation over seeds
    where that is larger. None where a run has no figure of it.

    Args:
        entry: with one run or more.
        read: takes value and half the distance of the quartiles from a run's record.
    """
    found = [read(run) for run in entry.runs]
    timed = [value for value in found if value is not None]
    if len(timed) < len(found):
        return None
    values = [value for value, _ in timed]
    apart = stdev(values) if len(values) > 1 else 0.0
    return mean(values), max(apart, mean(half for _, half in timed))


def latency_of(run: RunRecord) -> tuple[float, float] | None:
    """Return the milliseconds per sample of a run, and half the distance of their quartiles."""
    timed = run.costs.inference
    if timed is None:
        return None
    return _with_spread(timed.ms_per_sample, timed.ms_per_sample_quartiles)


def slowdown_of(costs: CostRecord) -> tuple[float, float] | None:
    """Return the milliseconds that one more step adds to training, likewise."""
    timed = costs.training.growth
    return None if timed is None else _with_spread(timed.ms_per_step, timed.ms_per_step_quartiles)


def _with_spread(
    middle: float | None, quartiles: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Return a time and its spread; None in older records, which have none, and in doubt."""
    if middle is None or quartiles is None:
        return None
    low, high = quartiles
    return middle, (high - low) / 2


def seconds_of(entry: EntryRecord) -> list[float]:
    """Return the seconds of every training; none where too few ran to have a spread."""
    seconds = [run.train_seconds for run in entry.runs]
    return seconds if len(seconds) >= FEWEST_RUNS_TIMED else []


def slower_than(entry: EntryRecord, base: EntryRecord) -> list[float]:
    """Return the training times over those of another entry, seed by seed; none for too few."""
    theirs = _by_seed(base)
    pairs = [
        seconds / theirs[seed] for seed, seconds in _by_seed(entry).items() if theirs.get(seed)
    ]
    return pairs if len(pairs) >= FEWEST_RUNS_TIMED else []


def _by_seed(entry: EntryRecord) -> dict[int, float]:
    return {run.seed: run.train_seconds for run in entry.runs}


def spread_text(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Write a mean over runs with their spread: two runs are shown, not summed up in a deviation.

    Example:
        >>> spread_text([1.0, 2.0, 3.0], "{:.1f}".format), spread_text([1.0, 2.0], "{:.1f}".format)
        ('2.0 ± 1.0', '1.5 [1.0, 2.0]')
    """
    text = form(mean(values))
    if len(values) > 2:
        return f"{text} ± {form(stdev(values))}"
    return f"{text} [{', '.join(map(form, sorted(values)))}]" if len(values) == 2 else text


def competing(entries: Sequence[EntryRecord]) -> list[Means]:
    """Return the entries that may win: complete ones, no controls."""
    return [
        means(entry) for entry in entries if entry.runs and not entry.control and not entry.error
    ]


def level(one: Means, other: Means) -> bool:
    """Whether two scores differ too little for a rank.

    That is by one test sample or less, or by no more than the larger deviation over seeds. One
    seed has no deviation, so that there the sample alone counts.
    """
    apart = max(one.sample, other.sample, one.deviation or 0.0, other.deviation or 0.0)
    return abs(one.score - other.score) <= apart + 1e-9
