"""Neurons: units (pure equations), surrogate slopes, and the module that owns what is trained."""
