"""Output where terminal, pipe or file have no Unicode: similar signs of the same width."""

import codecs
import sys
import unicodedata
from collections.abc import Mapping

NEAR: Mapping[str, str] = {"±": "+-"} | dict(
    (
        *zip("→←…×·°≤≥−–—‘’“”•", "><~x.o<>---''\"\"*", strict=True),
        *zip("αβμσ", "abus", strict=True),
        *zip("█▉▊▋▌▍▎▏▁▂▃▄▅▆▇─━│┃", "###==---_.:-=+*--||", strict=True),
    )
)
"""What stands for signs that the commands print; others lose their accents, or become "?"."""

_NAME = "spikeloom.near"


def plain_output() -> None:
    """Let standard output and error replace what their encoding does not have."""
    codecs.register_error(_NAME, _replaced)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_NAME)


def say(text: str, *, err: bool = False) -> None:
    """Print a line."""
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def say_error(text: str) -> None:
    """Print a line about a mistake, in red on a terminal."""
    line = f"error: {' '.join(text.split())}"
    say(f"\x1b[31m{line}\x1b[0m" if sys.stderr.isatty() else line, err=True)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded; two letters also take the blank behind, to keep columns."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text, at, parts = error.object, error.start, []
    while at < error.end:
        near = _near(text[at])
        at += 1
        if len(near) == 2 and text[at : at + 1] == " ":
            at += 1
        parts.append(near)
    return "".join(parts), at


def _near(sign: str) -> str:
    if sign in NEAR:
        return NEAR[sign]
    bare = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return bare if len(bare) == 1 else "?"
