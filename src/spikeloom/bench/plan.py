"""What a benchmark runs: checked names and numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ConfigError, unknown_name
from spikeloom.bench.contender import CONTENDERS, Contender, Precision
from spikeloom.bench.workloads import QUICK, WORKLOADS, Workload

PEERS = "peers"
"""In the place of a name: all other libraries."""


MOST = 10_000
"""Largest number of rounds, steps and threads: more would take days."""


@dataclass(frozen=True)
class Plan:
    """A benchmark to run.

    Args:
        workloads: nets and sizes.
        contenders: names of `CONTENDERS`.
        precisions: of products.
        rounds: turns of each contender.
        steps: training steps per turn.
        threads: of every process.
        pythons: interpreters by contender, package or "peers"; the others run under ours.
        growth: also measure how time and memory grow with T and B.
        quick: small sizes and few rounds; figures are not judged.
    """

    workloads: tuple[Workload, ...]
    contenders: tuple[str, ...]
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    rounds: int = 5
    steps: int = 5
    threads: int = 1
    pythons: Mapping[str, str] = field(default_factory=dict)
    growth: bool = True
    quick: bool = False

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "threads"):
            at_least(1, most=MOST).check(f"--{name}", getattr(self, name))

    def python_of(self, name: str) -> str | None:
        """Return the interpreter of a contender; None for ours."""
        contender = CONTENDERS.find(name)
        group = PEERS if contender.kind == "peer" else ""
        for key in (name, contender.package, group):
            if key and key in self.pythons:
                return self.pythons[key]
        return None

    @property
    def command(self) -> str:
        """The command that runs this plan again, places of interpreters left open."""
        words = ["spikeloom bench"]
        for option, chosen, known in (
            ("--workloads", [one.name for one in self.workloads], WORKLOADS),
            ("--contenders", self.contenders, CONTENDERS.names()),
            ("--precision", self.precisions, get_args(Precision)),
        ):
            if set(chosen) != set(known):
                words.append(f"{option} {','.join(chosen)}")
        words += [f"--{name} {getattr(self, name)}" for name in ("rounds", "steps", "threads")]
        words += [f"--python {name}=PYTHON" for name in self.pythons]
        words += ["--quick"] * self.quick + ["--no-growth"] * (not self.growth)
        return " ".join(words)

    def members(self) -> dict[str, Contender]:
        """Return the contenders by name."""
        return {name: CONTENDERS.find(name) for name in self.contenders}


def chosen_workloads(text: str | None, *, quick: bool) -> tuple[Workload, ...]:
    """Return workloads from comma-separated names; all where no text is given.

    Raises:
        ConfigError: an unknown name, or none.
    """
    known = QUICK if quick else WORKLOADS
    return tuple(known[name] for name in _names("--workloads", "workload", text, known))


def chosen_contenders(text: str | None) -> tuple[str, ...]:
    """Return names of contenders; "floors", "ours" and "peers" stand for all of a kind.

    Floors always take part: every figure is a ratio to one of them.

    Raises:
        ConfigError: an unknown name, or none.
    """
    kinds = {"floor": "floors", "ours": "ours", "peer": PEERS}
    groups: dict[str, list[str]] = {group: [] for group in kinds.values()}
    for name in CONTENDERS.names():
        groups[kinds[CONTENDERS.find(name).kind]].append(name)
    known = [*CONTENDERS.names(), *groups]
    given = _names("--contenders", "contender", text, known) if text is not None else [*groups]
    wanted = [member for name in given for member in groups.get(name, [name])]
    return tuple(dict.fromkeys([*groups["floors"], *wanted]))


def chosen_precisions(text: str) -> tuple[Precision, ...]:
    """Return precisions from comma-separated names.

    Raises:
        ConfigError: an unknown name, or none.
    """
    names = _names("--precision", "precision", text, get_args(Precision))
    return tuple(one for one in get_args(Precision) if one in names)


def chosen_pythons(texts: Iterable[str]) -> dict[str, str]:
    """Return interpreters from texts NAME=PATH.

    Raises:
        ConfigError: another form, an unknown name, or no such file.
    """
    members = {name: CONTENDERS.find(name) for name in CONTENDERS.names()}
    packages = {one.package for one in members.values() if one.package}
    pythons = {}
    for text in texts:
        name, found, path = text.partition("=")
        if not found or not path:
            raise ConfigError.of(
                "--python", "NAME=PATH, e.g. peers=/path/to/bin/python", f"'{text}'", "change it"
            )
        if name not in {*members, *packages, PEERS}:
            raise unknown_name("--python", "contender", name, {*members, *packages, PEERS})
        if not Path(path).is_file():
            raise ConfigError.of(f"--python {name}", "an interpreter", f"'{path}'", "fix it")
        pythons[name] = path
    return pythons


def _names(option: str, kind: str, text: str | None, known: Iterable[str]) -> list[str]:
    known = list(known)
    if text is None:
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise unknown_name(option, kind, name, known)
    if not names:
        raise ConfigError.of(option, "a name", "none", f"known: {', '.join(known)}")
    return list(dict.fromkeys(names))
