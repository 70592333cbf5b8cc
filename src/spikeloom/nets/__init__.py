"""Networks as data (spec, grammar, presets) and as modules (site, build, net)."""

from spikeloom.base.lazy import moved

moved(
    __name__,
    {"events": "nets.walk.events", "grammar": "nets.spec.grammar", "net": "nets.module.net"},
)
