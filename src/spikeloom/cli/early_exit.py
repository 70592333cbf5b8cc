"""The part of ``spikeloom evaluate`` on early exit and on the engine that ran."""

from typing import TYPE_CHECKING, Any

from spikeloom.base.errors import ConfigError, wrong_choice
from spikeloom.cli.console import bar, beside, to_left
from spikeloom.records import units
from spikeloom.tasks.metric import Metric

if TYPE_CHECKING:
    from spikeloom.inference.early_exit import Exit, ExitScore
    from spikeloom.meters.clock import Timing
    from spikeloom.nets.walk.events import EventEngine

Record = dict[str, Any]

MEANING = {
    "margin": "the probabilities of its two best classes differ by",
    "confidence": "its best class has a probability of",
    "logit": "the logits of its two best classes differ by",
}


def parse_exits(text: str | None, by: str) -> "tuple[Exit, ...]":
    """Read --exit-margin and --exit-by; the first one keeps all samples to the end.

    Raises:
        ConfigError: no numbers, or no such measure.
    """
    if by not in MEANING:
        raise wrong_choice("--exit-by", by, MEANING)
    if text is None:
        return ()
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0 <= level < float("inf") for level in levels):
        raise ConfigError.of(
            "--exit-margin",
            "numbers of 0 or more, separated by commas",
            f"'{text}'",
            "write e.g. 0.5,0.9",
        )
    from spikeloom.inference.early_exit import Exit

    measure: Any = by
    return (Exit(None, measure), *(Exit(level, measure) for level in sorted(set(levels))))


def exit_record(scores: "tuple[ExitScore, ...]", latency: "Timing") -> Record:
    """Return what --json keeps of early exit."""
    return {
        "by": scores[0].exit.by,
        "step": _time_record(latency),
        "rows": [
            {
                "level": score.exit.level,
                **score.metrics,
                "steps": score.steps,
                "spikes": score.spikes,
                "sample": _time_record(score.seconds),
            }
            for score in scores
        ],
    }


def _time_record(timing: "Timing") -> Record:
    """Return seconds with their spread; None for a time that is too uncertain, with the reason."""
    return {
        "seconds": None if timing.doubt else timing.median,
        "quartiles": list(timing.quartiles),
        "rounds": timing.rounds,
        "doubt": timing.doubt,
    }


def exit_table(record: Record, steps: int, metric: Metric) -> str:
    """Lay out a metric against the mean number of steps."""
    from spikeloom.report.table import to_text

    score = f"{metric.word} {metric.unit}".strip()
    rows = [["leaves at", score, "mean t", "spikes", "ms"]]
    bars = [""]
    for row in record["rows"]:
        level = "never" if row["level"] is None else f"{row['level']:g}"
        rows.append(
            [
                level,
                metric.written(metric.shown(row[metric.name])),
                f"{row['steps']:.2f}",
                f"{row['spikes']:,.0f}",
                _milliseconds(row["sample"]),
            ]
        )
        bars.append("  " + bar(row["steps"] / steps))
    rounds = record["rows"][0]["sample"]["rounds"]
    title = (
        "early exit: a sample leaves at the first step at which\n"
        f"{MEANING[record['by']]} this level or more; bars: mean t; ms: per\n"
        f"sample of one batch, median of {rounds} rounds ± half the interquartile range"
    )
    step = record["step"]
    frame = (
        f"one frame of one sample: {_milliseconds(step)} ms to its logits, median of "
        f"{step['rounds']} frames"
    )
    doubts = {row["sample"]["doubt"] for row in record["rows"]} | {step["doubt"]}
    reasons = [f"- in ms: {doubt}" for doubt in sorted(doubts - {None})]
    return "\n".join([title, beside(to_text(to_left(rows, (0,))), bars), frame, *reasons])


def _milliseconds(time: Record) -> str:
    from spikeloom.report.numbers import milliseconds

    if time["seconds"] is None:
        return "-"
    low, high = time["quartiles"]
    return milliseconds(units.milliseconds(time["seconds"]), units.milliseconds(high - low) / 2)


def engine_record(name: str, engine: "EventEngine | None") -> Record:
    """Return what --json keeps of the engine."""
    if engine is None:
        return {"name": name}
    return {
        "name": name,
        "compiled": engine.compiled,
        "event_shares": {site: round(share, 4) for site, share in engine.shares.items()},
    }


def engine_line(record: Record) -> str:
    """Say in one line what the engine did."""
    if not record["compiled"]:
        return f"engine {record['name']}: no compiler found (numba), so everything ran dense"
    shares = ", ".join(f"{site} {share:.0%}" for site, share in record["event_shares"].items())
    return f"engine {record['name']}: share of calls summed over events: {shares or 'none'}"
