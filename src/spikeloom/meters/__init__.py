"""Meters: what a network did, counted; energies are models of it, never measurements."""
