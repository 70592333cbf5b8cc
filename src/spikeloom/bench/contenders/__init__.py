"""Who takes part in the benchmark: floors, our rules, and other libraries, one file each."""
