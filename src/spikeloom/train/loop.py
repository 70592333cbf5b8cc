"""The one training loop, for every rule."""

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
from spikeloom.train.setup import (
    Workbench,
    batches,
    make_optimizer,
    make_schedule,
    set_up,
    snapshot,
)

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
            checkpoint.remove(out / old)
        checkpoint.write_json(out / "recipe.json", recipe.model_dump(mode="json"))
        checkpoint.write_json(out / "environment.json", environment(bench.fabric))
    optimizer = make_optimizer(stage.optimizer, [one for _, one in bench.parameters()])
    schedule = make_schedule(stage.schedule, optimizer, stage.epochs)
    metrics: list[dict[str, Any]] = []
    kept: dict[str, Any] = {}
    best: dict[str, Tensor] = {}
    for epoch in range(stage.epochs):
        try:
            entry = _epoch(bench, optimizer, epoch, float(schedule.get_last_lr()[0]))
        except NumericalError as error:
            last = f" The run folder keeps epoch {kept['epoch'] + 1}." if kept and out else ""
            raise NumericalError(f"epoch {epoch + 1}: {error}{last}") from None
        schedule.step()
        metrics.append(entry)
        better = not kept or entry["val_accuracy"] > kept["val_accuracy"]
        if better or stage.select == "last":
            kept = entry
            if stage.select == "best":
                best = snapshot(bench.modules())
            if out is not None:
                checkpoint.write_weights(out / "weights.safetensors", bench.modules().state_dict())
        if out is not None:
            checkpoint.write_lines(out / "metrics.jsonl", metrics)
        if progress is not None:
            progress(entry)
    if best:
        bench.modules().load_state_dict(best)
    record = _record(bench, metrics, kept)
    if out is not None:
        checkpoint.write_json(out / "result.json", record)
    return Outcome(record, bench)


def _epoch(
    bench: Workbench, optimizer: torch.optim.Optimizer, epoch: int, lr: float
) -> dict[str, float]:
    """Train for one pass over the training part, then validate; return the metrics."""
    entry = {"epoch": epoch, "lr": lr} | _one_pass(bench, optimizer, epoch)
    _check_weights(bench)
    score = evaluate(bench, bench.splits.validation, "validation")
    return entry | {"val_loss": score.loss, "val_accuracy": score.accuracy}


def _one_pass(bench: Workbench, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
    seed = derive_seed(bench.recipe.seed, epoch, "order")
    bench.net.train(not bench.stage.freeze_body)  # a frozen body keeps its statistics too
    bench.head.train()
    commit = _Commit(bench, optimizer)
    loss, hits, seen = 0.0, 0, 0
    start = time.perf_counter()
    train = bench.splits.train
    for number, index in enumerate(batches(len(train), bench.stage.batch, seed)):
        batch = bench.batch(train, index, epoch=epoch, part="train", number=number)
        report = learn(bench, batch, commit)
        size = batch.size
        loss += float(report.loss) * size
        hits += int((report.logits.argmax(1) == batch.target).sum())
        seen += size
    seconds = time.perf_counter() - start
    return {"loss": loss / seen, "accuracy": hits / seen, "seconds": seconds}


def _check_weights(bench: Workbench) -> None:
    """Stop at weights that are not finite; spikes could hide them from the loss."""
    for name, tensor in bench.modules().state_dict().items():
        if not torch.isfinite(tensor).all():
            raise NumericalError(
                f"training: expected finite weights, got one that is not in '{name}'; lower the "
                "learning rate."
            )


class _Commit:
    """Step the optimizer on what a rule left in .grad, then project and zero."""

    def __init__(self, bench: Workbench, optimizer: torch.optim.Optimizer) -> None:
        self.bench = bench
        self.optimizer = optimizer
        self.named = bench.parameters()

    def __call__(self) -> None:
        grads = {name: one.grad for name, one in self.named if one.grad is not None}
        if not torch.isfinite(nn.utils.get_total_norm(grads.values())):
            # a norm may overflow where no gradient has
            bad = [name for name, grad in grads.items() if not torch.isfinite(grad).all()]
            if bad:
                raise NumericalError(
                    f"training: expected finite gradients, got one that is not for '{bad[0]}'; "
                    "lower the learning rate or check the input."
                )
        self.optimizer.step()
        self.bench.net.project()
        self.bench.rule.project()
        self.optimizer.zero_grad(set_to_none=True)
        torch.clear_autocast_cache()  # it may hold copies of the weights as they were


def _record(
    bench: Workbench, metrics: list[dict[str, Any]], kept: dict[str, Any]
) -> dict[str, Any]:
    """Test once, measure costs, and put the run's record together.

    Args:
        bench: with the weights that were kept.
        metrics: of every epoch.
        kept: of the epoch whose weights were kept.
    """
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
        "val_accuracy": kept["val_accuracy"],
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
