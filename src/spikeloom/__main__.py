"""``python -m spikeloom``, and the command."""

import sys


def main() -> None:
    """Run the command; a signal while it is imported ends it as any other."""
    try:
        from spikeloom.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("stopped.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
