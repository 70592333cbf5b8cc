"""Networks: as data (`spec`), as torch modules (`module`), and how they are run (`walk`)."""

from spikeloom.base.lazy import moved

moved(
    __name__,
    {"events": "nets.walk.events", "grammar": "nets.spec.grammar", "net": "nets.module.net"},
)
