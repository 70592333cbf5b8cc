"""Compiled loops behind the reference equations; absent compilers are no error."""
