"""Trained nets at work: evaluation, answers over time, early exit, opened runs, own files."""
