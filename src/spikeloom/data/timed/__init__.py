"""Data sets with a time axis: synthetic ones, sounds, and recordings of event cameras."""
