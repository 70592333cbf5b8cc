"""The one training loop, for every rule."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, NumericalError
from spikeloom.base.seeding import derive_seed
from spikeloom.data import Splits
from spikeloom.nets.grammar import write
from spikeloom.train import checkpoint
from spikeloom.train.costs import measure_costs
from spikeloom.train.environment import environment
from spikeloom.train.evaluate import evaluate
from spikeloom.train.learn import learn
from spikeloom.train.recipe import Recipe
from spikeloom.train.setup import Workbench, batches, make_optimizer, make_schedule, set_up

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: its record (also in result.json) and its live objects."""

    record: dict[str, Any]
    bench: Workbench


def train(
    recipe: Recipe,
    out: Path | None = None,
    *,
    splits: Splits | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Outcome:
    """Train as the recipe says; select on validation, test once.

    Args:
        recipe: what to do.
        out: run folder; None writes nothing.
        splits: data already loaded.
        progress: called with each epoch's metrics.
        overwrite: whether a folder that already holds a run may be replaced.

    Raises:
        ConfigError: a setting does not fit, or the folder holds another run.
        NumericalError: a value stopped being finite; the last good weights stay on disk.
    """
    if out is not None and (out / "recipe.json").exists() and not overwrite:
        raise ConfigError(
            f"{out}: expected a new run folder, found a run; choose another with --out or pass "
            "--force to replace it."
        )
    bench = set_up(recipe, splits)
    stage = recipe.stage
    if out is not None:
        for old in ("result.json", "metrics.jsonl", "weights.safetensors"):
            (out / old).unlink(missing_ok=True)
        checkpoint.write_json(out / "recipe.json", recipe.model_dump(mode="json"))
        checkpoint.write_json(out / "environment.json", environment(bench.fabric))
    optimizer = make_optimizer(stage.optimizer, [one for _, one in bench.parameters()])
    schedule = make_schedule(stage.schedule, optimizer, stage.epochs)
    metrics: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Tensor]] | None = None
    for epoch in range(stage.epochs):
        entry = {"epoch": epoch, "lr": schedule.get_last_lr()[0]}
        entry |= _epoch(bench, optimizer, epoch)
        schedule.step()
        score = evaluate(bench, bench.splits.validation, "validation")
        entry |= {"val_loss": score.loss, "val_accuracy": score.accuracy}
        metrics.append(entry)
        if stage.select == "best" and (best is None or score.accuracy > best[0]):
            best = score.accuracy, _snapshot(bench.modules())
        if out is not None:
            checkpoint.write_weights(out / "weights.safetensors", bench.modules().state_dict())
            checkpoint.write_lines(out / "metrics.jsonl", metrics)
        if progress is not None:
            progress(entry)
    if best is not None:
        bench.modules().load_state_dict(best[1])
        if out is not None:
            checkpoint.write_weights(out / "weights.safetensors", best[1])
    record = _record(bench, metrics)
    if out is not None:
        checkpoint.write_json(out / "result.json", record)
    return Outcome(record, bench)


def _epoch(bench: Workbench, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
    """Train for one pass over the training part."""
    seed = derive_seed(bench.recipe.seed, epoch, "order")
    bench.net.train()
    bench.head.train()
    commit = _Commit(bench, optimizer)
    loss, hits, seen = 0.0, 0, 0
    start = time.perf_counter()
    for index in batches(len(bench.splits.train), bench.stage.batch, seed):
        batch = bench.batch(bench.splits.train, index, epoch=epoch, part="train")
        report = learn(bench, batch, commit)
        size = batch.size
        loss += float(report.loss) * size
        hits += int((report.logits.argmax(1) == batch.target).sum())
        seen += size
    seconds = time.perf_counter() - start
    return {"loss": loss / seen, "accuracy": hits / seen, "seconds": seconds}


class _Commit:
    """Step the optimizer on what a rule left in .grad, then project and zero."""

    def __init__(self, bench: Workbench, optimizer: torch.optim.Optimizer) -> None:
        self.bench = bench
        self.optimizer = optimizer
        self.named = bench.parameters()

    def __call__(self) -> None:
        grads = [one.grad for _, one in self.named if one.grad is not None]
        total = nn.utils.get_total_norm(grads)
        if not math.isfinite(total.item()):
            name = next(
                name
                for name, one in self.named
                if one.grad is not None and not torch.isfinite(one.grad).all()
            )
            raise NumericalError(
                f"training: expected finite gradients, got one that is not for '{name}'; lower "
                "the learning rate. The weights of the last whole epoch are kept."
            )
        self.optimizer.step()
        self.bench.net.project()
        self.bench.rule.project()
        self.optimizer.zero_grad(set_to_none=True)


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _record(bench: Workbench, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Test once, measure costs, and put the run's record together."""
    stage = bench.stage
    test = evaluate(bench, bench.splits.test, "test")
    costs = measure_costs(bench)
    return {
        "format": checkpoint.FORMAT,
        "name": bench.recipe.name,
        "seed": bench.recipe.seed,
        "net": write(bench.net.spec),
        "ann_net": write(bench.net.spec.as_ann()),
        "data": bench.recipe.data.name,
        "rule": stage.rule.name,
        "rule_options": stage.rule.options,
        "steps": bench.steps,
        "epochs": stage.epochs,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_samples": test.samples,
        "val_accuracy": metrics[-1]["val_accuracy"],
        "train_seconds": sum(entry["seconds"] for entry in metrics),
        "facts": {
            key: value
            for key, value in asdict(bench.rule.facts).items()
            if not isinstance(value, dict)
        },
        "source": str(bench.rule.facts.source),
        "costs": costs,
        "curve": metrics,
    }
