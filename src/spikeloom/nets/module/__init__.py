"""Networks as modules: from a spec to sites, weights and the net."""
