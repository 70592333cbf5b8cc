"""The part of ``spikeloom evaluate`` on early exit and on the engine that ran."""

from typing import TYPE_CHECKING, Any

from spikeloom.base.errors import ConfigError
from spikeloom.cli.console import bar, beside, to_left

if TYPE_CHECKING:
    from spikeloom.nets.events import EventEngine
    from spikeloom.train.early_exit import Exit, ExitScore

Record = dict[str, Any]

MEANING = {
    "margin": "the probabilities of its two best classes differ by",
    "confidence": "its best class has a probability of",
    "logit": "the logits of its two best classes differ by",
}


def parse_exits(text: str | None, by: str) -> "tuple[Exit, ...]":
    """Read --exit-margin and --exit-by; the first way to leave is not to.

    Raises:
        ConfigError: no numbers, or no such measure.
    """
    if by not in MEANING:
        raise ConfigError(f"--exit-by: expected {', '.join(MEANING)}, got '{by}'; change it.")
    if text is None:
        return ()
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0 <= level < float("inf") for level in levels):
        raise ConfigError(
            f"--exit-margin: expected numbers of 0 or more by comma, got '{text}'; write e.g. "
            "0.5,0.9."
        )
    from spikeloom.train.early_exit import Exit

    measure: Any = by
    return (Exit(None, measure), *(Exit(level, measure) for level in sorted(set(levels))))


def exit_record(scores: "tuple[ExitScore, ...]", latency: float) -> Record:
    """Return what --json keeps of early exit."""
    return {
        "by": scores[0].exit.by,
        "step_seconds": latency,
        "rows": [
            {
                "level": one.exit.level,
                "accuracy": one.accuracy,
                "steps": one.steps,
                "spikes": one.spikes,
                "seconds": one.seconds,
            }
            for one in scores
        ],
    }


def exit_table(record: Record, steps: int) -> str:
    """Lay out accuracy against the mean number of steps."""
    from spikeloom.report.table import to_text

    rows = [["leaves at", "accuracy %", "mean t", "spikes", "ms"]]
    bars = [""]
    for one in record["rows"]:
        level = "never" if one["level"] is None else f"{one['level']:g}"
        rows.append(
            [
                level,
                f"{100 * one['accuracy']:.2f}",
                f"{one['steps']:.2f}",
                f"{one['spikes']:,.0f}",
                f"{1000 * one['seconds']:.3f}",
            ]
        )
        bars.append("  " + bar(one["steps"] / steps))
    title = (
        "early exit: a sample leaves at the first step at which\n"
        f"{MEANING[record['by']]} so much; ms per sample, bars show mean t"
    )
    frame = f"one frame of one sample: {1000 * record['step_seconds']:.2f} ms to its logits, median"
    return f"{title}\n{beside(to_text(to_left(rows, (0,))), bars)}\n{frame}"


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
