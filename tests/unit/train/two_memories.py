"""Run as a script: train a rule with memory in two processes, save, go on, store what came out."""

import sys
from contextlib import suppress
from pathlib import Path

import torch
from lightning.fabric import Fabric

from rulekit import small_rules
from spikeloom.base.errors import ConfigError, Stopped
from spikeloom.program.setup import set_up
from spikeloom.records import checkpoint, names
from spikeloom.records.progress import SILENT
from spikeloom.rules.memory import Memory, same
from spikeloom.train.loop_stage import StageLoop
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State, Stored, gathered
from trainkit import recipe, tiny


def main(out: Path) -> None:
    torch.set_num_threads(1)
    fabric = Fabric(precision="64-true", accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    rank = fabric.global_rank
    for signs in (False, True):
        changes = {"net": "f8 f3", "precision": "64-true", "stages.0.batch": 15}
        changes |= {"stages.0.select": "best"}
        run = recipe(changes | {"stages.0.rule": {"name": "hebb", "signs": signs}})
        bench, state = set_up(run, tiny(), fabric=fabric), State()
        polls = iter(range(2))
        with RunFolder(out if rank == 0 else None) as folder, suppress(Stopped):
            folder.claim(run, overwrite=True, resume=False)
            stop = lambda: next(polls, None) is None  # noqa: B023, E731
            StageLoop(bench, folder, state, SILENT, stop).run()
        bench.team.wait()
        again = set_up(run, tiny(), fabric=fabric)
        stored = Stored(out / names.STATE, run)
        loop = StageLoop(again, RunFolder(None), stored.state, SILENT, lambda: False)
        stored.restore(again, loop.optimizer)
        assert again.memory == bench.memory and len(again.memory["last"]) in (7, 8)
        loop.run()
        tensors = again.modules().state_dict()
        shared = {f"memory.{path}": leaf.tensor for path, leaf in again.memory.leaves()}
        checkpoint.write_weights(out / f"{signs}.{rank}", tensors | shared)
    x = torch.arange(6.0).view(2, 3).T + rank
    assert torch.equal(bench.team.sum(x), 2 * torch.arange(6.0).view(2, 3).T + 1)
    mean = bench.team.mean(torch.tensor([float(rank)]), 3 if rank == 0 else 1)
    assert mean.item() == 0.25
    bench.memory = Memory(apart=same(rank))
    try:
        gathered(bench, {})
        raise AssertionError("was not refused")
    except ConfigError as error:
        assert "memory 'apart': expected the same in every process" in str(error), error


if __name__ == "__main__":
    with small_rules():
        main(Path(sys.argv[1]))
