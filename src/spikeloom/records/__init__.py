"""Records: what a run, a comparison or an epoch leaves on disk, as typed values."""
