"""Networks as data (spec, grammar, presets) and as modules (site, build, net)."""
