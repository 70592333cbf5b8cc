"""Heads: the last linear maps and the loss on them."""
