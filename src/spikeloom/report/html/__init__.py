"""The parts of the page: its table, texts, figures and drawings."""
