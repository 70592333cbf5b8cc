"""``python -m spikeloom``, and the command."""

import gc
import os
import sys

from spikeloom.cli import early


def main() -> None:
    """Run the command; the first thing it does is to listen to signals."""
    early.begin()
    from spikeloom.cli.main import main as run

    try:
        run()
    except SystemExit as end:
        if end.code != 130:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)  # an interrupt that passed through compiled code has Python end otherwise
    finally:
        gc.freeze()  # the process ends: what it leaves need not be walked through


if __name__ == "__main__":
    main()
