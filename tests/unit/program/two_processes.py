"""Run as a script: train cases in two processes and store what came out."""

import sys
from pathlib import Path

import torch
from lightning.fabric import Fabric

from spikeloom.program.setup import set_up
from spikeloom.records import checkpoint
from spikeloom.records.files import save_epochs
from spikeloom.records.progress import SILENT
from spikeloom.rules.base import RULES
from spikeloom.train.loop_stage import StageLoop
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State
from trainkit import recipe, tiny

COMMITS = {"64-true bptt plain": 100}
ODD = 15
"""Samples in a batch: shares of 8 and 7."""

_NETS = {
    "plain": {"net": "c3 c4 P f3"},
    "batch norm": {"net": 'c4{norm = "batch_step"} P f3'},
    "noisy": {"net": "c4{dropout = 0.3} P f3", "encoder": "poisson", "head": "stochmax"},
    "clipped": {"net": '[c1{norm = "weight"}]x2 P f3', "stages.0.clip": 0.05},
}
_FED = '{feedback = [{source = 0, target = 0, layers = "c4", restrict = 0.5}]} c4 P f3'
_OPTIMIZERS = {
    "plain": {"name": "adamw", "lr": 0.01},
    "batch norm": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "noisy": {"name": "adam", "lr": 0.01},
    "clipped": {"name": "radam", "lr": 0.01},
}
"""By net. A bias before a batch norm has a gradient of rounding alone, which Adam makes large."""
_EQUILIBRIUM = {
    "plain": {"net": _FED, "stages.0.optimizer": _OPTIMIZERS["batch norm"]},
    "clipped": {"net": _FED, "stages.0.clip": 0.05},
}
"""A solver's tolerance is no rounding: Adam would make it large too."""
_FED_NORM = _FED.replace("c4 P", 'c4{norm = "batch_step"} P')
_RULES = [*RULES.names(), {"name": "ottt", "update": "online"}, {"name": "sltt", "k_steps": 2}]


def cases(precision: str, *, once: bool) -> dict[str, dict]:
    """Every rule that can be shared, with every net it can train."""
    found = {}
    for rule in _RULES:
        name = rule if isinstance(rule, str) else rule["name"]
        facts = RULES.find(name).facts
        assert facts.linear_in_batch or facts.gathers
        for net, changes in (_EQUILIBRIUM if facts.order == "equilibrium" else _NETS).items():
            updates = 3 if "update" in rule and not isinstance(rule, str) else 1
            commits = COMMITS.get(f"{precision} {rule} {net}", 15)
            common = {"stages.0.optimizer": _OPTIMIZERS[net]} | changes
            found[f"{precision} {rule} {net}"] = common | {
                "precision": precision,
                "stages.0.rule": rule,
                "stages.0.steps": 3,
                "stages.0.batch": 45 if once else ODD,
                "stages.0.epochs": 1 if once else -(-commits // (3 * updates)),
            }
    found[f"{precision} bptt batch_all"] = found[f"{precision} bptt plain"] | {
        "net": 'c4{norm = "batch_all"} P f3',
        "stages.0.optimizer": _OPTIMIZERS["batch norm"],
    }
    if not once:
        found[f"{precision} ide batch norm"] = found[f"{precision} ide clipped"] | {
            "net": _FED_NORM,
            "stages.0.optimizer": _OPTIMIZERS["batch norm"],
        }
    return found


EVERY = cases("64-true", once=False) | cases("32-true", once=True)
"""Every rule that can be shared, with every net it can train."""


def chosen(precision: str) -> set[str]:
    """Return the cases of the default suite: BPTT on every net, every other rule on one."""
    names = {f"{precision} bptt {net}" for net in [*_NETS, "batch_all"]}
    for place, rule in enumerate(_RULES):
        nets = [net for net in _NETS if f"{precision} {rule} {net}" in EVERY]
        names.add(f"{precision} {rule} {nets[place % len(nets)]}")
    return names | {name for name in EVERY if name == f"{precision} ide batch norm"}


SOME = [name for name in EVERY if name in chosen("64-true") | chosen("32-true")]
REST = [name for name in EVERY if name not in SOME]


def trained(name: str, fabric: Fabric | None) -> tuple[dict[str, torch.Tensor], State]:
    """Train a case; return weights and state."""
    bench = set_up(recipe(EVERY[name]), tiny(), fabric=fabric)
    state = State()
    StageLoop(bench, RunFolder(None), state, SILENT, lambda: False).run()
    return bench.modules().state_dict(), state


def main(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    common = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    fabric = Fabric(precision="64-true", **common)
    fabric.launch()
    fabrics = {"64-true": fabric, "32-true": Fabric(precision="32-true", **common)}
    fabrics["32-true"]._launched = True
    for number, name in enumerate(names):
        weights, state = trained(name, fabrics[name.split()[0]])
        checkpoint.write_weights(out / f"{number}.{fabric.global_rank}", weights)
        if fabric.global_rank == 0:
            save_epochs(out / f"{number}.curve", state.curve)


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"some": SOME, "rest": REST}[sys.argv[2]])
