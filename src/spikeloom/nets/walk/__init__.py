"""One file per order of computation, and what passes along it."""
