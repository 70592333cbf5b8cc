"""Write `curves.json` anew: python tests/curves/restate.py. The commit says why they moved."""

import json
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import torch  # noqa: E402
from curvekit import KEPT, cases, curve, place  # noqa: E402

torch.set_num_threads(1)
curves = {name: curve(changes) for name, changes in cases().items()}
lines = [f"  {json.dumps(name)}: {json.dumps(figures)}" for name, figures in curves.items()]
body = ",\n".join(lines)
KEPT.write_text(f'{{"place": {json.dumps(place())}, "curves": {{\n{body}\n}}}}\n')
