"""Command line: parsing and printing, no mathematics."""
