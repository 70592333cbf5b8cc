"""``python -m spikeloom``."""

from spikeloom.cli.main import main

main()
