"""Networks as torch modules: `SpikingNet`, built from a spec, with its sites and weights."""
