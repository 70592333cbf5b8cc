"""Nets made from a user's torch module: translation, comparison of values, later changes."""
