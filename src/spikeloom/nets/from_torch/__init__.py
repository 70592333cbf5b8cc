"""A user's own torch module as a net: read, proven, and followed afterwards."""
