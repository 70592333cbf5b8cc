"""Names of the files in the folder of a run or a comparison, each in one place."""

import re

RECIPE = "recipe.json"
ENVIRONMENT = "environment.json"
INPUTS = "inputs.json"
METRICS = "metrics.jsonl"
STATE = "state.safetensors"
WEIGHTS = "weights.safetensors"
RESULT = "result.json"
SAMPLES = "samples.json"
TRACEBACK = "traceback.txt"

RUN = (RECIPE, ENVIRONMENT, INPUTS, METRICS, STATE, WEIGHTS, RESULT, SAMPLES)
"""Files of a run."""

RESULTS = "results.json"
"""All entries of a comparison."""

PAGE = "report.html"
"""What `spikeloom report` writes where no other name is given."""


def entry_folder(label: str) -> str:
    """Return the folder of an entry of a comparison.

    Example:
        >>> entry_folder("SLTT, K = 2")
        'sltt-k-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "entry"
