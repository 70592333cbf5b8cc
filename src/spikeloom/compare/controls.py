"""Controls of a comparison of rules: a net without hidden layers, and one that trains none."""

from dataclasses import replace

from spikeloom.compare.plan import Plan, Row
from spikeloom.program.recipe import Net
from spikeloom.program.stage import Choice, Optimizer

LINEAR, FROZEN = "linear model", "hidden layers frozen"
"""Labels of the controls."""

LONGER, LINEAR_RATE = 5, 0.02
"""Epochs of the linear model for one of the others, and its learning rate (AdamW)."""


def with_controls(plan: Plan) -> Plan:
    """Add two controls below the rows of a plan, with the settings of its first rows.

    The linear model is the readout alone, trained by backpropagation; a rule below it has made no
    use of its hidden layers. It is trained until nothing changes, since its loss has one minimum:
    `LONGER` times the epochs at the rate `LINEAR_RATE`. The net whose hidden layers stay as they
    were drawn trains its readout; a rule of the same score has not trained them.

    A net without hidden layers gets neither.
    """
    first = plan.first.recipe
    spec = first.net.spec()
    if not spec.blocks or spec.readout is None:
        return plan
    linear = first.model_copy(
        update={
            "net": Net(text=f"f{spec.readout.out}"),
            "stages": tuple(
                stage.model_copy(
                    update={
                        "rule": Choice(name="ann"),
                        "epochs": LONGER * stage.epochs,
                        "optimizer": Optimizer(lr=LINEAR_RATE),
                    }
                )
                for stage in first.stages
            ),
        }
    )
    rows = [Row(LINEAR, linear, control=True)]
    trained = next((row.recipe for row in plan.rows if _spikes(row)), None)
    if trained is not None:
        stages = tuple(stage.model_copy(update={"freeze_body": True}) for stage in trained.stages)
        frozen = trained.model_copy(update={"stages": stages})
        rows.append(Row(FROZEN, frozen, control=True))
    labels = {row.label for row in plan.rows}
    return replace(plan, rows=(*plan.rows, *(row for row in rows if row.label not in labels)))


def _spikes(row: Row) -> bool:
    return row.recipe.last.learning_rule().facts.spiking
