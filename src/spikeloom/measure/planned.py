"""In which settings a rule and an evaluation run a net, for `spikeloom profile --plan`."""

import torch

from spikeloom.inference.evaluate import EVALUATION_BATCH, predict
from spikeloom.measure.unchanged import one_call, training_size, unchanged
from spikeloom.nets.how import Setting
from spikeloom.program.batching import batches
from spikeloom.program.setup import Workbench


def settings_of(bench: Workbench) -> dict[str, list[Setting]]:
    """Return the settings of one call of the rule, and of the evaluation of one batch.

    The net is left as it was.

    Args:
        bench: with its rule prepared.

    Raises:
        UnsupportedNet: the rule does not train this net.
    """
    with unchanged(bench):
        with bench.net.settings() as training:
            one_call(bench, training_size(bench))
        bench.modules().eval()
        rows = batches(len(bench.splits.test), EVALUATION_BATCH, None)[0]
        batch = bench.batch(bench.splits.test, rows, epoch=0, part="test")
        with torch.no_grad(), bench.net.settings() as inference:
            predict(bench, batch)
    return {"training": training, "inference": inference}
