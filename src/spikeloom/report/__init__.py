"""Reports: from run records only, never from live objects."""
