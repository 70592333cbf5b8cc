"""The battery every learning rule must pass, and the scaffold of a new one."""
