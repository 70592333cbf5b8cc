"""What is wrong with a rule, by cause: one line to act on, then where it was seen."""

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from textwrap import wrap
from typing import Any

from spikeloom.base.errors import SpikeloomError
from spikeloom.check.outcome import ALSO, CheckFailed, listed, place
from spikeloom.check.toy import Case
from spikeloom.rules.base import LearningRule

WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """One fault, seen by one check at one place.

    Args:
        cause: equal for faults that are mended together.
        line: what is wrong and what to do.
        case: the rule.
        kernels: on which the check ran; empty where it chooses them itself.
        check: its name in words.
        place: net, head, type; empty where a check has one alone.
    """

    cause: Any
    line: str
    case: Case
    kernels: str
    check: str
    place: str


def cause_of(fault: Exception, rule: LearningRule) -> tuple[Any, str]:
    """Return cause and line of whatever a check or a rule raised."""
    if isinstance(fault, CheckFailed):
        return fault.cause, str(fault)
    if isinstance(fault, SpikeloomError):
        return str(fault), str(fault)
    line = place(traceback.extract_tb(fault.__traceback__), rule)
    kind = type(fault).__name__
    return (kind, line), f"learn: expected no error, got {kind} at {line}: {fault}; mend it there."


@dataclass(frozen=True)
class Cause:
    """Findings that are mended together."""

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """The line of the first finding, then the checks and places that saw it."""
        checks = dict.fromkeys(one.check for one in self.findings)
        where = [f"{check}{self._places(check)}" for check in checks]
        kernels = dict.fromkeys(one.kernels for one in self.findings)
        rules = dict.fromkeys(str(one.case) for one in self.findings)
        how = [f"on {' and '.join(kernels)} kernels"] if all(kernels) else []
        where.append(", ".join([*how, listed(rules)]))
        lines = wrap(self.findings[0].line, WIDTH - 4, break_long_words=False)
        for words in where:
            lines += wrap(words, WIDTH - 4, initial_indent="  ", subsequent_indent="    ")
        return "\n".join(lines)

    def _places(self, check: str) -> str:
        """Return net, kernels and so on, each column for itself."""
        places = [one.place.split(ALSO) for one in self.findings if one.check == check]
        columns = [filter(None, dict.fromkeys(one)) for one in zip_longest(*places)]
        words = "; ".join(filter(None, (listed(one, 5) for one in columns)))
        return f": {words}" if words else ""


def causes(findings: Iterable[Finding]) -> list[Cause]:
    """Return findings by cause, in the order in which the causes were first seen."""
    found: dict[Any, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.cause, []).append(one)
    return [Cause(tuple(same)) for same in found.values()]
