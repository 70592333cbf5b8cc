"""Comparisons: what rows differ in, what they have still to do, what they have done."""
