"""The command as a stranger runs it, in this process."""

import sys
from dataclasses import dataclass

from spikeloom.cli.main import main

RECIPE = """
name = "tiny"
net = "c4 P f10"
data = { name = "digits", train_size = 40 }
[[stages]]
rule = "bptt"
steps = 2
epochs = 1
batch = 20
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int | None
    out: str
    err: str

    def refused(self, message: str) -> None:
        """Check that the command ended as a mistake should: one line, exit code 2."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.err.startswith("error: ") and self.err.count("\n") == 1, self.err
        assert message in self.err, self.err
        assert "Traceback" not in self.out + self.err


def command(monkeypatch, capsys, *words: object) -> Done:
    monkeypatch.setattr(sys, "argv", ["spikeloom", *map(str, words)])
    code: int | None = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else None if end.code else 0
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)
