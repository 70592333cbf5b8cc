"""One thread: small tensors gain nothing from two, and lose much where the cores are shared."""

import torch

torch.set_num_threads(1)
