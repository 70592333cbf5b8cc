"""Data sets with a time axis of their own: made ones, sounds, and recordings of event cameras."""
